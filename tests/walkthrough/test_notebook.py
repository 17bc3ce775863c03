"""The notebook: its content, its validity in Jupyter's format, and that its cells give the outputs that it shows."""

import base64
import json
import re
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest

from minwhisper.parity.comparison import CLIP, REFERENCE_FOLDER
from minwhisper.walkthrough.compare_outputs import first_difference
from minwhisper.walkthrough.drawing import BACKGROUND, Drawing
from minwhisper.walkthrough.notebook import PLAYER, SETUP, notebook
from minwhisper.walkthrough.run import PICTURES_FOLDER
from minwhisper.walkthrough.text import PICTURES as FOLDER
from minwhisper.walkthrough.text import find_walkthrough, parse

CLIP_BYTES = (REFERENCE_FOLDER / CLIP).read_bytes()
SVG = "<svg><style>a{}</style><desc>mean 0.5</desc></svg>"
PICTURES = {"minwhisper/walkthrough/pictures/here.svg": SVG}


def cells(markdown: str) -> list[dict]:
    """Return the cells for this text, without the setup cells."""
    made = json.loads(notebook(parse(f"# Title\n\nFirst.\n\n{markdown}\n"), PICTURES, CLIP_BYTES))
    return made["cells"][3:]


def sources(markdown: str) -> list[str]:
    return ["".join(cell["source"]) for cell in cells(markdown)]


def svg_in(image: str) -> str:
    return base64.b64decode(re.search(r'src="data:image/svg\+xml;base64,([^"]*)"', image)[1]).decode()


@pytest.fixture(scope="module")
def real():
    return real_notebook()


def real_notebook(last=None):
    """Return the walkthrough's notebook up to a section, with the outputs and pictures that the text has."""
    nbformat = pytest.importorskip("nbformat")
    walkthrough = parse(find_walkthrough().read_text("utf-8"))
    walkthrough = replace(walkthrough, sections=walkthrough.sections[:last])
    pictures = {f"{FOLDER}{file.name}": file.read_text("utf-8") for file in PICTURES_FOLDER.glob("*.svg")}
    return nbformat.reads(notebook(walkthrough, pictures, CLIP_BYTES), as_version=4)


def test_the_notebook_is_valid_with_numbered_cells_and_each_output_once(real):
    assert (real.nbformat, real.nbformat_minor, real.metadata.kernelspec.name) == (4, 5, "python3")
    pytest.importorskip("nbformat").validate(real)
    walkthrough = parse(find_walkthrough().read_text("utf-8"))
    code = [cell for cell in real.cells if cell.cell_type == "code"]
    assert [cell.source for cell in code] == [SETUP, PLAYER, *(cell.code for cell in walkthrough.cells())]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    shown = "\n".join(cell.source for cell in real.cells if cell.cell_type == "markdown")
    for cell in walkthrough.cells():
        assert len(cell.output) < 20 or cell.output not in shown


def test_the_notebook_needs_no_other_file_and_its_links_lead_to_an_anchor(real):
    for cell in real.cells:
        if cell.cell_type == "markdown":
            assert not re.search(r"\]\((?!#|https?://)", re.sub(r"```.*?```|`[^`]+`", "", cell.source, flags=re.DOTALL))
            assert "<!--" not in cell.source
    (player,) = (cell for cell in real.cells if cell.source == PLAYER)
    audio = re.search(r'src="data:audio/flac;base64,([^"]*)"', player.outputs[0].data["text/html"])[1]
    assert base64.b64decode(audio) == CLIP_BYTES

    text = "\n".join(cell.source for cell in real.cells if cell.cell_type == "markdown")
    anchors = re.findall(r'<a id="([^"]+)"></a>', text)
    assert len(anchors) == len(set(anchors)) >= 15
    headings = {line[4:].lower().replace(" ", "-") for line in text.splitlines() if line.startswith("### ")}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= {*anchors, *headings}


def test_printed_text_and_pictures_are_outputs_of_their_cell():
    code, picture = cells(
        "```python\nprint(1)\n```\n\n```text\n1\n```\n\n"
        "```python\ndraw()\n```\n\n![it](minwhisper/walkthrough/pictures/here.svg)"
    )
    assert code["outputs"] == [{"output_type": "stream", "name": "stdout", "text": ["1\n"]}]
    assert "".join(code["source"]) == "print(1)"
    (output,) = picture["outputs"]
    assert (output["output_type"], output["execution_count"]) == ("execute_result", picture["execution_count"])
    assert svg_in(output["data"]["text/html"][0]) == SVG.replace("</style>", f"{BACKGROUND}</style>")
    assert output["data"]["text/plain"] == ["it"]


