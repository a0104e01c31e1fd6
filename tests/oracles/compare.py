"""What the comparisons with others' implementations share: weights copied over, outputs and gradients compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ssir import passes
from ssir.ir.graph import Graph, Node, owners
from ssir.reference.interpreter import Interpreter, State
from ssir.spec.load import Spec

VIA = ["reference", "compiled"]
"""The ways by which our side is run: the reference interpreter, or the compiled module."""

View = Callable[[Tensor], Tensor]


def parameters(graph: Graph, prefix: str = "") -> Iterator[tuple[str, Node]]:
    """The parameters of a graph by full name; shared ones may come more than once."""
    for node in graph:
        if node.op == "param":
            yield (node.attrs["key"] if node.attrs["shared"] else prefix + node.attrs["key"]), node
        elif node.op == "stack":
            for layer, body in zip(owners(node), node.attrs["pattern"], strict=True):
                yield from parameters(graph.bodies[body], f"{prefix}{node.name}.{layer}.")


@dataclass
class Model:
    """Our side: a spec with parameters in float64, run one way or another."""

    spec: Spec
    via: str = "reference"
    graph: Graph = field(init=False)
    params: dict[str, Tensor] = field(init=False)
    module: Any = None

    def __post_init__(self) -> None:
        self.graph = passes.run(self.spec.graph, check=True)
        if self.via == "compiled":
            from ssir.api import compile

            self.module = compile(self.spec, dtype=torch.float64)
            self.params = dict(self.module.named_parameters())
        else:
            shapes = {key: [size or 0 for size in node.type.sizes] for key, node in parameters(self.graph)}
            self.params = {key: torch.zeros(s, dtype=torch.float64).requires_grad_() for key, s in shapes.items()}

    def fill(self, seed: int = 0) -> Model:
        """Give every parameter random values."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for param in self.params.values():
                param.copy_(random_like(param, generator))
        return self

    def __call__(
        self, *xs: Tensor, state: State | None = None, reset: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The first output, [batch, time, *axes], of an answer [batch, *axes], and the state after it."""
        if self.module is not None:
            y, after = self.module(*xs, state=state, reset=reset)
            return (next(iter(y.values())) if isinstance(y, dict) else y), after
        named = {node.name: x for node, x in zip(self.graph.inputs, xs, strict=True)}
        outputs, after = Interpreter(self.graph, self.params).run(named, state, reset)
        return next(iter(outputs.values())), after

    def gradients(self) -> dict[str, Tensor]:
        return {key: torch.zeros_like(p) if p.grad is None else p.grad for key, p in self.params.items()}


@dataclass(frozen=True)
class Part:
    """Where a parameter of ours is found: in which of theirs, and how. The view only cuts and reorders."""

    name: str
    view: View = lambda x: x


def transposed(name: str) -> Part:
    return Part(name, lambda x: x.mT)


def per_layer(mapping: Mapping[str, str | Part], layers: int) -> dict[str, Part]:
    """The mapping with ``{}`` in the names replaced by the number of every layer."""
    parts = {ours: Part(theirs) if isinstance(theirs, str) else theirs for ours, theirs in mapping.items()}
    return {
        ours.replace("{}", str(i)): Part(part.name.replace("{}", str(i)), part.view)
        for ours, part in parts.items()
        for i in range(layers if "{}" in ours else 1)
    }


def random_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Values of a size that keeps signals alive, none of them zero: matrices by their fan-in, vectors around 0.2."""
    noise = torch.randn(x.shape, dtype=torch.float64, generator=generator)
    return noise * x.shape[-1] ** -0.5 if x.dim() > 1 else 0.2 + 0.4 * noise


def built(make: Callable[[], nn.Module]) -> Any:
    """Their module in float64, evaluating, with random parameters and plain attention."""
    with double():
        module: Any = make()
    module.double()
    module.eval()
    if hasattr(module, "set_attn_implementation"):
        module.set_attn_implementation("eager")
    randomise(module)
    return module


def randomise(theirs: nn.Module, seed: int = 0) -> None:
    """Give every parameter of a module random values."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for param in theirs.parameters():
            param.copy_(random_like(param, generator))


def copy(theirs: Mapping[str, Tensor], ours: Model, mapping: Mapping[str, Part]) -> None:
    """Copy their weights over ours; every number on both sides has to be accounted for."""
    assert set(mapping) == set(ours.params), set(mapping) ^ set(ours.params)
    copied = dict.fromkeys(theirs, 0)
    for key, part in mapping.items():
        value = part.view(theirs[part.name].detach())
        copied[part.name] += value.numel()
        with torch.no_grad():
            ours.params[key].copy_(value.reshape(ours.params[key].shape))
    assert copied == {name: param.numel() for name, param in theirs.items()}


def close(ours: Tensor, theirs: Tensor, what: str = "output", tolerance: float = 1e-9) -> None:
    """Equal up to a tolerance relative to the largest entry."""
    assert ours.shape == theirs.shape, f"{what}: {tuple(ours.shape)} and {tuple(theirs.shape)}"
    ours, theirs = ours.detach(), theirs.detach()
    scale = max(float(theirs.abs().max()), 1e-6)
    error = float((ours - theirs).abs().max()) / scale
    assert error < tolerance, f"{what} differs by {error:.2e} of the largest entry {scale:.2e}"


def same(
    ours: Model,
    theirs: Callable[..., Tensor],
    weights: Mapping[str, Tensor],
    mapping: Mapping[str, Part],
    *xs: Tensor,
    idle: str | None = None,
) -> None:
    """Outputs and the gradients of all parameters agree on a whole sequence. Where ``idle`` stands in the name, they are zero."""
    copy(weights, ours, mapping)
    with double():
        expected = theirs(*xs)
    found, _ = ours(*xs)
    close(found, expected)
    probe = torch.randn(found.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (found * probe).sum().backward()
    with double():
        (expected * probe).sum().backward()
    gradients = ours.gradients()
    for key, part in mapping.items():
        gradient = weights[part.name].grad
        if idle is not None and idle in key:
            assert gradients[key].abs().max() < 1e-12, f"{key} has a gradient"
            continue
        assert gradient is not None and gradient.abs().max() > 0, f"{part.name} has no gradient"
        close(gradients[key], part.view(gradient).reshape(gradients[key].shape), f"gradient of {key}")


def stepwise(ours: Model, x: Tensor, split: int, *others: Tensor) -> None:
    """A prefix at once and then one step after another give what the whole sequence gives; ``others`` are whole sequences."""
    with torch.no_grad():
        whole, _ = ours(x, *others)
        y, state = ours(x[:, :split], *others)
        pieces = [y]
        for t in range(split, x.shape[1]):
            y, state = ours(x[:, t : t + 1], *others, state=state)
            pieces.append(y)
    once = whole.dim() < len(ours.graph[ours.graph.outputs[0][1]].type.names) + 2
    close(pieces[-1] if once else torch.cat(pieces, 1), whole, "decoding")


class _Double(TorchFunctionMode):
    """Every request for float32 is one for float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def wide(value: Any) -> Any:
            return torch.float64 if value is torch.float32 else value

        if func is Tensor.float:
            func = Tensor.double
        return func(*map(wide, args), **{key: wide(value) for key, value in (kwargs or {}).items()})


@contextmanager
def double() -> Iterator[None]:
    """Others compute norms, angles and states in float32 whatever the dtype of the model; in here they cannot."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Double():
            yield
    finally:
        torch.set_default_dtype(before)


def tokens(vocab: int, batch: int = 2, time: int = 9, seed: int = 0) -> Tensor:
    return torch.randint(vocab, (batch, time), generator=torch.Generator().manual_seed(seed))
