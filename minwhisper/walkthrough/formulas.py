"""Formulas: TeX is converted to MathML, which browsers render without a network or a script."""

import html
from importlib import import_module
from typing import Any

from ..errors import MissingExtraError


def library(module: str, distribution: str) -> Any:
    """Import a library of the extra ``walkthrough``. Raises ``MissingExtraError`` if it is not installed."""
    try:
        return import_module(module)
    except ModuleNotFoundError:
        raise MissingExtraError(
            f"the page needs {distribution}, which is not installed: run pip install 'minwhisper[walkthrough]'"
        ) from None


def converter() -> Any:
    """Import the library that converts TeX. Raises ``MissingExtraError`` if it is not installed."""
    return library("math_core", "math-core")


def formula(tex: str, display: bool = False) -> str:
    r"""Convert a formula to MathML, inline or, with ``display``, as a block.

    Raises ValueError if it cannot be converted, for example because of an unknown command.

    >>> formula("x^2")
    '<math alttext="x^2"><msup><mi>x</mi><mn>2</mn></msup></math>'
    """
    tex = " ".join(tex.split())
    library = converter()
    try:
        math = library.LatexToMathML(fancy_error=False).convert_with_local_state(tex, displaystyle=display)
    except library.LatexError as error:
        raise ValueError(f"the formula '{tex}' cannot be converted at character {error}") from None
    return str(math).replace("<math", f'<math alttext="{html.escape(tex)}"', 1)
