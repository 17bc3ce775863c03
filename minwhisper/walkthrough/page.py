"""The walkthrough as one self-contained HTML page: it needs neither a network nor a second file.

Styles, pictures, audio and scripts are embedded. Formulas become MathML, which browsers render themselves. The page's
``Content-Security-Policy`` forbids loading anything, so that a missing resource is noticed at once. Without scripts
every figure is still a picture or a table.
"""

import html
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files

from .figures import Figures, data_url
from .markup import Markup, own_link
from .text import Cell, Listing, Part, PictureLink, Prose, Section, Walkthrough, Widget
from .widgets import WidgetData

LONG_LISTING = 30  # lines; longer listings can be folded
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><g fill="#14807a">'
    '<rect x="1" y="6" width="2" height="4" rx="1"/><rect x="4" y="3" width="2" height="10" rx="1"/>'
    '<rect x="7" y="1" width="2" height="14" rx="1"/><rect x="10" y="4" width="2" height="8" rx="1"/>'
    '<rect x="13" y="6" width="2" height="4" rx="1"/></g></svg>'
)


def page(walkthrough: Walkthrough, pictures: Mapping[str, str], clip: bytes, data: WidgetData | None = None) -> str:
    """Return the page as the text of an HTML file in UTF-8.

    ``pictures`` maps the path of each picture in the text to its SVG; a note replaces a missing one. ``clip`` is the
    recording that the text is about, the bytes of a FLAC file, which the reader can play. ``data`` are the values of
    the interactive figures; without them the figures are omitted.

    Raises ``MissingExtraError`` if a library of the extra ``walkthrough`` is not installed, and ``WalkthroughError``
    with the line number for a formula that cannot be converted.
    """
    figures = Figures(data)
    writer = _Writer(pictures, figures, walkthrough.sections)
    title, name, anchor = writer.markup.heading(walkthrough.title)
    # The audio player follows the first paragraph, which introduces it.
    opening, end, rest = writer.parts(walkthrough.introduction).partition("</p>\n")
    about = html.escape(html.unescape(re.sub(r"<[^>]*>", "", opening)).strip())  # for previews of links to the page
    sections = [writer.section(section) for section in walkthrough.all_sections()]
    entries = "\n".join(entry for entry, _ in sections)
    bodies = "\n".join(body for _, body in sections)
    names = "page.css", "widgets.css", "page.js"
    style, figure_style, script = ((files(__package__) / name).read_text(encoding="utf-8") for name in names)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{html.escape(name)}</title>
<meta name="description" content="{about}">
<meta property="og:title" content="{html.escape(name)}">
<meta property="og:description" content="{about}">
<link rel="icon" href="{data_url("image/svg+xml", ICON.encode())}">
<style>
{style}{figure_style}</style>
<script>
{script}</script>
</head>
<body>
<nav class="contents" aria-label="Contents">
<details open>
<summary>Contents</summary>
<a class="title" href="#{anchor}">{title}</a>
<ol>
{entries}
</ol>
</details>
</nav>
<main>
<h1 id="{anchor}">{title}</h1>
{opening}{end}{figures.player(clip)}
{rest}{bodies}
</main>
{figures.script()}</body>
</html>
"""


def check_libraries() -> None:
    """Raise ``MissingExtraError`` if a library that pages need is not installed, before any work starts."""
    Markup({}, ())


class _Writer:
    """A converter of parts to HTML, in the order of the text."""

    def __init__(self, pictures: Mapping[str, str], figures: Figures, sections: Sequence[Section]) -> None:
        self.pictures, self.figures = pictures, figures
        self.markup = Markup(pictures, sections)
        self.number = 0  # of the current section

    def section(self, section: Section) -> tuple[str, str]:
        """Convert a section: return its entry in the table of contents, and the section itself."""
        self.number = section.number
        title, _, anchor = self.markup.heading(section.title, section.heading.removesuffix(section.title))
        number = f'<span class="number">{section.number}.</span> ' if section.number else ""
        column = number or '<span class="number"></span>'
        body = self.parts(section.parts) + self.markup.end_of_box()
        return (
            f'<li><a href="#{anchor}">{column}<span>{title}</span></a></li>',
            f'<section aria-labelledby="{anchor}">\n<h2 id="{anchor}">{number}{title}{own_link(anchor)}</h2>\n'
            f"{body}</section>",
        )

    def parts(self, parts: Sequence[Part]) -> str:
        """Convert parts in sequence."""
        return "".join(self._part(part) for part in parts)

    def _part(self, part: Part) -> str:
        if isinstance(part, Prose):
            return self.markup.prose(part)
        if isinstance(part, Widget):
            return self.figures.figure(part.name, self.number)
        return self._listing(part) if isinstance(part, Listing) else self._cell(part)

    def _listing(self, listing: Listing) -> str:
        bar = f'<span class="file">{html.escape(listing.file)}</span> · <b>{html.escape(listing.name)}</b>'
        code = self.markup.code(listing.code, "python")
        if listing.folded or len(listing.code.splitlines()) > LONG_LISTING:
            state = "" if listing.folded else " open"
            return f'<details class="listing"{state}><summary>{bar}</summary>{code}</details>\n'
        return f'<figure class="listing"><figcaption>{bar}</figcaption>{code}</figure>\n'

    def _cell(self, cell: Cell) -> str:
        blocks = self.markup.code(cell.code, "python")
        if cell.output:
            output = html.escape(cell.output, quote=False)
            blocks += f'<pre class="output" aria-label="Output"><samp>{output}</samp></pre>'
        if cell.picture:
            blocks += self._picture(cell.picture)
        return f'<div class="cell">{blocks}</div>\n'

    def _picture(self, picture: PictureLink) -> str:
        alt = html.escape(picture.alt)
        if (svg := self.pictures.get(picture.path)) is None:
            return f'<p class="missing">{alt} (picture omitted: matplotlib is not installed)</p>'
        source = data_url("image/svg+xml", svg.encode())
        image = f'<div class="frame"><img src="{source}" alt="{alt}"></div>'
        return f'<figure class="picture">{image}<figcaption>{alt}</figcaption></figure>'
