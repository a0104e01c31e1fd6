"""The forms that need no plugin: the register, the delay, the scan, and the loop that fits everything."""

from __future__ import annotations

from collections.abc import Mapping

from ssir.analysis.facts import Facts, is_complex
from ssir.compilers.forms import Cost, Form, Match, Setting
from ssir.compilers.program.entries import LONG
from ssir.compilers.program.function import Function, taken
from ssir.ir.builder import Value
from ssir.ir.graph import Dependence, Graph


def input_words(fact: Facts) -> str:
    changing = [
        role for role in ("A", "B", "C", "D") if fact.dependence.get(role, Dependence.CONSTANT) >= Dependence.INPUT
    ]
    return f"{', '.join(changing)} depend on the input" if changing else "nothing but x depends on the input"


def loop_reason(graph: Graph, fact: Facts) -> str:
    """Why there is no parallel form, in words."""
    if fact.cycle is None:
        return f"no parallel form is known for an A that is {fact.structure}"
    for role in ("A", "B", "C", "x"):
        if fact.dependence.get(role) is Dependence.STATE:
            memory = next(
                (n.name for n in graph.states if n.name in fact.cycle and n.attrs["read"] == "before"), fact.node.name
            )
            subject = "its input" if role == "x" else role
            return f"no parallel form: {subject} depends on the state, by way of `{memory}` of the step before"
    return "no parallel form: the state feeds back into itself"


class Delay:
    """A = 0, read before: x a step ago."""

    name = "delay"

    def match(self, graph: Graph, facts: Facts) -> Match | None:
        node = facts.node
        plain = (
            facts.structure.kind == "zero" and node.attrs["read"] == "before" and node.attrs["algebra"] == "plus_times"
        )
        if not plain or facts.cycle is not None:
            return None
        return Match(self, "A is zero and the memory is read before its input enters: x is moved by a step")

    def cost(self, graph: Graph, facts: Facts, match: Match, at: Setting) -> Cost:
        return Cost(0, 8.0 * facts.entries, 2)

    def sequence(self, f: Function, fact: Facts, match: Match) -> Value:
        node = fact.node
        each = [(axis.name,) for axis in fact.axes]
        start = f.start(node)
        behind = [] if start is None else [taken("still", start, *each)]
        x = taken("full", f.entering(node), *each)
        before = f.kernel(
            "memory.delayed", x, gives=each, memories=[[node.name]], held=each, given="reset", behind=behind
        )
        return f.readout(node, before)


class Register:
    """A shift, read as a value: its slots, or entries."""

    name = "register"

    def match(self, graph: Graph, facts: Facts) -> Match | None:
        if facts.structure.kind != "shift" or facts.cycle is not None or facts.node.attrs["algebra"] != "plus_times":
            return None
        why = "A is a shift: the register is a view of the last inputs"
        if facts.slots is not None and (facts.slots.size is None or facts.slots.size > LONG):
            why += "; what is computed for every slot takes memory that grows as steps times entries"
        return Match(self, why)

    def cost(self, graph: Graph, facts: Facts, match: Match, at: Setting) -> Cost:
        return register_cost(graph, facts, at)

    def sequence(self, f: Function, fact: Facts, match: Match) -> Value:
        return f.register(fact)


def register_cost(graph: Graph, facts: Facts, at: Setting) -> Cost:
    c = facts.node.role("C")
    slots = facts.slots
    long = at.steps if slots is None or slots.size is None else slots.size
    inside = facts.entries / (1 if slots is None or slots.size is None else slots.size)
    asked = graph[c].type.numel() if c else 0  # for every slot, by each that reads it
    read = facts.node.type.numel() if c else 0
    return Cost(2.0 * long * max(inside, read), 8.0 * long * max(inside, asked), 12)


class Scan:
    """A diagonal that does not depend on the state: all steps of h by a scan, then the readout."""

    name = "scan"
    native = True  # there is compiled code for it

    def match(self, graph: Graph, facts: Facts) -> Match | None:
        if not facts.diagonal or facts.cycle is not None:
            return None
        return Match(
            self, f"A is {facts.structure} and does not depend on the state ({input_words(facts)}): a scan over time"
        )

    def cost(self, graph: Graph, facts: Facts, match: Match, at: Setting) -> Cost:
        parts = 2 if is_complex(graph, facts.node) else 1
        return Cost(4.0 * parts**2 * facts.entries, 20.0 * parts * facts.entries, 12.0 + at.scan(parts * facts.entries))

    def sequence(self, f: Function, fact: Facts, match: Match) -> Value:
        from ssir.compilers.loops.form import compiled_scan, scan_call

        node = fact.node
        compiled = compiled_scan(f.graph, node, readout=False)
        if compiled is not None:
            return f.readout(node, scan_call(f, node, compiled))
        each = [(axis.name,) for axis in fact.axes]
        plus = node.attrs["algebra"] == "plus_times"
        into = f.as_wide(f.entering(node))
        a = node.role("A")
        same = a is None or fact.structure.kind == "identity"
        gate = f.b.number(1.0 if plus else 0.0) if same else f.value(f.graph[a or ""].inputs[0])
        h = f.kernel(
            "scan.diagonal_scan" if plus else "scan.max_plus_scan",
            taken("led", gate, *each),
            taken("full", into, *each),
            gives=each,
            memories=[[node.name]],
            held=each,
            given="reset",
            behind=[f.clear(node, each)],
            dtype="complex" if is_complex(f.graph, node) else "real",
        )
        return f.read(node, h)


_OPERATIONS = 8.0  # of torch in a step, each of which reads and writes all of the memory, and takes as long to call as three of a sequence


class Loop:
    """One step after another: always right, and slow. Only what is on the cycle is in the loop."""

    name = "loop"

    def match(self, graph: Graph, facts: Facts) -> Match | None:
        if facts.cycle is None and facts.structure.kind == "shift":
            return None  # a register off a cycle is a view of its inputs: there is nothing to loop over
        from ssir.compilers.loops.form import why_not

        states = [n.name for n in graph.states if facts.cycle and n.name in facts.cycle] or [facts.node.name]
        inside = facts.cycle or frozenset({facts.node.name})
        unfit = why_not(graph, facts.cycle) if facts.cycle else None
        return Match(
            self,
            f"{loop_reason(graph, facts)}; a loop over the steps{f' (not compiled: {unfit})' if unfit else ''}, with everything else outside it",
            details={"states": tuple(states), "inside": inside},
        )

    def cost(self, graph: Graph, facts: Facts, match: Match, at: Setting) -> Cost:
        numbers = (2 if is_complex(graph, facts.node) else 1) * facts.entries
        return Cost(6.0 * numbers, _OPERATIONS * 24.0 * numbers, 3 * _OPERATIONS * at.steps)

    def sequence(self, f: Function, fact: Facts, match: Match) -> Mapping[str, Value]:
        return f.loop(match.details["inside"])


CORE_FORMS: tuple[Form, ...] = (Delay(), Register(), Scan(), Loop())
