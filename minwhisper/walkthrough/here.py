"""The picture of Whisper's architecture, and a small map of it for each section, with its stage marked.

They are written as SVG directly, without Matplotlib: boxes, arrows and text, the same bytes on every machine. Sizes are
those of tiny.en. At a width of 480 the text stays legible when a phone shrinks the picture to its screen.
"""

from math import sin
from xml.sax.saxutils import escape

from .drawing import DARK_INK, LIGHT_INK, Drawing

WIDTH = 480
ARCHITECTURE = "architecture.svg"
STYLE = (
    f".w{{color:{LIGHT_INK};--a:#0c6a66;--on:#fff;--soft:#dcecea}}"
    f"@media(prefers-color-scheme:dark){{.w{{color:{DARK_INK};--a:#72c7bf;--on:#10201f;--soft:#1e3a38}}}}"
    ".w text{font:13px system-ui,-apple-system,'Segoe UI','Noto Sans','Liberation Sans',sans-serif;"
    "fill:currentColor;text-anchor:middle}"
    ".w rect{fill:none;stroke:currentColor;stroke-opacity:.5}.w .group{stroke-dasharray:3 3}"
    ".w path{fill:none;stroke:currentColor;stroke-width:1.2}.w marker path{fill:currentColor;stroke:none}"
    ".w .on{fill:var(--a);stroke:var(--a)}.w text.on{fill:var(--on);stroke:none;font-weight:600}"
    ".w path.on{fill:none;stroke-width:2.4}.w .soft{fill:var(--soft)}"
    ".w .shape{text-anchor:start;font-size:12px;font-style:italic}"
    ".w .side{font-size:12px;font-style:italic}.w .head{font-weight:600;font-size:14px}"
)
_ARROWHEAD = (
    '<marker id="h" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" markerUnits="userSpaceOnUse" '
    'orient="auto"><path d="M0 0L8 4L0 8z"/></marker>'
)

# ------------------------------------------------------------------------------------------ the map

STAGES = {  # of the map: name -> left edge, top and width of its box
    "audio": (8, 15, 60),
    "log-mel": (84, 15, 72),
    "convolutions": (172, 15, 104),
    "attention": (300, 15, 84),
    "MLP": (394, 15, 56),
    "tokens": (8, 67, 66),
    "decoder": (102, 67, 80),
    "cache": (192, 67, 62),
    "choice": (284, 67, 68),
    "words": (372, 67, 78),
}
_ALL = tuple(STAGES)
SECTIONS: dict[int, tuple[str, tuple[str, ...]]] = {  # section -> its stage in words, and the boxes to mark
    1: ("the whole model", _ALL),
    2: ("audio to log-mel spectrogram", ("audio", "log-mel")),
    3: ("convolutions and positions", ("convolutions",)),
    4: ("attention", ("attention",)),
    5: ("layer norm, GELU and the MLP", ("MLP",)),
    6: ("the whole encoder", ("convolutions", "attention", "MLP")),
    7: ("the weights of all layers", ("convolutions", "attention", "MLP", "decoder")),
    8: ("text as tokens", ("tokens",)),
    9: ("the decoder, one token at a time", ("tokens", "decoder", "choice")),
    10: ("the decoder's cache", ("cache",)),
    11: ("the choice of the next token", ("choice",)),
    12: ("words and their times", ("words",)),
    13: ("one window of 30 s after another", ("audio", "words")),
    14: ("all of it, on a GPU", _ALL),
    15: ("all of it, and how exact it is", _ALL),
}


def stage_file(section: int) -> str:
    """Return the file name of the map of a section."""
    return f"here-{section}.svg"


def draw_stage(section: int) -> Drawing:
    """Draw the map with the stage of a section marked."""
    stage, marked = SECTIONS[section]
    parts = [
        _box(292, 8, 166, 46, "group"),  # the encoder's blocks
        _box(94, 60, 168, 46, "group"),  # the decoder's blocks
        _arrow("M68 31H83"),
        _arrow("M156 31H171"),
        _arrow("M276 31H291"),
        _arrow("M375 54V57H142V66"),  # the features
        _arrow("M74 83H93"),
        _arrow("M262 83H283"),
        _arrow("M352 83H371"),
        _arrow("M318 99V112H41V100", section == 9),  # the next token
        _arrow("M450 83H470V3H38V14", section == 13),  # the next window
    ]
    for name, (x, y, width) in STAGES.items():
        on = "on" if name in marked else ""
        parts += [_box(x, y, width, 32, on), _text(x + width / 2, y + 20.5, name, on)]
    facts = f"section {section}: {stage}\nmarked: {', '.join(marked)}"
    return _picture(116, f"You are here: {stage}", facts, parts)


# ------------------------------------------------------------------------------------------ the architecture

_LEFT, _RIGHT = 107, 365  # the middle of the encoder's and of the decoder's column
_BOX = 194  # width