def test_a_listing_is_highlighted_under_its_files_name_and_is_not_run():
    (listing,) = cells("<!-- source: audio.mel.scale -->\n```python .noeval\nx = 1\n```")
    assert listing["cell_type"] == "markdown"
    assert "".join(listing["source"]) == "`minwhisper/audio/mel.py` · **`scale`**\n\n```python\nx = 1\n```"
    (folded,) = sources("<!-- source: audio.mel.scale, folded -->\n```python .noeval\nx = 1\n```")
    assert folded.startswith(
        "<details><summary><code>minwhisper/audio/mel.py</code> · <b><code>scale</code></b></summary>"
    )
    assert folded.endswith("\n\n```python\nx = 1\n```\n\n</details>")


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("## 1. The `mel` scale\n\nText.", '<a id="1-the-mel-scale"></a>\n\n## 1. The `mel` scale'),
        ('See ![a "b"](minwhisper/walkthrough/pictures/here.svg)', 'See <img src="data:image/svg+xml;base64,'),
        ("a <!-- hidden --> b", "a  b"),
        ("<!-- widget: heads -->\n\nText.", "Text."),  # an interactive figure, only for the page
        ("`<!-- code -->` stays", "`<!-- code -->` stays"),
        ("```html\n<!-- [a](b) -->\n```", "```html\n<!-- [a](b) -->\n```"),
        ("[mel.py](minwhisper/audio/mel.py) and [`b`](b.py)", "`mel.py` and `b`"),
        (
            "> **Aside: [2](#2-two), [N](https://numpy.org).** $x_1$",
            "> **Aside: [2](#2-two), [N](https://numpy.org).** $x_1$",
        ),
        ("<details><summary>Answer</summary>\n\nIt is.\n\n</details>", "<details><summary>Answer</summary>\n\nIt is."),
        ("![gone](minwhisper/walkthrough/pictures/absent.svg)", "*gone*"),
    ],
)
def test_prose_stays_markdown_without_comments_or_links_to_files(markdown, expected):
    assert sources(markdown)[0].startswith(expected)


def test_the_first_cell_installs_a_copy_or_says_how(monkeypatch, tmp_path):
    def set_up() -> list[str]:
        """Run the cell, and return the requirements that it installs."""
        installed: list[str] = []
        monkeypatch.setattr("subprocess.run", lambda arguments, check: installed.append(arguments[-1]))
        names: dict = {}
        exec(SETUP, names)
        names["limits"].restore_original_limits()
        return installed

    assert set_up() == []  # the package is installed
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: sys.modules.get(name) if "google" in name else None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install '\.\[offline,walkthrough\]'"):
        set_up()
    colab = ModuleType("google.colab")
    colab.files = SimpleNamespace(upload=lambda: {"my copy.zip": b""})
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "google", ModuleType("google"))
        patch.setitem(sys.modules, "google.colab", colab)
        assert set_up() == [f"minwhisper[offline,walkthrough] @ {(tmp_path / 'my copy.zip').as_uri()}"]
    (tmp_path / "minwhisper-main.zip").touch()  # beside the notebook
    assert set_up() == [f"minwhisper[offline,walkthrough] @ {(tmp_path / 'minwhisper-main.zip').as_uri()}"]


def text_of(cell) -> str:
    """Return a cell's outputs as text: what it prints, its last value, and its picture's data."""
    texts = []
    for output in cell.outputs:
        if output.output_type == "stream":
            texts.append(output.text)
        elif "<img" in output.data.get("text/html", ""):
            texts.append(Drawing.from_svg(svg_in(output.data["text/html"])).facts)
        elif "<audio" not in output.data.get("text/html", ""):
            texts.append(output.data["text/plain"])
    return "\n".join(text.rstrip() for text in texts)


@pytest.mark.parity
@pytest.mark.parametrize("last", [2, pytest.param(None, marks=pytest.mark.grid)])
def test_every_cell_run_by_jupyter_gives_the_output_that_the_notebook_shows(last, tiny_en, base, tmp_path, monkeypatch):
    """Only part of it runs here: ``test_walkthrough.py`` runs all cells, also in one namespace and an empty folder."""
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))  # without the user's settings
    book = real_notebook(last)
    shown = {cell.id: text_of(cell) for cell in book.cells if cell.cell_type == "code"}
    nbclient.NotebookClient(book, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for cell in book.cells:
        if cell.cell_type == "code":
            assert first_difference(shown[cell.id], text_of(cell)) is None, cell.source
    assert book.cells[2].source == PLAYER
    assert "<audio" in book.cells[2].outputs[0].data["text/html"]
