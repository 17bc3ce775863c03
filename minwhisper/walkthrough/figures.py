"""The HTML of the page's interactive figures. ``widgets.js`` brings them to life; without it they are still pictures.

Each figure holds what a reader sees without the script: a picture, a table, or a sentence. The script replaces it.
"""

import html
import json
from base64 import b64encode
from importlib.resources import files

from .widgets import KINDS, WidgetData, alignment_picture, head_sheet, probability, spectrogram, values

CAPTION = "J. F. Kennedy, 1961, 11 s, public domain"
FIRST_CROSS_SECTION = 8  # from this section on, the figure of heads begins with cross-attention


def data_url(kind: str, content: bytes) -> str:
    """Return content as a URL that needs no second file."""
    return f"data:{kind};base64,{b64encode(content).decode('ascii')}"


class Figures:
    """The figures of one page; a picture that several of them show is embedded once."""

    def __init__(self, data: WidgetData | None) -> None:
        """Take the values to show; with None, the page has no interactive figures."""
        self.data = data
        self._have_sheets = False

    def player(self, clip: bytes) -> str:
        """Return the player of the recording, with its spectrogram and words if there are values."""
        label = html.escape(CAPTION)
        audio = f'<audio controls preload="metadata" aria-label="{label}" src="{data_url("audio/flac", clip)}"></audio>'
        if self.data is None:
            return f'<figure class="clip">{audio}<figcaption>{label}</figcaption></figure>'
        picture = _image(spectrogram(self.data.mel), "The log-mel spectrogram of the recording")
        return (
            f'<figure class="clip seen"><div class="track">{picture}</div><p class="spoken">{self._words()}</p>'
            f"{audio}<figcaption>{label}</figcaption></figure>"
        )

    def figure(self, name: str, section: int) -> str:
        """Return the figure of this name, in this section."""
        if self.data is None:
            return ""
        inner = {
            "playhead": self._playhead,
            "heads": self._heads,
            "temperature": self._temperature,
            "candidates": self._candidates,
        }[name]()
        start = f' data-start="{"encoder" if section < FIRST_CROSS_SECTION else "cross"}"' if name == "heads" else ""
        return f'<figure class="widget" data-widget="{name}"{start}>{inner}</figure>\n'

    def script(self) -> str:
        """Return the script, and before it the values that it reads, as a block of JSON."""
        if self.data is None:
            return ""
        code = (files(__package__) / "widgets.js").read_text(encoding="utf-8")
        text = json.dumps(values(self.data), ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
        return f'<script type="application/json" id="widget-values">{text}</script>\n<script>\n{code}</script>\n'

    def _words(self) -> str:
        assert self.data
        return html.escape("".join(step.names[0] for step in self.data.steps[:-1]).strip())

    def _playhead(self) -> str:
        assert self.data
        above = _image(spectrogram(self.data.mel), "The log-mel spectrogram of the recording")
        below = _image(alignment_picture(self.data.alignment), "The attention of each token to the recording")
        return (
            f'<div class="track">{above}</div><div class="track rows">{below}</div>'
            "<figcaption>The spectrogram, and below it the attention of each token, from the first at the top to the "
            "last, to the same eleven seconds.</figcaption>"
        )

    def _heads(self) -> str:
        assert self.data
        caption = "<figcaption>Every head of every block: which position attends to which.</figcaption>"
        if self._have_sheets:
            return (
                '<p class="fallback">With scripts turned on, this shows the heads of every block again.</p>' + caption
            )
        self._have_sheets = True
        sheets = []
        for kind, title in KINDS.items():
            weights = getattr(self.data, kind)
            alt = f"{title}: {weights.shape[0]} rows of blocks, {weights.shape[1]} heads in each"
            sheets.append(f'<p class="fallback">{title}</p>{_image(head_sheet(weights), alt, f"sheet {kind}")}')
        return f'<div class="sheets">{"".join(sheets)}</div>{caption}'

    def _temperature(self) -> str:
        assert self.data
        step = min(self.data.steps, key=lambda step: probability(step, 0, 1.0))
        chosen = (0.2, 0.6, 1.0, 1.4, 2.0)
        head = "".join(f"<th>τ = {temperature}</th>" for temperature in chosen)
        rows = "".join(
            f"<tr><td><code>{_shown(name)}</code></td>"
            + "".join(f"<td>{probability(step, at, temperature):.3f}</td>" for temperature in chosen)
            + "</tr>"
            for at, name in enumerate(step.names[:6])
        )
        return (
            f'<div class="fallback table"><table><tr><th>token</th>{head}</tr>{rows}</table></div>'
            "<figcaption>The distribution of one step at several temperatures.</figcaption>"
        )

    def _candidates(self) -> str:
        assert self.data
        rows = "".join(
            "<tr>"
            + "".join(
                f"<td><code>{_shown(name)}</code> {probability(step, at, 1.0):.3f}</td>"
                for at, name in enumerate(step.names[:5])
            )
            + "</tr>"
            for step in self.data.steps
        )
        heads = "".join(f"<th>{place}</th>" for place in ("chosen", "second", "third", "fourth", "fifth"))
        return (
            f'<div class="fallback table"><table><tr>{heads}</tr>{rows}</table></div>'
            "<figcaption>The five most likely tokens at each step, with their probabilities.</figcaption>"
        )


def _image(content: bytes, alt: str, name: str = "") -> str:
    kind = f' class="{name}"' if name else ""
    return f'<img{kind} src="{data_url("image/png", content)}" alt="{html.escape(alt)}">'


def _shown(name: str) -> str:
    """Write a token with its leading space visible."""
    return html.escape(name.replace(" ", "␣", 1) if name.startswith(" ") else name)
