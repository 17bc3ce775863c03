"""The walkthrough as one self-contained HTML page: it needs neither a network nor a second file.

Styles, pictures, audio and a short script are embedded. Formulas become MathML, which browsers render themselves. The
page's ``Content-Security-Policy`` forbids loading anything, so that a missing resource is noticed at once.

Prose is GitHub's Markdown, with the same anchors. Raw HTML is shown as text, except the few tags that the text uses
(``<details>``, ``<summary>``, ``<a id="…">``); comments are dropped. A link to a file of
the repository would be dead in a single page, so it becomes the file's name.
"""

import html
import re
import unicodedata
from base64 import b64encode
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from ..errors import WalkthroughError
from .formulas import converter, formula, library
from .text import FILE, Cell, Listing, Part, PictureLink, Prose, Section, Walkthrough, Widget

LONG_LISTING = 30  # lines; longer listings can be folded
PARAGRAPHS = {"*In the package": "where", "**Look for:**": "look", "**Now you know:**": "know"}  # -> class
CAPTION = "J. F. Kennedy, 1961, 11 s, public domain"
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><g fill="#14807a">'
    '<rect x="1" y="6" width="2" height="4" rx="1"/><rect x="4" y="3" width="2" height="10" rx="1"/>'
    '<rect x="7" y="1" width="2" height="14" rx="1"/><rect x="10" y="4" width="2" height="8" rx="1"/>'
    '<rect x="13" y="6" width="2" height="4" rx="1"/></g></svg>'
)

# Does two things that styles cannot: it folds the table of contents on narrow screens, and marks the current section
# in it. Without the script the contents are open and unmarked.
SCRIPT = """
const contents = document.querySelector(".contents details");
const wide = matchMedia("(min-width: 70rem)");
const fold = () => { contents.open = wide.matches; };
wide.addEventListener("change", fold);
fold();
addEventListener("DOMContentLoaded", () => {
  const links = [...contents.querySelectorAll("li a")];
  const headings = links.map((link) => document.getElementById(decodeURIComponent(link.hash.slice(1))));
  const mark = () => {
    const now = headings.findLastIndex((heading) => heading.getBoundingClientRect().top < innerHeight / 3);
    links.forEach((link, i) => i === now ? link.ariaCurrent = "location" : link.removeAttribute("aria-current"));
  };
  addEventListener("scroll", mark, { passive: true });
  addEventListener("resize", mark);
  mark();
});
"""


def page(walkthrough: Walkthrough, pictures: Mapping[str, str], clip: bytes) -> str:
    """Return the page as the text of an HTML file in UTF-8.

    ``pictures`` maps the path of each picture in the text to its SVG; a note replaces a missing one. ``clip`` is the
    recording that the text is about, the bytes of a FLAC file, which the reader can play.

    Raises ``MissingExtraError`` if a library of the extra ``walkthrough`` is not installed, and ``WalkthroughError``
    with the line number for a formula that cannot be converted.
    """
    writer = _Writer(pictures)
    title, name, anchor = writer.heading(walkthrough.title)
    # The audio player follows the first paragraph, which introduces it.
    opening, end, rest = writer.parts(walkthrough.introduction).partition("</p>\n")
    sections = [writer.section(section) for section in walkthrough.all_sections()]
    entries = "\n".join(entry for entry, _ in sections)
    bodies = "\n".join(body for _, body in sections)
    style = (files(__package__) / "page.css").read_text(encoding="utf-8")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{html.escape(name)}</title>
