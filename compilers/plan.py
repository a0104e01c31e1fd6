"""The plan: for every state its structure, what it depends on, the form that computes it, why, and what it costs. No torch."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ssir.analysis.facts import Facts, facts
from ssir.compilers.core import CORE_FORMS, Loop
from ssir.compilers.forms import USUAL, Cost, Form, Match, Setting
from ssir.compilers.loops.form import CompiledLoop, Newton
from ssir.compilers.program.dtypes import kept_as, wide
from ssir.errors import UsageError, nearest
from ssir.ir.answers import answers
from ssir.ir.graph import Dependence, Graph, Node, owners
from ssir.ir.ops import TABLE
from ssir.registry import registry

_BYTES = {"complex128": 16, "complex64": 8, "float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Entry:
    """One state. ``path`` stands for ``count`` states in a stack. ``chosen``: whether the form was chosen for this state, and not for
    another that it computes along with it. ``bytes``: per sequence (per token, if it grows), kept in a ``dtype``. ``seconds``: by form that fits,
    the time that is expected of it in the setting of the plan."""

    path: str
    count: int
    facts: Facts
    match: Match
    cost: Cost
    bytes: int
    dtype: str
    seconds: Mapping[str, float]
    chosen: bool

    @property
    def others(self) -> tuple[str, ...]:
        """The further forms that fit, the fastest first."""
        return tuple(form for form in self.seconds if form != self.match.form.name)

    def record(self) -> dict[str, Any]:
        """The entry as plain data."""
        return {
            "state": self.path,
            "count": self.count,
            "axes": {axis.name: axis.size for axis in self.facts.axes},
            "structure": str(self.facts.structure),
            "depends_on": {
                role: str(dependence) for role, dependence in self.facts.dependence.items() if role in "ABCD"
            },
            "on_cycle": self.facts.cycle is not None,
            "form": self.match.form.name,
            "why": self.match.why,
            "also": list(self.others),
            "bytes": self.bytes,
            "dtype": self.dtype,
            "grows": self.facts.grows,
            "flops_per_token": self.cost.flops,
            "bytes_per_token": self.cost.bytes,
        }


@dataclass(frozen=True)
class Trained:
    """What is trained with dropout: the graph after the passes, and its plan."""

    graph: Graph
    plan: Plan


@dataclass(frozen=True)
class Plan:
    """``chosen``: by graph (its path among bodies) and state, the form that computes it. ``has_step``: whether it can run a step at a time;
    ``answers``: the outputs of which a sequence has one; ``wide``: the named values that are float32 at least in a model of lower precision;
    ``trained``: what is trained, where it is another graph."""

    entries: tuple[Entry, ...]
    chosen: Mapping[tuple[str, str], Match] = field(default_factory=dict)
    parameters: int = 0
    flops: float = 0.0
    at: Setting = USUAL
    has_step: bool = True
    answers: tuple[str, ...] = ()
    wide: tuple[str, ...] = ()
    trained: Trained | None = None

    def __deepcopy__(self, memo: object) -> Plan:
        return self  # nothing in it changes

    def _repr_mimebundle_(
        self, include: Container[str] | None = None, exclude: Container[str] | None = None
    ) -> dict[str, str]:
        """In a notebook: its table."""
        from ssir.notebook import of_plan

        return of_plan(self, include, exclude)

    def record(self) -> dict[str, Any]:
        return {
            "parameters": self.parameters,
            "flops_per_token": self.flops,
            "dtype": self.at.dtype,
            "device": self.at.device,
            "batch": self.at.batch,
            "steps": self.at.steps,
            "state_bytes": self.state_bytes,
            "bytes_per_token": self.growth,
            "has_step": self.has_step,
            "answers": list(self.answers),
            "wide": list(self.wide),
            "training": self.training,
            "states": [entry.record() for entry in self.entries],
        }

    @property
    def training(self) -> dict[str, str] | None:
        """Where dropout makes what is trained another graph: the states that another form computes then, and which."""
        if self.trained is None:
            return None
        forms = {entry.path: entry.match.form.name for entry in self.entries}
        then = {entry.path: entry.match.form.name for entry in self.trained.plan.entries}
        return {path: form for path, form in then.items() if forms.get(path) != form}

    @property
    def state_bytes(self) -> int:
        """Bytes of state per sequence that do not grow."""
        return sum(entry.bytes * entry.count for entry in self.entries if not entry.facts.grows)

    @property
    def growth(self) -> int:
        """Bytes of state per sequence and token."""
        return sum(entry.bytes * entry.count for entry in self.entries if entry.facts.grows)


def plan(
    graph: Graph,
    at: Setting = USUAL,
    forced: Mapping[str, str] | None = None,
    trained: Graph | None = None,
) -> Plan:
    """Choose a form for every state of a graph that the passes have run over, for a setting.

    forced: state path to form name. trained: the graph as it is while training, where that is another; what is forced holds for it where it
    fits. Raises UsageError if a forced form does not exist or does not match.
    """
    forms = all_forms()
    forced = dict(forced or {})
    for name in forced.values():
        if name not in [form.name for form in forms]:
            near = nearest(name, [form.name for form in forms])
            raise UsageError(f"there is no form `{name}`" + (f"; the nearest is `{near}`" if near else ""))
    chooser = _Chooser(forms, at, forced)
    entries = tuple(chooser.entries(graph, "", "", 1))
    once = tuple(label for label, name in graph.outputs if name in answers(graph))
    sizes = count_parameters(graph), flops_per_token(graph)
    found = Plan(entries, chooser.chosen, *sizes, at, graph.has_step, once, tuple(_wide(graph, "")))
    if trained is None:
        return found
    chooser = _Chooser(forms, at, forced, lenient=True)
    return replace(found, trained=Trained(trained, Plan(tuple(chooser.entries(trained, "", "", 1)), chooser.chosen)))


def all_forms() -> list[Form]:
    """Every form there is: those of the core, and those of plugins."""
    return [*CORE_FORMS, CompiledLoop(), Newton(), *(form for _, form in registry.all("form"))]


@dataclass
class _Chooser:
    forms: list[Form]
    at: Setting
    forced: dict[str, str]
    lenient: bool = False  # whether a forced form that does not fit is passed over
    chosen: dict[tuple[str, str], Match] = field(default_factory=dict)

    def entries(self, graph: Graph, where: str, shown: str, count: int) -> Iterator[Entry]:
        taken: dict[str, Match] = {}
        known = {node.name: facts(graph, node) for node in graph.states}
        ranked = {name: self._ranked(graph, fact, shown + name) for name, fact in known.items()}
        wanted = {name for name in known if self._wanted(shown + name, name) is not None}
        # What is asked for comes first, for it may take others along, then what takes many.
        for name, options in sorted(
            ranked.items(), key=lambda item: (item[0] not in wanted, -len(item[1][0][0].covers))
        ):
            for match, _ in options:
                if name in taken:
                    break
                free = all(other not in taken for other in match.covers)
                if free:
                    taken |= dict.fromkeys((name, *match.covers), match)
                    self._commit(known, taken, match)
            if name not in taken:
                words = ", ".join(f"`{other}`" for other in options[0][0].covers if other in taken)
                raise UsageError(
                    f"the form `{options[0][0].form.name}` of `{shown}{name}` computes {words} too, which another form does"
                )
        for name, fact in known.items():
            match = taken[name]
            self.chosen[where, name] = match
            cost = match.form.cost(graph, fact, match, self.at)
            seconds = {option.form.name: expected for option, expected in ranked[name]}
            chosen = match.form.name in seconds
            held, kept = state_bytes(graph, fact, self.at), kept_as(graph, fact.node, self.at.dtype)
            yield Entry(shown + name, count, fact, match, cost, held, kept, seconds, chosen)
        for node in graph:
            if node.op == "stack":
                for body in dict.fromkeys(node.attrs["pattern"]):
                    times = node.attrs["pattern"].count(body)
                    yield from self.entries(graph.bodies[body], f"{where}{body}/", f"{shown}{body}.", count * times)

    def _commit(self, known: Mapping[str, Facts], taken: dict[str, Match], match: Match) -> None:
        """A form that loops over a cycle takes every state on it."""
        if isinstance(match.form, Loop):
            for name in match.details["states"]:
                taken.setdefault(name, match)

    def _ranked(self, graph: Graph, fact: Facts, path: str) -> list[tuple[Match, float]]:
        found: list[tuple[Match, float]] = []
        for form in self.forms:
            match = form.match(graph, fact)
            if match is not None:
                found.append((match, form.cost(graph, fact, match, self.at).seconds(self.at)))
        wanted = self._wanted(path, fact.node.name)
        if wanted is not None:
            fitting = [pair for pair in found if pair[0].form.name == wanted]
            found = fitting or (found if self.lenient else [])
            if not found:
                raise UsageError(f"the form `{wanted}` does not compute `{path}`: A is {fact.structure}")
        return sorted(found, key=lambda pair: pair[1])

    def _wanted(self, path: str, name: str) -> str | None:
        """The form that is asked for, if one is."""
        return self.forced.get(path) or self.forced.get(name)


def state_bytes(graph: Graph, fact: Facts, at: Setting) -> int:
    """Bytes of a state per sequence; per token, if it grows."""
    return fact.entries * _BYTES[kept_as(graph, fact.node, at.dtype)]


def _wide(graph: Graph, shown: str) -> Iterator[str]:
    """The values of a graph, by the names that the spec gives them, that are float32 at least whatever the data is; memories aside."""
    for node in graph:
        given = node.op in ("input", "param", "const", "state") or "/" in node.name
        if not given and node.type.dtype == "real" and node.name in wide(graph):
            yield shown + node.name
        if node.op == "stack":
            for body in dict.fromkeys(node.attrs["pattern"]):
                yield from _wide(graph.bodies[body], f"{shown}{body}.")


def count_parameters(graph: Graph) -> int:
    """The number of learned numbers; what is shared counts once."""
    seen: set[str] = set()

    def count(one: Graph, at: str) -> int:
        total = 0
        for node in one.params:
            if not node.attrs["learned"]:
                continue
            key = node.attrs["key"] if node.attrs["shared"] else at + node.attrs["key"]
            if key not in seen:
                seen.add(key)
                total += node.type.numel()
        for node in one:
            if node.op == "stack":
                total += sum(
                    count(one.bodies[body], f"{at}{node.name}.{i}.")
                    for i, body in zip(owners(node), node.attrs["pattern"], strict=True)
                )
        return total

    return count(graph, "")


def flops_per_token(graph: Graph) -> float:
    """Floating-point operations of a forward pass per token, memories at the cost of a step."""
    return sum(flops(graph, node) for node in graph)


def flops(graph: Graph, node: Node) -> float:
    """What one node of a graph has of them."""
    operands = graph.operands(node)
    if node.type.dependence is Dependence.CONSTANT:
        return 0.0
    match node.op:
        case "linear":
            inner = _size(node, node.attrs["per"]) * _size(node, node.attrs["out"])
            return 2.0 * operands[1].type.numel() * max(node.type.numel() / max(inner, 1), 1)
        case "dot":
            widest = max(operand.type.numel() for operand in operands)
            return 2.0 * widest * max(node.type.numel() / widest, 1)
        case "stack":
            return sum(flops_per_token(graph.bodies[body]) for body in node.attrs["pattern"])
        case "state":
            return 6.0 * facts(graph, node).entries
        case "embed" | "input" | "param" | "const" | "rename" | "split" | "merge":
            return 0.0
    plugin = None if node.op in TABLE else registry.get("op", node.op)
    count = getattr(plugin, "flops", None)
    return float(count(graph, node) if count else node.type.numel())


def _size(node: Node, axes: tuple[str, ...]) -> int:
    size = 1
    for name in axes:
        size *= node.type.axis(name).size or 1
    return size
