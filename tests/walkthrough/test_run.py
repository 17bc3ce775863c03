"""The runner and the command, on small texts: outputs, errors, updates, and the page."""

import json
import re
import sys
from unittest.mock import Mock

import pytest

from command_line import assert_refused, run_command
from minwhisper.errors import WalkthroughError
from minwhisper.walkthrough import command, run
from minwhisper.walkthrough.drawing import Drawing
from minwhisper.walkthrough.text import parse
from widget_sample import small_data


def fence(code: str, output: str = "", picture: str = "") -> str:
    parts = [f"```python\n{code}\n```"]
    if output:
        parts.append(f"```text\n{output}\n```")
    if picture:
        parts.append(f"![a picture](minwhisper/walkthrough/pictures/{picture}.svg)")
    return "\n\n".join(parts)


def text_of(*cells: str) -> str:
    return "\n\n".join(["# T", fence("# parameters\nMODEL = 'tiny.en'"), "## 1. One", *cells]) + "\n"


def results(text: str, tmp_path, **options):
    return [o for _, _, o in run.run(parse(text), tmp_path / "walkthrough.md", **options) if o][1:]


DRAW = "from minwhisper.walkthrough.drawing import Drawing\nDrawing('<svg><desc>mean 0.5</desc></svg>', 'mean 0.5')"


def test_an_output_is_what_a_cell_prints_and_its_last_value(tmp_path):
    cells = [fence(code) for code in ("print('a')\n1 + 1", "def f(): return x", "x = 5", "f()", "None", "'s'")]
    assert [result.output for result in results(text_of(*cells), tmp_path)] == ["a\n2", "", "", "5", "", "'s'"]


def test_outputs_are_compared_with_the_text(tmp_path):
    found = results(text_of(fence("0.5", "0.5"), fence("0.5", "0.6"), fence("0.5"), fence("x = 0", "0")), tmp_path)
    assert [result.difference for result in found] == [
        None,
        "expected '0.6', got '0.5'",
        "lines: expected 0, got 1; the first unmatched line is '0.5'",
        "lines: expected 1, got 0; the first unmatched line is '0'",
    ]
    assert results(text_of(fence("0.5", "0.6")), tmp_path, compared=False)[0].difference is None


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    folder = tmp_path / "pictures"
    folder.mkdir()
    monkeypatch.setattr(run, "PICTURES_FOLDER", folder)
    return folder


def test_pictures_are_compared_with_the_stored_ones(tmp_path, pictures):
    (pictures / "same.svg").write_text("<svg><desc>mean 0.5</desc><g/></svg>")
    (pictures / "other.svg").write_text("<svg><desc>mean 0.7</desc></svg>")
    cells = [fence(DRAW, picture=name) for name in ("same", "other", "missing")]
    found = results(text_of(*cells, fence(DRAW), fence("x = 1", picture="same")), tmp_path)
    assert [result.output for result in found] == [""] * 5
    assert [result.difference for result in found] == [
        None,
        "other.svg: expected 'mean 0.7', got 'mean 0.5'",
        "missing.svg: the picture is missing",
        "the cell draws a picture without a link",
        "the text links a picture, but the cell draws none",
    ]


WITHOUT_MATPLOTLIB = """from minwhisper.errors import MissingExtraError
print('before')
raise MissingExtraError('no matplotlib')"""


def test_without_matplotlib_pictures_are_omitted(tmp_path):
    found = results(text_of(fence(WITHOUT_MATPLOTLIB, "before", "any"), fence("1", "1")), tmp_path)
    assert [(o.output, o.note, o.difference) for o in found] == [("before", "no matplotlib", None), ("1", "", None)]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def f():\n    return 1 / 0\n\nf()", "line 12, `return 1 / 0`: ZeroDivisionError"),
        ("x = 1\nfence", "line 12, `fence`: NameError"),  # a name in this file, but not in the text
        ("import json\njson.loads('{')", "line 12, `json.loads('{')`: JSONDecodeError"),
        ("x = 1\ny = (", "line 12, `y = (`: SyntaxError"),
    ],
)
def test_an_error_names_section_cell_and_line(tmp_path, code, expected):
    with pytest.raises(WalkthroughError) as caught:
        results(text_of(fence(code)), tmp_path)
    assert str(caught.value).startswith(f"section 1, cell 1, walkthrough.md {expected}")


