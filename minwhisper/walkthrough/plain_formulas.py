"""Formulas in a terminal: TeX is converted to one line of Unicode, or several for aligned equations.

Indices and exponents become small characters where Unicode has all of them, xᵢ and 10⁻⁵, and otherwise e^(xᵢ).
Fractions are written with a slash. Unknown commands keep their names, so that every formula is shown.
"""

import re

_SMALL = "0123456789+-−=()aehijklmnoprstuvxβγρφχ"
_SUB = dict(zip(_SMALL, "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓᵦᵧᵨᵩᵪ", strict=True))
_SUPER = dict(zip("0123456789+-−=()niT⊤", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿⁱᵀᵀ", strict=True))
_SUB[" "] = _SUPER[" "] = ""

_GREEK = (
    "alpha α beta β gamma γ delta δ epsilon ε varepsilon ε zeta ζ eta η theta θ kappa κ lambda λ mu μ nu ν xi ξ pi π "
    "rho ρ sigma σ tau τ phi φ varphi φ chi χ psi ψ omega ω Gamma Γ Delta Δ Theta Θ Lambda Λ Pi Π Sigma Σ Phi Φ Psi Ψ "
    "Omega Ω"
)
_SIGNS = (
    "cdot · times × pm ± sum Σ prod ∏ int ∫ infty ∞ partial ∂ nabla ∇ in ∈ notin ∉ le ≤ leq ≤ ge ≥ geq ≥ ne ≠ neq ≠ "
    "approx ≈ sim ~ equiv ≡ propto ∝ ll ≪ gg ≫ to → rightarrow → leftarrow ← Rightarrow ⇒ mapsto ↦ ldots … dots … "
    "cdots ⋯ top ⊤ mid | lvert | rvert | vert | lVert ‖ rVert ‖ Vert ‖ lfloor ⌊ rfloor ⌋ lceil ⌈ rceil ⌉ langle ⟨ "
    "rangle ⟩ odot ⊙ circ ∘ prime ′ cup ∪ cap ∩ subset ⊂ forall ∀ exists ∃ ell ℓ bmod mod"
)
_pairs = f"{_GREEK} {_SIGNS}".split()
_SYMBOLS = dict(zip(_pairs[::2], _pairs[1::2], strict=True))
_SYMBOLS |= {"quad": "  ", "qquad": "    ", ",": " ", ";": " ", ":": " ", " ": " ", "!": "", "|": "‖", "\\": "\n"}
_SYMBOLS |= dict.fromkeys(("left", "right", "big", "Big", "bigl", "bigr", "displaystyle", "limits", "nolimits"), "")
_ACCENTS = {"overline": "\u0305", "bar": "\u0305", "hat": "\u0302", "tilde": "\u0303", "vec": "\u20d7", "dot": "\u0307"}
_AS_TEXT = ("mathrm", "text", "operatorname", "mathbf", "mathit", "mathsf", "mathtt", "mathcal", "boldsymbol")
_TOKEN = re.compile(r"\\[A-Za-z]+\*?|\\.|\s+|.", re.DOTALL)


def plain_formula(tex: str) -> str:
    r"""Convert a formula from TeX to Unicode.

    >>> plain_formula(r"\mathrm{softmax}(x)_i = \frac{e^{x_i}}{\sum_j e^{x_j}}")
    'softmax(x)ᵢ = e^(xᵢ)/(Σⱼ e^(xⱼ))'
    """
    tokens = [
        " " if token.isspace() else token for token in _TOKEN.findall(tex.replace("&&", r"\qquad").replace("&", ""))
    ]
    lines = _Parser(tokens).sequence().split("\n")
    return "\n".join(
        re.sub(r"\s+([.,;])", r"\1", re.sub(" {4,}", "    ", line)).strip() for line in lines if line.strip()
    )


class _Parser:
    """A parser that passes over the tokens once; ``at`` is the index of the next one."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.at = tokens, 0

    def sequence(self) -> str:
        """Convert tokens up to the end of this group."""
        text = ""
        while self.at < len(self.tokens) and self.tokens[self.at] != "}":
            token = self.tokens[self.at]
            if token in "_^":
                self.at += 1
                text = text.rstrip(" ") + _script(self.atom(), token)
                continue
            part = self.atom()
            if token in ("\\lvert", "\\lVert", "\\left"):
                self._skip_spaces()
            elif token in ("\\rvert", "\\rVert", "\\right"):
                text = text.rstrip(" ")
            name = token.startswith("\\") and part[:1].isalpha() and len(part) > 1
            joined = text[-1:].isalnum() and name  # "2 log", and "arg max"
            text += f" {part}" if joined else part
        return text

    def atom(self) -> str:
        """Convert one token or group, with the arguments of a command."""
        while self.at < len(self.tokens) and self.tokens[self.at] == " ":
            self.at += 1
            if self.at == len(self.tokens) or self.tokens[self.at] not in "_^":
                return " "
        if self.at == len(self.tokens):
            return ""
        token = self.tokens[self.at]
        self.at += 1
        if token == "{":
            text = self.sequence()
            self.at += 1
            return text
        if token.startswith("\\"):
            return self._command(token[1:])
        return {"-": "−", "'": "′", "~": " "}.get(token, token)

    def _command(self, name: str) -> str:
        if name in _AS_TEXT:
            return self._verbatim()
        if name in ("begin", "end"):
            self._verbatim()
            return ""
        if name in ("frac", "tfrac", "dfrac"):
            above, below = self._argument(), self._argument()
            return "½" if (above, below) == ("1", "2") else f"{_bracketed(above)}/{_bracketed(below)}"
        if name == "sqrt":
            return f"√{_bracketed(self._argument())}"
        if name in _ACCENTS:
            return "".join(char + _ACCENTS[name] for char in self._argument())
        return _SYMBOLS.get(name, name)

    def _argument(self) -> str:
        self._skip_spaces()
        return self.atom().strip()

    def _verbatim(self) -> str:
        """Return the argument as it is written."""
        self._skip_spaces()
        if self.at == len(self.tokens) or self.tokens[self.at] != "{":
            return self.atom()
        end = next((at for at in range(self.at, len(self.tokens)) if self.tokens[at] == "}"), len(self.tokens))
        text, self.at = "".join(self.tokens[self.at + 1 : end]), end + 1
        return text

    def _skip_spaces(self) -> None:
        while self.at < len(self.tokens) and self.tokens[self.at] == " ":
            self.at += 1


def _script(text: str, sign: str) -> str:
    small = _SUB if sign == "_" else _SUPER
    if all(char in small for char in text):
        return "".join(small[char] for char in text)
    return f"{sign}{text}" if len(text) == 1 else f"{sign}({text})"


def _bracketed(text: str) -> str:
    """Put brackets around a text that has spaces outside of brackets."""
    inner = re.sub(r"\([^()]*\)|‖[^‖]*‖", "", text)
    return f"({text})" if " " in inner.strip() else text
