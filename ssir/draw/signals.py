"""Which values of a graph are signals, worth a box or a wire, and what the others mean in terms of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ssir.draw.formula import Formula
from ssir.draw.names import Names
from ssir.draw.values import delayed_by, is_filter, live
from ssir.draw.words import THROUGH, leaf
from ssir.ir.graph import Dependence, Graph, Node
from ssir.ir.ops import is_elementwise

CIRCLES = {"mul": "×", "add": "+", "sub": "−", "div": "÷"}
LONGEST = 36
SHORT = 2
_MOST_LEAVES = 3


@dataclass(frozen=True)
class Cone:
    """An elementwise function of some signals: the values that it reads, and it as a formula."""

    leaves: tuple[str, ...]
    formula: str
    written: Formula
    single: bool


class Signals:
    """Values fall into signals, what is looked through (reshapes, scaling by a number, biases), and constants."""

    def __init__(self, graph: Graph, signs: Mapping[str, str]) -> None:
        self.graph = graph
        self.names = Names(graph, signs)
        self.outputs = {name for _, name in graph.outputs}
        self.live = live(graph)
        self.users = {
            name: tuple(u for u in graph.users[name] if u in self.live or graph[u].type.operator)
            for name in graph.nodes
        }

    def source(self, name: str) -> str:
        """The signal behind a value: what changes only its shape, its scale or its bias is looked through."""
        while (inner := self.behind(self.graph[name])) is not None:
            name = inner
        return name

    def way(self, name: str) -> list[str]:
        """What is looked through from a value to its signal, the value first."""
        way: list[str] = []
        while (inner := self.behind(self.graph[name])) is not None:
            way.append(name)
            name = inner
        return way

    def said(self, name: str, formula: Formula) -> str:
        """What a node that is looked through does besides changing axes, as the wire through it says it."""
        node, inner = self.graph[name], self.behind(self.graph[name])
        others = [other for other in node.inputs if other != inner]
        match node.op:
            case "detach":
                return "no gradient"
            case "final":
                return "at the end"
            case "part":
                return leaf(node.attrs["label"])
            case "slice":
                return f"{node.attrs['axis']} {node.attrs['start']}…{node.attrs['stop'] - 1}"
            case "select" if "told" in node.attrs:
                formula.index(node)  # in other words
                return str(node.attrs["told"])
            case "select" if delayed_by(self.graph, self.graph[inner or ""]) is None:
                return f"{node.attrs['axis']} = {formula.index(node)}"
            case "select":
                formula.spelled.add(node.inputs[1])
            case "mul" | "div":
                return f"{'×' if node.op == 'mul' else '÷'} {formula.factor(others[0])}"
            case "add" | "sub" if self.graph[self.source(name)].op != "linear":
                return f"{'+' if node.op == 'add' else '−'} {formula.factor(others[0])}"
            case "add" | "sub":
                formula.spelled |= self.names.parameter(others[0])
        return ""

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
            op = self.graph[self.source(live[0])].op
            return None if is_elementwise(op) and op not in CIRCLES else live[0]  # a function says its factor
        return live[0] if self._is_bias(node, live[0], others) else None

    def _is_number(self, node: Node) -> bool:
        """Whether a value is one number for all entries and all steps."""
        return not node.type.axes and node.type.dependence == Dependence.CONSTANT

    def _is_bias(self, node: Node, signal: str, others: list[Node]) -> bool:
        """A parameter added to what is linear is its bias."""
        fits = node.op == "add" or (node.op == "sub" and node.inputs[0] == signal)
        if not fits or not others or not all(self.names.parameter(other.name) for other in others):
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
        """What a reader may call a value: the paper's sign, else the name in the spec, of it or of what it stands for; an entry of
        what has a name by that and the index."""
        return self.named(name)[0]

    def named(self, name: str) -> tuple[str | None, str]:
        """What a reader may call a value, and the value that has that name: it, or what it is a view of."""
        entries: list[str] = []
        while True:
            known = self.names.symbol(name)
            if known:
                return known + "".join(reversed(entries)), name
            node = self.graph[name]
            inner = self.behind(node)
            if inner is None or node.op in ("mul", "div"):
                return None, name
            if node.op in ("select", "slice") and delayed_by(self.graph, self.graph[inner]) is None:
                entries.append(Formula(self.names, {}).entry(node))
            name = inner

    def tells(self, name: str) -> bool:
        """Whether a box may say a name: its value is that of the box but for axes and a bias that the box says too."""
        return not any(self.said(step, Formula(self.names, {})) for step in self.way(name))

    def joint(self, node: Node) -> list[Node]:
        """The linear maps whose sum this is, if it is nothing else: together they are one linear map."""
        if node.op != "add" or any(name not in self.live for name in node.inputs):
            return []
        parts: list[Node] = []
        for name in node.inputs:
            inner = self.graph[self.source(name)]
            if not self.alone(inner.name) or not self.tells(name):
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
            written = self.formula(leaves)
            formula = written.meaning(root)
            if len(formula) <= LONGEST and self._is_formula(inside, leaves, sources):
                return Cone(tuple(dict.fromkeys(leaves)), formula, written, len(inside) == 1)
        return None

    def _is_formula(self, inside: set[str], leaves: list[str], sources: tuple[str, ...]) -> bool:
        if len(set(leaves)) > 1 and not all(self.symbol(leaf) for leaf in leaves):
            return False
        if len(sources) == 1:
            return self.graph[sources[0]].op != "component" or len(leaves) == 1
        if len(sources) > _MOST_LEAVES or len(inside) < 2:
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

    def formula(self, leaves: Collection[str]) -> Formula:
        """A writer of values as mathematics over these leaves; one without a name is a dot."""
        return Formula(self.names, {leaf: self.symbol(leaf) or self._small(leaf) for leaf in leaves})

    def _small(self, leaf: str) -> str:
        """What stands for a value without a name: a dot, or a product of two names."""
        node = self.graph[leaf]
        names = [self.symbol(name) for name in node.inputs]
        return f"({'·'.join(filter(None, names))})" if node.op == "mul" and len(names) == 2 and all(names) else "·"


def called(signals: Signals, node: Node) -> str:
    """What a signal or a memory is called: by its own name; a memory without one, by that of what it remembers."""
    own = signals.names.memory(node) if node.op == "state" else signals.symbol(node.name)
    x = node.role("x") if node.op == "state" and own is None else None
    return own or (signals.symbol(x) if x in signals.live and x else None) or "h"
