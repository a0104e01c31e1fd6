"""What is read from where its operand lies, at another index: the same for every language that loops are printed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ssir.compilers.loops.spelling import Unfit
from ssir.ir.graph import Graph, Node

Index = Mapping[str, str]
"""By axis, the expression of where along it."""


def looked_at(
    body: Graph,
    view: Node,
    index: Index,
    flat: Callable[[Sequence[str], Index], str],
    part: Callable[[str, int, int, int], str],
) -> dict[str, str]:
    """The index into what a view looks at, from that into the view. ``flat(axes, index)``: the place among values over axes;
    ``part(whole, rest, size, total)``: along an axis of that size, with so many places behind it, of a place among so many in all. Raises Unfit."""
    source = body[view.inputs[0]].type
    match view.op:
        case "rename":
            new = dict(view.attrs["axes"])
            changed = {axis: index[new[axis]] for axis in source.names if axis in new}
        case "expand":
            changed = {}
        case "split":
            changed = {view.attrs["axis"]: f"({flat([name for name, _ in view.attrs['into']], index)})"}
        case "merge":
            changed, rest, out = {}, 1, view.attrs["out"]
            for axis in reversed(view.attrs["axes"]):
                size = source.axis(axis).size or 0
                changed[axis] = part(index[out], rest, size, view.type.axis(out).size or 0)
                rest *= size
        case "slice":
            changed = {view.attrs["axis"]: f"({index[view.attrs['out']]} + {view.attrs['start']})"}
        case _:  # select
            chosen = body[view.inputs[1]]
            if chosen.op != "const":
                raise Unfit("an entry that a value chooses is not spelled")
            changed = {view.attrs["axis"]: str(int(chosen.attrs["value"]))}
    return {axis: changed[axis] if axis in changed else index[axis] for axis in source.names}
