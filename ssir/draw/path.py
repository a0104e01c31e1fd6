"""Which wires are the main path, and which go back in time."""

from __future__ import annotations

from dataclasses import replace

import networkx as nx

from ssir.draw.picture import Box, Kind, Row, Shade, Wire


def finish(row: Row) -> None:
    """Mark the wires of a row: feedback first, then the path from an input through the memory that matters most."""
    _mark_feedback(row)
    memories = [box for box in row.boxes.values() if box.kind is Kind.MEMORY]
    depth = depths(row)
    if memories:
        row.aligned = max(memories, key=lambda box: (*_rank(box), depth[box.key])).key
    _mark_main(row)


def _rank(memory: Box) -> tuple[int, int]:
    """A memory whose coefficients change matters more than a filter, one that is read out more than one that is not."""
    wired = any(cell.shade in (Shade.INPUT, Shade.STATE, Shade.POSITION) for cell in memory.cells)
    return int(wired), int(any(cell.letter == "C" for cell in memory.cells))


def _graph(row: Row) -> nx.DiGraph[str]:
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(row.boxes)
    graph.add_edges_from((wire.tail, wire.head) for wire in row.wires if not wire.back)
    return graph


def _mark_feedback(row: Row) -> None:
    """A cycle is broken where it enters a delay, else where it enters any memory."""
    for kind in (Kind.DELAY, Kind.MEMORY, None):
        groups = [group for group in nx.strongly_connected_components(_graph(row)) if len(group) > 1]
        for group in groups:
            for i, wire in enumerate(row.wires):
                inside = wire.tail in group and wire.head in group and not wire.back
                if inside and (kind is None or row.boxes[wire.head].kind is kind):
                    row.wires[i] = replace(wire, back=True)
                    if kind is None:
                        break


def depths(row: Row) -> dict[str, int]:
    """How many boxes stand before each, feedback left aside."""
    graph = _graph(row)
    depth = dict.fromkeys(row.boxes, 0)
    for key in nx.topological_sort(graph) if nx.is_directed_acyclic_graph(graph) else ():
        for head in graph.successors(key):
            depth[head] = max(depth[head], depth[key] + 1)
    return depth


def first_port(row: Row) -> str | None:
    """The input from which most of a row follows."""
    graph = _graph(row)
    sources = [key for key, box in row.boxes.items() if box.kind is Kind.PORT and not graph.in_degree(key)]
    return max(sources, key=lambda key: len(nx.descendants(graph, key)), default=None)


def depth_of(row: Row) -> int:
    """How many boxes stand before the aligned memory."""
    return depths(row)[row.aligned] if row.aligned else 0


def _mark_main(row: Row) -> None:
    """Back from the output towards the aligned memory, and from its input x to the input of the row; where no memory is drawn,
    along sums: the residual stream."""
    outs = [box.key for box in row.boxes.values() if box.key.startswith("out ")]
    if not outs:
        return
    graph = _graph(row)
    before = nx.ancestors(graph, row.aligned) if row.aligned else set()
    after = nx.descendants(graph, row.aligned) if row.aligned else set()
    source = first_port(row)
    follow = nx.descendants(graph, source) if source else set()
    at, seen = outs[0], set()
    while at not in seen:
        seen.add(at)
        coming = [
            (i, wire)
            for i, wire in enumerate(row.wires)
            if wire.head == at and not wire.back and row.boxes[wire.tail].kind is not Kind.CONSTANT
        ]
        if not coming:
            return
        i, wire = min(coming, key=lambda item: _preference(item[1], row, before, after, follow, source))
        row.wires[i] = replace(wire, main=True)
        at = wire.tail


def _preference(
    wire: Wire, row: Row, before: set[str], after: set[str], follow: set[str], source: str | None
) -> tuple[int, int]:
    if row.aligned is None:
        plain = wire.tail == source or row.boxes[wire.tail].kind is Kind.OPERATOR
        return (0 if plain else 1, int(wire.tail not in follow))
    towards = 0 if wire.tail == row.aligned or wire.tail in after else 1 if wire.tail in before else 2
    port = 0 if wire.cell in ("x", "") else 1
    return (towards, port)
