"""The README: its code runs, its commands are complete, its links lead somewhere."""

import re
import tomllib
from pathlib import Path

import numpy as np

from minwhisper.fast.cpu.threads import blas_threads

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


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


def test_each_command_is_complete():
    for command in ("transcript", "tests", "walkthrough"):
        block = re.search(rf"<!-- command: {command} -->\n```sh\n(.*?)\n```", README, re.DOTALL)
        assert block
        assert block[1].startswith("python3 -m venv .venv && .venv/bin/pip install")
        assert "\n" not in block[1]


def test_links_lead_to_files_and_headings_in_the_source_distribution():
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


def test_files_that_the_documents_name_exist():
    for document in ("README.md", ".github/CONTRIBUTING.md", "tests/benchmarks/RESULTS.md"):
        text = (ROOT / document).read_text()
        named = set(re.findall(r"\b(?:minwhisper|tests)/[\w/]+(?:\.\w+|/)", text))
        assert named, document
        assert [name for name in sorted(named) if not (ROOT / name).exists()] == [], document