def draw_architecture() -> Drawing:
    """Draw the path from a waveform to words, with the shape of the array at every arrow."""
    parts: list[str] = []
    facts: list[str] = []

    def box(x: float, y: float, name: str, kind: str = "soft") -> None:
        parts.extend([_box(x - _BOX / 2, y, _BOX, 30, kind), _text(x, y + 19.5, name)])
        facts.append(name)

    def down(x: float, y: float, shape: str, length: int = 26) -> None:
        parts.extend([_arrow(f"M{x} {y}V{y + length - 1}"), _text(x + 10, y + length / 2 + 3.5, shape, "shape")])
        facts.append(f"  -> {shape}")

    def blocks(x: float, y: float, height: int) -> None:
        parts.extend(
            [_box(x - _BOX / 2 - 8, y, _BOX + 16, height, "group"), _text(x, y + 17, "4 blocks, 6 heads each")]
        )

    parts += [_text(_LEFT, 20, "Encoder", "head"), _waveform(_LEFT - _BOX / 2, 50)]
    facts.append("audio")
    down(_LEFT, 70, "480,000 samples, 30 s")
    box(_LEFT, 96, "log-mel spectrogram")
    down(_LEFT, 126, "80 × 3000")
    box(_LEFT, 152, "convolution, GELU")
    down(_LEFT, 182, "384 × 3000")
    box(_LEFT, 208, "convolution, stride 2, GELU")
    down(_LEFT, 238, "1500 × 384")
    box(_LEFT, 264, "add positions")
    down(_LEFT, 294, "1500 × 384", 38)
    blocks(_LEFT, 332, 104)
    box(_LEFT, 357, "norm, self-attention, add")
    box(_LEFT, 395, "norm, MLP (1536), add")
    down(_LEFT, 436, "1500 × 384")
    box(_LEFT, 462, "norm")

    notes = "tiny.en: 37.8 million parameters", "384: the width", "S: the number of tokens so far"
    for at, note in enumerate(notes):
        parts.append(_text(_RIGHT, 54 + 22 * at, note, "side"))
    parts.append(_text(_RIGHT, 226, "Decoder", "head"))
    box(_RIGHT, 242, "tokens so far")
    down(_RIGHT, 272, "S token ids")
    box(_RIGHT, 298, "look up, add positions")
    down(_RIGHT, 328, "S × 384", 66)
    blocks(_RIGHT, 394, 142)
    box(_RIGHT, 419, "norm, self-attention, add")
    box(_RIGHT, 457, "norm, cross-attention, add")
    parts += [
        _arrow(f"M{_LEFT + _BOX / 2:g} 468H{_RIGHT - _BOX / 2 - 1:g}"),
        _text(_LEFT, 508, "features 1500 × 384", "side"),
    ]
    facts.append("  <- features of the encoder, 1500 × 384")
    box(_RIGHT, 495, "norm, MLP (1536), add")
    down(_RIGHT, 536, "S × 384")
    box(_RIGHT, 562, "norm, logits")
    down(_RIGHT, 592, "S × 51,864")
    box(_RIGHT, 618, "choose the next token")
    parts.append(_arrow(f"M{_RIGHT + _BOX / 2:g} 633H474V257H{_RIGHT + _BOX / 2 + 1:g}"))  # the loop

    parts.append(_arrow(f"M{_RIGHT - _BOX / 2:g} 482H236V577H{_LEFT + _BOX / 2 + 1:g}"))
    parts.append(_text(_LEFT, 555, "attention weights S × 1500", "side"))
    facts.append("  -> attention weights S × 1500")
    box(_LEFT, 562, "align tokens with audio")
    down(_LEFT, 592, "a time per token")
    box(_LEFT, 618, "words with their times")
    parts += [_arrow(f"M{_RIGHT - _BOX / 2:g} 633H{_LEFT + _BOX / 2 + 1:g}"), _text(236, 627, "text", "side")]
    return _picture(660, "The architecture of Whisper with the shapes of tiny.en", "\n".join(facts), parts)


def draw_all() -> dict[str, Drawing]:
    """Draw the architecture and the maps of all sections, by file name."""
    return {ARCHITECTURE: draw_architecture()} | {stage_file(section): draw_stage(section) for section in SECTIONS}


# ------------------------------------------------------------------------------------------ SVG


def _picture(height: int, title: str, facts: str, parts: list[str]) -> Drawing:
    head = f"<title>{escape(title)}</title>\n<desc>{escape(facts)}</desc>\n<style>{STYLE}</style>\n{_ARROWHEAD}"
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="w" role="img" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}">'
    )
    return Drawing("\n".join([opening, head, *parts, "</svg>\n"]), facts)


def _box(x: float, y: float, width: float, height: float, kind: str = "") -> str:
    return f'<rect{_class(kind)} x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>'


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text{_class(kind)} x="{x:g}" y="{y:g}">{escape(text)}</text>'


def _arrow(path: str, on: bool = False) -> str:
    return f'<path{_class("on" if on else "")} d="{path}" marker-end="url(#h)"/>'


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _waveform(x: float, y: float) -> str:
    """Draw a made-up waveform around a height."""
    bars = [2 + 15 * abs(sin(0.9 * at) * sin(0.11 * at) * sin(0.37 * at + 1)) for at in range(65)]
    return f'<path d="{"".join(f"M{x + 3 * at:g} {y - bar:.1f}v{2 * bar:.1f}" for at, bar in enumerate(bars))}"/>'
