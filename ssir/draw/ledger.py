"""What is known of every node of a spec, as plain data: where it is written, what it is, what it costs, and what depends on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

from ssir.draw import state_box
from ssir.draw.words import sizes
from ssir.errors import Source
from ssir.ir.graph import Graph, Node, Type, owners
from ssir.spec.load import Spec


def ledger(spec: Spec, graph: Graph) -> dict[str, Any]:
    """The nodes of a spec's canonical graph by path and name, the texts that they are written in, and what the whole costs.

    Of what a stack repeats, costs are those of all its layers together; what layers share counts once.
    """
    from ssir import passes
    from ssir.compilers.plan import plan

    planned = plan(passes.run(spec.graph))
    chosen = {entry.path: entry for entry in planned.entries}
    sources: dict[Source, int] = {}
    nodes = {
        f"{where}{node.name}": _node(one, where, node, sources) for one, where in _graphs(graph, "") for node in one
    }
    _count(graph, "", "", nodes, set())
    for one, where in _graphs(graph, ""):
        for node in one.states:
            entry = chosen[where.replace("/", ".") + node.name]
            record = nodes[where + node.name]
            record["growth" if entry.facts.grows else "bytes"] = entry.bytes * entry.count
            record["state"] = {
                "structure": str(entry.facts.structure),
                "kind": entry.facts.structure.kind,
                "form": entry.match.form.name,
                "why": entry.match.why,
                "size": state_box.size(entry.facts.axes),
                "roles": dict(zip(node.attrs["roles"], (where + name for name in node.inputs), strict=True)),
                "depends": {role: str(on) for role, on in entry.facts.dependence.items() if role in "ABCD"},
            }
    return {
        "name": spec.name,
        "title": spec.module.file.title or "",
        "total": {
            "parameters": planned.parameters,
            "flops": sum(node["flops"] for node in nodes.values()),
            "bytes": planned.state_bytes,
            "growth": planned.growth,
        },
        "sources": [{"name": PurePath(source.name).name, "text": source.text} for source in sources],
        "nodes": nodes,
    }


def _graphs(graph: Graph, where: str) -> Iterator[tuple[Graph, str]]:
    yield graph, where
    for name, body in graph.bodies.items():
        yield from _graphs(body, f"{where}{name}/")


def _node(graph: Graph, where: str, node: Node, sources: dict[Source, int]) -> dict[str, Any]:
    at = node.at
    return {
        "name": node.name,
        "op": node.op,
        "type": _type(node.type),
        "axes": list(node.type.names),
        "dependence": str(node.type.dependence),
        "at": None if at is None else [sources.setdefault(at.source, len(sources)), at.line, at.column, at.end_column],
        "operands": [where + name for name in dict.fromkeys(node.inputs)],
        "users": [where + name for name in graph.users[node.name]],
        "parameters": 0,
        "flops": 0.0,
        "bytes": 0,
        "growth": 0,
    }


def _type(type: Type) -> str:
    axes = f"[{', '.join(f'{axis.name} {sizes((axis,))}' for axis in type.axes)}] " if type.axes else "one number, "
    return axes + type.dtype


def _count(graph: Graph, where: str, at: str, nodes: dict[str, dict[str, Any]], seen: set[str]) -> None:
    """Adds up what each node costs, layer by layer; ``seen`` are the parameters that are counted."""
    from ssir.compilers.plan import flops

    for node in graph:
        record = nodes[where + node.name]
        if node.op == "param" and node.attrs["learned"]:
            key = node.attrs["key"] if node.attrs["shared"] else at + node.attrs["key"]
            record["parameters"] += 0 if key in seen else node.type.numel()
            seen.add(key)
        elif node.op == "stack":
            for i, name in zip(owners(node), node.attrs["pattern"], strict=True):
                _count(graph.bodies[name], f"{where}{name}/", f"{at}{node.name}.{i}.", nodes, seen)
        else:
            record["flops"] += flops(graph, node)
