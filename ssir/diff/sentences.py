"""What makes one state the other, in a line: `b`'s state is `a`'s with k = 1 − f."""

from __future__ import annotations

from collections.abc import Mapping

from ssir.diff.law import Put, Term
from ssir.diff.memories import Memory, Pair
from ssir.draw.formula import Formula
from ssir.draw.words import function, number, product

_SUM, _PRODUCT, _ATOM = range(3)
_SHORT = 24
_LOG = "log_"


def sentence(pair: Pair, a: str, b: str, one: bool) -> str | None:
    """How one state follows from the other, if it does. ``a`` and ``b``: what the two architectures are called; ``one``: they have no
    other states that could be meant."""
    if pair.same is None:
        return None
    general, special = (pair.a, pair.b) if pair.same.second else (pair.b, pair.a)
    names = (b, a) if pair.same.second else (a, b)
    said = [_put(general, special, name, put) for name, put in pair.same.put.items()]
    for role in "ABCD":
        mine, theirs = general.over(role), special.over(role)
        sides = (mine, theirs) if pair.same.second else (theirs, mine)
        if (role in general.node.attrs["roles"]) == (role in special.node.attrs["roles"]) and not pair.alike(*sides):
            said.append(f"{role} over {product(theirs) or 'no axis'} in place of {product(mine) or 'none'}")
    if special.facts.slots and general.facts.slots and special.facts.slots.size != general.facts.slots.size:
        sizes = [one.facts.slots.size or "∞" for one in (special, general) if one.facts.slots]
        said.append(f"{sizes[0]} slots in place of {sizes[1]}")
    which, other = ("", "") if one else (f" `{special.name}`", f" `{general.name}`")
    text = f"{names[0]}'s state{which} is {names[1]}'s{other}"
    return f"{text} with {', '.join(said)}" if said else text


def _put(general: Memory, special: Memory, name: str, put: Put) -> str:
    own = called(general, name) or _role(general, name)
    if put.weaker:
        return f"{own} {put.term.dependence}"
    known = {f"put {other}": _Writer(special, {}).name(term) or "A" for other, term in put.of.items()}
    return f"{own} = {_Writer(special, known).of(put.term)}"


def called(memory: Memory, name: str) -> str | None:
    """What a value is called, or short mathematics for it."""
    known = memory.signals.symbol(name)
    return known or (text if len(text := _formula(memory, name)) <= _SHORT and "·" not in text else None)


def _formula(memory: Memory, name: str) -> str:
    leaves: dict[str, str] = {}
    for one in memory.graph:
        if (known := memory.signals.names.symbol(one.name)) and one.name != name:
            leaves[one.name] = known
    return Formula(memory.signals.names, leaves).of(name)


def _role(memory: Memory, name: str) -> str:
    """The letter of the coefficient that a value is a part of."""
    roles = zip(memory.node.attrs["roles"], memory.node.inputs, strict=True)
    return next((role for role, top in roles if name in _above(memory, top)), "x")


def _above(memory: Memory, top: str) -> set[str]:
    found: set[str] = set()
    todo = [top]
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            todo.extend(() if memory.graph[one].op in ("state", "linear") else memory.graph[one].inputs)
    return found


class _Writer:
    """Terms as mathematics, in the names of the architecture that they are of; exp(log_f) is written f."""

    def __init__(self, memory: Memory, known: Mapping[str, str]) -> None:
        self.memory, self.known = memory, known

    def name(self, term: Term) -> str | None:
        """What a term is called, if it is."""
        match term.op, term.operands:
            case "free" | "memory", ():
                return self.known.get(term.node) or called(self.memory, term.node)
            case "exp", (Term(op="free", node=node),):
                inner = self.memory.signals.symbol(node) or ""
                return inner.removeprefix(_LOG) if inner.startswith(_LOG) else None
            case "op.diag", (inner_term,):
                return self.name(inner_term)
        return None

    def of(self, term: Term) -> str:
        return self._write(term)[0]

    def _in(self, term: Term, at_least: int) -> str:
        text, tightness = self._write(term)
        return text if tightness >= at_least else f"({text})"

    def _write(self, term: Term) -> tuple[str, int]:
        if name := self.name(term):
            return name, _ATOM
        if term.op in ("number", "root"):
            return number(term.value), _ATOM if term.value >= 0 else _SUM
        if term.op in ("free", "memory"):
            return function(self.memory.graph[term.node].op) + "(·)", _ATOM
        match term.op.removeprefix("op."):
            case "add":
                return " + ".join(self._in(one, _SUM) for one in term.operands), _SUM
            case "sub":
                a, b = term.operands
                return f"{self._in(a, _SUM)} − {self._in(b, _PRODUCT)}", _SUM
            case "mul":
                return "·".join(self._in(one, _PRODUCT) for one in term.operands), _PRODUCT
            case "div":
                a, b = term.operands
                return f"{self._in(a, _PRODUCT)} / {self._in(b, _ATOM)}", _PRODUCT
            case "neg":
                return f"−{self._in(term.operands[0], _PRODUCT)}", _PRODUCT
            case "outer":
                return "⊗".join(self._in(one, _ATOM) for one in term.operands), _PRODUCT
            case "diag":
                return self._write(term.operands[0])
        return f"{function(term.op)}({', '.join(map(self.of, term.operands))})", _ATOM
