"""How wide numbers are kept: float32 at least, whatever the data is, or as the data."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ssir.analysis.facts import facts, is_complex
from ssir.ir.graph import Dependence, Graph, Node
from ssir.ir.ops.program import PROGRAM
from ssir.registry import registry

_AS_DATA = frozenset("linear embed rms_norm layer_norm l2_norm context stack part kept".split())
_LAYOUT = frozenset("rename split merge concat pack slice select expand".split())
_NUMBERS = frozenset({"arange", "eye", "position", "input"})


def wide(graph: Graph) -> frozenset[str]:
    """The nodes whose values are float32 at least, whatever the data is: what the spec says shall be, what parameters,
    positions, indices and written numbers decide, and what is read from a wide memory, until it enters a product."""
    if "wide" not in graph.known:
        found: set[str] = set()
        while True:  # once around a cycle is enough: what is wide stays so
            more = {node.name for node in graph if node.name not in found and _is_wide(graph, node, found)}
            if not more:
                break
            found |= more
        graph.known["wide"] = frozenset(found)
    known: frozenset[str] = graph.known["wide"]
    return known


def _is_wide(graph: Graph, node: Node, known: Collection[str]) -> bool:
    if node.op != "state":
        return is_wide(graph.nodes, node, known)
    fact = facts(graph, node)
    entering = [name for role in ("x", "B", "initial") if (name := node.role(role)) is not None]
    kept = fact.structure.kind in ("shift", "zero") and not any(name in known for name in entering)
    return node.type.dtype != "complex" and not kept and not fact.contracted


def is_wide(nodes: Mapping[str, Node], node: Node, known: Collection[str]) -> bool:
    """Whether the value of a node that is no state is, given which of its operands are."""
    if node.type.dtype in ("bool", "complex") or node.type.operator:
        return False
    if node.op in PROGRAM:
        return _in_program(node, known)
    if node.op == "float32":
        return True
    if node.op == "param":
        return node.attrs["dtype"] is not None
    if node.op in _AS_DATA or (node.op == "dot" and node.type.dependence >= Dependence.INPUT):
        return False
    plugin = registry.get("op", node.op)
    if plugin is not None:
        return getattr(plugin, "keeps_dtype", False) and node.inputs[0] in known
    if node.op in _NUMBERS:
        return node.op != "input" or node.type.dtype == "int"
    values = node.inputs[1:] if node.op in ("where", "select") else node.inputs
    numbers = [name for name in values if nodes[name].op in ("const", "layer")]
    if values and len(numbers) == len(values):
        return True
    made = [name for name in values if name not in numbers]
    if node.type.dependence is Dependence.CONSTANT and node.op not in _LAYOUT:
        return bool(made)
    if node.type.dependence >= Dependence.INPUT:
        # What parameters, positions and written numbers decide is brought to the data where the two meet.
        made = [name for name in made if nodes[name].type.dependence >= Dependence.INPUT]
    return any(name in known for name in made)


def _in_program(node: Node, known: Collection[str]) -> bool:
    match node.op:
        case "cast":
            return bool(node.attrs["to"] == "wide")
        case "order" | "spread" | "before" | "new" | "contract":
            return any(name in known for name in node.inputs[: 2 if node.op == "contract" else 1])
        case "kernel" | "result":
            return True
    return bool(node.attrs.get("kind") == "wide")


def kept_as(graph: Graph, node: Node, dtype: str) -> str:
    """The dtype in which a memory is kept from call to call, in a model of a dtype."""
    kind, full = memory_kind(graph, node), dtype if dtype == "float64" else "float32"
    if kind == "complex":
        return {"float64": "complex128", "float32": "complex64"}[full]
    return dtype if kind == "data" or node.attrs["dtype"] == "data" else full


def memory_kind(graph: Graph, node: Node) -> str:
    """How the numbers of a memory are kept: ``data``, ``wide`` or ``complex``. A register or a delay keeps what it is given as it is given."""
    if is_complex(graph, node):
        return "complex"
    kept = facts(graph, node).structure.kind in ("shift", "zero")
    entering = [name for role in ("x", "B", "initial") if (name := node.role(role)) is not None]
    if kept and node.attrs["dtype"] is not None:
        return {"float32": "wide", "data": "data"}[node.attrs["dtype"]]
    return "wide" if not kept or any(name in wide(graph) for name in entering) else "data"
