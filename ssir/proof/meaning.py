"""What a spec means for given inputs and parameters, and how much that moves if all that is computed is moved by a rounding.

The graph is run as it is written: no pass has touched it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ssir.analysis.memories import kept_in
from ssir.api import parameters
from ssir.initial import initialise
from ssir.ir.graph import Graph, Node
from ssir.proof.compare import Name, Results, differences, distance
from ssir.proof.rounding import Roundings, moved
from ssir.reference.interpreter import Interpreter

State = dict[str, Tensor]
Weights = Mapping[str, Tensor]

DRAWS = 3
BOUND = 0.1  # a relative change after which what is moved may be at its bounds
_LONGEST = 9  # of whole sequences beside what goes through time
_OFF = 0.1  # how far parameters are moved off their first values


@dataclass(frozen=True, eq=False)
class Subject:
    """A graph as it is written, with what is known of it before anything is run."""

    graph: Graph

    @cached_property
    def kept(self) -> Mapping[str, str]:
        """For each memory the one that holds it after the passes."""
        return kept_in(self.graph)

    @cached_property
    def growing(self) -> frozenset[str]:
        """The registers without bound."""
        return frozenset(_growing(self.graph, ""))

    def weights(self, seed: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """A value for every parameter that numbers of a dtype hold: its first one, moved (many are zero at first, or alike)."""
        generator = torch.Generator().manual_seed(seed)
        found: dict[str, Tensor] = {}
        for name, node, owner, layer in parameters(self.graph):
            first = initialise(owner, node, name, layer, seed)
            noise = _OFF * torch.randn(first.shape, generator=generator)
            wide = torch.complex128 if first.is_complex() else torch.float64
            found[name] = _rounded(first.to(wide) + noise, dtype)
        return found


def _rounded(x: Tensor, dtype: torch.dtype) -> Tensor:
    if x.is_complex():
        return torch.complex(_rounded(x.real, dtype), _rounded(x.imag, dtype))
    return x.to(dtype).double()


def inputs(graph: Graph, batch: int, steps: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Values for the inputs of a graph: [batch, steps, *axes], whole sequences [batch, *axes]; in float64, or whole numbers."""
    return tuple(_input(graph, node, batch, steps, generator) for node in graph.inputs)


