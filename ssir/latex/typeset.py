"""Trees of mathematics as LaTeX, with what is too long for a line broken where a person would break it.

Widths are estimated, in points, at the size that the document has.
"""

from __future__ import annotations

from collections.abc import Sequence

from ssir.draw import maths
from ssir.draw.maths import ATOM, POWER, PRODUCT, SUM, Maths, Number, Sign
from ssir.draw.words import COMPARISONS
from ssir.latex import names
from ssir.latex.lines import Atom, breakable, broken, joined, marked, total

_SCRIPT = 0.75
_BINARY, _RELATION = 12.5, 14.0
_WIDEST_FRACTION, _WIDEST_CASES = 150.0, 400.0
_JUXTAPOSED = PRODUCT + 0.5
_OPERATORS = {"⊙": r"\odot", "⊗": r"\otimes", "·": r"\cdot", "mod": r"\bmod"}
_RELATIONS = {"<": "<", "≤": r"\le", ">": ">", "≥": r"\ge", "=": "=", "≠": r"\ne"}
_KNOWN = {"exp": r"\exp", "log": r"\log", "sin": r"\sin", "cos": r"\cos", "tan": r"\tan", "tanh": r"\tanh"} | {
    "arctan": r"\arctan",
    "max": r"\max",
    "min": r"\min",
    "σ": r"\sigma",
    "log σ": r"\log\sigma",
}
_BRACKETS = {
    "()": "()",
    "[]": "[]",
    "<>": (r"\langle", r"\rangle"),
    "floor": (r"\lfloor", r"\rfloor"),
    "ceil": (r"\lceil", r"\rceil"),
    "abs": (r"\lvert", r"\rvert"),
}
_SERIES = {"sum": r"\sum", "max": r"\max"}


def width(tree: Maths, small: bool = False) -> float:
    """How wide it is in a display, or ``small``, in running text."""
    return total(_Printer(small).atoms(tree))


def inline(tree: Maths) -> str:
    """As it stands in running text."""
    return joined(_Printer(small=True).atoms(tree))


def lines(tree: Maths, first: float, others: float) -> list[str]:
    """The lines of an expression, the first as wide as this at most, the others as that; a piece that no break makes fit sticks out."""
    return [joined(line) for line in broken(_Printer().atoms(tree), first, others)]


