"""The runner and the command, on small texts: outputs, errors, updates, and the page."""

import pytest

from minwhisper.cli.main import main
from minwhisper.errors import MissingExtraError, WalkthroughError
from minwhisper.walkthrough import command, run
from minwhisper.walkthrough.drawing import Drawing
from minwhisper.walkthrough.text import parse


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
    found = results(
        text_of(fence("print('a')\n1 + 1"), fence("x = 3"), fence("x"), fence("None"), fence("'s'")), tmp_path
    )
    assert [result.output for result in found] == ["a\n2", "", "3", "", "'s'"]


def test_cells_share_one_namespace_of_their_own(tmp_path):
    with pytest.raises(WalkthroughError, match="NameError: name 'fence' is not defined"):
        results(text_of(fence("fence")), tmp_path)
    assert results(text_of(fence("def f(): return x"), fence("x = 5\nf()")), tmp_path)[1].output == "5"


def test_parameters_replace_those_of_the_text(tmp_path):
    text = text_of(fence("MODEL"))
    assert results(text, tmp_path)[0].output == "'tiny.en'"
    assert results(text, tmp_path, parameters={"MODEL": "base"})[0].output == "'base'"


def test_sections_after_the_last_do_not_run(tmp_path):
    text = text_of(fence("1")) + "\n## 2. Two\n\n" + fence("1 / 0") + "\n"
    assert len(results(text, tmp_path, last=1)) == 1
    with pytest.raises(WalkthroughError, match="ZeroDivisionError"):
        results(text, tmp_path)


def test_outputs_are_compared_with_the_text(tmp_path):
    found = results(text_of(fence("0.5", "0.5"), fence("0.5", "0.6"), fence("0.5"), fence("x = 0", "0")), tmp_path)
    assert [result.difference for result in found] == [
        None,
        "expected '0.6', got '0.5'",
        "expected 0 lines, got 1; the first unmatched line is '0.5'",
        "expected 1 lines, got 0; the first unmatched line is '0'",
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


def test_without_matplotlib_pictures_are_omitted(tmp_path):
    code = "from minwhisper.errors import MissingExtraError\nprint('before')\nraise MissingExtraError('no matplotlib')"
    found = results(text_of(fence(code, "before", "any"), fence("1", "1")), tmp_path)
    assert [(o.output, o.note, o.difference) for o in found] == [("before", "no matplotlib", None), ("1", "", None)]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("x = 1\ny = x / 0", "line 12, `y = x / 0`: ZeroDivisionError: division by zero"),
        ("x = 1\n1 / 0", "line 12, `1 / 0`: ZeroDivisionError: division by zero"),
        ("def f():\n    return 1 / 0\n\nf()", "line 12, `return 1 / 0`: ZeroDivisionError"),
        ("import json\njson.loads('{')", "line 12, `json.loads('{')`: JSONDecodeError"),
        ("x = 1\ny = (", "line 12, `y = (`: SyntaxError"),
        ("x = 1\n  y = 2", "line 12, `y = 2`: IndentationError"),
    ],
)
def test_an_error_names_section_cell_and_line(tmp_path, code, expected):
    with pytest.raises(WalkthroughError) as caught:
        results(text_of(fence(code)), tmp_path)
    assert str(caught.value).startswith(f"section 1, cell 1, walkthrough.md {expected}")


# ------------------------------------------------------------------------------------------ the command


@pytest.fixture
def here(tmp_path, monkeypatch, pictures):
    """Make a checkout; call the fixture to set its walkthrough."""
    (tmp_path / "pyproject.toml").touch()
    file = tmp_path / "walkthrough.md"
    monkeypatch.setattr(command, "find_walkthrough", lambda: file)
    monkeypatch.setattr(command, "PICTURES_FOLDER", pictures)
    monkeypatch.setattr(command, "draw_overview", lambda: Drawing("<svg>overview</svg>", ""))

    def put(*cells: str):
        file.write_text(text_of(*cells))
        return file

    return put


TWO = "\n## 2. Two\n\n"


def test_the_command_shows_prose_code_and_output(here, capsys):
    here("Some prose.", fence("x = 41\nx + 1", "42"))
    assert main(["walkthrough"]) == 0
    shown = capsys.readouterr()
    assert "\n1. One\n" in shown.out
    assert "Some prose." in shown.out
    assert "    x = 41\n    x + 1\n" in shown.out
    assert "  | 42\n" in shown.out
    assert "2 cells in" in shown.err
    assert "all outputs match the text" in shown.err


def test_a_difference_is_reported_with_status_1(here, capsys):
    here(fence("42", "43"))
    assert main(["walkthrough"]) == 1
    shown = capsys.readouterr()
    assert "  ! expected '43', got '42'" in shown.out
    assert "section 1, cell 1, line 11: expected '43', got '42'" in shown.err


def test_a_stale_listing_is_reported_with_status_1(here, capsys):
    here("<!-- source: audio.mel.scale -->\n```python .noeval\nno\n```")
    assert main(["walkthrough"]) == 1
    assert "line 12: the listing of audio.mel.scale differs from the source" in capsys.readouterr().err


def test_a_failing_cell_ends_the_run_with_status_2(here, capsys):
    here(fence("1 / 0"))
    assert main(["walkthrough"]) == 2
    assert capsys.readouterr().err.startswith("minwhisper: section 1, cell 1, walkthrough.md line 11, `1 / 0`")