@dataclass(frozen=True, eq=False)
class Case:
    """Inputs [batch, steps, *axes] in float64, whole sequences [batch, *axes], and resets [batch, steps] or none. ``train``: whether
    gradients are looked at."""

    subject: Subject
    steps: int
    inputs: tuple[Tensor, ...]
    reset: Tensor | None
    seed: int
    train: bool = True

    @staticmethod
    def of(subject: Subject, batch: int, steps: int, resets: bool, seed: int) -> Case:
        generator = torch.Generator().manual_seed(seed + 7 * steps + resets)
        reset = torch.rand(batch, steps, generator=generator) < 0.1 if resets else None
        graph = subject.graph
        return Case(subject, steps, inputs(graph, batch, steps, generator), reset, seed)

    @property
    def batch(self) -> int:
        return self.inputs[0].shape[0]

    def rounded(self, dtype: torch.dtype) -> Case:
        """The same in numbers that a dtype holds."""
        return replace(self, inputs=tuple(_rounded(x, dtype) if x.is_floating_point() else x for x in self.inputs))

    def forked(self, at: int) -> Case:
        """Another end: from a step on, each sequence goes on as the one before it does."""
        timed = [node.name not in self.subject.graph.whole for node in self.subject.graph.inputs]
        inputs = tuple(
            torch.cat([x[:, :at], x[:, at:].roll(1, 0)], 1) if is_timed else x
            for x, is_timed in zip(self.inputs, timed, strict=True)
        )
        return replace(self, inputs=inputs)

    def during(self, inputs: Sequence[Tensor], steps: int | slice) -> Iterator[Tensor]:
        """The inputs of some steps; whole sequences whole."""
        for node, x in zip(self.subject.graph.inputs, inputs, strict=True):
            yield x if node.name in self.subject.graph.whole else x[:, steps]

    def meaning(self, weights: Weights) -> tuple[Results, Mapping[str, str]]:
        """All that is meant; and for each memory that the passes make one with another, which."""
        params = {name: value.clone().requires_grad_() for name, value in weights.items()}
        inputs = [x.clone().requires_grad_() if x.is_floating_point() else x for x in self.inputs]
        names = [node.name for node in self.subject.graph.inputs]
        interpreter = Interpreter(self.subject.graph, params)
        with torch.set_grad_enabled(self.train):
            outputs, after = interpreter.run(dict(zip(names, inputs, strict=True)), None, self.reset)
        with torch.no_grad():
            before = interpreter.initial(self.batch)
        left, merged = self._kept(after)
        left = self.recent(left, self.position)
        state = {f"{name} at the start": value for name, value in self._kept(before)[0].items()} | left
        leaves = dict(zip(names, inputs, strict=True)) | params
        gradients = self.gradients(outputs, left, leaves) if self.train else {}
        return Results(_still(outputs), _still(state), gradients), merged

    def _kept(self, state: State) -> tuple[State, dict[str, str]]:
        """The memories that the passes leave, and into which each of the others went."""
        kept, merged = self.subject.kept, {}
        left = {name: value for name, value in state.items() if kept.get(name, name) == name}
        for name, value in state.items():
            holder = kept.get(name, name)
            if holder != name:
                merged[name] = holder
                if holder not in state or distance(value, state[holder]) > 0:
                    left[f"{name} (merged into {holder})"] = value  # they differ: nothing can stand for it
        return left, merged

    def gradients(
        self, outputs: Mapping[str, Tensor], state: Mapping[str, Tensor], leaves: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Of a fixed mixture of all outputs and memories, by each leaf that has one."""
        parts = [self._mixed(label, y) for label, y in (*outputs.items(), *state.items())]
        wanted = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
        if not wanted:
            return {}
        total = sum((part for part in parts if part is not None and part.requires_grad), torch.zeros(()))
        if not total.requires_grad:
            return {name: torch.zeros_like(leaf) for name, leaf in wanted.items()}
        found = torch.autograd.grad(total, list(wanted.values()), allow_unused=True)
        return {
            name: torch.zeros_like(leaf) if g is None else g.detach()
            for (name, leaf), g in zip(wanted.items(), found, strict=True)
        }

    def _mixed(self, label: str, y: Tensor) -> Tensor | None:
        if not (y.is_floating_point() or y.is_complex()):
            return None
        generator = torch.Generator().manual_seed(self.seed + zlib.crc32(label.encode()))
        weight = torch.randn(y.shape, generator=generator).bfloat16()  # numbers that every dtype holds
        finite = torch.where(torch.isfinite(y), y, torch.zeros((), dtype=y.dtype))
        mixed = finite * weight.to(y.dtype)
        return (mixed.real if y.is_complex() else mixed).double().sum()

    def recent(self, state: Mapping[str, Tensor], position: Tensor) -> State:
        """A state with registers that grow cut down to what can still be read: entries since the start, or the last reset."""
        growing = self.subject.growing
        return {name: _recent(x, position) if name in growing else x for name, x in state.items()}

    @property
    def position(self) -> Tensor:
        """[batch]: how many steps lie behind since the start, or the last reset."""
        count = torch.full((self.batch,), self.steps)
        if self.reset is None:
            return count
        index = torch.arange(self.steps)
        last = torch.where(self.reset, index, 0).amax(1)
        return count - last


def _growing(graph: Graph, at: str) -> Iterator[str]:
    for node in graph.states:
        if any(size is None for _, size in node.attrs["axes"]):
            yield at + node.name
    for node in graph:
        if node.op == "stack":
            for layer, body in enumerate(node.attrs["pattern"]):
                yield from _growing(graph.bodies[body], f"{at}{node.name}.{layer}.")


def _recent(x: Tensor, position: Tensor) -> Tensor:
    """[batch, the longest, *axes]: the last entries, zero where they are older than the document."""
    longest = int(position.max())
    if x.shape[1] < longest:
        return x  # too short, which the comparison is to find
    x = x[:, x.shape[1] - longest :]
    there = torch.arange(longest, 0, -1) <= position[:, None]
    return torch.where(there.reshape(*there.shape, *[1] * (x.dim() - 2)), x, torch.zeros((), dtype=x.dtype))


def _still(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in values.items()}


def _input(graph: Graph, node: Node, batch: int, steps: int, generator: torch.Generator) -> Tensor:
    whole = node.name in graph.whole
    # Beside what goes through time a whole sequence is short: the meaning looks at all of it at each step.
    length = min(steps, _LONGEST) + 1 if graph.has_time else steps
    sizes = (batch, *(() if whole else (steps,)), *(axis.size or length for axis in node.type.axes))
    if node.type.dtype == "int":
        return torch.randint(0, smallest_table(graph), sizes, generator=generator)
    return torch.randn(sizes, generator=generator).double()


def smallest_table(graph: Graph) -> int:
    """A number of tokens that every table looked up by one has room for."""
    tables = [one[node.inputs[1]].type.axes[0].size or 1 for one in graph.walk() for node in one if node.op == "embed"]
    return min(tables, default=2)


class Conditioned:
    """The meaning of a case with weights, and the condition of the spec there: by how many roundings each tensor of it moves if all
    inputs, all parameters and all that is computed from them are moved by one."""

    def __init__(self, case: Case, weights: Weights) -> None:
        self.case, self.weights = case, weights
        self.results, self.merged = case.meaning(weights)
        self._known: dict[float, dict[Name, float]] = {}

    def conditions(self, move: float, finest: float) -> Mapping[Name, float]:
        """For each tensor the largest relative change that some such moves made, in units of the move. If anything is
        chaotic and at its bounds, so may be all that is made of it, whatever its bounds are: then by a finer one too, down to ``finest``."""
        found = self._moved_by(move)
        while move > finest and max(found.values()) * move > BOUND:
            move = max(move / 256, finest)
            found = {name: max(found[name], condition) for name, condition in self._moved_by(move).items()}
        return found

    def _moved_by(self, move: float) -> Mapping[Name, float]:
        if move not in self._known:
            found: dict[Name, float] = {}
            for draw in range(DRAWS):
                for name, error in differences(self._moved(move, draw), self.results).items():
                    found[name] = max(found.get(name, 0.0), error / move)
            self._known[move] = found
        return self._known[move]

    def _moved(self, rounding: float, draw: int) -> Results:
        generator = torch.Generator().manual_seed(self.case.seed + 1000 + draw)
        inputs = tuple(moved(x, rounding, generator) for x in self.case.inputs)
        weights = {name: moved(value, rounding, generator) for name, value in self.weights.items()}
        with Roundings(rounding, generator):
            return replace(self.case, inputs=inputs).meaning(weights)[0]
