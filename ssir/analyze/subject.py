"""What is analysed: a graph with its parameters, and a sequence to run it over, by the reference interpreter, in float64."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from os import PathLike

import torch
from torch import Tensor

from ssir import passes
from ssir.analysis.facts import Facts, facts
from ssir.api import meaning_parameters, parameters
from ssir.compilers.plan import count_parameters
from ssir.compilers.runtime.model import Model
from ssir.errors import EnvironmentLacks, UsageError
from ssir.initial import initialise
from ssir.ir.graph import Dependence, Graph, Node
from ssir.proof.meaning import inputs, smallest_table
from ssir.reference.interpreter import Clock, Frame, FrameStep, Interpreter
from ssir.spec.load import Spec, given

Look = Callable[["Place", FrameStep], None]


@dataclass(frozen=True, eq=False)
class Place:
    """One state of one layer. ``kind``: its path in the plan, the same for all layers that are alike."""

    frame: Frame
    node: Node
    facts: Facts
    kind: str

    @property
    def path(self) -> str:
        return self.frame.prefix + self.node.name

    @property
    def graph(self) -> Graph:
        return self.frame.graph

    @property
    def a(self) -> Node | None:
        """A; None if it is 1."""
        name = self.node.role("A")
        return None if name is None else self.graph[name]

    @property
    def moves(self) -> bool:
        """Whether the graph has to be run to know it: A depends on the input or a state, or the state feeds back."""
        return self.facts.dependence["A"] > Dependence.POSITION or self.facts.cycle is not None

    def at(self, position: int) -> FrameStep:
        """A step in which what constants and the position alone decide can be asked for."""
        moment = Clock(torch.tensor([position]), None, torch.zeros(1, 0, dtype=torch.long))
        return FrameStep(self.frame, {}, {}, moment, {}, position)


class FirstValues(Mapping[str, Tensor]):
    """The parameters as a seed draws them, each when it is first asked for."""

    def __init__(self, graph: Graph, seed: int) -> None:
        self._makers = {name: (owner, node, layer) for name, node, owner, layer in parameters(graph)}
        self._seed = seed
        self._made: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._made:
            owner, node, layer = self._makers[name]
            value = initialise(owner, node, name, layer, self._seed)
            self._made[name] = value.to(torch.complex128 if value.is_complex() else torch.float64)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


@dataclass(frozen=True, eq=False)
class Subject:
    """``graph``: after the passes. ``text``: bytes to run over, if any; ``steps``: at most so many."""

    name: str
    graph: Graph
    params: Mapping[str, Tensor]
    trained: bool
    text: bytes | None
    steps: int
    seed: int

    @staticmethod
    def of(spec: Spec | Model | str | PathLike[str], text: bytes | None, steps: int, seed: int) -> Subject:
        """A spec with the parameters that a seed draws, or a model with its own. Raises UsageError if the text is empty."""
        if text is not None and not text:
            raise UsageError("the text is empty; give one of a byte at least")
        if isinstance(spec, Model):
            own = {name: value.detach() for name, value in meaning_parameters(spec).items()}
            return Subject(spec.spec.name, spec.graph, own, True, text, steps, seed)
        spec = given(spec)
        graph = passes.run(spec.graph)
        return Subject(spec.name, graph, FirstValues(graph, seed), False, text, steps, seed)

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """Every state that an output needs, layer by layer."""
        return tuple(_places(Interpreter(self.graph, self.params).root(1), ""))

    @cached_property
    def tokens(self) -> str | None:
        """The input that a text goes into: the first one that takes a token at each step."""
        fits = (node.name for node in self.graph.inputs if node.type.dtype == "int" and not node.type.axes)
        return next(fits, None)

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        """[1, steps, *axes] by name; whole sequences [1, *axes]."""
        reads = self.text is not None and self.tokens is not None
        steps = min(self.steps, len(self.text)) if reads and self.text is not None else self.steps
        drawn = inputs(self.graph, 1, steps, torch.Generator().manual_seed(self.seed))
        found = dict(zip((node.name for node in self.graph.inputs), drawn, strict=True))
        if reads and self.text is not None and self.tokens is not None:
            found[self.tokens] = torch.tensor([list(self.text[:steps])]) % _vocabulary(self.graph, self.tokens)
        return found

    @property
    def words(self) -> str:
        """What is run over, in words."""
        steps = next((x.shape[1] for name, x in self.inputs.items() if name not in self.graph.whole), 1)
        if self.text is not None and self.tokens is not None:
            return f"{steps} bytes of the text, modulo {_vocabulary(self.graph, self.tokens)}, as `{self.tokens}`"
        names = ", ".join(f"`{name}`" for name in self.inputs)
        why = ", for no input is a token" if self.text is not None else ""
        return f"{steps} steps of {names}, drawn with the seed {self.seed}{why}"

    def look(self, places: Iterable[Place], look: Look, progress: Callable[[str], None]) -> None:
        """Show each place every step at which it may be another: one, if its A is constant; else those of the sequence."""
        moving: dict[str, list[Place]] = {}
        for place in places:
            if place.moves:
                moving.setdefault(place.frame.prefix, []).append(place)
                continue
            constant = place.facts.dependence["A"] is Dependence.CONSTANT
            for position in range(1 if constant else self.steps):
                look(place, place.at(position))
        if not moving:
            return
        self._affordable()
        last = next(reversed(moving))

        def seen(step: FrameStep) -> None:
            for place in moving.get(step.frame.prefix, ()):
                look(place, step)
            if step.frame.prefix == last:
                progress(f"step {step.t + 1}")

        with torch.no_grad():
            Interpreter(self.graph, self.params, seen=seen).run(self.inputs)

    def _affordable(self) -> None:
        """Raises EnvironmentLacks if the parameters do not fit into memory: to run, all are needed."""
        if self.trained:
            return
        needed, free = 8 * count_parameters(self.graph), _free()
        if needed > free:
            raise EnvironmentLacks(
                f"what A is depends on the input, so `{self.name}` has to be run, and its parameters take {needed / 1e9:.0f} GB in float64, where "
                f"{free / 1e9:.0f} GB are free; set smaller dims (--set layers=2), or look at one component (NAME.mixer)"
            )


def _free() -> float:
    """Bytes of memory that are free, as far as the system tells."""
    names = {"SC_AVPHYS_PAGES", "SC_PAGE_SIZE"}
    if not names <= set(os.sysconf_names):
        return float("inf")
    return float(os.sysconf("SC_AVPHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")


def _places(frame: Frame, shown: str) -> Iterator[Place]:
    for node in frame.alive:
        if node.op == "state":
            yield Place(frame, node, facts(frame.graph, node), shown + node.name)
            continue
        for layer, body in enumerate(node.attrs["pattern"]):
            yield from _places(frame.child(node, layer), f"{shown}{body}.")


def _vocabulary(graph: Graph, tokens: str) -> int:
    """The number of tokens that every table has room for that the input is looked up in; of all tables, if none is in the graph itself."""
    seen, todo = {tokens}, [tokens]
    sizes: list[int] = []
    while todo:
        for user in map(graph.__getitem__, graph.users[todo.pop()]):
            if user.op == "embed" and user.inputs[0] in seen:
                sizes.append(graph[user.inputs[1]].type.axes[0].size or 1)
            elif user.type.dtype == "int" and user.name not in seen:
                seen.add(user.name)
                todo.append(user.name)
    return min(sizes, default=smallest_table(graph))
