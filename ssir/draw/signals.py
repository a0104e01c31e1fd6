"""Which values of a graph are signals, worth a box or a wire, and what the others mean in terms of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ssir.draw.formula import Formula
from ssir.draw.names import Names
from ssir.draw.words import THROUGH
from ssir.ir.graph import Dependence, Graph, Node
from ssir.ir.ops import is_elementwise

CIRCLES = {"mul": "×", "add": "+", "sub": "−", "div": "÷"}
LONGEST = 36
SHORT = 2
_MOST_LEAVES = 3


@dataclass(frozen=True)
class Cone:
    """An elementwise function of some signals: the nodes in it, the values that it reads, and it as a formula."""

    nodes: frozenset[str]
    leaves: tuple[str, ...]
    formula: str


def is_filter(graph: Graph, node: Node) -> bool:
    """Whether a state is a shift register with constant taps."""
    a, c = node.role("A"), node.role("C")
    return (
        a is not None
        and c is not None
        and graph[a].op == "op.shift"
        and graph[c].type.dependence == Dependence.CONSTANT
    )


class Signals:
    """Values fall into signals, what is looked through (reshapes, scaling by a number, biases), and constants."""

    def __init__(self, graph: Graph, signs: Mapping[str, str]) -> None:
        self.graph = graph
        self.names = Names(graph, signs)
        self.outputs = {name for _, name in graph.outputs}
        self.live = {node.name for node in graph if self._lives(node)}
        self.users = {
            name: tuple(u for u in graph.users[name] if u in self.live or graph[u].type.operator)
            for name in graph.nodes
        }

    def _lives(self, node: Node) -> bool:
        if node.op == "state":
            return True
        return node.type.dependence >= Dependence.INPUT and not node.type.operator

    def source(self, name: str) -> str:
        """The signal behind a value: what changes only its shape, its scale or its bias is looked through."""
        while (inner := self.behind(self.graph[name])) is not None:
            name = inner
        return name

    def plain(self, name: str) -> str:
        """The signal behind a value, scaling not looked through: within a formula a factor matters."""
        while self.graph[name].op not in ("mul", "div") and (inner := self.behind(self.graph[name])) is not None:
            name = inner
        return name

    def behind(self, node: Node) -> str | None:
        """What a node that adds nothing to understanding stands for; None for a signal."""
        if node.name not in self.live or node.op in ("input", "state"):
            return None
        if node.op in THROUGH:
            return node.inputs[0]
        live = [name for name in node.inputs if name in self.live]
        if len(live) != 1:
            return None
        others = [self.graph[name] for name in node.inputs if name != live[0]]
        if node.op == "select" and node.inputs[0] == live[0]:
            return live[0]
        scaled = node.op == "mul" or (node.op == "div" and node.inputs[0] == live[0])
        if scaled and len(node.inputs) == 2 and all(self._is_number(other) for other in others):
            return live[0]
        return live[0] if self._is_bias(node, live[0], others) else None

    def _is_number(self, node: Node) -> bool:
        """Whether a value is one number for all entries and all steps, and not learned."""
        return not node.type.axes and node.op != "param" and node.type.dependence == Dependence.CONSTANT

    def _is_bias(self, node: Node, signal: str, others: list[Node]) -> bool:
        """A constant added to what is linear is its bias."""
        fits = node.op == "add" or (node.op == "sub" and node.inputs[0] == signal)
        if not fits or not others or any(other.type.dependence != Dependence.CONSTANT for other in others):
            return False
        linear = self.graph[self.source(signal)]
        return len(self.users[signal]) == 1 and (
            linear.op == "linear" or (linear.op == "state" and is_filter(self.graph, linear))
        )

    def has_bias(self, name: str) -> bool:
        """Whether a bias is added to a signal on the way to its readers."""
        return any(
            user in self.live
            and self.behind(self.graph[user]) == name
            and (self.graph[user].op in ("add", "sub") or self.has_bias(user))
            for user in self.users[name]
        )

    def read(self, name: str) -> tuple[str, ...]:
        """Who reads a signal, itself or through what is looked through."""
        found: list[str] = []
        for user in self.users[name]:
            if user in self.live and self.behind(self.graph[user]) is not None:
                found += self.read(user) or ([user] if user in self.outputs else [])
            else:
                found.append(user)
        return tuple(dict.fromkeys(found))

    def is_output(self, name: str) -> bool:
        return any(self.source(out) == name for out in self.outputs if out in self.live)

    def alone(self, name: str) -> bool:
        """Whether a signal has one reader."""
        return len(self.read(name)) == 1 and not self.is_output(name)

    def serves(self, name: str, inside: set[str]) -> bool:
        """Whether a value is read only by these nodes."""
        return all(user in inside for user in self.users[name]) and name not in self.outputs

    def symbol(self, name: str) -> str | None:
        """What a reader may call a value: the paper's sign, else the name in the spec, of it or of what it stands for."""
        while True:
            known = self.names.symbol(name)
            if known:
                return known
            inner = self.behind(self.graph[name])
            if inner is None or self.graph[name].op in ("mul", "div"):
                return None
            name = inner

    def joint(self, node: Node) -> list[Node]:
        """The linear maps whose sum this is, if it is nothing else: together they are one linear map."""
        if node.op != "add" or any(name not in self.live for name in node.inputs):
            return []
        parts: list[Node] = []
        for name in node.inputs:
            inner = self.graph[self.plain(name)]
            if not self.alone(inner.name):
                return []
            found = [inner] if inner.op == "linear" else self.joint(inner)
            if not found:
                return []
            parts += found
        return parts

    # Formulas.

    def cone(self, root: str) -> Cone | None:
        """The elementwise function that ends here, if it is best said as one formula."""
        if not is_elementwise(self.graph[root].op) or self.joint(self.graph[root]):
            return None
        for deep in (True, False):
            inside = {root}
            leaves = self.leaves(root, inside, deep)
            sources = tuple(dict.fromkeys(map(self.plain, leaves)))
            formula = self.formula(root, leaves)
            if len(formula) <= LONGEST and self._is_formula(inside, leaves, sources):
                return Cone(frozenset(inside), tuple(dict.fromkeys(leaves)), formula)
        return None

    def _is_formula(self, inside: set[str], leaves: list[str], sources: tuple[str, ...]) -> bool:
        if len(sources) == 1:
            return self.graph[sources[0]].op != "component" or len(leaves) == 1
        if len(sources) > _MOST_LEAVES or len(inside) < 2 or not all(self.symbol(leaf) for leaf in leaves):
            return False
        twice = len(leaves) > len(sources)
        weighted = any(i not in self.live and self.graph[i].type.axes for n in inside for i in self.graph[n].inputs)
        return twice or (weighted and len(sources) == 2)

    def leaves(self, value: str, inside: set[str], deep: bool = True) -> list[str]:
        """The values that a formula reads, once a use; ``inside`` gathers the nodes that are in it, which serve it alone."""
        found: list[str] = []
        for operand in self.graph[value].inputs:
            if operand not in self.live:
                continue
            grown = set(inside)
            if deep and self.opens(operand, grown):
                inside |= grown
                found += self.leaves(self.plain(operand), inside, deep)
            else:
                found.append(operand)
        return found

    def opens(self, value: str, inside: set[str], named: bool = False) -> bool:
        """Whether a value can be part of a formula: elementwise, read by nothing else, and (unless ``named`` may be opened) not
        called by a letter of its own; if so, ``inside`` gains it."""
        if not named and len(self.names.known(value) or "long") <= SHORT:
            return False
        way = self._way(value)
        node = self.graph[way[-1]]
        if not is_elementwise(node.op) or self.joint(node) or self.is_output(node.name):
            return False
        for step in way:
            if not self.serves(step, inside):
                return False
            inside.add(step)
        return True

    def _way(self, name: str) -> list[str]:
        """A value, and what it is looked through to, up to its plain signal."""
        way = [name]
        while way[-1] != self.plain(name):
            inner = self.behind(self.graph[way[-1]])
            assert inner is not None
            way.append(inner)
        return way

    def formula(self, root: str, leaves: Collection[str]) -> str:
        """A value as mathematics over its leaves; one without a name is a dot."""
        if root in leaves:
            return self.symbol(root) or self._small(root).strip("()")
        return Formula(self.names, {leaf: self.symbol(leaf) or self._small(leaf) for leaf in leaves}).of(root)

    def _small(self, leaf: str) -> str:
        """What stands for a value without a name: a dot, or a product of two names."""
        node = self.graph[leaf]
        names = [self.symbol(name) for name in node.inputs]
        return f"({'·'.join(filter(None, names))})" if node.op == "mul" and len(names) == 2 and all(names) else "·"
