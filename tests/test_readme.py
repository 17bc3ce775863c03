"""What the README says is so: its code runs, files are named in the order of imports, figures are the stored ones."""

import ast
import re
from pathlib import Path

import pytest

from minwhisper import parity

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
TABLE = README[README.index("## Reading order") : README.index("## How exact it is")]
ENTRIES = list(dict.fromkeys(re.findall(r"`(\w+(?:\.py|/))`", TABLE)))  # in the order in which the table names them
FILES = [entry for entry in ENTRIES if entry.endswith(".py")]
FOLDERS = [entry for entry in ENTRIES if entry.endswith("/")]


def test_the_python_examples_run(tiny_en, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    namespace = {}
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    for block in blocks:
        exec(block, namespace)
    printed = capsys.readouterr().out
    assert "ask what you can do for your country" in printed
    assert " 1.76  Americans\n" in printed  # a word and when it begins
    assert "\n And\nAnd so, my fellow Americans ask" in printed  # one token, and a beam search
    assert namespace["samples"].shape == (176000,)
    assert namespace["mel"].shape == (80, 3000)
    assert namespace["features"].shape == (1, 1500, 384)
    assert namespace["logits"].shape == (1, 2, 51864)


def test_every_folder_of_code_has_its_line():
    assert sorted(FOLDERS) == sorted(f"{path.parent.name}/" for path in (ROOT / "minwhisper").glob("*/__init__.py"))


def test_every_file_of_the_package_has_its_line():
    there = {path.name for path in (ROOT / "minwhisper").glob("*.py")} - {"__init__.py", "__main__.py"}
    assert set(FILES) == there


def imported(path: Path, level: int = 1) -> set[str]:
    """The files and folders of this package that a file imports to run, imports for type checkers left out."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.level == level and node.module:
            first, _, rest = node.module.partition(".")
            names.add(f"{first}/" if rest or f"{first}/" in FOLDERS else f"{first}.py")
    return names


@pytest.mark.parametrize("name", FILES)
def test_a_chapter_imports_only_from_earlier_ones(name):
    allowed = set(ENTRIES[: ENTRIES.index(name)])
    assert imported(ROOT / "minwhisper" / name) <= allowed


def test_the_schedules_import_from_the_chapters_and_never_the_reverse():
    allowed = set(ENTRIES[: ENTRIES.index("fast/")])
    for path in (ROOT / "minwhisper" / "fast").glob("*.py"):
        assert imported(path, level=2) <= allowed, path.name


def figures(column: int) -> dict[str, float]:
    """A column of the table of figures, by stage."""
    rows = [
        line.split("|")
        for line in README.splitlines()
        if re.match(r"\| (mel|stem|encoder|decoder|logits)[ .]+(\||blocks)", line)
    ]
    return {row[1].strip(): float(row[column]) for row in rows if row[column].strip()}


@pytest.mark.parametrize(("name", "column"), [("tiny.en", 3), ("base", 5)])
def test_the_figures_of_pytorch_are_the_stored_ones(name, column):
    stored = parity.load_reference(name).pytorch
    assert figures(column) == {stage: float(f"{value:.1e}") for stage, value in stored.items()}


def test_our_figures_are_true(model):
    reference = parity.load_reference(model.name)
    mel = parity.window_mel(parity.clip_samples(), model.config.num_mel_bins)
    spoken = [[*model.tokenizer.prompt("en", "transcribe", timestamps=True), *reference.tokens]]
    shown = figures(2 if model.name == "tiny.en" else 4)
    for stage, array in (("mel", mel), *parity.stages(model, mel, spoken)):
        part = parity.stored_part(stage, array, reference.rows[stage])
        measured = parity.relative_difference(part, reference.exact[stage])
        assert measured <= 1.5 * shown[stage], stage  # libraries of products differ a little in their rounding


def test_the_commands_stand_alone():
    for command in ("transcript", "tests", "walkthrough"):
        block = re.search(rf"<!-- command: {command} -->\n```sh\n(.*?)\n```", README, re.DOTALL)
        assert block
        assert block[1].startswith("python3 -m venv .venv && .venv/bin/pip install")
        assert "\n" not in block[1]
