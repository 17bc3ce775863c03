"""Formulas: TeX is converted to MathML, which browsers render without a network or a script."""

import html
import re
from importlib import import_module
from typing import Any
from xml.etree import ElementTree

from ..errors import MissingExtraError

# The number of children that each element must have.
_CHILDREN = {"mfrac": 2, "msub": 2, "msup": 2, "msubsup": 3, "mover": 2, "munder": 2, "munderover": 3, "mroot": 2}
_NAME = re.compile(r"[A-Za-z]{2,}")  # a function's name: log, softmax
_LIMITS = ("max", "min", "lim")  # operators whose subscript is set below them in display style
_THIN = "0.167em"  # the space around a function's name
_INDEXED = ("msub", "msup", "msubsup", "munder", "munderover")


def library(module: str, distribution: str) -> Any:
    """Import a library of the extra ``walkthrough``. Raises ``MissingExtraError`` if it is not installed."""
    try:
        return import_module(module)
    except ModuleNotFoundError:
        raise MissingExtraError(
            f"the page needs {distribution}, which is not installed: run pip install 'minwhisper[walkthrough]'"
        ) from None


def converter() -> Any:
    """Import the library that parses TeX. Raises ``MissingExtraError`` if it is not installed."""
    return library("latex2mathml.converter", "latex2mathml")


def formula(tex: str, display: bool = False) -> str:
    r"""Convert a formula to MathML, inline or, with ``display``, as a block.

    latex2mathml parses the TeX. Its result is then corrected where browsers would render it badly or not at all. It
    treats some unknown commands as text; here they raise a ValueError.
    """
    tex = " ".join(tex.split())
    try:
        math = converter().convert_to_element(_rewrite(tex), display="block" if display else "inline")
        _tidy(math)
    except MissingExtraError:
        raise
    except Exception as error:  # its errors have no common base class
        reason = str(error) or type(error).__name__
        raise ValueError(f"the formula '{tex}' cannot be converted: {reason}") from None
    math.set("alttext", tex)
    return ElementTree.tostring(math, encoding="unicode")


def _rewrite(tex: str) -> str:
    """Rewrite a formula with commands that latex2mathml knows."""
    tex = re.sub(r"(\d)\{,\}(?=\d{3})", r"\1\\text{,}", tex)
    tex = re.sub(r"\\mathrm\{([\w ]+)\}", r"\\text{\1}", tex)
    tex = re.sub(r"\\arg(?![A-Za-z])", r"\\operatorname{arg}", tex)
    tex = re.sub(r"\\([lr])([vV])ert(?![A-Za-z])", _fence, tex)
    return tex.replace("{aligned}", "{align*}")


def _fence(found: re.Match[str]) -> str:
    return (r"\mathopen" if found[1] == "l" else r"\mathclose") + ("{|}" if found[2] == "v" else r"{\|}")


def _tidy(element: ElementTree.Element, script: bool = False) -> None:
    """Correct an element and all its descendants; ``script`` means inside an index or exponent.

    Raises ValueError for anything that cannot be converted.
    """
    if element.tag == "mo" and len(element):  # an operator inside an operator
        element.text = "".join(element.itertext())
        del element[:]
    text = html.unescape(element.text or "")
    if len(element) != _CHILDREN.get(element.tag, len(element)):
        raise ValueError(f"{element.tag} has {len(element)} children")
    if element.tag in ("mi", "mo", "mn") and ("\\" in text or text == "&" or (not text and element.tag == "mo")):
        raise ValueError(f"{text or 'an operator'} is not supported")
    if element.tag == "mtext":
        text = text.replace(" ", "\N{NO-BREAK SPACE}")  # a browser drops spaces at the ends
    elif element.tag == "mo" and text in _LIMITS:
        element.attrib.update(movablelimits="true", lspace="0", rspace="0")
    elif element.tag == "mo" and text in ("|", "‖") and not element.get("form"):
        element.attrib.update(stretchy="false", lspace="0", rspace="0")  # TeX puts no space around either
    elif element.tag == "mo" and _NAME.fullmatch(text) and text != "mod":
        element.tag = "mi"  # an operator would have the space of a plus sign around it
    elif element.tag == "mo" and (script or text == "/"):
        element.attrib.update(lspace="0", rspace="0")  # nor here
    elif element.tag == "mi" and len(text) == 1 and "Α" <= text <= "Ω":
        element.set("mathvariant", "normal")  # TeX has capital Greek letters upright
    elif element.get("width") == "negativethinmathspace":
        element.set("width", f"-{_THIN}")
    elif element.tag == "msub" and element[0].text in _LIMITS:
        element.tag = "munder"
    element.text = text or None
    for at, child in enumerate(element):
        _tidy(child, script or (element.tag in _INDEXED and at > 0))
    if element.tag in ("mrow", "math", "mtd"):
        _space_names(element)


def _space_names(row: ElementTree.Element) -> None:
    """Insert a thin space between a function's name and anything that is not a sign or bracket."""
    parts = list(row)
    for at in range(len(parts) - 1, 0, -1):
        pair = _kind(parts[at - 1]), _kind(parts[at])
        if "name" in pair and "sign" not in pair:
            row.insert(at, ElementTree.Element("mspace", width=_THIN))


def _kind(element: ElementTree.Element) -> str:
    """Classify an element, or the first one of a group: a function's name, a sign (or bracket, or space), or other."""
    if element.tag in _INDEXED:
        return _kind(element[0])
    if element.tag == "mrow" and len(element):
        return "sign" if _kind(element[0]) == "sign" else "other"
    if (element.tag == "mi" and _NAME.fullmatch(element.text or "")) or element.get("movablelimits"):
        return "name"
    return "sign" if element.tag in ("mo", "mspace") else "other"
