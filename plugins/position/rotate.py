"""rotate(a, angle, over): pairs along an axis turned (arXiv:2104.09864). What a spec writes, what it means, how it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ssir.functions.kinds import Symbol
from ssir.ir.graph import Axis, Node, Type
from ssir.ir.op import Op, Use, absent, broadcast, listed, without
from ssir.spec.build import Site, is_unknown

if TYPE_CHECKING:
    from torch import Tensor

    from ssir.compilers.torch.code import Code
    from ssir.compilers.torch.emit import Emitter
    from ssir.ir.builder import GraphBuilder, Value
    from ssir.reference.ops import Step


def rotate(cx: Site, a: Node, angle: Node, over: Axis, pairs: Symbol = Symbol("interleaved")) -> Node:
    """Pairs along an axis turned by an angle in radians, which has an axis of half the size (arXiv:2104.09864).

    pairs=interleaved turns (0, 1), (2, 3), ...; pairs=halves turns (0, n/2), (1, n/2 + 1), ... With an angle of fewer entries only as many
    pairs at the start of the axis are turned, as if they were all.
    """
    if pairs not in ("interleaved", "halves"):
        cx.fail("SSIR013", f"pairs is `interleaved` or `halves`, not `{pairs}`", "pairs", "write pairs=halves")
    cx.over(a, (over,))
    if is_unknown(a, angle):
        return a
    half = [x for x in angle.type.axes if x.name not in a.type.names]
    turned = 2 * (half[0].size or 0) if len(half) == 1 else 0
    if over.size is None or not 0 < turned <= over.size:
        words = f"the angle needs one axis of its own, half as long as `{over.name}` or shorter: its axes: {listed(angle.type.axes)}"
        help = "make it of position and arange(half): position * base ** (-arange(half) / half)"
        cx.fail("SSIR014", words, "angle", help)
    about = {"over": over.name, "half": half[0].name, "pairs": pairs}
    if turned == over.size:
        return cx.emit("rotate", (a, angle), **about)
    first, rest = (
        cx.emit("slice", (a,), name, axis=over.name, start=start, stop=stop, out=over.name)
        for name, start, stop in (("first", 0, turned), ("rest", turned, over.size))
    )
    parts = cx.emit("rotate", (first, angle), "turned", **about), rest
    return cx.emit("concat", parts, axis=over.name, axes=(over.name, over.name))


def _turned(use: Use) -> Type:
    a, angle = use.types
    rest = Type(without(angle, (use["half"],)))
    return Type(broadcast([a, rest], "angle"), a.dtype, absent=absent([a]))


class Rotate:
    """The operation ``rotate{over, half, pairs}(a, angle)``."""

    op = Op("rotate", ("a", "angle"), ("over", "half", "pairs"), _turned)
    keeps_dtype = True  # of what it turns

    def reference(self, node: Node, operands: Sequence[Tensor], types: Sequence[Type], step: Step) -> Tensor:
        import torch

        from ssir.reference.ops import fit

        over, half = node.attrs["over"], node.attrs["half"]
        rest = [name for name in node.type.names if name != over]
        x = fit(operands[0], types[0].names, [*rest, over])
        angle = fit(operands[1].to(step.dtype), types[1].names, [*rest, half])
        halves = node.attrs["pairs"] == "halves"
        a, b = x.chunk(2, -1) if halves else (x[..., 0::2], x[..., 1::2])
        c, s = torch.cos(angle), torch.sin(angle)
        first, second = a * c - b * s, a * s + b * c
        y = torch.cat([first, second], -1) if halves else torch.stack([first, second], -1).flatten(-2)
        return fit(y, [*rest, over], node.type.names)

    def emit(self, e: Emitter, node: Node) -> Code:
        from ssir.compilers.torch.code import called
        from ssir.compilers.torch.operands import LEADS, fit

        source, angle = (e.node(name) for name in node.inputs)
        over, half = node.attrs["over"], node.attrs["half"]
        rest = [name for name in node.type.names if name != over]
        x = e.fitted(source.name, [*rest, over])
        halves = node.attrs["pairs"] == "halves"
        turns = [
            fit(self._turn(e, angle, part), angle.type.names, [*rest, half], e.lead(angle.name))
            for part in ("cos", "sin")
        ]
        y = called(e.function("pointwise", "turn_by"), x, *turns, halves)
        lead = 0 if e.is_constant(node.name) else LEADS[e.mode]
        return e.let(node.name, fit(y, [*rest, over], node.type.names, lead))

    def expand(self, b: GraphBuilder, node: Node, x: Value, angle: Value) -> Value:
        """The same in operations that every consumer knows."""
        from ssir.compilers.program.systems import turned

        return turned(b, x, angle, node.attrs["over"], node.attrs["half"], node.attrs["pairs"] == "halves")

    def _turn(self, e: Emitter, angle: Node, part: str) -> Code:
        """The cosine or sine of the angle, once for all that it turns."""
        from ssir.compilers.torch.code import code

        where = e.unit.constant if e.is_constant(angle.name) else e
        key = f"{part} {angle.name}"
        if key not in where.names:
            where.names[key] = where.let(
                f"{angle.name}_{part}",
                where.once(angle, code(f"torch.{part}({{0}})", where.number(angle.name)), f"{part} "),
            )
        return e.unit.keep_code(where.names[key]) if where is not e else where.names[key]

    def keeps_order(self, node: Node, axis: str) -> bool:
        """Whether entries of an axis may stand in any order."""
        return axis not in (node.attrs["over"], node.attrs["half"])
