"""The forms that need no plugin: the register, the delay, the scan, and the loop that fits everything."""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING

from ssir.compilers.forms import Cost, Form, Match, Setting
from ssir.compilers.torch import ops, system
from ssir.compilers.torch.system import seen as seen
from ssir.ir.graph import Dependence, Graph
from ssir.passes.facts import Facts, is_complex

if TYPE_CHECKING:
    from ssir.compilers.torch.emit import Emitter


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

    def sequence(self, e: Emitter, fact: Facts, match: Match) -> str:
        node = fact.node
        x = system.spread(e, node, system.entering(e, node, system.axes_of(node)), "x")
        e.line(f"new[{e.key(node)}] = {x}[:, -1]")
        text = f"{e.function('memory', 'previous')}({x}, old.get({e.key(node)}), {e.start(node)}, time)"
        return system.readout(e, node, e.let(f"{node.name}_before", text))

    def step(self, e: Emitter, fact: Facts, match: Match) -> str:
        return system.step(e, fact)


class Register:
    """A shift, read as a value: its slots, or entries."""

    name = "register"

    def match(self, graph: Graph, facts: Facts) -> Match | None:
        if facts.structure.kind != "shift" or facts.cycle is not None or facts.node.attrs["algebra"] != "plus_times":
            return None
        why = "A is a shift: the register is a view of the last inputs"
        if facts.slots is not None and (facts.slots.size is None or facts.slots.size > ops.LONG):
            why += "; what is computed for every slot takes memory that grows as steps times entries"
        return Match(self, why)

    def cost(self, graph: Graph, facts: Facts, match: Match, at: Setting) -> Cost:
        return register_cost(graph, facts, at)

    def sequence(self, e: Emitter, fact: Facts, match: Match) -> str:
        return system.register(e, fact)

    def step(self, e: Emitter, fact: Facts, match: Match) -> str:
        return system.register(e, fact)


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
        if is_complex(graph, facts.node):
            return complex_scan(2 * facts.entries, at)
        return Cost(4.0 * facts.entries, 20.0 * facts.entries, at.scan)

    def sequence(self, e: Emitter, fact: Facts, match: Match) -> str:
        from ssir.compilers.loops.form import compiled_scan, write_scan

        node = fact.node
        compiled = compiled_scan(e.graph, node, readout=False)
        if compiled is not None:
            return system.readout(e, node, write_scan(e, node, compiled))
        axes = system.axes_of(node)
        plus = node.attrs["algebra"] == "plus_times"
        b = system.spread(e, node, system.entering(e, node, axes), "in")
        if not e.is_complex(node):
            b = e.let(b, f"time.as_wide({b})")
        a = node.role("A")
        if a is None or fact.structure.kind == "identity":
            gate = e.let(
                f"{node.name}_gate",
                f"torch.{'ones' if plus else 'zeros'}((1, 1, {', '.join('1' for _ in axes)}), dtype={b}.dtype, device={b}.device)",
            )
        else:
            source = e.node(a).inputs[0]
            text = ops.operand(e, source, axes)
            if e.lead(source) == 0:
                text = f"{e.function('operations', 'leading')}({text}, {len(axes)}, {b})"
            gate = e.let(f"{node.name}_gate", text)
        start = e.start(node)
        clear = start or system.fill(node)
        kernel = e.function("scan", "diagonal_scan" if plus else "max_plus_scan")
        h, last = e.fresh(f"{node.name}_h"), e.fresh(f"{node.name}_last")
        e.line(f"{h}, {last} = {kernel}({gate}, {b}, old.get({e.key(node)}), time.reset, {clear})")
        e.line(f"new[{e.key(node)}] = {last}")
        if node.attrs["read"] == "before":
            h = system.before(e, node, h)
        return system.readout(e, node, h)

    def step(self, e: Emitter, fact: Facts, match: Match) -> str:
        return system.step(e, fact)


def complex_scan(entries: int, at: Setting) -> Cost:
    """The cost of a scan over pairs of so many numbers, of which no compiled loop knows."""
    return Cost(8.0 * entries, 40.0 * entries, 6.0 * isqrt(at.steps))


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
        return Cost(6.0 * facts.entries, 24.0 * facts.entries, 8.0 * at.steps)

    def sequence(self, e: Emitter, fact: Facts, match: Match) -> str:
        from ssir.compilers.torch.emit import Emitter as Writer

        inside: frozenset[str] = match.details["inside"]
        wanted = e.graph.seen_outside(inside)
        cell = Writer(e.unit, "step", e, inside, e.apart)
        cell.used |= e.used
        ys = [cell.value(name) for name in wanted]
        cell.finish()
        name = e.fresh(f"{fact.node.name}_cell")
        columns = [cell.names[node] for node in cell.columns]
        e.line(f"def {name}({', '.join(['time', 'old', 'new', *columns])}):")
        for line in cell.lines:
            e.line(f"    {line}")
        e.line(f"    return ({', '.join(ys)},)")
        found = [e.fresh(node) for node in wanted]
        texts = [f"{e.function('operations', 'lengthened')}({text}, time)" for text in cell.columns.values()]
        e.line(
            f"{', '.join(found)}{',' if len(found) == 1 else ''} = {e.function('memory', 'loop')}({', '.join([name, 'time', 'old', 'new', *texts])})"
        )
        for node, variable in zip(wanted, found, strict=True):
            e.names[node] = variable
        return e.names[fact.node.name] if fact.node.name in e.names else found[0]

    def step(self, e: Emitter, fact: Facts, match: Match) -> str:
        if fact.structure.kind == "shift" and fact.node.attrs["algebra"] == "plus_times":
            return system.register(e, fact)
        return system.step(e, fact)


CORE_FORMS: tuple[Form, ...] = (Delay(), Register(), Scan(), Loop())
