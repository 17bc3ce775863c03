"""A text with every kind of content, and the pictures and the recording for its page."""

from pathlib import Path

from minwhisper.parity.comparison import CLIP, REFERENCE_FOLDER
from minwhisper.walkthrough.run import with_results
from minwhisper.walkthrough.text import parse, write

CLIP_BYTES = (REFERENCE_FOLDER / CLIP).read_bytes()
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="576" height="216" viewBox="0 0 576 216"><style>svg{color:#1f2328}'
    "@media (prefers-color-scheme: dark){svg{color:#e6edf3}}</style>"
    '<path d="M9 9V199H560" fill="none" stroke="currentColor"/></svg>'
)
PICTURES = {f"minwhisper/walkthrough/pictures/{name}.svg": SVG for name in ("here", "here-1")}

# With lines, tables and formulas too wide for a phone; the listings are filled in.
SOURCE = Path(__file__).parents[1] / "walkthrough" / "page.md"
SAMPLE = write(with_results(parse(SOURCE.read_text("utf-8")), {}))
