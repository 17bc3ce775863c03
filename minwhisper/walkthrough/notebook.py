"""The walkthrough as a notebook that has been run, in Jupyter's format (nbformat 4.5), which is JSON.

Outputs stand once: those of cells, without the copies of them in the Markdown. Prose stays Markdown, without comments;
a listing becomes a Markdown cell, so that it is highlighted and not run. Everything is inside the file: pictures are
data in it, since Colab ignores attachments, and a link to a file of the repository becomes the file's name.
"""

import json
import re
from base64 import b64encode
from collections.abc import Mapping
from html import escape
from typing import Any

from .drawing import with_background
from .page import CAPTION, slug
from .text import Cell, Listing, Part, Prose, Section, Walkthrough

# Does nothing if the package is there. Elsewhere, as in Colab, a copy of the repository is needed.
SETUP = '''\
# Installs minwhisper if it is missing, as in Colab, from its repository as a .zip file or from a .whl file: one that is
# beside this notebook, or that you choose in the dialog. Then limits BLAS to one thread: more take more processor time.
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

if not find_spec("minwhisper"):
    copies = [path.resolve() for pattern in ("*.whl", "*.zip") for path in Path().glob(f"minwhisper{pattern}")]
    if not copies and find_spec("google.colab"):
        from google.colab import files

        copies = [Path(name).resolve() for name in files.upload()]
    if not copies:
        raise ModuleNotFoundError("run pip install '.[offline,walkthrough]' in a clone of minwhisper's repository")
    package = f"minwhisper[offline,walkthrough] @ {copies[0].as_uri()}"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", package], check=True)

import numpy  # loads BLAS
from threadpoolctl import threadpool_limits

limits = threadpool_limits(1, user_api="blas")'''

PLAYER = f"""\
from IPython.display import Audio

from minwhisper.audio.load import SAMPLE_RATE
from minwhisper.parity.comparison import clip_samples

Audio(clip_samples(), rate=SAMPLE_RATE)  # {CAPTION}"""

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"},
}

# What Markdown cells show differently from GitHub. Code comes first, and stays as it is.
_MARKUP = re.compile(
    r"(?P<block>^(?P<fence>`{3,})[^\n]*\n.*?^(?P=fence)$)"
    r"|(?P<code>(?P<ticks>`+)[^`].*?(?<!`)(?P=ticks)(?!`))"
    r"|(?P<comment><!--.*?-->\n?)"
    r"|!\[(?P<alt>[^\]]*)\]\((?P<picture>[^)]*)\)"
    r"|\[(?P<name>[^\]]*)\]\((?!#|https?://)[^)]*\)",
    re.DOTALL | re.MULTILINE,
)


def notebook(walkthrough: Walkthrough, pictures: Mapping[str, str], clip: bytes) -> str:
    """Return the notebook as the text of an ``.ipynb`` file.

    Its outputs are those of the cells in the text. ``pictures`` maps the path of each picture to its SVG; a cell whose
    picture is missing has none. ``clip`` is the recording that the text is about, the bytes of a FLAC file.
    """
    writer = _Writer(pictures)
    opening, introduction = _opening(walkthrough.introduction)
    writer.markdown(f"# {walkthrough.title}\n\n{writer.prose(opening)}")
    writer.code(SETUP)
    writer.code(PLAYER, [_player(clip)])
    writer.parts(introduction)
    for section in walkthrough.sections:
        writer.heading(section)
        writer.parts(section.parts)
    content = {"cells": writer.cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _opening(introduction: tuple[Part, ...]) -> tuple[str, tuple[Part, ...]]:
    """Split the introduction after its first paragraph."""
    if not introduction or not isinstance(introduction[0], Prose):
        return "", introduction
    first, _, rest = introduction[0].text.partition("\n\n")
    return first, ((Prose(rest),) if rest else ()) + introduction[1:]


class _Writer:
    """A converter of parts to cells of the notebook, collected in ``cells``."""

    def __init__(self, pictures: Mapping[str, str]) -> None:
        self.pictures = pictures
        self.cells: list[dict[str, Any]] = []
        self.count = 0  # of code cells

    def heading(self, section: Section) -> None:
        """Add a section's heading, below the anchor that GitHub gives it."""
        title = f"{section.number}. {section.title}"
        self.markdown(f'<a id="{slug(title, set())}"></a>\n\n## {title}')

    def parts(self, parts: tuple[Part, ...]) -> None:
        """Add parts in sequence."""
        for part in parts:
            if isinstance(part, Prose):
                self.markdown(self.prose(part.text))
            elif isinstance(part, Listing):
                self.markdown(f"`{part.file}` · **`{part.name}`**\n\n```python\n{part.code}\n```")
            else:
                self.code(part.code, self._outputs(part))

    def markdown(self, source: str) -> None:
        """Add a Markdown cell, unless there is nothing to show."""
        if source.strip():
            self.cells.append({"cell_type": "markdown", "id": self._id(), "metadata": {}, "source": _lines(source)})

    def code(self, source: str, outputs: list[dict[str, Any]] | None = None) -> None:
        """Add a code cell with the outputs of its execution."""
        self.count += 1
        for output in outputs or []:
            if output["output_type"] == "execute_result":
                output["execution_count"] = self.count
        cell = {"cell_type": "code", "id": self._id(), "metadata": {}, "source": _lines(source)}
        self.cells.append({**cell, "execution_count": self.count, "outputs": outputs or []})

    def prose(self, text: str) -> str:
        """Convert GitHub's Markdown to that of a notebook."""
        return _MARKUP.sub(self._markup, text).strip()

    def _markup(self, found: re.Match[str]) -> str:
        if found["block"] is not None:
            return found[0].replace(" .noeval\n", "\n", 1)  # known only to the walkthrough
        if found["code"] is not None:
            return found[0]
        if found["comment"] is not None:
            return ""
        if found["picture"] is not None:
            return self._image(found["picture"], found["alt"])
        return found["name"] if "`" in found["name"] else f"`{found['name']}`"

    def _image(self, path: str, alt: str) -> str:
        if path not in self.pictures:
            return f"*{alt}*"
        data = _base64(with_background(self.pictures[path]).encode())
        return f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(alt)}">'

    def _outputs(self, cell: Cell) -> list[dict[str, Any]]:
        outputs: list[dict[str, Any]] = []
        if cell.output:
            outputs.append({"output_type": "stream", "name": "stdout", "text": _lines(cell.output + "\n")})
        if cell.picture and cell.picture.path in self.pictures:
            svg = with_background(self.pictures[cell.picture.path])
            outputs.append(_result({"image/svg+xml": _lines(svg), "text/plain": [cell.picture.alt]}))
        return outputs

    def _id(self) -> str:
        return f"cell-{len(self.cells)}"


def _result(data: dict[str, list[str]]) -> dict[str, Any]:
    return {"output_type": "execute_result", "data": data, "metadata": {}, "execution_count": None}


def _player(clip: bytes) -> dict[str, Any]:
    audio = f'<audio controls src="data:audio/flac;base64,{_base64(clip)}" aria-label="{CAPTION}"></audio>'
    return _result({"text/html": [audio], "text/plain": [CAPTION]})


def _base64(content: bytes) -> str:
    return b64encode(content).decode("ascii")


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)
