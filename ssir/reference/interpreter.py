"""The meaning of a graph: one time step after another.

    h[t] = A[t] h[t-1] + B[t] x[t]
    y[t] = C[t] h[t]   + D[t] x[t]

Every other way of computing a graph is judged by this one, with which it shares no code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from ssir.ir.answers import answers
from ssir.ir.graph import WHOLE, Graph, Node, Type, owners
from ssir.ir.slots import gaps
from ssir.reference.ops import Step, evaluate, fit, present, zeroed

State = dict[str, Tensor]


@dataclass
class Clock:
    """The moment: ``position`` [batch] counts steps since the start or the last reset. ``slots`` [batch, slots]: which step of this
    call stands in each slot of the whole sequence, by position; -1 where none does."""

    position: Tensor
    reset: Tensor | None
    slots: Tensor


@dataclass
class Interpreter:
    """Runs a graph with given parameters, by full name: their entries over the axes of the spec, several of which may be one. Everything is
    computed in the dtype of the parameters.

    States are kept as the project's state objects keep them: a bounded register oldest first with all its slots, an unbounded one
    with the steps that it has seen, all else as [batch, *axes]; and ``position`` [batch]. What no output needs is not remembered.

    seen: is shown each step of each graph, once its memories are known. masks: what dropout keeps, by path, [batch, steps or 1, *axes] of bool;
    along an axis without a size the entries, oldest first. Without them nothing is dropped.
    """

    graph: Graph
    params: Mapping[str, Tensor]
    dtype: torch.dtype = torch.float64
    seen: Callable[[FrameStep], None] | None = None
    masks: Mapping[str, Tensor] | None = None

    def root(self, batch: int) -> Frame:
        """The graph itself as a frame; those of its layers are below it."""
        return Frame(self, self.graph, "", "", 0, batch)

    def initial(self, batch: int) -> State:
        """Every memory as it is before the first step, and ``position``."""
        position = torch.zeros(batch, dtype=torch.long)
        start = Clock(position, None, position.new_zeros(1, 0))
        return {**self.root(batch).initial(start), "position": position}

    def run(
        self, inputs: Mapping[str, Tensor], state: State | None = None, reset: Tensor | None = None
    ) -> tuple[dict[str, Tensor], State]:
        """Outputs by label, [batch, time, *axes], and the state after the last step.

        inputs: [batch, time, *axes] by name; whole sequences [batch, *axes], and where there is nothing else, one step is made,
        and outputs are [batch, *axes] too, as answers are. reset: [batch, time], true where memory is cleared before the step.
        """
        whole, timed = self.graph.whole, self.graph.has_time
        first = next(x for name, x in inputs.items() if name not in whole or not timed)
        batch, time = first.shape[0], first.shape[1] if timed else 1
        inputs = {
            name: x[:, None].expand(batch, time, *x.shape[1:]) if name in whole else x for name, x in inputs.items()
        }
        memory: State = dict(state or {})
        position = memory.pop("position", torch.zeros(batch, dtype=torch.long))
        clock = [position]
        for t in range(time):
            here = clock[-1] if reset is None else torch.where(reset[:, t], 0, clock[-1])
            clock[-1] = here
            clock.append(here + 1)
        slots = position.new_zeros(1, time, 0)
        if not self.graph.has_step:
            slots = _documents(torch.stack(clock[:-1], 1), reset)
        moments = [Clock(clock[t], None if reset is None else reset[:, t], slots[:, t]) for t in range(time)]
        outputs, memory = self.root(batch).sequence(inputs, memory, moments)
        once = {label for label, name in self.graph.outputs if not timed or name in answers(self.graph)}
        outputs = {label: y[:, -1] if label in once else y for label, y in outputs.items()}
        return outputs, {**memory, "position": clock[-1]}


def _documents(position: Tensor, reset: Tensor | None) -> Tensor:
    """[batch, time, slots]: which step of this call has the position of the slot, and belongs to the same document; -1: none."""
    index = torch.arange(position.shape[1])
    first = torch.zeros_like(position) if reset is None else torch.where(reset, index, 0).cummax(1).values
    slot = torch.arange(int(position.max()) + 1)
    step = first[:, :, None] + slot - position.gather(1, first)[:, :, None]
    inside = step.clamp(0, position.shape[1] - 1)
    same = first.gather(1, inside.flatten(1)).reshape(step.shape) == first[:, :, None]
    return torch.where((step == inside) & same, step, -1)


@dataclass
class Frame:
    """One graph with its place in the whole: the prefix of its memories, that of its parameters, and its layer."""

    whole: Interpreter
    graph: Graph
    prefix: str
    owner: str
    layer: int
    batch: int
    frames: dict[tuple[str, int], Frame] = field(default_factory=dict)

    @cached_property
    def gaps(self) -> Mapping[str, int]:
        return gaps(self.graph)

    def child(self, stack: Node, layer: int) -> Frame:
        key = (stack.name, layer)
        if key not in self.frames:
            body = self.graph.bodies[stack.attrs["pattern"][layer]]
            owner = f"{self.owner}{stack.name}.{owners(stack)[layer]}."
            prefix = f"{self.prefix}{stack.name}.{layer}."
            self.frames[key] = Frame(self.whole, body, prefix, owner, layer, self.batch)
        return self.frames[key]

    @cached_property
    def alive(self) -> list[Node]:
        """The memories and stacks that an output needs, in the order of the graph."""
        seen: set[str] = set()
        todo = [name for _, name in self.graph.outputs]
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo.extend(self.graph[name].inputs)
        return [node for node in self.graph if node.name in seen and node.op in ("state", "stack")]

    def initial(self, start: Clock) -> State:
        """The memories of this graph and of its layers before the first step."""
        step = FrameStep(self, {}, {}, start, {}, 0)
        memory: State = {}
        for node in self.alive:
            if node.op == "state":
                memory[self.prefix + node.name] = step.kept(node, step.before(node))
                continue
            for layer in range(len(node.attrs["pattern"])):
                memory |= self.child(node, layer).initial(start)
        return memory

    def sequence(
        self, inputs: Mapping[str, Tensor], memory: State, moments: list[Clock]
    ) -> tuple[dict[str, Tensor], State]:
        """All time steps. What reads the whole sequence (context, and stacks with one inside) is computed first, in order."""
        whole: dict[str, Tensor] = {}
        barriers = [
            node for node in self.graph if node.op == "context" or (node.op == "stack" and self._has_context(node))
        ]
        order = {name: i for i, name in enumerate(_order(self.graph))}
        for barrier in sorted(barriers, key=lambda node: order[node.name]):
            values, _ = self._loop(inputs, dict(memory), moments, whole, list(barrier.inputs), commit=False)
            if barrier.op == "context":
                whole[barrier.name] = values[barrier.inputs[0]]
                continue
            x, *others = (values[name] for name in barrier.inputs)
            carried = dict(zip((*barrier.attrs["carried"], *barrier.attrs["given"]), others, strict=True))
            for layer in range(len(barrier.attrs["pattern"])):
                frame = self.child(barrier, layer)
                outputs, memory = frame.sequence(_bind(frame.graph, x, carried), memory, moments)
                x = _main(frame.graph, outputs, barrier.type)
                carried |= {name: value for name, value in outputs.items() if name in barrier.attrs["carried"]}
            whole[barrier.name] = x
            for name in barrier.attrs["carried"]:
                whole[f"{barrier.name}/{name}"] = carried[name]
        wanted = [name for _, name in self.graph.outputs]
        values, memory = self._loop(inputs, memory, moments, whole, wanted, commit=True)
        return {label: values[name] for label, name in self.graph.outputs}, memory

    def _has_context(self, stack: Node) -> bool:
        bodies = {self.graph.bodies[name].name: self.graph.bodies[name] for name in stack.attrs["pattern"]}
        return any(node.op == "context" for body in bodies.values() for graph in body.walk() for node in graph)

    def _loop(
        self,
        inputs: Mapping[str, Tensor],
        memory: State,
        moments: list[Clock],
        whole: dict[str, Tensor],
        wanted: list[str],
        commit: bool,
    ) -> tuple[dict[str, Tensor], State]:
        found: dict[str, list[Tensor]] = {name: [] for name in wanted}
        for t, moment in enumerate(moments):
            step = FrameStep(self, {name: x[:, t] for name, x in inputs.items()}, memory, moment, whole, t)
            for name in wanted:
                value = step.value(name)
                found[name].append(value.expand(self.batch, *value.shape[1:]))
            memory = step.after(commit)
        return {name: torch.stack(values, 1) for name, values in found.items()}, memory


def _order(graph: Graph) -> list[str]:
    """Names so that operands come before users, memories aside."""
    seen: dict[str, None] = {}

    def visit(name: str) -> None:
        if name in seen or name in path:
            return
        path.add(name)
        for operand in graph[name].inputs:
            visit(operand)
        path.discard(name)
        seen[name] = None

    path: set[str] = set()
    for node in graph:
        visit(node.name)
    return list(seen)


def _bind(graph: Graph, x: Tensor, others: Mapping[str, Tensor]) -> dict[str, Tensor]:
    first, *rest = graph.inputs
    return {first.name: x, **{node.name: others[node.name] for node in rest}}


def _main(graph: Graph, outputs: Mapping[str, Tensor], type: Type) -> Tensor:
    """The first output of a layer, its axes in the order of the stack's."""
    label, name = graph.outputs[0]
    own = graph[name].type.names
    x = outputs[label]
    if own == type.names:
        return x
    lead = x.dim() - len(own)
    return x.permute(*range(lead), *(lead + own.index(axis) for axis in type.names))