# ------------------------------------------------------------------------------------------ the command


@pytest.fixture
def here(tmp_path, monkeypatch, pictures):
    """Create a checkout, and return a function that sets its walkthrough."""
    (tmp_path / "pyproject.toml").touch()
    file = tmp_path / "walkthrough.md"
    monkeypatch.setattr(command, "find_walkthrough", lambda: file)
    monkeypatch.setattr(command, "PICTURES_FOLDER", pictures)
    monkeypatch.setattr(command, "draw_overview", lambda: Drawing("<svg>overview</svg>", ""))
    monkeypatch.setattr(command, "load_model", lambda *_, **__: None)
    monkeypatch.setattr(command, "compute", lambda *_: small_data())

    def put(*cells: str):
        file.write_text(text_of(*cells))
        return file

    return put


@pytest.fixture
def walkthrough(capfd):
    """Return a function that runs the command in this process: exit status, standard output, standard error."""
    return lambda *arguments: run_command(capfd, "walkthrough", *arguments)


LISTING = "<!-- source: audio.mel.scale -->\n```python .noeval\nno\n```"


def test_the_command_shows_prose_code_and_output(here, walkthrough):
    here("Some prose.", fence("x = 41\nx + 1", "42"))
    shown = walkthrough()
    assert shown.status == 0
    for part in ("\n1. One\n", "Some prose.", "    x = 41\n    x + 1\n", "  | 42\n"):
        assert part in shown.out
    assert "\033[" not in shown.out
    assert re.search("2 cells in .*; all outputs match the text", shown.err)


@pytest.mark.parametrize(
    ("cell", "status", "message"),
    [
        (fence("42", "43"), 1, "section 1, cell 1, line 11: expected '43', got '42'"),
        (LISTING, 1, "line 12: the listing of audio.mel.scale differs from the source"),
        (fence("1 / 0"), 2, "minwhisper: section 1, cell 1, walkthrough.md line 11, `1 / 0`"),
    ],
    ids=["another output", "a stale listing", "a failing cell"],
)
def test_a_text_that_does_not_fit_the_package_is_reported(here, walkthrough, cell, status, message):
    here(cell)
    shown = walkthrough()
    assert shown.status == status
    assert message in shown.err
    assert ("  ! expected '43', got '42'" in shown.out) == ("'43'" in message)


def test_with_section_earlier_ones_run_without_output_and_later_ones_do_not_run(here, walkthrough):
    here(fence("x = 1\nprint('first')", "first"), "## 2. Two", fence("x + 1", "2"), "## 3. Three", fence("1 / 0"))
    shown = walkthrough("--section", "2")
    assert shown.status == 0
    assert "  | 2\n" in shown.out
    assert "first" not in shown.out
    assert "1. One" not in shown.out
    assert shown.err.startswith("minwhisper: running sections 1 to 1 first\n")


def test_outputs_of_another_model_are_not_compared(here, walkthrough):
    here(fence("MODEL", "'tiny.en'"))
    shown = walkthrough("--model", "base")
    assert shown.status == 0
    assert "  | 'base'" in shown.out
    assert "outputs not compared: the text shows those of tiny.en" in shown.err


