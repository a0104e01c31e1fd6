"""What stands around the memories, counted by block: residual streams, norms, filters, gates, activations, feed-forward parts, linear maps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ssir.analysis.facts import facts
from ssir.draw.signals import Signals
from ssir.draw.values import delayed_by, is_filter
from ssir.draw.words import function, product
from ssir.ir.graph import Dependence, Graph, Node
from ssir.ir.ops.elementwise import UNARY
from ssir.ir.ops.sums import NORM

_ARITHMETIC = frozenset(
    "neg exp expm1 log log1p sqrt rsqrt square abs sign floor ceil round reciprocal real imag conj detach float32".split()
)
ACTIVATIONS = UNARY - _ARITHMETIC
_ON_THE_STREAM = NORM | {"mul", "detach"}
FEATURES = (
    "stream",
    "norms",
    "filters",
    "delays",
    "gates",
    "activations",
    "feed-forward",
    "attention",
    "positions",
    "linear maps",
    "embedding",
)


@dataclass(frozen=True)
class Block:
    """A layer, or what stands around the layers. ``features``: by the names in FEATURES, how often each thing is there."""

    title: str
    times: int
    features: dict[str, Counter[str]]

    def said(self, feature: str) -> str:
        """2 × RMSNorm over model, ..."""
        if feature == "linear maps":
            return ", ".join(f"{count} {what}" for what, count in sorted(self.features[feature].items()))
        return ", ".join(
            what if count == 1 else f"{count} × {what}" for what, count in sorted(self.features[feature].items())
        )

    @property
    def everything(self) -> Counter[tuple[str, str]]:
        return Counter({(feature, what): n for feature, found in self.features.items() for what, n in found.items()})


def blocks(graph: Graph) -> list[Block]:
    """Each kind of layer with how often it is there, then what stands around them."""
    layers = [Block(body.name, times, _features(body, stream=True)) for body, times in _layers(graph, 1)]
    return [*layers, Block("around the layers" if layers else "the whole", 1, _features(graph, stream=not layers))]


def _layers(graph: Graph, times: int) -> Iterator[tuple[Graph, int]]:
    """What stacks repeat, and how often in all; a layer that stacks others itself is counted as well."""
    for node in graph:
        if node.op == "stack":
            for name, count in Counter(node.attrs["pattern"]).items():
                yield graph.bodies[name], times * count
                yield from _layers(graph.bodies[name], times * count)


def _features(graph: Graph, stream: bool) -> dict[str, Counter[str]]:
    signals = Signals(graph, {})
    found: dict[str, Counter[str]] = {feature: Counter() for feature in FEATURES}
    inside = _coefficients(graph)
    for node in graph:
        live = node.name in signals.live
        if node.op in NORM and live:
            found["norms"][f"{function(node.op)} over {product(node.attrs['over'])}"] += 1
        elif node.op in ACTIVATIONS and live:
            found["activations"][function(node.op)] += 1
        elif node.op == "softmax" and live:
            found["attention"][f"softmax over {_axes(node)}"] += 1
        elif node.op == "rotate" and live:
            found["positions"]["rotation"] += 1
        elif node.op == "embed":
            placed = node.type.dependence < Dependence.INPUT
            found["positions" if placed else "embedding"]["learned table" if placed else "table"] += 1
        elif node.op == "linear" and live:
            biased = node.attrs["bias"] or signals.has_bias(node.name)
            found["linear maps"]["with bias" if biased else "without bias"] += 1
        elif node.op == "context":
            found["attention"]["reads the whole sequence"] += 1
        elif node.op == "state" and (steps := delayed_by(graph, node)) is not None:
            found["delays"][f"by {steps} step{'s' if steps > 1 else ''}"] += 1
        elif node.op == "state" and is_filter(graph, node):
            slots = facts(graph, node).slots
            if slots is not None:
                found["filters"][f"{slots.size or 'unbounded'} taps, learned"] += 1
        elif node.op == "mul" and live and node.name not in inside and (gate := _gate(signals, node)):
            found["gates"][gate] += 1
    if stream:
        words, hidden = _stream(graph, signals)
        found["stream"][words] += 1
        found["feed-forward"].update(hidden)
    return {feature: Counter(dict(counted)) for feature, counted in found.items()}


def _axes(node: Node) -> str:
    over = node.attrs["over"]
    return product(over) if isinstance(over, tuple) else str(over)


def _coefficients(graph: Graph) -> set[str]:
    """The products that only make A, B, C or D of a state: no gates."""
    found: set[str] = set()
    todo = [
        name
        for state in graph.states
        for role, name in zip(state.attrs["roles"], state.inputs, strict=True)
        if role != "x"
    ]
    while todo:
        name = todo.pop()
        node = graph[name]
        if name not in found and node.op not in ("linear", "state", "input", *NORM):
            found.add(name)
            todo.extend(node.inputs)
    return found


def _gate(signals: Signals, node: Node) -> str | None:
    """A product of two signals, by the function of that which closes it: SiLU(linear) × ·."""
    sources = [signals.graph[signals.source(name)] for name in node.inputs if name in signals.live]
    if len(sources) != 2:
        return None
    closing = [function(one.op) for one in sources if one.op in ACTIVATIONS]
    if closing:
        return " × ".join(sorted(closing))
    return "linear" if any(one.op == "linear" for one in sources) else "product of signals"


def _stream(graph: Graph, signals: Signals) -> tuple[str, Counter[str]]:
    """The residual stream in words, from the input on: what is added, and what stands before; and the branches without memory."""
    words: list[str] = []
    hidden: Counter[str] = Counter()
    at = graph.outputs[0][1]
    seen: set[str] = set()
    while at in signals.live and at not in seen:
        seen.add(at)
        node = graph[signals.source(at)]
        if node.op in NORM:
            words.append(function(node.op))
            at = node.inputs[0]
            continue
        branch = _branch(graph, signals, node)
        if branch is None:
            if node.op not in ("input", "stack"):
                words.append(_inside(graph, signals, [node.name], set(), hidden))
            break
        below, added = branch
        words.append("+ " + _inside(graph, signals, [added], _above(graph, below), hidden))
        at = below
    return "; ".join(reversed(words)) or "as it is", hidden


def _branch(graph: Graph, signals: Signals, node: Node) -> tuple[str, str] | None:
    """Of a sum the summand that the other is made of, and the other."""
    if node.op != "add" or any(name not in signals.live for name in node.inputs):
        return None
    for below, added in (node.inputs, reversed(node.inputs)):
        start = signals.source(below)
        if graph[start].op in ("input", "add", "embed", "stack", *NORM) and start in _above(graph, added):
            return below, added
    return None


def _above(graph: Graph, name: str) -> set[str]:
    """What a value is made of, itself included."""
    found: set[str] = set()
    todo = [name]
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            todo.extend(graph[one].inputs)
    return found


def _inside(graph: Graph, signals: Signals, ends: Sequence[str], below: set[str], hidden: Counter[str]) -> str:
    """A branch in words: a mixer or a feed-forward part, after a norm or not; the latter is described in ``hidden``."""
    nodes = [graph[name] for end in ends for name in sorted(_above(graph, end) - below) if name in signals.live]
    mixes = any(node.op in ("state", "context") or (node.op == "softmax" and None in node.type.sizes) for node in nodes)
    first = [
        node
        for node in nodes
        if node.op in NORM and signals.source(node.inputs[0]) in below | {i.name for i in graph.inputs}
    ]
    if not mixes and any(node.op == "linear" for node in nodes):
        hidden[_described(graph, signals, nodes)] += 1
    name = "mixer" if mixes else "feed-forward" if any(node.op == "linear" for node in nodes) else "function"
    return f"{name}({', '.join(sorted({function(node.op) for node in first}))})" if first else name


def _described(graph: Graph, signals: Signals, nodes: Sequence[Node]) -> str:
    """model → hidden (SiLU, gated) → model"""
    inside = {node.name for node in nodes}
    hidden = dict.fromkeys(
        product(node.type.axes)
        for node in nodes
        if node.op == "linear" and any(user in inside and graph[user].op != "add" for user in signals.read(node.name))
    )
    acts = dict.fromkeys(function(node.op) for node in nodes if node.op in ACTIVATIONS)
    gated = any(node.op == "mul" and _gate(signals, node) for node in nodes)
    said = ", ".join([*acts, *(["gated"] if gated else [])])
    through = f"through {', '.join(hidden)}" if hidden else "one map"
    return f"{through} ({said})" if said else through
