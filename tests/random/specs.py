"""Random specs that are well typed: values over named axes, memories of every structure, cycles, stacks. Hypothesis shrinks them to what matters.

Values are kept near one, so that what a form gets wrong is not lost in what the spec itself blows up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hypothesis import strategies as st

Axes = tuple[str, ...]
T = TypeVar("T")

SIZES = (1, 2, 3, 5)
NAMES = ("a", "b", "c")
BOUNDED = ("tanh", "sigmoid", "sin", "cos", "erf", "arctan")
LOOSE = ("silu", "relu", "gelu", "softplus", "elu", "exp", "square", "abs", "logsigmoid", "expm1", "gelu_tanh")


@dataclass
class Writer:
    """One graph as it is written. ``values``: what can be used, with its axes; ``owed``: nodes that something has promised."""

    draw: Callable[..., Any]
    sizes: Mapping[str, int]
    lines: list[str] = field(default_factory=list)
    values: list[tuple[str, Axes]] = field(default_factory=list)
    owed: list[tuple[str, str, Axes]] = field(default_factory=list)
    count: int = 0

    def one(self, options: Sequence[T]) -> T:
        found: T = self.draw(st.sampled_from(list(options)))
        return found

    def some(self, least: int = 0, most: int = 2) -> Axes:
        """Some axes, in some order."""
        found = self.draw(st.lists(st.sampled_from(NAMES), min_size=least, max_size=most, unique=True))
        return tuple(found)

    def chance(self, percent: int) -> bool:
        return bool(self.draw(st.integers(0, 99)) >= 100 - percent)

    def name(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def add(self, text: str, axes: Axes, name: str | None = None) -> str:
        name = name or self.name()
        self.lines.append(f"{name}: {text}")
        self.values.append((name, axes))
        return name

    def state(self, axes: Axes, roles: Mapping[str, str], name: str | None = None, read: Axes | None = None) -> None:
        """A memory over some axes, of which something over ``read`` (these too, if nothing is said) is read."""
        name = name or self.name()
        self.lines += [
            f"{name}:",
            f"  state: [{', '.join(axes)}]",
            *(f"  {role}: {text}" for role, text in roles.items()),
        ]
        self.values.append((name, axes if read is None else read))

    # Values.

    def value(self, axes: Axes | None = None) -> tuple[str, Axes]:
        """Something that was written before; over these axes, made so if need be."""
        name, own = self.one(self.values)
        if axes is None or set(own) == set(axes):
            return name, own
        if self.chance(50) or not set(own) <= set(axes):
            return self.mapped(name, own, axes), axes
        missing = [axis for axis in axes if axis not in own]
        return f"{name} * param([{', '.join(missing)}], init=normal(0.7))", axes

    def mapped(self, name: str, own: Axes, axes: Axes) -> str:
        bias = ", bias=true" if self.chance(30) else ""
        if len(own) > 1 and self.chance(20):
            kept = next((axis for axis in own if axis in axes), None)
            if kept is not None:
                rest, out = [x for x in own if x != kept], [x for x in axes if x != kept]
                way = "per" if self.chance(50) else None
                over = f"over=[{', '.join(rest)}]"
                return f"linear({name}, [{', '.join(out)}], {f'{way}=[{kept}], ' if way else ''}{over}{bias})"
        if not own:
            return f"{name} * param([{', '.join(axes)}], init=normal(0.7))"
        return f"linear({name}, [{', '.join(axes)}]{bias})"

    def bounded(self, axes: Axes | None = None) -> tuple[str, Axes]:
        """An expression that stays near one."""
        name, own = self.value(axes)
        if self.chance(40):
            other, its = self.value(axes)
            own = tuple(dict.fromkeys((*own, *its)))
            sign = self.one(("+", "-", "*"))
            name = f"({name}) {sign} ({other})"
        return f"{self.one(BOUNDED)}({name})", own

    def gate(self, axes: Axes) -> str:
        """Something between 0 and 1, over some of the axes."""
        kind = self.one(("number", "constant", "input", "input", "position", "exponential"))
        own = tuple(axis for axis in axes if self.chance(70))
        match kind:
            case "number":
                return str(self.one((0.9, 0.5, 1, 0, 0.99)))
            case "constant":
                return f"sigmoid(param([{', '.join(own)}], init=normal(1)))" if own else "0.8"
            case "position":
                return "where(position % 3 == 2, 0, 0.9)"
            case "exponential":
                text, _ = self.value(own)
                return f"exp(-softplus({text}))"
        text, _ = self.value(own)
        return f"sigmoid({text})"

    # Nodes.

    def node(self) -> None:
        kind = self.one(tuple(NODES))
        NODES[kind](self)

    def plain(self, name: str | None = None, axes: Axes | None = None) -> None:
        text, own = self.bounded(axes)
        if self.chance(30):
            text = f"0.5 * {self.one(LOOSE)}({text})"
        self.add(text, own, name)

    def reduced(self) -> None:
        name, own = self.value(None)
        if not own:
            return self.plain()
        over = self.one(own)
        rest = tuple(axis for axis in own if axis != over)
        match self.one(("sum", "mean", "max", "min", "softmax", "norm", "dot")):
            case "softmax":
                self.add(f"softmax({name}, over={over})", own)
            case "norm" if self.sizes.get(over, 2) == 1:
                return self.plain()  # what is one number is divided by itself: its slopes are roundings
            case "norm":
                self.add(f"{self.one(('rms_norm', 'layer_norm', 'l2_norm'))}(1 + {name}, over={over})", own)
            case "dot":
                other, its = self.value(None)
                if over not in its:
                    return self.plain()
                self.add(
                    f"tanh(dot({name}, {other}, over={over}))",
                    tuple(dict.fromkeys((*rest, *(x for x in its if x != over)))),
                )
            case reduction:
                self.add(f"tanh({reduction}({name}, over={over}))", rest)
        return None

    def shaped(self) -> None:
        name, own = self.value(None)
        if not own:
            return self.plain()
        axis = self.one(own)
        other = f"{axis}_other"
        match self.one(("rename", "pack", "where", "delay", "window", "hold")):
            case "rename":
                self.add(f"tanh(linear(rename({name}, {axis}={other}), [{axis}], over=[{other}]))", own)
            case "pack":
                second, _ = self.value(own)
                self.add(f"max(pack([{name}, {second}], two), over=two)", own)
            case "where":
                second, _ = self.value(own)
                self.add(f"where({name} > 0.1, {name}, {second})", own)
            case "delay":
                steps = self.one(("", ", steps=2", ", initial=0.3"))
                self.add(f"delay({name}{steps})", own)
            case "window":
                self.add(
                    f"sum(window({name}, tap) * softmax(linear({name}, tap, over=[{', '.join(own)}]), over=tap), over=tap)",
                    own,
                )
            case _:
                self.add(f"hold({name}, every=3)", own)
        return None

    def diagonal(self) -> None:
        axes = self.some(1)
        text, _ = self.bounded(axes)
        roles = {"A": self.gate(axes), "input": text}
        if self.chance(40):
            roles["B"] = self.gate(axes)
        if self.chance(20):
            roles["D"] = "0.5"
        if self.chance(20):
            roles["read"] = "before"
        if self.chance(15):
            roles["initial"] = f"param([{', '.join(axes)}], init=normal(1))"
        self.state(axes, roles)

    def expanded(self) -> None:
        """A state with an axis that its input lacks, which C uses up."""
        axes = self.some(1)
        text, _ = self.bounded(axes)
        enters, _ = self.bounded(("key",))
        read, _ = self.bounded(("key",))
        kind = self.one(("head", "key", "all", "outer", "twice", "turn"))
        a = {
            "head": lambda: self.gate(()),
            "key": lambda: self.gate(("key",)),
            "all": lambda: self.gate((*axes, "key")),
            "outer": lambda: (
                f"{self.gate(())} - outer(l2_norm({self.made_key()}, over=key), 0.5 * l2_norm({self.made_key()}, over=key), over=key)"
            ),
            "twice": lambda: f"{self.reflection()} * {self.gate(())} * {self.reflection()}",
            "turn": lambda: f"0.9 * rotate(arange(half) + {self.value(())[0]}, over=key)",
        }[kind]()
        roles = {"A": a, "B": enters, "input": text, "C": read}
        if self.chance(20):
            roles["read"] = "before"
        self.state(("key", *axes), roles, read=axes)

    def complexes(self) -> None:
        """A state of complex numbers, expanded or not, the parts of which are read."""
        axes = self.some(1)
        large = self.chance(50)
        own = ("key", *axes) if large else axes
        over = own if self.chance(50) else own[:1]
        angle = f"param([{', '.join(over)}], init=normal(1))" if self.chance(50) else self.value(over)[0]
        enters = [self.bounded(axes)[0] for _ in range(2)]
        roles = {"A": f"polar({self.gate(own)}, {angle})"}
        roles["input"] = enters[0] if self.chance(50) else f"complex({enters[0]}, {enters[1]})"
        if large:
            reads = [self.bounded(("key",))[0] for _ in range(3)]
            roles |= {"B": reads[0], "C": reads[1] if self.chance(40) else f"complex({reads[1]}, {reads[2]})"}
        if self.chance(20):
            roles["read"] = "before"
        if self.chance(20):
            roles["initial"] = "0.3"
        self.state(own, roles, read=axes)
        name, _ = self.values.pop()
        self.add(self.one((f"real({name})", f"imag({name})", f"tanh(real({name}) - imag({name}))")), axes)

    def reflection(self) -> str:
        key = f"l2_norm({self.made_key()}, over=key)"
        return f"(1 - outer({self.one(('', '1.5 * '))}{key}, {key}, over=key))"

    def made_key(self) -> str:
        """A key as a node of its own: the two sides of an outer product are often one."""
        known = [name for name, own in self.values if own == ("key",)]
        if known and self.chance(60):
            return self.one(known)
        text, _ = self.bounded(("key",))
        return self.add(text, ("key",))

    def learnt(self) -> None:
        """Two states that are affine in one another: a matrix that follows the gradient of an error, and its momentum."""
        axes = self.some(1)
        k, text = f"(0.5 * l2_norm({self.made_key()}, over=key))", self.bounded(axes)[0]
        matrix, momentum = self.name(), self.name()
        error = self.add(f"dot({k}, delay({matrix}), over=key) - ({text})", axes)
        gate, other = self.gate(()), self.gate(())
        known = len(self.values)
        if self.chance(50):
            self.state(("key", *axes), {"A": gate, "B": f"-{k}", "input": error}, momentum)
            self.state(("key", *axes), {"A": other, "input": momentum}, matrix)
        else:
            self.add(f"{gate} * delay({momentum}) - {k} * {error}", ("key", *axes), momentum)
            self.add(f"delay({matrix}) * {other} + {momentum}", ("key", *axes), matrix)
        if self.chance(80):  # only sums over the keys are asked for
            del self.values[known - 1 :]
        self.add(f"dot({self.made_key()}, {self.one((matrix, matrix, momentum))}, over=key)", axes)

    def filtered(self) -> None:
        axes = self.some(1)
        text, _ = self.bounded(axes)
        over = ", ".join(("tap", *axes)) if self.chance(60) else "tap"
        c = f"param([{over}], init=normal(0.5))" if self.chance(70) else self.value(("tap",))[0]
        self.state(("tap", *axes), {"A": "shift(tap)", "input": text, "C": c}, read=axes)

    def highest(self) -> None:
        axes = self.some(1)
        text, _ = self.bounded(axes)
        self.state(axes, {"A": f"logsigmoid({self.value(axes)[0]})", "input": text, "algebra": "max_plus"})
        name, own = self.values.pop()
        self.add(f"exp({name} - 1)", own)

    def attended(self) -> None:
        q, k, v = (self.made_key() for _ in range(3))
        self.add(f"window({k}, slot)", ("slot", "key"))
        keys = self.values.pop()[0]
        scores = f"dot({q}, {keys}, over=key) * key ** -0.5"
        if self.chance(30):
            scores = f"({scores}) * {self.value(())[0]}"
        if self.chance(50):
            distant = ("0.3 * arange(slot)", "param([], init=normal(1)) * log(1 + arange(slot))", "cos(arange(slot))")
            scores = f"{scores} - {self.one(distant)}"
        if self.chance(20):
            scores = f"where(arange(slot) % 3 > 1, -inf, {scores})"
        weights = f"softmax({scores}, over=slot)"
        self.state(("slot", "key"), {"A": "shift(slot)", "input": v, "C": weights}, read=("key",))

    def feedback(self) -> None:
        """A promise: what stands here now is a node of later, a step ago."""
        axes = self.some(1)
        name = f"f{len(self.owed)}"
        initial = self.one(("", "", ", initial=0.3"))
        self.owed.append((name, self.add(f"delay({name}{initial})", axes), axes))

    def kept(self) -> None:
        """Write what was promised."""
        for name, old, axes in self.owed:
            if self.chance(25):
                text, _ = self.bounded(axes)
                self.add(f"{self.gate(axes)} * {old} + {text}", axes, name)
            elif self.chance(30):
                text, _ = self.bounded(axes)
                self.state(axes, {"A": self.gate(axes), "B": self.gate(axes), "input": text}, name)
            elif self.chance(20):
                text, _ = self.bounded(axes)
                whole = self.name()
                self.state(axes, {"A": f"polar({self.gate(axes)}, {old})", "input": text}, whole)
                self.values.pop()
                self.add(f"tanh(real({whole})) + 0.3 * sin(imag({whole}))", axes, name)
            else:
                self.plain(name, axes)


NODES: dict[str, Callable[[Writer], None]] = {
    "plain": Writer.plain,
    "reduced": Writer.reduced,
    "shaped": Writer.shaped,
    "diagonal": Writer.diagonal,
    "expanded": Writer.expanded,
    "complexes": Writer.complexes,
    "learnt": Writer.learnt,
    "filtered": Writer.filtered,
    "highest": Writer.highest,
    "attended": Writer.attended,
    "feedback": Writer.feedback,
}


def _component(name: str, inputs: Sequence[tuple[str, Axes]], writer: Writer, out: Axes) -> str:
    last = writer.values[-3:]
    ends = " + ".join(writer.mapped(one, own, out) for one, own in last)
    lines = [*writer.lines, f"y: {ends}"]
    text = "\n".join(f"      {line}" for whole in lines for line in whole.split("\n"))
    given = ", ".join(f"{one}: [{', '.join(own)}]" for one, own in inputs)
    return f"  {name}:\n    input: {{{given}}}\n    graph:\n{text}\n    output: y\n"


@st.composite
def specs(draw: Callable[..., Any]) -> str:
    """The text of a spec: a component of up to eight nodes, or a stack of it."""
    sizes = {name: draw(st.sampled_from(SIZES)) for name in NAMES}
    half = draw(st.sampled_from((1, 2, 3)))
    dims: dict[str, Any] = {
        "half": half,
        **sizes,
        **{f"{name}_other": size for name, size in sizes.items()},
        "key_other": "2 * half",
    }
    dims |= {"key": "2 * half", "tap": draw(st.sampled_from((1, 2, 4))), "two": 2, "slot": "unbounded"}
    stacked = bool(draw(st.booleans()))
    inputs = [("x", ("a",))] if stacked else [("x", ("a",)), ("z", ("b", "c"))]
    writer = Writer(draw, sizes)
    writer.values += inputs
    for _ in range(draw(st.integers(1, 8))):
        writer.node()
    writer.kept()
    body = _component("block" if stacked else "main", inputs, writer, ("a",))
    if stacked:
        body += "  main:\n    input: {x: [a]}\n    graph:\n      s: {stack: [block], times: 2, input: x}\n      y: tanh(s)\n    output: y\n"
    listed = "".join(f"  {name}: {size}\n" for name, size in dims.items())
    return f"ssir: 1\nname: random\ndims:\n{listed}components:\n{body}main: main\n"
