"""Names and prose as LaTeX: what the paper or the spec calls a value, and text in which LaTeX sees no commands."""

from __future__ import annotations

import re
import unicodedata

from ssir.draw.words import greek

_ACCENTS = {
    "\u0302": r"\hat",
    "\u0303": r"\tilde",
    "\u0304": r"\bar",
    "\u0305": r"\overline",
    "\u0307": r"\dot",
    "\u0308": r"\ddot",
}
_VARIANTS = {"ϕ": r"\phi", "ε": r"\varepsilon", "ϵ": r"\epsilon", "ϑ": r"\vartheta", "φ": r"\varphi", "ο": "o"}
_SYMBOLS = {"ℓ": r"\ell", "∞": r"\infty", "π": r"\pi", "…": r"\ldots"}
_LIKE_LATIN = dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧ", "ABEZHIKMNOPTX", strict=True))
_ESCAPES = {
    "\\": r"$\backslash$",
    "~": r"$\sim$",
    "^": r"$\wedge$",
    "<": "$<$",
    ">": "$>$",
    "|": r"$\vert$",
    "–": "--",
    "—": "---",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "…": r"\dots{}",
    "×": r"$\times$",
    "·": r"$\cdot$",
    **{sign: f"$^{digit}$" for digit, sign in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    **{sign: f"$_{digit}$" for digit, sign in enumerate("₀₁₂₃₄₅₆₇₈₉")},
    "−": "$-$",
} | {sign: f"\\{sign}" for sign in "{}$&#_%"}
_TEXT_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0308": '"',
    "\u0327": "c",
    "\u030c": "v",
}
_FUNCTIONS = frozenset({"log", "exp", "max", "min", "sin", "cos", "tan"})
_NARROW, _WIDE = frozenset("iljtfrI'"), frozenset("mwMW")


def name(text: str) -> tuple[str, str, int] | None:
    """A name as a letter or a word, its subscript, and its primes; None if that cannot be written."""
    primes = len(text) - len(text.rstrip("'′"))
    if not re.fullmatch(r"[\w'′\u0300-\u036f…∞]+", text):
        return None
    if text.startswith("_") or "__" in text or text.endswith("_"):
        return _word(text), "", 0
    base, _, sub = greek(text.rstrip("'′")).partition("_")
    numbered = re.fullmatch(r"(.\W*)(\d+)", unicodedata.normalize("NFD", base))
    if numbered and not sub:
        base, sub = numbered.groups()
    glyph = _glyphs(base)
    if len(base) > 1 and base.isascii() and (len(sub) > 1 or not glyph or base in _FUNCTIONS):
        return _word(text.rstrip("'′")), "", primes
    under = "" if not sub else _subscript(sub)
    return (glyph, under, primes) if glyph and under is not None else None


def _glyphs(text: str) -> str | None:
    """One letter, with its accent; Greek letters side by side; or a word."""
    if text.isascii():
        return (text if len(text) == 1 else _word(text)) if text.isalnum() else None
    found: list[str] = []
    for c in unicodedata.normalize("NFD", text):
        if c in _ACCENTS and found:
            found[-1] = f"{_ACCENTS[c]}{{{found[-1]}}}"
        elif (glyph := _glyph(c)) is not None:
            found.append(glyph)
        else:
            return None
    return " ".join(found)


def _glyph(c: str) -> str | None:
    if c.isascii():
        return c if c.isalnum() else None
    if c in _SYMBOLS or c in _VARIANTS or c in _LIKE_LATIN:
        return _SYMBOLS.get(c) or _VARIANTS.get(c) or _LIKE_LATIN[c]
    words = unicodedata.name(c, "").split()
    if words[:1] != ["GREEK"] or words[2:3] != ["LETTER"] or len(words) != 4:
        return None
    letter = words[3].replace("LAMDA", "LAMBDA").lower()
    return f"\\{letter.title() if words[1] == 'CAPITAL' else letter}"


def _subscript(text: str) -> str | None:
    if text.isdecimal():
        return text
    parts = [_glyphs(part) if part else None for part in text.split("_")]
    return None if None in parts else r"\_".join(part for part in parts if part)


def _word(text: str) -> str:
    return rf"\mathrm{{{text.replace('_', chr(92) + '_')}}}"


def width(latex: str) -> float:
    """The width of a letter, a word or digits in points, at a size of ten."""
    plain = re.sub(r"\\(mathrm|hat|tilde|bar|overline|dot|ddot)\b|[{} ]", "", latex).replace(r"\_", "_")
    plain = re.sub(r"\\[A-Za-z]+", "x", plain)
    return sum(3.9 if c in _NARROW else 8.5 if c in _WIDE else 7.6 if c.isupper() else 5.4 for c in plain)


def prose(text: str) -> str:
    """Text as LaTeX that shows it; a letter that pdflatex does not have becomes a letter near it, or its number."""
    return "".join(map(_prose, text)).replace("/", r"/\allowbreak{}")


def _prose(c: str) -> str:
    if c in _ESCAPES:
        return _ESCAPES[c]
    if c.isascii():
        return c if c.isprintable() else " "
    if (glyph := _glyph(c)) is not None:
        return f"${glyph}$"
    if (mark := _marked(c)) is not None:
        return mark
    near = unicodedata.normalize("NFKD", c).encode("ascii", "ignore").decode()
    return "".join(_ESCAPES.get(one, one) for one in near) or rf"\texttt{{U+{ord(c):04X}}}"


def _marked(c: str) -> str | None:
    parts = unicodedata.normalize("NFD", c)
    if len(parts) != 2 or not parts[0].isascii() or parts[1] not in _TEXT_ACCENTS:
        return None
    return rf"\{_TEXT_ACCENTS[parts[1]]}{{{parts[0]}}}"