class _Printer:
    """``small``: without what is taller than a line."""

    def __init__(self, small: bool = False, scale: float = 1.0, depth: int = 0) -> None:
        self.small, self.scale, self.depth = small, scale, depth

    def _inner(self) -> _Printer:
        return _Printer(self.small, self.scale, self.depth + 1)

    def _script(self) -> _Printer:
        return _Printer(True, self.scale * _SCRIPT, self.depth)

    def _atom(self, latex: str, width: float, tall: int = 0) -> Atom:
        return Atom(latex, width * self.scale, None, tall)

    def _breaks(self, level: int, latex: str, width: float) -> Atom:
        return Atom(latex, width * self.scale, self.depth * 3 + level)

    def _one(self, tree: Maths) -> Atom:
        """A tree in one piece."""
        atoms = self.atoms(tree)
        return Atom(joined(atoms), total(atoms), None, max(atom.tall for atom in atoms))

    def atoms(self, tree: Maths) -> list[Atom]:
        match tree:
            case Number(value):
                return [self._number(value)]
            case Sign():
                return [self._sign(tree)]
            case maths.Sum(terms):
                return self._sum(terms)
            case maths.Negative(value):
                return [self._atom("-", 8), *self._in(value, PRODUCT)]
            case maths.Product():
                return self._product(tree)
            case maths.Quotient(above, below):
                return self._quotient(above, below)
            case maths.Power(base, exponent):
                return marked(self._in(base, ATOM), "^", self._script()._one(exponent))
            case maths.Root(value):
                inner = self._one(value)
                return [Atom(rf"\sqrt{{{inner.latex}}}", inner.width + 9 * self.scale, None, inner.tall)]
            case maths.Apply():
                return self._apply(tree)
            case maths.Compare(op, left, right):
                relation = self._breaks(0, _RELATIONS[COMPARISONS[op]], _RELATION)
                return [*self._in(left, SUM), relation, *self._in(right, SUM)]
            case maths.Cases():
                return self._cases(tree)
            case maths.Entry(value, index, stop):
                within = self._inner()
                upto = [self._atom("{:}", 3), *within.atoms(stop)] if stop is not None else []
                return [*self._in(value, ATOM), *self._bracketed("[]", [*within.atoms(index), *upto])]
            case maths.At(value, at):
                return marked(self._in(value, ATOM), "_", self._scripts(at))
            case maths.Series():
                return self._series(tree)
            case maths.Inner(left, right, along):
                both = self._bracketed("<>", self._list((left, right)))
                return marked(both, "_", self._script()._one(along))
            case maths.Decorated(how, value):
                return self._decorated(how, value)
            case maths.Listed(values, brackets, between):
                return self._bracketed(brackets, self._list(values, between, self if not brackets else None))
            case maths.Matrix(rows):
                cells = [[self._one(cell) for cell in row] for row in rows]
                body = r" \\ ".join(" & ".join(cell.latex for cell in row) for row in cells)
                across = sum(max(row[i].width for row in cells) + 10 for i in range(len(cells[0])))
                return [Atom(rf"\begin{{pmatrix}} {body} \end{{pmatrix}}", across + 10, None, 2)]

    # Names and numbers.

    def _number(self, value: float) -> Atom:
        text = repr(int(value)) if float(value).is_integer() and abs(value) < 1e7 else f"{value:.6g}"
        mantissa, _, exponent = text.partition("e")
        if value in (float("inf"), float("-inf")):
            return self._atom(r"\infty" if value > 0 else r"-\infty", 18)
        if exponent:
            power = f"10^{{{int(exponent)}}}"
            unit = mantissa in ("1", "-1")
            latex = power if mantissa == "1" else f"-{power}" if unit else rf"{mantissa} \cdot {power}"
            return self._atom(latex, 5.2 * len(latex))
        return self._atom(text, 5.2 * len(text))

    def _sign(self, sign: Sign) -> Atom:
        base, sub, primes = names.name(sign.text) or (rf"\text{{{names.prose(sign.text)}}}", "", 0)
        across = names.width(base)
        below = self._scripts((*sign.of, *sign.at))
        subscript = ",".join(filter(None, (sub, below.latex)))
        latex = base + "'" * primes
        down, up = names.width(sub) * _SCRIPT + below.width / self.scale, 3.0 * primes
        if sign.up is not None:
            script = self._script()._one(sign.up)
            latex = f"{base}^{{{chr(92) + 'prime ' if primes else ''}({script.latex})}}"
            up += script.width / self.scale + 6
        latex += f"_{{{subscript}}}" if subscript else ""
        return self._atom(latex, across + max(down, up) + 0.5)

    def _scripts(self, trees: Sequence[Maths]) -> Atom:
        small = self._script()
        parts = [small._one(tree) for tree in trees]
        return Atom(",".join(one.latex for one in parts), total(parts) + 2.5 * max(0, len(parts) - 1))

    # What holds together: brackets as tall as what is in them.

    def _in(self, tree: Maths, at_least: float) -> list[Atom]:
        if self._tightness(tree) >= at_least:
            return self.atoms(tree)
        return self._bracketed("()", self._inner().atoms(tree))

    def _tightness(self, tree: Maths) -> float:
        match tree:
            case maths.Product(signs=signs):
                return SUM if "mod" in signs else PRODUCT if any(signs) else _JUXTAPOSED
            case maths.Quotient(above, below):
                return POWER if self._is_fraction(above, below) else PRODUCT
            case maths.Root():
                return ATOM
            case maths.Apply() | maths.Decorated(how="transpose"):
                return POWER
            case maths.At() | maths.Entry():
                return ATOM
            case maths.Cases():
                return SUM
        return maths.tightness(tree)

    def _bracketed(self, kind: str, atoms: list[Atom]) -> list[Atom]:
        tall = max((atom.tall for atom in atoms), default=0)
        size = ("", r"\Bigl", r"\Biggl")[tall], ("", r"\Bigr", r"\Biggr")[tall]
        if not kind:
            return atoms
        left, right = _BRACKETS[kind]
        across = (4.0, 5.0, 8.0)[tall]
        return [self._atom(size[0] + left, across, tall), *atoms, self._atom(size[1] + right, across, tall)]

    def _sum(self, terms: Sequence[Maths]) -> list[Atom]:
        atoms = self._in(terms[0], SUM)
        for term in terms[1:]:
            minus = isinstance(term, maths.Negative) or (isinstance(term, Number) and term.value < 0)
            atoms.append(self._breaks(0, "-" if minus else "+", _BINARY))
            atoms += self._in(maths.negative(term), PRODUCT) if minus else self._in(term, SUM)
        return atoms

    def _product(self, tree: maths.Product) -> list[Atom]:
        loose = any(tree.signs)
        atoms: list[Atom] = []
        for i, factor in enumerate(tree.factors):
            sign = tree.signs[i - 1] if i else None
            outer = "⊗" in tree.signs[max(0, i - 1) : i + 1]
            least = (_JUXTAPOSED if outer else PRODUCT) if loose else _JUXTAPOSED
            last = i == len(tree.factors) - 1
            if isinstance(factor, maths.Series) and not last:
                least = ATOM
            if sign:
                atoms.append(self._breaks(1, _OPERATORS[sign], _BINARY))
            elif sign == "":
                words = any(map(_is_word, tree.factors[i - 1 : i + 1])) and not isinstance(tree.factors[i - 1], Number)
                dotted = _begins_with_number(factor) or (_is_plain(factor) and words)
                atoms.append(self._atom(r"\cdot", _BINARY) if dotted else self._atom(r"\,", 1.7))
            atoms += self._in(factor, least)
        return atoms

    def _is_fraction(self, above: Maths, below: Maths) -> bool:
        if self.small:
            return False
        wide = max(_Printer(True, self.scale).wide(above), _Printer(True, self.scale).wide(below))
        return wide <= _WIDEST_FRACTION

    def wide(self, tree: Maths) -> float:
        return total(self.atoms(tree))

    def _quotient(self, above: Maths, below: Maths) -> list[Atom]:
        if self._is_fraction(above, below):
            flat = _Printer(True, self.scale, self.depth)
            up, down = flat._one(above), flat._one(below)
            return [Atom(rf"\frac{{{up.latex}}}{{{down.latex}}}", max(up.width, down.width) + 3, None, 1)]
        slash = self._breaks(1, "/", 5)
        return [*self._in(above, _JUXTAPOSED), slash, *self._in(below, POWER)]

    def _apply(self, tree: maths.Apply) -> list[Atom]:
        called = _KNOWN.get(tree.function) or (tree.function if len(tree.function) == 1 else _operator(tree.function))
        head = self._atom(called, 6 if len(tree.function) == 1 else names.width(tree.function) + 2)
        if tree.along is not None:
            (head,) = marked([head], "_", self._script()._one(tree.along))
        return [head, *self._bracketed("()", self._list(tree.values))]

    def _list(self, values: Sequence[Maths], between: str = ",", inner: _Printer | None = None) -> list[Atom]:
        inner = inner or self._inner()
        atoms: list[Atom] = []
        for i, value in enumerate(values):
            one = inner.atoms(value)
            atoms += one if not i else breakable(one, self.depth * 3 + 2)
            if i < len(values) - 1:
                atoms.append(self._atom(between, 5))
        return atoms

    def _cases(self, tree: maths.Cases) -> list[Atom]:
        if self.small:
            words = self._breaks(0, r"\text{ if }", 14), self._breaks(0, r"\text{ else }", 22)
            then, other = self._in(tree.then, PRODUCT), self._in(tree.other, PRODUCT)
            return [*then, words[0], *self.atoms(tree.condition), words[1], *other]
        rows: list[tuple[Atom, Atom | None]] = []
        rest: Maths = tree
        flat = _Printer(True, self.scale)
        while isinstance(rest, maths.Cases):
            rows.append((flat._one(rest.then), flat._one(rest.condition)))
            rest = rest.other
        rows.append((flat._one(rest), None))
        body = r" \\ ".join(
            f"{value.latex} & " + (rf"\text{{if }} {condition.latex}" if condition else r"\text{else}")
            for value, condition in rows
        )
        across = max(value.width for value, _ in rows) + max(one.width for _, one in rows if one) + 40
        if across > _WIDEST_CASES:
            return _Printer(True, self.scale, self.depth).atoms(tree)
        return [Atom(rf"\begin{{cases}} {body} \end{{cases}}", across, None, 2)]

    def _series(self, tree: maths.Series) -> list[Atom]:
        small = self._script()
        start = small._one(tree.start) if tree.start is not None else None
        index = small._one(tree.index)
        below = f"{index.latex}={start.latex}" if start is not None else index.latex
        stop = small._one(tree.stop) if tree.stop is not None else None
        above = f"^{{{stop.latex}}}" if stop is not None else ""
        limits = index.width + (start.width + 8 if start is not None else 0)
        across = max(14.0, limits, stop.width if stop is not None else 0.0) + 3
        if tree.function == "max" and stop is not None and start is not None:
            below, above, across = rf"{start.latex} \le {index.latex} \le {stop.latex}", "", across + stop.width
        head = Atom(f"{_SERIES[tree.function]}_{{{below}}}{above}", across, None, 0 if self.small else 1)
        return [head, *self._in(tree.value, PRODUCT)]

    def _decorated(self, how: str, value: Maths) -> list[Atom]:
        if how in ("floor", "ceil", "abs"):
            return self._bracketed(how, self._inner().atoms(value))
        if how == "bar":
            inner = self._one(value)
            return [Atom(rf"\overline{{{inner.latex}}}", inner.width, None, inner.tall)]
        mark = {"transpose": r"\top", "inverse": "-1"}[how]
        return marked(self._in(value, ATOM), "^", self._atom(mark, 7))


def _operator(function: str) -> str:
    return rf"\operatorname{{{names.prose(function)}}}"


def _is_plain(tree: Maths) -> bool:
    return isinstance(tree, Sign | Number | maths.Power)


def _begins_with_number(tree: Maths) -> bool:
    return isinstance(tree, Number) or (isinstance(tree, maths.Power) and _begins_with_number(tree.base))


def _is_word(tree: Maths) -> bool:
    """Whether a factor beside it could be taken for a part of it."""
    if isinstance(tree, Sign):
        base = names.name(tree.text)
        return base is not None and base[0].startswith(r"\mathrm") and not tree.at
    return False
