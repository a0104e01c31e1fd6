"""Which slot axes are laid out by *entry* (oldest first, one axis for all steps) instead of by slot.

What lies along an axis that is long or grows is then never copied per step: a mask says which entries a step may read. Sums, products and
softmax do not mind the order.
"""

from __future__ import annotations

from collections.abc import Mapping

from ssir.analysis.facts import facts
from ssir.compilers.forms import Match
from ssir.errors import SSIRError
from ssir.ir.graph import Axis, Graph, Node
from ssir.ir.ops import is_elementwise
from ssir.registry import registry

LONG = 16
"""A register of more slots is laid out by entry where that can be."""
_BY_ENTRY = frozenset(
    "dot softmax sum max min mean state arange param const expand rms_norm layer_norm l2_norm linear rename kept".split()
)


def entry_axes(graph: Graph, match: Mapping[str, Match]) -> dict[str, int]:
    """The slot axes laid out by entry, with the lag of their registers."""
    found: dict[str, int] = {}
    for node in graph.states:
        fact = facts(graph, node)
        slots = fact.slots
        if slots is not None and slots.size is None and node.name in graph.cycle_of:
            raise _feeds_back(node, slots)
        if (
            slots is None
            or node.role("initial") is not None
            or match[node.name].form.name not in ("register", "attention")
        ):
            continue
        if slots.size is not None and slots.size <= LONG:
            continue
        lag = 0 if node.attrs["read"] == "after" else 1
        users = [other for other in graph if slots.name in other.type.names and not other.type.operator]
        users += [graph[user] for other in users for user in graph.users[other.name]]
        cycles = graph.cycle_of
        if node.name not in cycles and any(other.name in cycles for other in users):
            if slots.size is None:
                raise _feeds_back(node, slots)
            found.pop(slots.name, None)
            continue
        fits = all(_keeps_order(graph, other, slots.name) for other in users) and found.get(slots.name, lag) == lag
        if fits:
            found[slots.name] = lag
        elif slots.size is None:
            raise SSIRError(
                f"`{node.name}` grows without bound, and something reads its slots in order; give `{slots.name}` a size"
            )
        else:
            found.pop(slots.name, None)
    return found


def _feeds_back(node: Node, slots: Axis) -> SSIRError:
    return SSIRError(
        f"`{node.name}` grows without bound and is read where the state feeds back; give `{slots.name}` a size"
    )


def _keeps_order(graph: Graph, node: Node, axis: str) -> bool:
    if node.op == "state":
        own = [name for name, _ in node.attrs["axes"]]
        a = node.role("A")
        if axis in own:
            return a is not None and graph[a].op == "op.shift" and graph[a].attrs["axis"] == axis
        return not any(axis in graph[name].type.names for name in node.inputs)
    if node.op == "linear":
        return axis not in node.attrs["over"] and axis not in node.attrs["per"]
    if node.op in ("rms_norm", "layer_norm", "l2_norm"):
        return axis not in node.attrs["over"]
    if node.op == "rename":
        return axis not in dict(node.attrs["axes"]) and axis not in dict(node.attrs["axes"]).values()
    if node.op == "select":
        return bool(axis != node.attrs["axis"])
    if node.op == "embed":
        return axis not in graph[node.inputs[1]].type.names
    if is_elementwise(node.op) or node.op in _BY_ENTRY or node.op.startswith("op."):
        return True
    plugin = registry.get("op", node.op)
    return plugin is not None and plugin.keeps_order(node, axis)