<link rel="icon" href="{_data("image/svg+xml", ICON.encode())}">
<style>
{style}</style>
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
<script>{SCRIPT}</script>
</nav>
<main>
<h1 id="{anchor}">{title}</h1>
{opening}{end}{_player(clip)}
{rest}{bodies}
</main>
</body>
</html>
"""


def check_libraries() -> None:
    """Raise ``MissingExtraError`` if a library that pages need is not installed, before any work starts."""
    _Writer({})


def slug(text: str, taken: set[str]) -> str:
    """Return the anchor that GitHub gives to a heading, and add it to those that are ``taken``.

    >>> taken = set()
    >>> slug("3. Convolution and positions", taken), slug("Try this", taken), slug("Try this", taken)
    ('3-convolution-and-positions', 'try-this', 'try-this-1')
    """
    kept = "".join(char for char in text.strip().lower() if char in "- " or _in_word(char)).replace(" ", "-")
    name, number = kept, 0
    while name in taken:
        number += 1
        name = f"{kept}-{number}"
    taken.add(name)
    return name


def _in_word(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] in "LM" or category in ("Nd", "Nl", "Pc")


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{b64encode(content).decode('ascii')}"


def _player(clip: bytes) -> str:
    return (
        f'<figure class="clip"><audio controls preload="metadata" aria-label="{CAPTION}" '
        f'src="{_data("audio/flac", clip)}"></audio><figcaption>{CAPTION}</figcaption></figure>'
    )


def _raw(token: Any, content: str) -> None:
    """Replace a Markdown token by this HTML."""
    token.type, token.content = "raw", content


class _Writer:
    """A converter of parts to HTML. The order of calls matters, since anchors are numbered."""

    def __init__(self, pictures: Mapping[str, str]) -> None:
        self.pictures = pictures
        self.slugs: set[str] = set()
        self.answers: list[int] = []  # line numbers of the open ones
        self.boxed = False  # inside "Try this" or an exercise, which end at the next heading
        markdown = library("markdown_it", "markdown-it-py").MarkdownIt("commonmark").enable(["table", "strikethrough"])
        markdown.use(
            library("mdit_py_plugins.dollarmath", "mdit-py-plugins").dollarmath_plugin,
            allow_labels=False,
            allow_space=False,
            allow_digits=False,
            double_inline=True,
        )
        markdown.add_render_rule("raw", lambda _self, tokens, at, _options, _env: tokens[at].content)
        self.markdown = markdown
        self.pygments = library("pygments", "pygments")
        self.lexers = library("pygments.lexers", "pygments")
        self.formatter = library("pygments.formatters", "pygments").HtmlFormatter(nowrap=True)
        converter()

    # ---------------------------------------------------------------------------------- parts

    def section(self, section: Section) -> tuple[str, str]:
        """Convert a section: return its entry in the table of contents, and the section itself."""
        title, _, anchor = self.heading(section.title, section.heading.removesuffix(section.title))
        number = f'<span class="number">{section.number}.</span> ' if section.number else ""
        column = number or '<span class="number"></span>'
        body = self.parts(section.parts) + self._end_of_box()
        return (
            f'<li><a href="#{anchor}">{column}<span>{title}</span></a></li>',
            f'<section aria-labelledby="{anchor}">\n<h2 id="{anchor}">{number}{title}{_own_link(anchor)}</h2>\n'
            f"{body}</section>",
        )

    def heading(self, markdown: str, number: str = "") -> tuple[str, str, str]:
        """Convert a title: return its HTML, its plain text and its anchor."""
        (token,) = self.markdown.parseInline(markdown)
        name = _plain(token.children)
        return self._inline(token.children, 1), name, slug(number + name, self.slugs)

    def parts(self, parts: Sequence[Part]) -> str:
        """Convert parts in sequence."""
        return "".join(self._part(part) for part in parts)

    def _part(self, part: Part) -> str:
        if isinstance(part, Prose):
            return self._prose(part)
        if isinstance(part, Widget):
            return ""
        return self._listing(part) if isinstance(part, Listing) else self._cell(part)

    def _listing(self, listing: Listing) -> str:
        bar = f'<span class="file">{html.escape(listing.file)}</span> · <b>{html.escape(listing.name)}</b>'
        code = self._code(listing.code, "python")
        if listing.folded or len(listing.code.splitlines()) > LONG_LISTING:
            state = "" if listing.folded else " open"
            return f'<details class="listing"{state}><summary>{bar}</summary>{code}</details>\n'
        return f'<figure class="listing"><figcaption>{bar}</figcaption>{code}</figure>\n'

    def _cell(self, cell: Cell) -> str:
        blocks = self._code(cell.code, "python")
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
        source = _data("image/svg+xml", svg.encode())
        image = f'<div class="frame"><img src="{source}" alt="{alt}"></div>'
        return f'<figure class="picture">{image}<figcaption>{alt}</figcaption></figure>'

    def _code(self, code: str, language: str) -> str:
        try:
            lexer = self.lexers.get_lexer_by_name(language or "text", stripnl=False, ensurenl=False)
        except self.pygments.util.ClassNotFound:
            lexer = self.lexers.get_lexer_by_name("text", stripnl=False, ensurenl=False)
        lines = self.pygments.highlight(code, lexer, self.formatter).removesuffix("\n")
        return f'<pre class="code"><code>{lines}</code></pre>'

    # ---------------------------------------------------------------------------------- prose

    def _prose(self, prose: Prose) -> str:
        tokens = self.markdown.parse(prose.text)
        for at in range(len(tokens)):
            self._block(tokens, at, prose.line)
        return self.markdown.renderer.render(tokens, self.markdown.options, {})

    def _block(self, tokens: list[Any], at: int, line: int) -> None:
        """Replace a block that needs HTML other than Markdown's; ``line`` is the line number of the first block."""
        token, following = tokens[at], tokens[at + 1] if at + 1 < len(tokens) else None
        if token.map:
            line += token.map[0]
        language = token.info.split()[0] if token.info.split() else ""
        if token.type == "heading_open":
            self._open_heading(token, following)
        elif token.type == "inline":
            token.children = self._spans(token.children, line)
        elif token.type in ("fence", "code_block") and language != "math":
            _raw(token, self._code(token.content.rstrip("\n"), language) + "\n")
        elif token.type in ("math_block", "fence"):
            _raw(token, _display(token.content, line) + "\n")
        elif token.type == "html_block":
            _raw(token, self._html(_without_comments(token.content).strip(), line))
        elif token.type == "table_open":
            _raw(token, '<div class="table"><table>\n')
        elif token.type == "table_close":
            _raw(token, "</table></div>\n")
        elif token.type == "paragraph_open":
            self._open_paragraph(token, following, tokens[at + 2])
        elif token.type == "blockquote_open":
            self._open_quotation(tokens, at)

    def _html(self, shown: str, line: int) -> str:
        """Convert a block of HTML: an answer's beginning or end, or text."""
        if found := _ANSWER.fullmatch(shown):
            self.answers.append(line)
            return f'<details class="answer"><summary>{self.markdown.renderInline(found[1])}</summary>\n'
        if shown == "</details>" and self.answers:
            self.answers.pop()
            return "</details>\n"
        return f"<p>{html.escape(shown)}</p>\n" if shown else ""

    def _open_paragraph(self, opens: Any, inline: Any, closes: Any) -> None:
        """Mark a paragraph that begins with certain words, or consists of a picture."""
        for words, name in PARAGRAPHS.items():
            if inline.content.startswith(words):
                opens.attrSet("class", name)
        if len(inline.children) == 1 and (path := str(inline.children[0].attrGet("src"))) in self.pictures:
            opens.tag = closes.tag = "figure"
            opens.attrSet("class", "here" if "/here-" in path else "drawn")

    def _open_quotation(self, tokens: list[Any], at: int) -> None:
        """Make a quotation that begins in bold a box beside the text."""
        spans = [span for span in tokens[at + 2].children or () if span.type != "text" or span.content]
        if not spans or spans[0].type != "strong_open":
            return
        closes = next(
            token for token in tokens[at:] if token.type == "blockquote_close" and token.level == tokens[at].level
        )
        tokens[at].tag = closes.tag = "aside"
        tokens[at].attrSet("class", "box")

    def _open_heading(self, token: Any, inline: Any) -> None:
        name = _plain(inline.children)
        anchor = slug(name, self.slugs)
        box = re.match(r"Try this|Exercise", name) if token.tag == "h3" else None
        before = self._end_of_box() if token.tag <= "h3" else ""
        if box:
            self.boxed = True
            before += f'<section class="{"try" if box[0] == "Try this" else "exercise"}" aria-labelledby="{anchor}">\n'
        _raw(token, f'{before}<{token.tag} id="{anchor}">')
        inline.children.append(type(token)("raw", "", 0, content=_own_link(anchor)))

    def _end_of_box(self) -> str:
        if self.answers:
            raise WalkthroughError(f"{FILE}, line {self.answers[0]}: <details> is not closed before the next heading")
        was, self.boxed = self.boxed, False
        return "</section>\n" if was else ""

    def _inline(self, children: list[Any], line: int) -> str:
        return self.markdown.renderer.renderInline(self._spans(children, line), self.markdown.options, {})

    def _spans(self, children: list[Any], line: int) -> list[Any]:
        closing = []  # the end tag of each open link
        for at, token in enumerate(children):
            if token.type == "link_open":
                before, after = _link(str(token.attrGet("href")), children[at + 1 :])
                _raw(token, before)
                closing.append(after)
            elif token.type == "link_close":
                _raw(token, closing.pop())
            elif token.type in ("softbreak", "hardbreak"):
                line += 1
            elif token.type == "math_inline":
                _raw(token, _formula(token.content.strip("`"), line, display=False))
            elif token.type == "math_inline_double":
                _raw(token, _display(token.content, line, "span"))
            elif token.type == "html_inline":
                known = _TERM.fullmatch(token.content)
                _raw(token, token.content if known else html.escape(_without_comments(token.content)))
            elif token.type == "image":
                _raw(token, self._image(str(token.attrGet("src")), html.escape(token.content)))
        return children

    def _image(self, path: str, alt: str) -> str:
        if path not in self.pictures:
            return f"<em>{alt}</em>"
        return f'<img src="{_data("image/svg+xml", self.pictures[path].encode())}" alt="{alt}">'


_ANSWER = re.compile(r"<details>\s*<summary>([^<]*)</summary>")
_TERM = re.compile(r'<a id="[\w-]+">|</a>')  # the anchor of a term in the glossary


def _link(target: str, following: list[Any]) -> tuple[str, str]:
    """Return the HTML before and after a link's text; file names are not linked."""
    if re.match(r"#|https?://", target):
        return f'<a href="{html.escape(target)}">', "</a>"
    if following[0].type == "code_inline":
        return "", ""
    return '<code class="file">', "</code>"


def _plain(children: Sequence[Any]) -> str:
    """Return the plain text of a heading."""
    return "".join(token.content for token in children if token.type in ("text", "code_inline", "math_inline"))


def _own_link(anchor: str) -> str:
    return f' <a class="anchor" href="#{anchor}" aria-label="Link to this place">#</a>'


def _without_comments(text: str) -> str:
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


def _display(tex: str, line: int, tag: str = "div") -> str:
    return f'<{tag} class="math">{_formula(tex, line, display=True)}</{tag}>'


def _formula(tex: str, line: int, display: bool) -> str:
    try:
        return formula(tex, display)
    except ValueError as error:
        raise WalkthroughError(f"{FILE}, line {line}: {error}") from None
