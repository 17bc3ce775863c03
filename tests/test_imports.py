"""Imports go one way: a folder imports only those above it in the README's table, and no files import each other."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "minwhisper"
README = (ROOT / "README.md").read_text()
TABLE = README[README.index("| folder |") : README.index("## Use")]
ROOMS = list(dict.fromkeys(re.findall(r"`(\w+(?:/\w+)*(?:\.py|/))`", TABLE)))
"""The folders and single files of the package, in the order of the README's table."""


def name_of(path: Path) -> str:
    """Return ``audio.mel`` for ``minwhisper/audio/mel.py``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in PACKAGE.rglob("*.py") if name_of(path) not in ("", "__main__")}


def imports_of(path: Path) -> set[str]:
    """Return the files of the package that a file imports: at the top, inside functions, or for types only."""
    package = ["minwhisper", *path.relative_to(PACKAGE).parts[:-1]]
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
        module = ".".join(filter(None, base[1:]))
        for alias in node.names:
            inner = f"{module}.{alias.name}".lstrip(".")
            found.add(inner if inner in FILES else module)
    return found - {"", name_of(path)}


def room_of(module: str) -> str:
    """Return the entry of the table that a file belongs to: the longest folder, or the file itself."""
    path = module.replace(".", "/")
    fits = [room for room in ROOMS if room == f"{path}.py" or f"{path}/".startswith(room)]
    return max(fits, key=len, default=f"{path}: not in the table")


def test_every_file_is_in_a_row_of_the_table():
    assert {room_of(module) for module in FILES} == set(ROOMS)


def test_a_folder_imports_only_from_those_above_it_and_no_two_files_import_each_other():
    graph = {module: imports_of(path) for module, path in FILES.items()}
    order = {module: ROOMS.index(room_of(module)) for module in FILES}
    assert [(one, other) for one, imported in graph.items() for other in imported if order[other] > order[one]] == []
    TopologicalSorter(graph).prepare()  # raises CycleError with the cycle
