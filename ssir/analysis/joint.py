"""What a step does to several states that are affine in one another, if along one axis it is a small matrix between them plus rank one.

    W = keep W' + M,  M = beta M' - rate k (k . W' - v),  y = q . W      (W', M': a step before)
    ->  between W and M: keep, beta; 0, beta     right: k of W'     entering: k, into W and M by -rate, -rate, of value right . W' - v

An analysis: forms read it. The step is a graph without memories, as that of a loop: what they were is among its inputs, what they become among
its values. Coefficients are sums of products of its other inputs. Non-goals: coefficients between states that vary along the axis, several
sums along it, matrices that enter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite

from ssir.ir.graph import Graph, Node

_MOST = 64
"""A step with more terms is not worth the search."""


@dataclass(frozen=True)
class Product:
    """A product of inputs of the step, divided by others; both in order of their names."""

    factors: tuple[str, ...] = ()
    under: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.factors, *self.under)

    def __mul__(self, other: Product) -> Product:
        factors, under = (*self.factors, *other.factors), (*self.under, *other.under)
        return Product(tuple(sorted(factors)), tuple(sorted(under)))


Sum = Mapping[Product, float]
"""Products times numbers; empty: zero."""


@dataclass(frozen=True)
class Entering:
    """An outer product of ``key`` and ``value`` that enters each state, times what ``into`` says of it."""

    key: Product
    into: tuple[Sum, ...]
    value: Sum


@dataclass(frozen=True)
class Read:
    """The sum of ``query`` times a state along the axis."""

    query: Product
    state: int


@dataclass(frozen=True)
class Joint:
    """``over``: the axis. ``between``: by state, what it takes of each. To the value of the first that enters is added the sum along the axis
    of ``right`` and the old state ``source``. ``read``: whether readouts see states before or after the step. ``heads``: further axes that
    coefficients and keys vary over; ``values``: those that values alone do."""

    over: str
    heads: tuple[str, ...]
    values: tuple[str, ...]
    between: tuple[tuple[Sum, ...], ...]
    source: int
    right: Product
    entering: tuple[Entering, ...]
    reads: tuple[Read, ...]
    read: str


@dataclass(frozen=True)
class _Term:
    """left * old, or, with ``right``, left * the sum of right * old along ``over``; without ``old``: left."""

    left: Product = Product()
    old: str | None = None
    right: Product | None = None
    over: str = ""


_Form = Mapping[_Term, float]
_Coefficients = dict[Product, float]


class _Unfit(Exception):
    pass


def joint(step: Graph, states: Sequence[tuple[str, str]], outputs: Sequence[str]) -> Joint | None:
    """states: the input that each state was, the value that it becomes; outputs: the values that are read of them."""
    try:
        return _Finder(step, states).found(outputs)
    except _Unfit:
        return None


class _Finder:
    def __init__(self, step: Graph, states: Sequence[tuple[str, str]]) -> None:
        self.step = step
        self.olds, self.news = ({name: i for i, name in enumerate(names)} for names in zip(*states, strict=True))
        self.forms: dict[str, _Form | None] = {}
        for node in step:
            try:
                self.forms[node.name] = self._form(node)
            except _Unfit:
                self.forms[node.name] = None

    def found(self, outputs: Sequence[str]) -> Joint:
        """Raises _Unfit."""
        terms = [(i, term, number) for i, name in enumerate(self.news) for term, number in self._of(name).items()]
        sums = {(term.right, term.old, term.over) for _, term, _ in terms if term.right is not None}
        if len(self.news) != len(self.olds) or len(sums) != 1:
            raise _Unfit
        ((right, source, over),) = sums
        assert right is not None and source is not None
        between = [self._nothing() for _ in self.olds]
        through: dict[Product, list[_Coefficients]] = defaultdict(self._nothing)
        rest: list[tuple[int, Product, Product, float]] = []
        for i, term, number in terms:
            key, other = self._apart(term.left, {over})
            if (key == Product()) is not (term.old is not None and term.right is None):
                raise _Unfit
            if term.old is None:
                rest.append((i, key, other, number))
            elif term.right is None:
                between[i][self.olds[term.old]][other] = number
            else:
                through[key][i][other] = number
        if len(through) != 1:
            raise _Unfit
        ((left, into),) = through.items()
        reads, read = self._reads(outputs, over)
        fixed = [right, left, *(one.query for one in reads), *(key for _, key, _, _ in rest)]
        fixed += [product for row in (*between, into) for entry in row for product in entry]
        heads, values = self._axes(over, {axis for one in fixed for name in one.names for axis in self._names(name)})
        entering = self._entering(left, into, rest, set(values))
        whole = tuple(map(tuple, between))
        return Joint(over, heads, values, whole, self.olds[source], right, tuple(entering), reads, read)

    def _nothing(self) -> list[_Coefficients]:
        """No coefficient for any state."""
        return [{} for _ in self.olds]

    def _entering(
        self, left: Product, into: Sequence[Sum], rest: Sequence[tuple[int, Product, Product, float]], values: set[str]
    ) -> Iterator[Entering]:
        """What enters: first that whose value is a sum of an old state, with what enters as it does, then the others. rest: state, key,
        other factors, number."""
        entering: dict[tuple[Product, Product], list[_Coefficients]] = defaultdict(self._nothing)
        for i, key, other, number in rest:
            value, scale = self._apart(other, values)
            entering[key, value][i][scale] = number
        added: dict[Product, float] = {}
        others = []
        for (key, value), its in entering.items():
            ratio = _ratio(its, into) if key == left else None
            if ratio is None:
                others.append(Entering(key, tuple(its), {value: 1.0}))
            else:
                added[value] = ratio
        yield Entering(left, tuple(into), added)
        yield from others

    def _reads(self, outputs: Sequence[str], over: str) -> tuple[tuple[Read, ...], str]:
        """The readouts, and whether all of them see states before or after the step."""
        reads, kinds, states = [], set(), self.news | self.olds
        for name in outputs:
            node = self.step[name]
            if node.op != "dot" or node.attrs["over"] != (over,):
                raise _Unfit
            state, query = sorted(node.inputs, key=lambda one: one not in states)
            form = self._of(query)
            if state not in states or len(form) != 1:
                raise _Unfit
            ((term, number),) = form.items()
            if term.old is not None or number != 1:
                raise _Unfit
            reads.append(Read(term.left, states[state]))
            kinds.add("before" if state in self.olds else "after")
        if len(kinds) != 1:
            raise _Unfit
        return tuple(reads), kinds.pop()

    def _axes(self, over: str, touched: set[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Heads and values: axes of the states that are touched, and that are not."""
        own = [self._names(name) for name in self.olds]
        used = {axis for node in self.step if node.op == "input" for axis in node.type.names}
        if any(set(names) != set(own[0]) for names in own) or over not in own[0] or not used <= set(own[0]):
            raise _Unfit
        values = tuple(axis for axis in own[0] if axis not in touched)
        if not values:
            raise _Unfit
        return tuple(axis for axis in own[0] if axis in touched and axis != over), values

    # Terms.

    def _of(self, name: str) -> _Form:
        form = self.forms[name]
        if form is None:
            raise _Unfit
        return form

    def _names(self, name: str) -> tuple[str, ...]:
        return self.step[name].type.names

    def _apart(self, product: Product, axes: set[str]) -> tuple[Product, Product]:
        """The factors that have some of these axes, and the others."""

        def those(names: tuple[str, ...], wanted: bool) -> tuple[str, ...]:
            return tuple(name for name in names if bool(axes & set(self._names(name))) is wanted)

        inside, outside = (Product(those(product.factors, side), those(product.under, side)) for side in (True, False))
        return inside, outside

    def _form(self, node: Node) -> _Form:
        operands = [self._of(name) for name in node.inputs]
        match node.op:
            case "input":
                own = _Term(old=node.name) if node.name in self.olds else _Term(Product((node.name,)))
                return {own: 1.0}
            case "const":
                number = float(node.attrs["value"])
                if not isfinite(number):
                    raise _Unfit
                return _total({_Term(): number})
            case "add":
                return _total(*operands)
            case "sub":
                return _total(operands[0], _times(operands[1], {_Term(): -1.0}))
            case "neg":
                return _times(operands[0], {_Term(): -1.0})
            case "mul":
                return _times(*operands)
            case "div":
                return _times(operands[0], _reciprocal(operands[1]))
            case "dot":
                return self._contracted(_times(*operands), node.attrs["over"])
            case "sum":
                return self._contracted(operands[0], node.attrs["over"])
            case "expand":
                return operands[0]
        raise _Unfit

    def _contracted(self, form: _Form, over: tuple[str, ...]) -> _Form:
        found = {}
        for term, number in form.items():
            if term.old is None or term.right is not None or len(over) != 1 or over[0] not in self._names(term.old):
                raise _Unfit
            right, left = self._apart(term.left, {over[0]})
            if not right.factors:
                raise _Unfit
            found[replace(term, left=left, right=right, over=over[0])] = number
        return found


def _total(*forms: _Form) -> _Form:
    found: dict[_Term, float] = defaultdict(float)
    for form in forms:
        for term, number in form.items():
            found[term] += number
    if len(found) > _MOST:
        raise _Unfit
    return {term: number for term, number in found.items() if number}


def _times(one: _Form, other: _Form) -> _Form:
    found = []
    for a, number in one.items():
        for b, by in other.items():
            if a.old is not None and b.old is not None:
                raise _Unfit
            whole = a if a.old is not None else b
            found.append({replace(whole, left=a.left * b.left): number * by})
    return _total(*found)


def _reciprocal(form: _Form) -> _Form:
    if len(form) != 1:
        raise _Unfit
    ((term, number),) = form.items()
    if term.old is not None:
        raise _Unfit
    return {_Term(Product(term.left.under, term.left.factors)): 1 / number}


def _ratio(sums: Sequence[Sum], others: Sequence[Sum]) -> float | None:
    """The number by which all of the others are multiplied, if it is one."""
    if [set(one) for one in sums] != [set(one) for one in others]:
        return None
    ratios = {one[product] / other[product] for one, other in zip(sums, others, strict=True) for product in one}
    return ratios.pop() if len(ratios) == 1 else None
