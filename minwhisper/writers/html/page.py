"""The page itself: data, audio, style and program in one HTML file.

The transcript, the names and everything else that comes from outside is data: it is compressed and encoded in Base64,
and the program writes it as text, never as HTML. The ``Content-Security-Policy`` forbids loading anything from a
network.
"""

import gzip
import html
import json
from base64 import b64encode
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...audio.load import SAMPLE_RATE
from ...errors import OptionError
from ...printable import short_repr
from ...transcription.segments import Transcript
from .data import page_data
from .document import html_document
from .sound import BIT_RATE, COLUMNS_PER_SECOND, MIN_BIT_RATE, TILE_ROWS, TILE_SECONDS, encode_opus, spectrogram_tiles

DEFAULT_MAX_BYTES = 15_000_000
SCRIPTS = ("data.js", "text.js", "player.js", "panel.js", "edit.js", "keys.js")
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:; "
    "media-src blob: data: {audio}; form-action 'none'; base-uri 'none'"
)


@dataclass(frozen=True)
class PageOptions:
    """Options of the page. Raises ``OptionError`` for an invalid value."""

    max_bytes: int = DEFAULT_MAX_BYTES  # of the page; a longer recording is linked, not embedded
    embed_audio: bool = True

    def __post_init__(self) -> None:
        if type(self.max_bytes) is not int or self.max_bytes < 0:
            raise OptionError(f"max_bytes: expected a whole number, 0 or more, got {short_repr(self.max_bytes)}")
        if type(self.embed_audio) is not bool:
            raise OptionError(f"embed_audio: expected True or False, got {short_repr(self.embed_audio)}")


DEFAULT_PAGE = PageOptions()


def transcript_page(
    transcript: Transcript,
    title: str,
    *,
    samples: NDArray[np.float32] | None = None,
    audio_link: str = "",
    model: str = "",
    options: PageOptions = DEFAULT_PAGE,
) -> str:
    """Return the page of a transcript, as the text of an HTML file in UTF-8.

    Args:
        transcript: with words, if the page is to play from each; with ``record``, if it is to show their alternatives.
        title: the name of the recording.
        samples: the recording at 16 kHz, (N,), to embed it and its spectrogram. It is encoded as Opus at 24 kbit/s, or
            at as little as 16 if the page would exceed ``options.max_bytes``.
        audio_link: where the recording is, relative to the page; it is played from there if it is not embedded.
        model: the name of the model, to be shown.
        options: how large the page may become.
    """
    data = page_data(transcript) | {"title": title, "model": model, "link": audio_link}
    tiles: list[str] = []
    if samples is not None:
        data["duration"] = round(1000 * len(samples) / SAMPLE_RATE)
        tiles = [b64encode(tile).decode() for tile in spectrogram_tiles(samples)]
        data["tiles"] = {"seconds": TILE_SECONDS, "rows": TILE_ROWS, "columns": COLUMNS_PER_SECOND}
    packed = b64encode(gzip.compress(json.dumps(data, separators=(",", ":")).encode(), 9, mtime=0)).decode()
    frame = _frame(title, packed, tiles, _plain_text(data), "", linked=bool(audio_link))
    audio = ""
    if samples is not None and options.embed_audio:
        audio = _fitting_audio(samples, options.max_bytes - len(frame.encode()))
    if not audio:
        return frame
    return _frame(title, packed, tiles, _plain_text(data), audio, linked=False)


def _fitting_audio(samples: NDArray[np.float32], room: int) -> str:
    """Return the recording in Base64 in at most ``room`` characters, or an empty string."""
    bits_per_character = 6
    affordable = room * bits_per_character / max(len(samples) / SAMPLE_RATE, 1e-3) * 0.96  # less Ogg's overhead
    if affordable < MIN_BIT_RATE:
        return ""
    encoded = b64encode(encode_opus(samples, int(min(BIT_RATE, affordable)))).decode()
    return encoded if len(encoded) <= room else ""


def _plain_text(data: dict[str, Any]) -> str:
    """Return the text as paragraphs, which are shown without JavaScript."""
    words, segments, starts = data["words"], data["segments"], [*data["paragraphs"], len(data["segments"])]
    paragraphs = []
    for first, last in pairwise(starts):
        text = "".join(word[0] for word in words[segments[first][2] : segments[last - 1][3]])
        paragraphs.append(f"<p>{html.escape(text.strip())}</p>")
    return "\n".join(paragraphs)


def _frame(title: str, packed: str, tiles: list[str], text: str, audio: str, *, linked: bool) -> str:
    """Return the HTML around the data. ``packed``, ``tiles`` and ``audio`` are Base64, so they need no escaping."""
    here = files(__package__)
    script = "\n".join((here / name).read_text("utf-8") for name in SCRIPTS)
    policy = POLICY.format(audio="'self' file:" if linked else "")
    images = "\n".join(f'<script type="text/plain" class="tile">{tile}</script>' for tile in tiles)
    body = f"""<header>
<h1 dir="auto">{html.escape(title)}</h1>
<p id="facts"></p>
</header>
<nav id="bar" aria-label="Player and search" hidden></nav>
<div id="columns">
<main id="text" dir="auto">
{text}
</main>
<aside id="panel" aria-label="Details of the chosen word" tabindex="0" hidden></aside>
</div>
<p id="live" class="hidden" role="status" aria-live="polite"></p>
<script type="text/plain" id="data">{packed}</script>
{images}
<script type="text/plain" id="audio">{audio}</script>
<script>
{script}
</script>"""
    style = (here / "view.css").read_text("utf-8")
    return html_document(title, body, style=style, policy=policy)
