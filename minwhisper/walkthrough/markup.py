"""Markdown, code and formulas -> HTML, for the walkthrough's page.

Prose is GitHub's Markdown, with the same anchors. Raw HTML is shown as text, except the few tags that the text uses
(``<details>``, ``<summary>``, ``<a id="…">``); comments are dropped. A link to a file of the repository would be dead
in a single page, so it becomes the file's name. "Section 4" becomes a link to it.
"""

import html
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import WalkthroughError
from .figures import data_url
from .formulas import converter, formula, library
from .text import FILE, Prose, Section

PARAGRAPHS = {"*In the package": "where", "**Look for:**": "look", "**Now you know:**": "know"}  # -> class


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


def _raw(token: Any, content: str) -> None:
    """Replace a Markdown token by this HTML."""
    token.type, token.content = "raw", content


class Markup:
    """A converter to HTML. The order of calls matters, since anchors are numbered and boxes end at the next heading."""

    def __init__(self, pictures: Mapping[str, str], sections: Sequence[Section]) -> None:
        """Prepare the libraries; ``pictures`` maps paths to SVG, ``sections`` are those that can be linked.

        Raises ``MissingExtraError`` if a library of the extra ``walkthrough`` is not installed.
        """
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
        self.anchors = {section.number: self._anchor(section) for section in sections}

    def heading(self, markdown: str, number: str = "") -> tuple[str, str, str]:
        """Convert a title: return its HTML, its plain text and its anchor."""
        (token,) = self.markdown.parseInline(markdown)
        name = _plain(token.children)
        return self._inline(token.children, 1), name, slug(number + name, self.slugs)

    def _anchor(self, section: Section) -> str:
        (token,) = self.markdown.parseInline(section.title)
        return slug(f"{section.number}. {_plain(token.children)}", set())

    def code(self, code: str, language: str) -> str:
        """Highlight a block of code; one in an unknown language is plain."""
        try:
            lexer = self.lexers.get_lexer_by_name(language or "text", stripnl=False, ensurenl=False)
        except self.pygments.util.ClassNotFound:
            lexer = self.lexers.get_lexer_by_name("text", stripnl=False, ensurenl=False)
        lines = self.pygments.highlight(code, lexer, self.formatter).removesuffix("\n")
        return f'<pre class="code"><code>{lines}</code></pre>'

    def prose(self, prose: Prose) -> str:
        """Convert prose. Raises ``WalkthroughError`` with the line number for a formula or an answer that is wrong."""
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
            _raw(token, self.code(token.content.rstrip("\n"), language) + "\n")
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
        if tokens[at + 1].type != "paragraph_open":
            return
        spans = [span for span in tokens[at + 2].children if span.type != "text" or span.content]
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
        before = self.end_of_box() if token.tag <= "h3" else ""
        if box:
            self.boxed = True
            before += f'<section class="{"try" if box[0] == "Try this" else "exercise"}" aria-labelledby="{anchor}">\n'
        _raw(token, f'{before}<{token.tag} id="{anchor}">')
        inline.children.append(type(token)("raw", "", 0, content=own_link(anchor)))

    def end_of_box(self) -> str:
        """Return the end of the box that is open, or nothing. Raises ``WalkthroughError`` if an answer is open."""
        if self.answers:
            raise WalkthroughError(f"{FILE}, line {self.answers[0]}: <details> is not closed before the next heading")
        was, self.boxed = self.boxed, False
        return "</section>\n" if was else ""

    def _inline(self, children: list[Any], line: int) -> str:
        return self.markdown.renderer.renderInline(self._spans(children, line), self.markdown.options, {})

    def _spans(self, children: list[Any], line: int) -> list[Any]:
        children = _joined(children)
        closing = []  # the end tag of each open link
        for at, token in enumerate(children):
            if token.type == "link_open":
                before, after = _link(str(token.attrGet("href")), children[at + 1 :])
                _raw(token, before)
                closing.append(after)
            elif token.type == "link_close":
                _raw(token, closing.pop())
            elif token.type == "text":
                line += token.content.count("\n")
                if not closing and _SECTION.search(token.content):
                    _raw(token, _SECTION.sub(self._section_link, html.escape(token.content)))
            elif token.type == "hardbreak":
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

    def _section_link(self, found: re.Match[str]) -> str:
        """Link "section 4", or each number of "sections 2, 3 and 4", to that section."""

        def link(number: re.Match[str]) -> str:
            anchor = self.anchors.get(int(number[2]))
            return f'<a href="#{anchor}">{number[0]}</a>' if anchor else number[0]

        return re.sub(r"([Ss]ection\s)?(\d+)", link, found[0])

    def _image(self, path: str, alt: str) -> str:
        if path not in self.pictures:
            return f"<em>{alt}</em>"
        return f'<img src="{data_url("image/svg+xml", self.pictures[path].encode())}" alt="{alt}">'


_SECTION = re.compile(r"\b[Ss]ections?\s\d+(?:(?:,?\s(?:and|to|or)\s|,\s)\d+)*\b(?!\.\d)")
_ANSWER = re.compile(r"<details>\s*<summary>([^<]*)</summary>")
_TERM = re.compile(r'<a id="[\w-]+">|</a>')  # the anchor of a term in the glossary


def _joined(children: list[Any]) -> list[Any]:
    """Join pieces of text and the line breaks between them: "section" may be at the end of a line."""
    joined: list[Any] = []
    for token in children:
        if token.type == "softbreak":
            token.type, token.tag, token.content = "text", "", "\n"
        if token.type == "text" and joined and joined[-1].type == "text":
            joined[-1].content += token.content
        else:
            joined.append(token)
    return joined


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


def own_link(anchor: str) -> str:
    """Return the link of a heading to itself."""
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
