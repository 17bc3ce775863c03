"""The walkthrough as a notebook that has been run, in Jupyter's format (nbformat 4.5), which is JSON.

Outputs are those of the cells; their copies in the Markdown are left out. Prose stays Markdown, without comments; a
listing becomes a Markdown cell, so that it is highlighted and not run. Everything is inside the file, pictures
included; they are not attachments, which Colab ignores. A link to a file of the repository becomes the file's name.
"""

import json
import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from .drawing import image
from .figures import CAPTION
from .markup import slug
from .text import Cell, Listing, Part, Prose, Section, Walkthrough

# Does nothing if the package is there. Elsewhere, as in Colab, a copy of the repository is needed.
SETUP = """\
#@title Setup: install minwhisper if it is missing, as in Colab; limit BLAS to one thread

# The package comes from its repository as a .zip file, or from a .whl file: one beside this
# notebook or, in Colab, one that you choose in a dialog. More threads of BLAS would take more
# processor time.
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

if not find_spec("minwhisper"):
    copies = [*Path().glob("minwhisper*.whl"), *Path().glob("minwhisper*.zip")]
    if not copies and find_spec("google.colab"):
        from google.colab import files

        copies = [Path(name) for name in files.upload()]
    if not copies:
        command = "pip install '.[offline,walkthrough]'"
        raise ModuleNotFoundError(f"run {command} in a clone of minwhisper's repository")
    package = f"minwhisper[offline,walkthrough] @ {copies[0].resolve().as_uri()}"
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, package], check=True)

import numpy  # loads BLAS
from threadpoolctl import threadpool_limits

limits = threadpool_limits(1, user_api="blas")"""
HIDDEN: dict[str, Any] = {"cellView": "form", "jupyter": {"source_hidden": True}}  # in Colab; in Jupyter

PLAYER = f"""\
from IPython.display import Audio

from minwhisper.audio.load import SAMPLE_RATE
from minwhisper.parity.comparison import clip_samples

# {CAPTION}
Audio(clip_samples(), rate=SAMPLE_RATE)"""

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"},
}

# Markup that Markdown cells show differently from GitHub. Code is matched first, and stays as it is.
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
    writer.code(SETUP, **HIDDEN)
    writer.code(PLAYER, shown=_player(clip), alt=CAPTION)
    writer.parts(introduction)
    for section in walkthrough.all_sections():
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
        self.markdown(f'<a id="{slug(section.heading, set())}"></a>\n\n## {section.heading}')

    def parts(self, parts: tuple[Part, ...]) -> None:
        """Add parts in sequence."""
        for part in parts:
            if isinstance(part, Prose):
                self.markdown(self.prose(part.text))
            elif isinstance(part, Listing):
                self.markdown(_listing(part))
            elif isinstance(part, Cell):
                svg = self.pictures.get(part.picture.path) if part.picture else None
                alt = part.picture.alt if part.picture else ""
                self.code(part.code, part.output, image(svg, alt) if svg else "", alt)

    def markdown(self, source: str) -> None:
        """Add a Markdown cell, unless there is nothing to show."""
        if source.strip():
            self.cells.append({"cell_type": "markdown", "id": self._id(), "metadata": {}, "source": _lines(source)})

    def code(self, source: str, printed: str = "", shown: str = "", alt: str = "", **metadata: Any) -> None:
        """Add a code cell with its outputs: what it prints, and what it shows, as HTML and as plain text."""
        self.count += 1
        outputs: list[dict[str, Any]] = []
        if printed:
            outputs.append({"output_type": "stream", "name": "stdout", "text": _lines(printed + "\n")})
        if shown:
            data = {"text/html": [shown], "text/plain": [alt]}
            result = {"output_type": "execute_result", "data": data, "metadata": {}, "execution_count": self.count}
            outputs.append(result)
        cell = {"cell_type": "code", "id": self._id(), "metadata": metadata, "source": _lines(source)}
        self.cells.append({**cell, "execution_count": self.count, "outputs": outputs})

    def prose(self, text: str) -> str:
        """Convert GitHub's Markdown to that of a notebook."""
        return _MARKUP.sub(self._markup, text).strip()

    def _markup(self, found: re.Match[str]) -> str:
        if found["block"] is not None:
            return found[0].replace(" .noeval\n", "\n", 1)  # a mark for the walkthrough's runner only
        if found["code"] is not None:
            return found[0]
        if found["comment"] is not None:
            return ""
        if found["picture"] is not None:
            svg = self.pictures.get(found["picture"])
            return image(svg, found["alt"]) if svg else f"*{found['alt']}*"
        return found["name"] if "`" in found["name"] else f"`{found['name']}`"

    def _id(self) -> str:
        return f"cell-{len(self.cells)}"


def _listing(listing: Listing) -> str:
    code = f"```python\n{listing.code}\n```"
    if listing.folded:
        summary = f"<code>{listing.file}</code> · <b><code>{listing.name}</code></b>"
        return f"<details><summary>{summary}</summary>\n\n{code}\n\n</details>"
    return f"`{listing.file}` · **`{listing.name}`**\n\n{code}"


def _player(clip: bytes) -> str:
    return f'<audio controls src="data:audio/flac;base64,{b64encode(clip).decode()}" aria-label="{CAPTION}"></audio>'


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)