def test_with_section_the_earlier_ones_run_unseen(here, capsys):
    here(fence("x = 1\nprint('first')", "first"), TWO, fence("x + 1", "2"), "## 3. Three", fence("1 / 0"))
    assert main(["walkthrough", "--section", "2"]) == 0
    shown = capsys.readouterr().out
    assert "  | 2\n" in shown
    assert "first" not in shown
    assert "1. One" not in shown


def test_outputs_of_another_model_are_not_compared(here, capsys):
    here(fence("MODEL", "'tiny.en'"))
    assert main(["walkthrough", "--model", "base"]) == 0
    shown = capsys.readouterr()
    assert "  | 'base'" in shown.out
    assert "outputs not compared: the text shows those of tiny.en" in shown.err


def test_update_rewrites_only_what_differs(here, pictures, capsys):
    varies = fence("print('took ≈ 1 s')", "took ≈ 2 s")
    listing = "<!-- source: audio.mel.scale -->\n```python .noeval\nno\n```"
    file = here("Prose.", fence("0.5", "0.6"), varies, fence("1"), listing, fence(DRAW, picture="new"))
    (pictures / "unused.svg").touch()
    assert main(["walkthrough", "--update"]) == 0
    text = file.read_text()
    assert fence("0.5", "0.5") in text
    assert varies in text
    assert fence("1", "1") in text
    assert "return (log_energy + 4.0) / 4.0" in text
    assert sorted(path.name for path in pictures.iterdir()) == ["new.svg", "overview.svg"]
    assert (pictures / "new.svg").read_text() == "<svg><desc>mean 0.5</desc></svg>"
    capsys.readouterr()
    assert main(["walkthrough"]) == 0
    assert "all outputs match" in capsys.readouterr().err


def test_update_changes_nothing_if_a_cell_fails(here, pictures):
    file = here(fence("0.5", "0.6"), fence(DRAW, picture="new"), fence("1 / 0"))
    before = file.read_text()
    assert main(["walkthrough", "--update"]) == 2
    assert file.read_text() == before
    assert list(pictures.iterdir()) == []


def test_update_rejects_a_picture_without_a_link(here, capsys):
    file = here(fence("0.5", "0.6"), fence(DRAW))
    before = file.read_text()
    assert main(["walkthrough", "--update"]) == 2
    assert "section 1, cell 2: the cell draws a picture without a link" in capsys.readouterr().err
    assert file.read_text() == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--section", "2"], "--section 2: expected a section from 1 to 1"),
        (["--section", "0"], "--section 0: expected a section from 1 to 1"),
        (["--section", "1", "--html", "x.html"], "--section runs one section"),
        (["--section", "1", "--update"], "--section runs one section"),
        (["--update", "--model", "base"], "omit --model and --device"),
        (["--html", "nowhere/x.html"], "--html nowhere/x.html: expected a file name in an existing folder"),
        (["--html", "."], "--html .: expected a file name in an existing folder"),
        (["--html", "/proc/x.html"], "cannot write /proc/x.html"),
        (["--device", "gpu"], "unknown device 'gpu'"),
        (["--model", "small"], "--model small: expected tiny.en or base"),
    ],
)
def test_invalid_options_are_rejected_before_anything_runs(here, arguments, expected, capsys):
    here(fence("print('ran')"))
    assert main(["walkthrough", *arguments]) == 2
    shown = capsys.readouterr()
    assert expected in shown.err
    assert "ran" not in shown.out


def test_an_installed_copy_is_not_updated(here, capsys):
    file = here(fence("0.5", "0.6"))
    (file.parent / "pyproject.toml").unlink()
    assert main(["walkthrough", "--update"]) == 2
    assert "is an installed copy" in capsys.readouterr().err


def test_the_page_shows_the_new_outputs(here, pictures, tmp_path, capsys):
    here(fence("print('fresh', 0.123)", "stale"), fence(DRAW, picture="new"))
    page = tmp_path / "page.html"
    assert main(["walkthrough", "--html", str(page)]) == 1  # the output differs
    html = page.read_text()
    assert "fresh 0.123" in html
    assert "stale" not in html
    assert "data:image/svg+xml" in html
    assert f"wrote {page}" in capsys.readouterr().err


def test_a_page_that_cannot_be_written_keeps_the_old_one(here, tmp_path, monkeypatch, capsys):
    here(fence("1", "1"))
    page = tmp_path / "page.html"
    page.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    assert main(["walkthrough", "--html", str(page)]) == 2
    assert f"cannot write {page}: No space left on device" in capsys.readouterr().err
    assert page.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "page.html",
        "pyproject.toml",
        "walkthrough.md",
    ]


def test_without_the_pages_libraries_nothing_runs(here, monkeypatch, capsys):
    here(fence("print('ran')"))

    def missing():
        raise MissingExtraError("a page needs markdown-it-py")

    monkeypatch.setattr(command, "check_libraries", missing)
    assert main(["walkthrough", "--html", "x.html"]) == 2
    shown = capsys.readouterr()
    assert "markdown-it-py" in shown.err
    assert "ran" not in shown.out


def test_colours_are_used_only_on_terminals(here, monkeypatch, capsys):
    here(fence("1", "1"))
    main(["walkthrough"])
    assert "\033[" not in capsys.readouterr().out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    main(["walkthrough"])
    assert "\033[36m" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "")
    main(["walkthrough"])
    assert "\033[" not in capsys.readouterr().out
