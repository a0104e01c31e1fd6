"""What values are called: by the spec, and by the paper."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from ssir.draw.words import SUBSCRIPTS, greek, leaf
from ssir.ir.graph import Graph, Node
from ssir.ir.ops.sums import NORM

_NUMBERED = re.compile(r"^(.+?)_(\d+)$")
# Functions that own weights: their name says that they have some.
_WEIGHED = frozenset({"linear", "embed", *NORM})
_RESHAPES = frozenset({"op.diag", "rename", "split", "merge", "expand", "slice"})
_ROLES = frozenset({"A", "B", "C", "D", "initial", "input", "dt", "weight", "bias"})


class Names:
    """The names that a spec gives the values of a graph; not those that are made up for a part of an expression.

    A name within a called component counts only where it can be told from others: three calls of a convolution have no one `y`.
    """

    def __init__(self, graph: Graph, signs: Mapping[str, str]) -> None:
        self.graph = graph
        self.signs = signs
        self._letters: dict[str, str] = {}
        own = {node.name: given for node in graph if (given := self._given(node))}
        leaves = Counter(own.values())
        self._known = {
            name: given
            for name, given in own.items()
            if "." not in name or leaves[given] == 1 or graph[name].op == "param"
        }

    def known(self, name: str) -> str | None:
        """The name that the spec gives, if it gives one."""
        return self._known.get(name)

    def symbol(self, name: str) -> str | None:
        """What a reader calls it: the paper's sign, else the name, with Greek letters as such."""
        given = self._known.get(name)
        return self.sign(given) if given else None

    def sign(self, given: str) -> str:
        return self.signs.get(given) or greek(given)

    def memory(self, node: Node) -> str | None:
        """A memory's name; within a component that is called often, with that call's."""
        symbol = self.symbol(node.name)
        if symbol is None and self._given(node):
            return node.name
        return symbol

    def letter(self, name: str) -> str:
        """What a value without a name is called in formulas: w, w₂, w₃."""
        n = len(self._letters) + 1
        return self._letters.setdefault(name, "w" + (str(n).translate(SUBSCRIPTS) if n > 1 else ""))

    def operands(self, node: Node) -> tuple[list[str], set[str]]:
        """What a function is applied to, and the weights that it owns, with all that only changes their shape."""
        weights = {i: of for i in node.inputs[1:] if node.op in _WEIGHED and (of := self.parameter(i))}
        return [i for i in node.inputs if i not in weights], {name for of in weights.values() for name in of}

    def parameter(self, name: str) -> set[str]:
        """The parameter that a value is, and what changes its shape; nothing if it is something else."""
        way = [name]
        while self.graph[way[-1]].op in _RESHAPES:
            way.append(self.graph[way[-1]].inputs[0])
        return set(way) if self.graph[way[-1]].op == "param" else set()

    def nameless(self, name: str) -> bool:
        """Whether a value is a parameter that nothing names: a formula for it would say nothing."""
        return bool(way := self.parameter(name)) and all(self.known(part) is None for part in way)

    def _given(self, node: Node) -> str | None:
        if node.op == "component":
            return None
        if node.op == "param":
            key = leaf(node.attrs["key"])
            return None if key in _ROLES or key.startswith("param") or "/" in node.name else key
        path, _, part = node.name.partition("/")
        if node.op == "const":
            return None if not part or _NUMBERED.sub(r"\1", part) == "const" else _NUMBERED.sub(r"\1", part)
        if part not in ("", "value") or (node.op == "state" and f"{path}/value" in self.graph.nodes):
            return None
        parent, _, last = path.rpartition(".")
        if node.op == "state" and parent and parent not in self.graph.calls and self._ends(node.name, parent):
            parent, _, last = parent.rpartition(".")
        return last if not parent or parent in self.graph.calls else None

    def _ends(self, name: str, expression: str) -> bool:
        """Whether a memory that a call made is the value of the whole expression."""
        users = self.graph.users[name]
        return not any(user.startswith((f"{expression}.", f"{expression}/")) or user == expression for user in users)
