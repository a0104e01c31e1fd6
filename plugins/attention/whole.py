"""dot(softmax(scale q . k + bias, over=slot), v, over=slot) over a whole sequence, or another that is handed in: one fused product.

Scores that are replaced by a very low number where something does not hold (padding) are a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ssir.compilers.program.function import Function, taken
from ssir.ir.builder import Value
from ssir.ir.graph import WHOLE, Dependence, Graph, Node

_LOW = -1e9  # the softmax of scores of which one is so low has no trace of it


@dataclass
class _Scores:
    """scale * dot(a, b) + bias - less, where all of ``keep`` hold."""

    dot: Node
    scale: float = 1.0
    bias: list[str] = field(default_factory=list)
    less: list[str] = field(default_factory=list)
    keep: list[str] = field(default_factory=list)


class WholeAttention:
    """Takes a ``dot`` of weights that a softmax over slots gave."""

    def lower(self, f: Function, node: Node) -> Value | None:
        if node.op != "dot" or len(node.attrs["over"]) != 1:
            return None
        slot = node.attrs["over"][0]
        for weights, values in (node.inputs, node.inputs[::-1]):
            softmax = f.node(weights)
            if softmax.op == "softmax" and softmax.attrs["over"] == (slot,):
                scores = _scores(f.graph, softmax.inputs[0], slot)
                if scores is not None:
                    return self._lowered(f, softmax, scores, f.node(values), slot)
        return None

    def _lowered(self, f: Function, softmax: Node, scores: _Scores, v: Node, slot: str) -> Value | None:
        over = scores.dot.attrs["over"]
        q, k = (f.node(name) for name in scores.dot.inputs)
        if slot in q.type.names:
            q, k = k, q
        heads = [name for name in k.type.names if name != slot and name not in over]
        group = [name for name in q.type.names if name not in heads and name not in over]
        values = [name for name in v.type.names if name != slot and name not in heads]
        others = [*scores.bias, *scores.less, *scores.keep]
        fits = (
            slot not in q.type.names
            and slot not in f.entries
            and v.type.axis(slot).size is None
            and set(heads) <= set(q.type.names) & set(v.type.names)
            and set(softmax.type.names) == {slot, *heads, *group}
            and not set(values) & set(group)
            and all(n.type.dtype == "real" and n.type.dependence is not Dependence.CONSTANT for n in (k, v))
            and all(_either(f.node(name), part) for name in others for part in (heads, group))
        )
        if not fits:
            return None
        asked, there, given = (f.value(one.name) for one in (q, k, v))
        return f.kernel(
            "ssir.plugins.attention.kernels.attention.attend_all",
            taken("led", asked, heads, group, over),
            taken("led", there, [slot], heads, over),
            taken("led", given, [slot], heads, values),
            gives=[heads, group, values],
            given="time",
            behind=[taken("led", f.value(name), heads, group, [slot]) for name in others],
            options=[
                "+" * len(scores.bias) + "-" * len(scores.less) + "&" * len(scores.keep),
                scores.scale,
                (slot, WHOLE) in softmax.type.absent,
            ],
        )


def _scores(graph: Graph, name: str, slot: str) -> _Scores | None:
    """The scores taken apart; None if they are anything else."""
    node = graph[name]
    if node.op == "dot" and slot in node.type.names and slot not in node.attrs["over"]:
        return _Scores(node)
    if node.op == "where":
        low = graph[node.inputs[2]]
        found = _scores(graph, node.inputs[1], slot)
        if found is not None and low.op == "const" and low.attrs["value"] <= _LOW:
            found.keep.append(node.inputs[0])
            return found
        return None
    if node.op not in ("add", "sub", "mul", "div"):
        return None
    for inner, other in (node.inputs, node.inputs[::-1])[: 2 if node.op in ("add", "mul") else 1]:
        found = _scores(graph, inner, slot)
        if found is None:
            continue
        plain = not found.keep
        if node.op == "add" and plain and graph[other].type.dtype == "real":
            found.bias.append(other)
        elif node.op == "sub" and plain and graph[other].type.dtype == "real":
            found.less.append(other)
        elif graph[other].op == "const" and node.op in ("mul", "div") and not (found.bias or found.less or found.keep):
            number = graph[other].attrs["value"]
            found.scale = found.scale * number if node.op == "mul" else found.scale / number
        else:
            continue
        return found
    return None


def _either(node: Node, axes: Sequence[str]) -> bool:
    """Whether a value has all of these axes, or none."""
    return len(set(axes) & set(node.type.names)) in (0, len(axes))