class FrameStep:
    """One time step of a frame. Values are found on demand; new memory waits until ``after``."""

    def __init__(
        self,
        frame: Frame,
        inputs: Mapping[str, Tensor],
        memory: State,
        moment: Clock,
        whole: Mapping[str, Tensor],
        t: int,
    ) -> None:
        self.frame, self.inputs, self.memory, self.moment, self.whole, self.t = frame, inputs, memory, moment, whole, t
        self.graph = frame.graph
        self.dtype = frame.whole.dtype
        self.values: dict[str, Tensor] = {}
        self.fresh: State = {}
        self.layers: dict[str, list[FrameStep]] = {}
        self.moment_of_ops = Step(moment.position, frame.layer, self.dtype, moment.slots >= 0, frame.gaps)

    def value(self, name: str) -> Tensor:
        """[batch or 1, *axes]."""
        if name not in self.values:
            self.values[name] = self._value(self.graph[name])
        return self.values[name]

    def _value(self, node: Node) -> Tensor:
        match node.op:
            case "input":
                x = self.inputs[node.name]
                return x.to(self.dtype) if x.is_floating_point() else x
            case "const":
                return torch.tensor([node.attrs["value"]], dtype=self.dtype)
            case "param":
                key = node.attrs["key"] if node.attrs["shared"] else self.frame.owner + node.attrs["key"]
                value = self.frame.whole.params[key]
                wide = torch.complex128 if value.is_complex() else self.dtype
                return value.to(wide).reshape([1, *(axis.size or 0 for axis in node.type.axes)])
            case "arange":
                size = node.type.axes[0].size
                return torch.arange(self._slots(node.type.names[0]) if size is None else size, dtype=self.dtype)[None]
            case "eye":
                return torch.eye(node.type.axes[0].size or 0, dtype=self.dtype)[None]
            case "position":
                return self.moment.position
            case "start":
                return self.moment.position == 0
            case "layer":
                return torch.tensor([self.frame.layer])
            case "state":
                return self._state(node)
            case "context":
                return self._context(node)
            case "stack":
                return self._stack(node)
            case "part":
                self.value(node.inputs[0])
                return self.values[f"{node.inputs[0]}/{node.attrs['label']}"]
            case "dropout":
                return self._dropout(node)
        operands = [self.value(name) for name in node.inputs]
        return evaluate(node, operands, [self.graph[name].type for name in node.inputs], self.moment_of_ops)

    def _dropout(self, node: Node) -> Tensor:
        x, rate = (self.real(name) for name in node.inputs)
        if self.frame.whole.masks is None:
            return x
        own = [axis for axis in node.type.axes if axis.name not in node.attrs["over"]]
        mask = self.frame.whole.masks[self.frame.prefix + node.name]
        mask = mask[:, self.t if mask.shape[1] > 1 else 0]
        for place, axis in enumerate(own, 1):
            lag = self.frame.gaps.get(axis.name)
            if axis.size is None and lag == WHOLE:
                steps = self.moment.slots.clamp(min=0).reshape(len(self.moment.slots), *[1] * (place - 1), -1)
                index = steps.reshape(*steps.shape, *[1] * (mask.dim() - place - 1))
                shape = [max(a, b) for a, b in zip(mask.shape, index.shape, strict=True)]
                shape[place] = index.shape[place]
                mask = mask.expand(*shape[:place], -1, *shape[place + 1 :]).gather(place, index.expand(shape))
            elif axis.size is None and lag is not None:
                mask = mask.narrow(place, 0, x.shape[node.type.names.index(axis.name) + 1]).flip(place)
        scaled = mask.to(self.dtype) / (1 - rate.reshape(-1, *[1] * (mask.dim() - 1)))
        return x * fit(scaled, [axis.name for axis in own], node.type.names)

    def _context(self, node: Node) -> Tensor:
        slots = self.moment.slots
        found = self.whole[node.name][torch.arange(self.frame.batch)[:, None], slots.clamp(min=0)]
        there = (slots >= 0).reshape(*slots.shape, *[1] * (found.dim() - 2))
        return torch.where(there, found, torch.zeros((), dtype=found.dtype))

    def _slots(self, axis: str) -> int:
        """How many slots there are along an unbounded axis: of a whole sequence, a register, or something handed in."""
        for node in self.graph:
            if node.op == "context" and node.attrs["axis"] == axis:
                return self.moment.slots.shape[1]
            if node.op == "state" and axis in dict(node.attrs["axes"]):
                kept = self.memory.get(self.frame.prefix + node.name)
                return (0 if kept is None else kept.shape[1]) + int(node.attrs["read"] == "after")
            if node.op == "input" and axis in node.type.names:
                return self.value(node.name).shape[node.type.names.index(axis) + 1]
        raise AssertionError(f"nothing along {axis}")

    def _stack(self, node: Node) -> Tensor:
        if node.name in self.whole:
            for name in node.attrs["carried"]:
                self.values[f"{node.name}/{name}"] = self.whole[f"{node.name}/{name}"][:, self.t]
            return self.whole[node.name][:, self.t]
        x, *others = (self.value(name) for name in node.inputs)
        carried = dict(zip((*node.attrs["carried"], *node.attrs["given"]), others, strict=True))
        steps: list[FrameStep] = []
        for layer in range(len(node.attrs["pattern"])):
            frame = self.frame.child(node, layer)
            step = FrameStep(frame, _bind(frame.graph, x, carried), self.memory, self.moment, {}, self.t)
            outputs = {label: step.value(name) for label, name in frame.graph.outputs}
            x = _main(frame.graph, outputs, node.type)
            carried |= {name: value for name, value in outputs.items() if name in node.attrs["carried"]}
            steps.append(step)
        self.layers[node.name] = steps
        for name in node.attrs["carried"]:
            self.values[f"{node.name}/{name}"] = carried[name]
        return x

    # Memory. Inside, a register holds its newest input first.

    def before(self, node: Node) -> Tensor:
        """h[t-1]: [batch, *axes], cleared where there is a reset."""
        start = self._initial(node)
        kept = self.memory.get(self.frame.prefix + node.name)
        slots = register_axis(self.graph, node)
        if kept is None:
            h = start
        else:
            h = kept.to(start.dtype)
            if slots is not None:
                h = h.flip(1)
                at = [name for name, _ in node.attrs["axes"]].index(slots) + 1
                h = h.movedim(1, at)
        if self.moment.reset is not None and kept is not None:
            clear = self.moment.reset.reshape(-1, *[1] * (h.dim() - 1))
            h = torch.where(clear, start if start.shape[1:] == h.shape[1:] else torch.zeros((), dtype=h.dtype), h)
        return h

    def _initial(self, node: Node) -> Tensor:
        role = node.role("initial")
        names = [name for name, _ in node.attrs["axes"]]
        sizes = [size or 0 for _, size in node.attrs["axes"]]
        types = [self.graph[name].type for name in node.inputs]
        is_complex = any(type.dtype == "complex" for type in types)
        dtype = torch.complex128 if is_complex else self.dtype
        if role is not None:
            value = fit(self.value(role), self.graph[role].type.names, names).to(dtype)
        else:
            value = torch.full((1,), -torch.inf if node.attrs["algebra"] == "max_plus" else 0.0, dtype=dtype).reshape(
                1, *[1] * len(sizes)
            )
        return value.expand(self.frame.batch, *sizes)

    def next(self, node: Node) -> Tensor:
        """h[t] = A h[t-1] + B x, found once a step."""
        key = self.frame.prefix + node.name
        if key in self.fresh:
            return self.fresh[key]
        axes = tuple(name for name, _ in node.attrs["axes"])
        h = self.before(node)
        plus = node.attrs["algebra"] == "plus_times"
        entering = self.entering(node, axes)
        a = node.role("A")
        slots = register_axis(self.graph, node)
        if slots is not None:
            at = axes.index(slots) + 1
            whole = torch.cat([entering.expand(*h.shape[:at], 1, *h.shape[at + 1 :]).to(h.dtype), h], at)
            size = dict(node.attrs["axes"])[slots]
            new = whole if size is None else whole.narrow(at, 0, size)
        elif plus:
            kept = h if a is None else self.apply(self.graph[a], h, axes)
            new = kept + entering
        else:
            kept = (
                h
                if a is None
                else h + fit(self.value(self.graph[a].inputs[0]), self.graph[self.graph[a].inputs[0]].type.names, axes)
            )
            new = torch.maximum(*torch.broadcast_tensors(kept, entering))
        self.fresh[key] = new
        return new

    def entering(self, node: Node, axes: tuple[str, ...]) -> Tensor:
        """B x over the axes of the state (a register's slots aside)."""
        x_name, b_name = node.role("x"), node.role("B")
        plus = node.attrs["algebra"] == "plus_times"
        slots = register_axis(self.graph, node)
        inside = tuple(name for name in axes if name != slots) if slots else axes
        x_names = self.graph[x_name].type.names if x_name else ()
        b_names = self.graph[b_name].type.names if b_name else ()
        used = [name for name in b_names if name in x_names and name not in axes]
        names = [*inside, *used]
        x = fit(self.real(x_name), x_names, names) if x_name else None
        b = fit(self.real(b_name), b_names, names) if b_name else None
        if x is None and b is None:
            both = torch.full((1,) + (1,) * len(inside), 1.0 if plus else 0.0, dtype=self.dtype)
        elif x is None or b is None:
            both = x if x is not None else b  # type: ignore[assignment]
        else:
            both = x * b if plus else x + b
        dims = list(range(-len(used), 0))
        if used:
            both = both.sum(dims) if plus else both.amax(dims)
        return both.unsqueeze(axes.index(slots) + 1) if slots else both

    def real(self, name: str) -> Tensor:
        x = self.value(name)
        return x if x.is_floating_point() or x.is_complex() else x.to(self.dtype)

    def apply(self, a: Node, h: Tensor, axes: tuple[str, ...]) -> Tensor:
        """The operator a on h [batch, *axes]."""
        operands = a.inputs
        match a.op:
            case "op.diag":
                return h * fit(self.real(operands[0]), self.graph[operands[0]].type.names, axes)
            case "op.neg":
                return -self.apply(self.graph[operands[0]], h, axes)
            case "op.add" | "op.sub":
                left, right = (self.apply(self.graph[name], h, axes) for name in operands)
                return left + right if a.op == "op.add" else left - right
            case "op.mul":
                return self.apply(self.graph[operands[0]], self.apply(self.graph[operands[1]], h, axes), axes)
            case "op.outer":
                left, right = (fit(self.real(name), self.graph[name].type.names, axes) for name in operands)
                return left * (right * h).sum(axes.index(a.attrs["over"]) + 1, keepdim=True)
            case "op.dense":
                over = a.attrs["over"]
                inside = [f"{name}_" if name == over else name for name in axes]
                m = fit(self.real(operands[0]), self.graph[operands[0]].type.names, [*axes, f"{over}_"])
                return (m * fit(h, inside, [*axes, f"{over}_"])).sum(-1)
            case "op.rotate":
                over = a.attrs["over"]
                rest = [name for name in axes if name != over]
                x = fit(h, axes, [*rest, over])
                angle = fit(self.real(operands[0]), self.graph[operands[0]].type.names, [*rest, a.attrs["half"]])
                first, second = x[..., 0::2], x[..., 1::2]
                c, s = torch.cos(angle), torch.sin(angle)
                y = torch.stack([first * c - second * s, first * s + second * c], -1).flatten(-2)
                return fit(y, [*rest, over], axes)
            case "op.shift":
                at = axes.index(a.attrs["axis"]) + 1
                moved = torch.zeros_like(h.narrow(at, 0, 1))
                return torch.cat([moved, h.narrow(at, 0, h.shape[at] - 1)], at)
        raise AssertionError(f"no operator {a.op}")

    def _state(self, node: Node) -> Tensor:
        """y[t]."""
        axes = tuple(name for name, _ in node.attrs["axes"])
        h = self.next(node) if node.attrs["read"] == "after" else self.before(node)
        plus = node.attrs["algebra"] == "plus_times"
        x_name, c_name, d_name = (node.role(role) for role in ("x", "C", "D"))
        x_names = self.graph[x_name].type.names if x_name else ()
        wanted = node.type.names
        slots = register_axis(self.graph, node)
        y, names = h, axes
        if c_name is not None:
            c_names = self.graph[c_name].type.names
            used = [name for name in axes if name not in x_names and name in c_names]
            lag = 0 if node.attrs["read"] == "after" else 1
            if slots is not None and slots in used and node.role("initial") is None:
                there = fit(present(self.moment_of_ops, lag, h.shape[axes.index(slots) + 1]), [slots], axes)
                y = torch.where(there, y, torch.zeros((), dtype=y.dtype))
            rest = [name for name in wanted if name in axes or name in c_names]
            frame = [*rest, *used]
            c = fit(zeroed(self.moment_of_ops, self.real(c_name), self.graph[c_name].type, used), c_names, frame)
            y = fit(y, axes, frame)
            y = y * c if plus else y + c
            if used:
                dims = list(range(-len(used), 0))
                y = y.sum(dims) if plus else y.amax(dims)
            names = tuple(rest)
        y = fit(y, names, wanted)
        if d_name is not None:
            d = fit(self.real(d_name), self.graph[d_name].type.names, wanted)
            if x_name is not None:
                x = fit(self.real(x_name), x_names, wanted)
                d = d * x if plus else d + x
            y = y + d if plus else torch.maximum(*torch.broadcast_tensors(y, d))
        return y

    def after(self, commit: bool) -> State:
        """Memory after this step. Layers under a whole-sequence stack have been seen to already."""
        memory = dict(self.memory)
        wanted = [node for node in self.frame.alive if node.op == "state"]
        for node in self.frame.alive:
            if node.op == "stack" and commit and node.name not in self.whole:
                self.value(node.name)
        if not commit:
            wanted = [node for node in wanted if self._reachable(node)]
        for node in wanted:
            memory[self.frame.prefix + node.name] = self.kept(node, self.next(node))
        for steps in self.layers.values():
            for step in steps:
                memory |= {key: value for key, value in step.after(commit).items() if key.startswith(step.frame.prefix)}
        if commit and self.frame.whole.seen is not None:
            self.frame.whole.seen(self)
        return memory

    def kept(self, node: Node, h: Tensor) -> Tensor:
        """A memory as it is kept between calls: of a register, [batch, entries, *axes], oldest first."""
        slots = register_axis(self.graph, node)
        if slots is None:
            return h
        return h.movedim([name for name, _ in node.attrs["axes"]].index(slots) + 1, 1).flip(1)

    def _reachable(self, node: Node) -> bool:
        """Whether the next state can be known without what the whole sequence still owes."""
        seen: set[str] = set()
        todo = list(node.inputs)
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            other = self.graph[name]
            if other.op == "context" and name not in self.whole:
                return False
            if other.op == "stack" and name not in self.whole and self.frame._has_context(other):
                return False
            todo.extend(other.inputs)
        return True


def register_axis(graph: Graph, node: Node) -> str | None:
    """The axis along which a state is a shift register, if its A is a bare shift and the input enters the first slot."""
    a = node.role("A")
    if a is None or graph[a].op != "op.shift":
        return None
    axis: str = graph[a].attrs["axis"]
    entering = [name for name in (node.role("B"), node.role("x")) if name is not None]
    return None if any(axis in graph[name].type.names for name in entering) else axis
