"""What generated modules are made of: bodies, a graph each, of parts that own parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from . import joined, native
from .clock import Time
from .frozen import Kept
from .layers import Linear, Values, bound, owned, plain
from .linear import linear
from .masks import ByEntry, Masks, kept
from .memory import Memories
from .step import Own
from .support import plainly

if TYPE_CHECKING:
    from .model import Model


class Run:
    """One call of a body. ``at`` is the path that its memories are filed under, ``layer`` its index in a stack; ``plain`` says whether
    weights may be used without calling the parts that own them, ``blocks`` has those that lie side by side and may be used as one.
    ``training``: whether entries are dropped, and ``masks`` which, if that is given."""

    __slots__ = ("at", "blocks", "kept", "layer", "masks", "new", "old", "plain", "root", "time", "training")

    def __init__(
        self,
        root: Model,
        time: Time,
        old: Mapping[str, Tensor],
        new: Memories,
        plain: bool,
        kept: Kept | None,
        at: str = "",
        layer: int = 0,
        blocks: Sequence[joined.Block | None] = (),
        training: bool = False,
        masks: Masks | None = None,
    ) -> None:
        self.root, self.time, self.old, self.new = root, time, old, new
        self.training, self.masks = training, masks
        self.plain, self.kept, self.at, self.layer, self.blocks = plain, kept, at, layer, blocks

    def constants(self, make: Callable[[Run], tuple[Any, ...]]) -> tuple[Any, ...]:
        """What only parameters decide, made by a method of the body, whatever autocast says."""
        if self.kept is None:
            return plainly(self.time.device, make, self)
        return self.kept.once((self.at, make), plainly, self.time.device, make, self)

    def part(self, body: Body, path: str) -> Callable[..., Any]:
        """What computes a part or a component: the module, or, where nobody watches and it is kept, its code."""
        kept = self.kept
        if kept is None or not kept.quiet:
            return body.part(path)
        return kept.once((body, path, self.time.steps is None, self.time.each), self._part_code, body, path)

    def layers(self, body: Body, path: str) -> Iterable[tuple[int, str, Callable[..., Any]]]:
        """The layers of a stack: index, kind, and what computes it."""
        kept = self.kept
        if kept is None or not kept.quiet:
            return body.layers(path)
        return kept.once((body, path, self.time.steps is None, self.time.each), self._layer_codes, body, path)

    def _part_code(self, body: Body, path: str) -> Callable[..., Any]:
        return self._code(body.part(path))

    def _layer_codes(self, body: Body, path: str) -> list[tuple[int, str, Callable[..., Any]]]:
        return [(i, kind, self._code(layer)) for i, kind, layer in body.layers(path)]

    def _code(self, module: nn.Module) -> Callable[..., Any]:
        """What a module runs in this call, its hooks apart."""
        if isinstance(module, Body) and type(module).forward is Body.forward:
            return module.code(self)
        return bound(module)

    def inside(self, path: str, layer: int) -> Run:
        """The call of a layer of a stack."""
        at = f"{self.at}{path}.{layer}."
        return Run(
            self.root,
            self.time,
            self.old,
            self.new,
            self.plain,
            self.kept,
            at,
            layer,
            self.blocks,
            self.training,
            self.masks,
        )

    def mask(self, path: str, rate: float, shape: Sequence[int], each: str, by_entry: ByEntry = ()) -> Tensor:
        """What dropout at a path multiplies by."""
        return kept(self.masks, self.at + path, self.time, rate, shape, each, by_entry)


class Body(nn.Module):
    """A graph: its parts, layers and values under their paths, the code in a subclass.

    Paths come from a spec, so parts are looked up among the submodules, never as attributes.
    """

    PARTS: tuple[tuple[Any, ...], ...] = ()  # path, kind, arguments of the kind
    VALUES: tuple[
        tuple[str, tuple[int, ...], str | None, bool], ...
    ] = ()  # path, sizes, own dtype, whether it is learned
    SHARED: tuple[str, ...] = ()  # the paths, of parts and values, that are those of the whole model
    CALLS: tuple[tuple[str, type[Body]], ...] = ()  # path and class of each component in it
    STACKS: tuple[tuple[str, str, tuple[tuple[str, type[Body]], ...], bool], ...] = ()
    # path, path of its memories, the kind and class of each layer, whether layers of a kind are one
    MEMORIES: tuple[
        tuple[str, tuple[int | None, ...], str], ...
    ] = ()  # path, sizes, "data", "wide", "rounded" or "complex"
    OWN: Own | None = None  # what the native step of this body keeps
    LAYERS: tuple[str, ...] = ()  # its stacks, in the order of that step
    TOGETHER: tuple[tuple[str, ...], ...] = ()  # projections of one input
    GROUPED: tuple[str, ...] = ()  # the parts whose weights may be used without calling them
    FUSED = False  # whether a memory is computed together with parts around it

    def __init__(self, dtype: torch.dtype, device: torch.device | None = None, root: Body | None = None) -> None:
        super().__init__()
        top = self if root is None else root
        for path, kind, *arguments in self.PARTS:
            home = top if path in self.SHARED else self
            home.enter(path, partial(kind, dtype, device, *arguments))
        for path, sizes, own, learned in self.VALUES:
            home = top if path in self.SHARED else self
            empty = torch.empty(sizes, dtype=dtype if own is None else getattr(torch, own), device=device)
            home.enter_value(path, empty, learned)
        for path, body in self.CALLS:
            self.enter(path, partial(body, dtype, device, top))
        self._stacks: dict[str, list[tuple[int, str, str]]] = {}
        for path, _, layers, share in self.STACKS:
            container = self.enter(path, nn.ModuleList)
            rows = self._stacks[path] = []
            for i, (kind, body) in enumerate(layers):
                key = str(_first(layers, kind) if share else i)
                rows.append((i, kind, key))
                if key not in container._modules:
                    container._modules[key] = body(dtype, device, top)
        self._places: dict[tuple[str, ...], int] = {}  # of projections of one input among the blocks of a call
        self.lay()

    def __setattr__(self, name: str, value: Any) -> None:
        """What a body keeps for itself stays apart from the modules of a spec that are called alike."""
        if isinstance(value, nn.Module | nn.Parameter):
            super().__setattr__(name, value)
        else:
            self.__dict__[name] = value

    def enter(self, path: str, make: Callable[[], nn.Module]) -> nn.Module:
        """The part at a path, made if there is none yet, and everything on the way to it."""
        *outer, leaf = path.split(".")
        module: nn.Module = self
        for name in outer:
            module = _child(module, name, Values)
        return _child(module, leaf, make)

    def enter_value(self, path: str, value: Tensor, learned: bool) -> None:
        """File a parameter, or a buffer, under a path; one that is there already stays."""
        *outer, leaf = path.split(".")
        module = self.enter(".".join(outer), Values) if outer else self
        if learned:
            module._parameters.setdefault(leaf, nn.Parameter(value))
        else:
            module._buffers.setdefault(leaf, value)

    def part(self, path: str) -> nn.Module:
        found = self._modules.get(path)
        if found is not None:
            return found
        module: nn.Module = self
        for name in path.split("."):
            module = module._modules[name]  # type: ignore[assignment]
        return module

    def value(self, path: str) -> Tensor:
        """A parameter or buffer."""
        outer, _, leaf = path.rpartition(".")
        module = self.part(outer) if outer else self
        found: Tensor = module(leaf) if isinstance(module, Values) else owned(module, leaf)
        return found

    def layers(self, path: str) -> Iterator[tuple[int, str, nn.Module]]:
        """The layers of a stack, here or in a component: index, kind and body."""
        home, rows = self._rows(path)
        container = home._modules
        for i, kind, key in rows:
            yield i, kind, container[key]  # type: ignore[misc]

    def _rows(self, path: str) -> tuple[nn.Module, list[tuple[int, str, str]]]:
        """The container of a stack; for each layer its index, its kind, and what it is called there."""
        for call, _ in self.CALLS:
            if path.startswith(f"{call}."):
                inner = self.part(call)
                assert isinstance(inner, Body)
                return inner._rows(path.removeprefix(f"{call}."))
        return self.part(path), self._stacks[path]

    def lay(self) -> None:
        """Lay the weights of projections of one input side by side."""
        for paths in self.TOGETHER:
            joined.lay([self.part(path) for path in paths])

    def lay_all(self) -> None:
        for one in self.modules():
            if isinstance(one, Body):
                one.lay()

    def blocks(self) -> Sequence[joined.Block | None]:
        """The weights of projections of one input, here and below, each group as one."""
        found: list[joined.Block | None] = []
        for body in self.modules():
            if isinstance(body, Body):
                for paths in body.TOGETHER:
                    body._places[paths] = len(found)
                    found.append(joined.block([body.part(path) for path in paths]))
        return found

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        result = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.lay()
        return result

    def together(self, run: Run, x: Tensor, *paths: str) -> Sequence[Tensor]:
        """Projections of one input: one product where nobody watches and their weights are in one piece, else one by one. (To lay them side
        by side in every call takes longer than it saves.)"""
        block = None
        if run.kept is not None and run.plain:
            block = run.kept.once((self, paths), self._join, paths)
        elif run.blocks:
            block = run.blocks[self._places[paths]]
        parts = [self.part(path) for path in paths]
        if block is None:
            return [part(x) for part in parts]
        found = linear(x, block.weight, block.bias).split([len(owned(part, "weight")) for part in parts], -1)
        later = block.later or (None,) * len(parts)
        return [y if bias is None else y + bias for y, bias in zip(found, later, strict=True)]

    def _join(self, paths: tuple[str, ...]) -> joined.Block:
        parts = [self.part(path) for path in paths]
        found = joined.block(parts)
        if found is not None:
            return found
        weights = [owned(part, "weight") for part in parts]
        biases: list[Tensor | None] = [part._parameters["bias"] for part in parts]
        bias = None
        if any(one is not None for one in biases):
            whole = zip(weights, biases, strict=True)
            bias = torch.cat([w.new_zeros(w.shape[0]) if one is None else one for w, one in whole])
        return joined.Block(torch.cat(weights), bias)

    def _natives(self, run: Run) -> tuple[Tensor | float, ...]:
        """What the native step of this body is given of what only parameters decide."""
        raise NotImplementedError

    def _begin(self, run: Run) -> None:
        """Write every memory as it is before the first step."""
        raise NotImplementedError

    def _sequence(self, run: Run, *inputs: Tensor) -> Any:
        raise NotImplementedError

    _apart: Any = None  # ``_sequence``, memories step by step, and every part called by itself

    def _step(self, run: Run, *inputs: Tensor) -> Any:
        raise NotImplementedError("no step form: `context` reads the whole sequence")

    _step_apart: Any = None
    _training: Any = None  # ``_sequence`` and ``_apart`` with entries dropped, if any are
    _training_apart: Any = None

    def forward(self, run: Run, *inputs: Tensor) -> Any:
        """Called by the body around it: a sequence [batch, time, *axes], or one step [batch, *axes]."""
        return self.code(run)(run, *inputs)

    def code(self, run: Run) -> Callable[..., Any]:
        """The method for this call."""
        watched = self.FUSED and not run.plain
        found: Callable[..., Any]
        if run.training:
            apart = self._training_apart is not None and (run.time.each or watched)
            found = self._training_apart if apart else self._training
        elif run.time.steps is None:
            found = self._step_apart if watched else self._step
        else:
            found = self._apart if self._apart is not None and (run.time.each or watched) else self._sequence
        return found

    def plain(self) -> bool:
        """Whether nobody would notice if parts were not called."""
        inner = [self.part(path) for path, _ in self.CALLS]
        inner += [body for path, *_ in self.STACKS for _, _, body in self.layers(path)]
        return all(plain(self.part(path), Linear) for path in self.GROUPED) and all(
            isinstance(body, Body) and body.plain() for body in inner
        )

    def untouched(self, root: Body | None = None) -> bool:
        """Whether everything in it is what it was made as: nobody would notice if no part of it were called."""
        top = self if root is None else root
        for path, kind, *_ in self.PARTS:
            if not plain((top if path in self.SHARED else self).part(path), kind):
                return False
        for path, *_ in self.VALUES:
            outer, _, leaf = path.rpartition(".")
            home = top if path in self.SHARED else self
            owner = home.part(outer) if outer else home
            value = owner._parameters.get(leaf, owner._buffers.get(leaf))
            if value is None or not native.plain(value):
                return False
        inner = [(body, self.part(path)) for path, body in self.CALLS]
        for path, _, layers, _ in self.STACKS:
            inner += [(body, layer) for (_, body), (_, _, layer) in zip(layers, self.layers(path), strict=True)]
        return "forward" not in self.__dict__ and all(type(one) is body and one.untouched(top) for body, one in inner)

    @classmethod
    def memories(cls, at: str = "") -> Iterator[tuple[str, tuple[int | None, ...], str]]:
        """Every memory of this body and its layers: path, sizes, kind of dtype."""
        for name, sizes, kind in cls.MEMORIES:
            yield at + name, sizes, kind
        for _, inner in cls.CALLS:
            yield from inner.memories(at)
        for _, path, layers, _ in cls.STACKS:
            for i, (_, body) in enumerate(layers):
                yield from body.memories(f"{at}{path}.{i}.")


def _first(layers: Sequence[tuple[str, Any]], kind: str) -> int:
    return next(i for i, (other, _) in enumerate(layers) if other == kind)


def _child(module: nn.Module, name: str, make: Callable[[], nn.Module]) -> nn.Module:
    found = module._modules.get(name)
    if found is None:
        module._modules[name] = found = make()
    return found
