"""top(a, k, over) chooses, experts(x, weights, ...) weighs maps and sums them. What a spec writes, what it means, how it runs."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, prod
from typing import TYPE_CHECKING, Literal

from ssir.functions.kinds import Init
from ssir.ir.graph import Axis, Graph, Node, Type
from ssir.ir.op import Op, Use, absent, broadcast, called, check_real, names, without
from ssir.spec.build import Site, is_unknown

if TYPE_CHECKING:
    from torch import Tensor

    from ssir.compilers.torch.code import Code
    from ssir.compilers.torch.emit import Emitter
    from ssir.ir.builder import GraphBuilder, Value
    from ssir.reference.ops import Step


def top(cx: Site, a: Node, k: int, over: Axis) -> Node:
    """1 at the k largest entries along an axis, of equal ones at the first, 0 at the others. No gradient flows through it."""
    cx.over(a, (over,))
    if not 1 <= k <= (over.size or k):
        cx.fail("SSIR018", f"{k} of the {over.size} entries of `{over.name}` cannot be chosen", "k", "count from 1")
    return cx.emit("top", (a,), over=over.name, k=k)


def _chosen(use: Use) -> Type:
    a = use.of("a")
    use.has("a", (use["over"],), "over")
    check_real("top", [a])
    return Type(a.axes, absent=absent([a], (use["over"],)))


def experts(
    cx: Site,
    x: Node,
    weights: Node,
    expert: Axis,
    hidden: Axis,
    out: tuple[Axis, ...],
    over: tuple[Axis, ...] | None = None,
    gated: bool = True,
    activation: Literal["silu", "gelu", "gelu_tanh", "relu"] = "silu",
    init: Init = Init("fan_in"),
) -> Node:
    """sum_e weights[e] MLP_e(x) along the axis ``expert``, each MLP with weights of its own: down(activation(gate x) * up x), or
    down(activation(up x)) without a gate. It contracts the axes ``over`` of x (all, if left out). Where ``weights`` is a product
    with top(..., over=expert), only the experts chosen are run.
    """
    if is_unknown(x, weights):
        return cx.later()
    cx.over(weights, (expert,), "weights")
    if over is not None:
        cx.over(x, over)
    contracted = over if over is not None else x.type.axes
    if not contracted:
        cx.fail("SSIR014", "there is no axis to contract", "x", "give the experts a value that has axes")
    cx.finite((expert, hidden, *out, *contracted), "over", "an expert")
    if expert.name in x.type.names:
        cx.fail("SSIR014", f"the value has the axis `{expert.name}` itself", "x", "use it up, or rename it, first")
    inner = tuple(Axis(f"{a.name}_" if a.name in (expert.name, hidden.name) else a.name, a.size) for a in contracted)
    maps = [cx.param(leaf, (expert, hidden, *inner), init) for leaf in (("gate", "up") if gated else ("up",))]
    maps.append(cx.param("down", (expert, *out, hidden), init))
    return cx.emit(
        "experts",
        (x, weights, *maps),
        expert=expert.name,
        over=names(contracted),
        out=names(out),
        gated=gated,
        activation=activation,
    )


def _weighed(use: Use) -> Type:
    x, weights, *_, down = use.types
    expert, over = use["expert"], use["over"]
    rest = broadcast([Type(without(x, over)), Type(without(weights, (expert,)))], "weights")
    return Type((*rest, *called(use["out"], down.axes[1:])), absent=absent([x, weights], (*over, expert)))


class Top:
    """The operation ``top{over, k}(a)``."""

    op = Op("top", ("a",), ("over", "k"), _chosen)
    keeps_dtype = True  # of its operand

    def reference(self, node: Node, operands: Sequence[Tensor], types: Sequence[Type], step: Step) -> Tensor:
        import torch

        from ssir.reference.ops import fit, mask

        over = node.attrs["over"]
        names = [*(name for name in types[0].names if name != over), over]
        x = fit(operands[0].detach().to(step.dtype), types[0].names, names)
        there = mask(step, operands[0], types[0], (over,))
        if there is not None:
            x = torch.where(fit(there, types[0].names, names), x, -torch.inf)
        first = torch.arange(x.shape[-1])
        ahead = (x[..., None, :] > x[..., :, None]) | (
            (x[..., None, :] == x[..., :, None]) & (first[None, :] < first[:, None])
        )
        chosen = (ahead.sum(-1) < node.attrs["k"]) & (x > -torch.inf)
        return fit(chosen.to(step.dtype), names, node.type.names)

    def emit(self, e: Emitter, node: Node) -> Code:
        from ssir.compilers.torch import operands
        from ssir.compilers.torch.code import called

        source, over = e.node(node.inputs[0]), node.attrs["over"]
        own = source.type.names
        place, there = own.index(over) - len(own), operands.there(e, source, (over,), own)
        found = called(
            e.function("ssir.plugins.mixture.kernels.experts", "top"),
            e.number(source.name),
            place,
            node.attrs["k"],
            there,
        )
        return e.let(node.name, found)

    def expand(self, b: GraphBuilder, node: Node, a: Value) -> Value:
        """The same in operations that every consumer knows: an entry is chosen if fewer than k are ahead of it."""
        over, k = node.attrs["over"], node.attrs["k"]
        size, other = a.type.axis(over).size, f"{over}.other"
        x = b.rename(a, {over: other})
        first = b("arange", axis=other, size=size) < b("arange", axis=over, size=size)
        ahead = b("where", x > a, 1, b("where", b("eq", x, a), b("where", first, 1, 0), 0))
        found = b("where", b.sum(ahead, [other]) < k, 1, 0)
        return b("where", a > -inf, found, 0)

    def keeps_order(self, node: Node, axis: str) -> bool:
        """Whether entries of an axis may stand in any order: among equal ones the first is chosen."""
        return bool(axis != node.attrs["over"])


class Experts:
    """The operation ``experts{expert, over, out, gated, activation}(x, weights, [gate,] up, down)``."""

    op = Op("experts", ("x", "weights", "maps*"), ("expert", "over", "out", "gated", "activation"), _weighed)

    def reference(self, node: Node, operands: Sequence[Tensor], types: Sequence[Type], step: Step) -> Tensor:
        import torch

        from ssir.reference.ops import fit, zeroed

        expert, over, out = (node.attrs[key] for key in ("expert", "over", "out"))
        rest = [name for name in node.type.names if name not in out]
        x = fit(zeroed(step, operands[0], types[0], over), types[0].names, [*rest, *over])
        x = x.flatten(-len(over))[..., None, None, :]  # [..., expert, hidden, in]
        weights = fit(zeroed(step, operands[1], types[1], (expert,)), types[1].names, [*rest, expert])
        *first, down = operands[2:]
        products = [(x * w.flatten(3)).sum(-1) for w in first]
        a = products[0]
        cubic = (2 / torch.pi) ** 0.5 * (a + 0.044715 * a**3)
        hidden = {
            "silu": a * torch.sigmoid(a),
            "gelu": a * 0.5 * (1 + torch.erf(a / 2**0.5)),
            "gelu_tanh": a * 0.5 * (1 + torch.tanh(cubic)),
            "relu": torch.relu(a),
        }[node.attrs["activation"]]
        if node.attrs["gated"]:
            hidden = hidden * products[1]
        w = down.reshape(down.shape[1], -1, down.shape[-1])
        each = (hidden[..., None, :] * w).sum(-1)  # [..., expert, out]
        y = (weights[..., None] * each).sum(-2)
        return y.reshape(*y.shape[:-1], *down.shape[2:-1])

    def emit(self, e: Emitter, node: Node) -> Code:
        from ssir.compilers.torch import operands, products
        from ssir.compilers.torch.code import called, method

        expert, over, out = (node.attrs[key] for key in ("expert", "over", "out"))
        rest = [name for name in node.type.names if name not in out]
        source, weights, *maps = (e.node(name) for name in node.inputs)
        x = operands.as_data(
            e, source.name, e.fitted(source.name, [*rest, *over], operands.cleared(e, source.name, over))
        )
        x = method(x, "flatten", -len(over)) if len(over) > 1 else x
        w = operands.as_data(e, weights.name, e.fitted(weights.name, [*rest, expert]))
        chooser = chosen(e.graph, weights.name, expert)
        picked: tuple[Code | None, int] = (None, 0)
        if chooser is not None and not e.is_constant(node.name):
            picked = e.fitted(chooser.name, [*rest, expert]), chooser.attrs["k"]
        first = [operands.kept(e, one.name, [("flatten", (2,))] if len(over) > 1 else []) for one in maps[:-1]]
        one = [] if out else [("unsqueeze", (1,))]
        down = operands.kept(e, maps[-1].name, [("flatten", (1, len(out)))] if len(out) > 1 else one)
        gate, up = first if node.attrs["gated"] else (None, first[0])
        given = x, w, *picked, gate, up, down, node.attrs["activation"]
        y = called(e.function("ssir.plugins.mixture.kernels.experts", "experts"), *given)
        return e.let(node.name, products.apart(y, [node.type.axis(name).size or 0 for name in out]))

    def expand(self, b: GraphBuilder, node: Node, x: Value, weights: Value, *maps: Value) -> Value:
        """The same in operations that every consumer knows; maps of weight zero are not run."""
        expert, over, out = (node.attrs[key] for key in ("expert", "over", "out"))
        down = maps[-1]
        x = b.rename(x, dict(zip(over, maps[0].type.names[2:], strict=True)))
        hidden = [_chosen_dot(b, w, x, weights, w.type.names[2:], expert) for w in maps[:-1]]
        inner = b(node.attrs["activation"], hidden[0])
        inner = inner * hidden[1] if node.attrs["gated"] else inner
        each = _chosen_dot(b, down, inner, weights, down.type.names[-1:], expert)
        each = b.rename(each, dict(zip(down.type.names[1:-1], out, strict=True)))
        return b.dot(each, weights, [expert])

    def keeps_order(self, node: Node, axis: str) -> bool:
        """Whether entries of an axis may stand in any order."""
        return axis not in node.attrs["over"] and axis != node.attrs["expert"]

    def flops(self, graph: Graph, node: Node) -> float:
        """Floating-point operations per token: of the experts chosen."""
        expert, chooser = node.attrs["expert"], chosen(graph, node.inputs[1], node.attrs["expert"])
        maps = [graph[name].type for name in node.inputs[2:]]
        every = maps[0].axis(expert).size or 1
        share = (chooser.attrs["k"] if chooser else every) / every
        places = prod(axis.size or 1 for axis in node.type.axes if axis.name not in node.attrs["out"])
        return 2.0 * share * places * sum(type.numel() for type in maps)


def _chosen_dot(b: GraphBuilder, matrix: Value, x: Value, weights: Value, over: Sequence[str], expert: str) -> Value:
    """A dot with the matrix of each expert that has a weight."""
    from ssir.compilers.loops.spelling import CHOSEN

    plain = b.dot(matrix, x, over).type
    axes = (*(axis for axis in matrix.type.axes if axis.name not in over),)
    if {axis.name for axis in plain.axes} != {axis.name for axis in axes}:
        return b.dot(matrix, x, over)  # for many at once all are run
    dependence = max(plain.dependence, weights.type.dependence)
    about = {"over": tuple(over), "axis": expert}
    return b.declared("chosen", CHOSEN, (matrix, x, weights), about, Type(axes, dependence=dependence))


def chosen(graph: Graph, weights: str, expert: str) -> Node | None:
    """The choice outside of which weights along ``expert`` are zero: they are a product with it."""
    node = graph[weights]
    if node.op == "top" and node.attrs["over"] == expert:
        return node
    candidates = {"mul": node.inputs, "div": node.inputs[:1], "neg": node.inputs}.get(node.op, ())
    found = (chosen(graph, name, expert) for name in candidates if expert in graph[name].type.names)
    return next((one for one in found if one is not None), None)
