"""How an operator is made up. An analysis: the gates and the forms read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ssir.ir.graph import Graph, Node


@dataclass(frozen=True)
class RankOne:
    """diagonal + outer(left, right, over), each a product of values (without factors: 1); ``minus``: the outer product is subtracted."""

    diagonal: tuple[str, ...]
    left: tuple[str, ...]
    right: tuple[str, ...]
    minus: bool
    over: str


@dataclass(frozen=True)
class Rotation:
    """A rotation by the sum of ``angles`` (op.rotate nodes), times a product of values that damp both entries of a pair alike;
    ``minus``: the whole is negated."""

    angles: tuple[Node, ...]
    decays: tuple[str, ...]
    minus: bool
    over: str


def rotation(graph: Graph, a: Node) -> Rotation | None:
    """A product of rotations along one axis and of diagonals that do not vary along it."""
    factors = list(_factors(graph, a))
    turns = tuple(one for one in factors if one.op == "op.rotate")
    scales = [one for one in factors if one.op == "op.diag"]
    minus = [one for one in factors if one.op == "op.neg"]
    over = {one.attrs["over"] for one in turns}
    if len(over) != 1 or len(factors) != len(turns) + len(scales) + len(minus):
        return None
    if any(over & set(one.type.names) for one in scales):
        return None
    return Rotation(turns, tuple(one.inputs[0] for one in scales), len(minus) % 2 == 1, *over)


def _factors(graph: Graph, a: Node) -> Iterator[Node]:
    """The factors of a product of operators; a negation is one of -1."""
    if a.op == "op.neg":
        yield a
    if a.op in ("op.mul", "op.neg"):
        for name in a.inputs:
            yield from _factors(graph, graph[name])
    else:
        yield a


def rank_one(graph: Graph, a: Node) -> RankOne | None:
    """A diagonal plus one outer product, however it is written: (1 - outer(a, b)) * w, w * (1 - outer(a, b)), w - outer(a, b)."""
    found = _parts(graph, a)
    if found is None or found.diagonal is None or found.outer is None or found.negative:
        return None
    left, right, over = found.outer
    return RankOne(found.diagonal, left, right, found.minus, over)


def rank_ones(graph: Graph, a: Node) -> tuple[RankOne, ...]:
    """A as a product of diagonals plus rank one, all along one axis, in the order in which they act; none if it is something else. In
    a product of several each is 1 plus rank one, but for the first, which has what else the product is scaled by: that does not vary
    along the axis, so that it does not matter where it stands."""
    single = rank_one(graph, a)
    if single is not None:
        return (single,)
    factors = [_parts(graph, factor) for factor in _product_of(graph, a)]
    scales = [one for one in factors if one is not None and one.outer is None]
    ones = [one for one in reversed(factors) if one is not None and one.outer is not None]
    plain = all(one is not None and not one.negative for one in factors) and all(one.diagonal == () for one in ones)
    over = {one.outer[2] for one in ones if one.outer is not None}
    fixed = all(not over & set(graph[name].type.names) for one in scales for name in one.diagonal or ())
    if not plain or not fixed or len(over) != 1:
        return ()
    for scale in scales:
        scaled = _product(scale, ones[0])
        assert scaled is not None
        ones[0] = scaled
    return tuple(
        RankOne(one.diagonal or (), *one.outer[:2], one.minus, one.outer[2]) for one in ones if one.outer is not None
    )


def _product_of(graph: Graph, a: Node) -> Iterator[Node]:
    """The factors of a product, from the left."""
    if a.op == "op.mul":
        for name in a.inputs:
            yield from _product_of(graph, graph[name])
    else:
        yield a


_Names = tuple[str, ...]


@dataclass(frozen=True)
class _Parts:
    """``diagonal``: its factors, None if there is none; ``outer``: the factors of both sides and the axis."""

    diagonal: _Names | None = None
    outer: tuple[_Names, _Names, str] | None = None
    negative: bool = False  # the diagonal
    minus: bool = False  # the outer product


def _parts(graph: Graph, a: Node) -> _Parts | None:
    match a.op:
        case "op.diag":
            value = graph[a.inputs[0]]
            return _Parts(() if value.op == "const" and value.attrs["value"] == 1 else (value.name,))
        case "op.outer":
            return _Parts(outer=((a.inputs[0],), (a.inputs[1],), a.attrs["over"]))
        case "op.neg":
            inner = _parts(graph, graph[a.inputs[0]])
            return None if inner is None else _negated(inner)
        case "op.add" | "op.sub" | "op.mul":
            left, right = (_parts(graph, graph[name]) for name in a.inputs)
            if left is None or right is None:
                return None
            if a.op == "op.mul":
                return _product(left, right)
            return _sum(left, right if a.op == "op.add" else _negated(right))
    return None


def _negated(parts: _Parts) -> _Parts:
    return _Parts(parts.diagonal, parts.outer, not parts.negative, not parts.minus)


def _sum(left: _Parts, right: _Parts) -> _Parts | None:
    if left.diagonal is not None and right.outer is not None and left.outer is None and right.diagonal is None:
        return _Parts(left.diagonal, right.outer, left.negative, right.minus)
    if right.diagonal is not None and left.outer is not None and right.outer is None and left.diagonal is None:
        return _Parts(right.diagonal, left.outer, right.negative, left.minus)
    return None


def _product(left: _Parts, right: _Parts) -> _Parts | None:
    """At most one factor may have an outer product: with a diagonal on its left or right it is one again."""
    if left.outer is None and left.diagonal is not None:
        scale, other = left, right
    elif right.outer is None and right.diagonal is not None:
        scale, other = right, left
    else:
        return None
    assert scale.diagonal is not None
    diagonal = None if other.diagonal is None else (*scale.diagonal, *other.diagonal)
    outer = other.outer
    if outer is not None:
        a, b, over = outer
        outer = ((*scale.diagonal, *a), b, over) if scale is left else (a, (*b, *scale.diagonal), over)
    return _Parts(diagonal, outer, left.negative ^ right.negative, scale.negative ^ other.minus)
