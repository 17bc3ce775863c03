"""The README and the results: code runs, figures are those measured, links lead somewhere."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from minwhisper.fast.cpu.threads import blas_threads
from minwhisper.parity import comparison as parity

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
RESULTS = (ROOT / "tests" / "benchmarks" / "RESULTS.md").read_text()
COLUMNS = {"tiny.en": (2, 3), "base": (4, 5)}  # of the tables of exactness: this package, PyTorch


def test_the_python_examples_run(tiny_en, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    names = {}
    with blas_threads(1):
        for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
            exec(block, names)
    printed = capsys.readouterr().out
    assert "And so my fellow Americans ask not what your country can do for you, ask what" in printed  # forward pass
    assert "And so, my fellow Americans ask not what" in printed  # beam search
    assert " 1.76  Americans\n" in printed  # a word and its start
    assert names["samples"].shape == (176000,)
    assert names["mel"].shape == (80, 3000)
    assert names["logits"].shape == (1, len(names["tokens"]) - 1, 51864)
    features = tiny_en.encode(names["mel"][None])
    np.testing.assert_allclose(names["features"], features, atol=1e-4)
    np.testing.assert_allclose(names["logits"], tiny_en.logits([names["tokens"][:-1]], features), atol=1e-4)


def errors(text: str, column: int) -> dict[str, float]:
    """Return a column of a table of relative errors, by stage."""
    rows = [line.split("|") for line in text.splitlines()]
    rows = [row for row in rows if re.fullmatch(r" (mel|stem|(en|de)coder(\.blocks\.\d)?|logits) ", "".join(row[1:2]))]
    return {row[1].strip(): float(row[column]) for row in rows if re.fullmatch(r" \d\.\de-\d ", row[column])}


@pytest.mark.parametrize("name", COLUMNS)
def test_the_errors_of_pytorch_are_the_stored_ones(name):
    stored = {stage: float(f"{value:.1e}") for stage, value in parity.load_reference(name).pytorch.items()}
    assert errors(RESULTS, COLUMNS[name][1]) == stored
    shown = errors(README, COLUMNS[name][1])
    assert list(shown) == ["mel", "stem", "encoder", "logits"]
    assert shown.items() <= stored.items()


def test_the_errors_of_this_package_are_those_measured(model):
    reference = parity.load_reference(model.name)
    column = COLUMNS[model.name][0]
    shown = errors(RESULTS, column)
    assert errors(README, column).items() <= shown.items()
    mel = parity.window_mel(parity.clip_samples(), model.config.num_mel_bins)
    tokens = [[*model.tokenizer.sot_sequence("en", "transcribe", timestamps=True), *reference.tokens]]
    for stage, array in (("mel", mel), *parity.stages(model, mel, tokens)):
        part = parity.subsample(stage, array, reference.rows[stage])
        measured = parity.relative_difference(part, reference.exact[stage])
        assert measured <= 1.5 * shown[stage], stage  # BLAS libraries round differently


def test_each_command_is_complete():
    for command in ("transcript", "tests", "walkthrough"):
        block = re.search(rf"<!-- command: {command} -->\n```sh\n(.*?)\n```", README, re.DOTALL)
        assert block
        assert block[1].startswith("python3 -m venv .venv && .venv/bin/pip install")
        assert "\n" not in block[1]


def test_links_lead_to_files_and_headings_of_the_source_distribution():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    shipped = build["targets"]["sdist"]["include"]
    targets = re.findall(r"\]\((?!https://)([^)]+)\)", README)
    assert len(targets) >= 3
    for target in targets:
        path, _, anchor = target.partition("#")
        assert path.split("/")[0] in shipped, target
        assert (ROOT / path).is_file(), target
        headings = re.findall(r"^#+ (.*)$", (ROOT / path).read_text(), re.M)
        assert not anchor or anchor in [heading.lower().replace(" ", "-") for heading in headings], target


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150