def test_update_rewrites_only_what_differs(here, pictures, walkthrough):
    varies = fence("print('took ≈ 1 s')", "took ≈ 2 s")
    file = here("Prose.", fence("0.5", "0.6"), varies, fence("1"), LISTING, fence(DRAW, picture="new"))
    (pictures / "unused.svg").touch()
    assert walkthrough("--update").status == 0
    text = file.read_text()
    for part in (fence("0.5", "0.5"), varies, fence("1", "1"), "return (log_energy + 4.0) / 4.0"):
        assert part in text
    assert {path.name for path in pictures.iterdir()} == {"new.svg", *run.WITHOUT_CELL}
    assert (pictures / "new.svg").read_text() == "<svg><desc>mean 0.5</desc></svg>"
    assert "all outputs match" in walkthrough().err


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (fence("1 / 0"), "section 1, cell 3"),
        (fence(DRAW), "--update: section 1, cell 3: the cell draws a picture without a link"),
        (fence(WITHOUT_MATPLOTLIB, picture="new"), "--update: no matplotlib"),
    ],
    ids=["a failing cell", "a picture without a link", "no Matplotlib"],
)
def test_update_changes_nothing_if_a_cell_is_wrong(here, pictures, walkthrough, cell, message):
    file = here(fence("0.5", "0.6"), fence(DRAW, picture="new"), cell)
    before = file.read_text()
    refused = walkthrough("--update")
    assert refused.status == 2
    assert message in refused.err
    assert file.read_text() == before
    assert list(pictures.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--section 2", "--section 2: expected a section from 1 to 1"),
        ("--section 0", "--section 0: expected a section from 1 to 1"),
        *((f"--section 1 {one}", "--section runs one section") for one in ("--html x", "--update", "--notebook x")),
        *((f"--update {one}", "omit --model and --device") for one in ("--model base", "--device cuda")),
        ("--html .", "--html .: expected a file name in an existing folder"),
        ("--notebook nowhere/x.ipynb", "--notebook nowhere/x.ipynb: expected a file name in an existing folder"),
        ("--html /proc/x.html", "cannot write /proc/x.html"),
        ("--device gpu", "unknown device 'gpu'"),
        ("--model small", "--model small: expected tiny.en or base"),
    ],
)
def test_invalid_options_are_rejected_before_anything_runs(here, walkthrough, arguments, expected):
    here(fence("print('ran')"))
    refused = walkthrough(*arguments.split())
    assert refused.status == 2
    assert expected in refused.err
    assert "ran" not in refused.out


def test_an_installed_copy_is_not_updated(here, walkthrough):
    file = here(fence("0.5", "0.6"))
    (file.parent / "pyproject.toml").unlink()
    assert_refused(walkthrough("--update"), "is an installed copy")


def test_the_page_shows_the_new_outputs_or_stays_the_old_one(here, tmp_path, walkthrough, monkeypatch):
    here(fence("print('fresh', 0.123)", "stale"), fence(DRAW, picture="new"))
    shown = walkthrough("--html", tmp_path / "page.html")
    assert shown.status == 1  # the output differs
    assert f"wrote {tmp_path}/page.html" in shown.err
    html = (tmp_path / "page.html").read_text()
    assert "fresh 0.123" in html
    assert "stale" not in html
    assert "data:image/svg+xml" in html
    assert "widget-values" in html
    monkeypatch.setattr("os.replace", Mock(side_effect=OSError(28, "No space left on device")))
    refused = walkthrough("--html", tmp_path / "page.html")
    assert f"cannot write {tmp_path}/page.html: No space left on device" in refused.err
    assert (tmp_path / "page.html").read_text() == html
    assert {path.name for path in tmp_path.iterdir()} == {"page.html", "pictures", "pyproject.toml", "walkthrough.md"}


def test_the_notebook_has_the_outputs_and_parameters_of_this_run(here, tmp_path, walkthrough):
    here(fence("print(MODEL)", "tiny.en"), fence(DRAW, picture="new"))
    shown = walkthrough("--model", "base", "--notebook", tmp_path / "w.ipynb")
    assert shown.status == 0
    assert f"wrote {tmp_path}/w.ipynb" in shown.err
    cells = json.loads((tmp_path / "w.ipynb").read_text("utf-8"))["cells"]
    parameters, printing, drawing = [cell for cell in cells if cell["cell_type"] == "code"][-3:]
    assert 'MODEL = "base"' in "".join(parameters["source"])
    assert printing["outputs"][0]["text"] == ["base\n"]
    assert "data:image/svg+xml" in drawing["outputs"][0]["data"]["text/html"][0]


def test_without_the_pages_libraries_nothing_runs(here, monkeypatch, walkthrough):
    here(fence("print('ran')"))
    monkeypatch.setitem(sys.modules, "markdown_it", None)
    refused = walkthrough("--html", "x.html")
    assert "markdown-it-py" in refused.err
    assert (refused.status, refused.out) == (2, "")
