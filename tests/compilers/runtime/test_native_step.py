"""A step as one native call: what it computes, the states that it leaves, and where torch takes over.

That it agrees with the meaning of every spec is the proof's (``decoded``); here it is compared with the sequence.
"""

import resource
import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from copy import deepcopy
from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

import ssir
from ssir.bench import _sized
from ssir.catalogue import rows
from ssir.compilers.loops.spelling import Unfit
from ssir.compilers.runtime import native
from ssir.compilers.runtime.model import Model
from ssir.compilers.runtime.state import State
from ssir.compilers.step.c import print_step
from ssir.registry import registry
from tests.small import at, component, inputs, small

NAMES = [row.name for row in rows()]


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def decode(model: Model, xs: list[Tensor], start: int, stop: int, state: State | None) -> tuple[list[Tensor], State]:
    """Outputs of frozen steps, all native, and the state after the last."""
    found = []
    with torch.no_grad(), model.frozen():
        for t in range(start, stop):
            y, state = model.step(*at(model.graph, xs, t), state=state)
            assert state.packed is not None, "a step ran in torch"
            found.append(next(iter(y.values())) if isinstance(y, dict) else y)
    assert state is not None
    return found, state


def same(found: State, wanted: State, tolerance: float = 1e-10) -> None:
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype, name
        assert found[name].shape == value.shape, name
        assert not value.numel() or (found[name] - value).abs().max().item() <= tolerance * (
            1 + value.abs().max().item()
        ), name


@pytest.mark.parametrize(
    "graph",
    [
        "y: linear(x, m, over=[w, q])",
        "h: {state: [q, w], A: 0.5, input: x}\ny: linear(h, m, over=[w, q]) + linear(x * x, m, over=[w, q])",
    ],
)
def test_a_product_reads_its_operand_in_an_order_of_its_own(graph: str) -> None:
    model = ssir.compile(component(graph, "{x: [q, w]}", "{q: 3, w: 5, m: 6}"), dtype=torch.float64)
    x = torch.randn(2, 7, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found, _ = decode(model, [x], 0, 7, None)
    torch.testing.assert_close(torch.stack(found, 1), ssir.reference(model, x)[0], rtol=1e-10, atol=1e-10)


STACKED = """
ssir: 1
name: stacked
dims: {q: 3, w: 5, m: 6, flat: 15}
components:
  layer:
    input: {x: [q, w]}
    graph:
      h: {state: [q, w], A: 0.5, input: x}
      y: x + tanh(h)
    output: y
  main:
    input: {x: [q, w]}
    graph:
      s: {stack: [layer], times: 2, input: x}
      y: EXPRESSION
    output: y
main: main
"""


@pytest.mark.parametrize("expression", ["linear(s, m, over=[w, q])", "tanh(merge(s, [w, q], flat))"])
def test_what_a_stack_gives_is_read_as_it_lies(expression: str) -> None:
    model = ssir.compile(ssir.loads(STACKED.replace("EXPRESSION", expression)), dtype=torch.float64)
    x = torch.randn(2, 7, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found, _ = decode(model, [x], 0, 7, None)
    torch.testing.assert_close(torch.stack(found, 1), ssir.reference(model, x)[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("tap", [1, 3])
def test_a_short_register_is_read_as_a_whole_in_its_order(tap: int) -> None:
    """Its slots lie oldest first, and are read newest first."""
    graph = "w: {state: [tap, n], A: shift(tap), input: x, read: before, initial: 'param([tap, n], init=normal(1))'}\ny: linear(w, m, over=[tap, n])"
    model = ssir.compile(component(graph, "{x: [n]}", f"{{n: 5, m: 6, tap: {tap}}}"), dtype=torch.float64)
    x = torch.randn(2, 9, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found, _ = decode(model, [x], 0, 9, None)
    torch.testing.assert_close(torch.stack(found, 1), ssir.reference(model, x)[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_every_spec_that_steps_does_so_in_one_call(name: str) -> None:
    model = ssir.compile(small(name), dtype=torch.float64)
    if not model.has_step:
        assert model.NATIVE is None
        return
    steps = int(min(21, (small(name).dims.get("length") or 21)))
    xs = inputs(model.graph, 3, steps)
    with torch.no_grad():
        whole, after = model(*xs)
        _, middle = model(*at(model.graph, xs, slice(0, 5)))
    wanted = next(iter(whole.values())) if isinstance(whole, dict) else whole
    for start, state in ((0, None), (5, middle)):
        found, end = decode(model, xs, start, steps, state)
        given = (found[-1], wanted) if model.ANSWERS else (torch.stack(found, 1), wanted[:, start:])
        torch.testing.assert_close(*given, rtol=1e-9, atol=1e-10)
        same(end, after)


WHOLE = {
    "what is the same for all steps": (
        "{x: [n], source: [slot, n]}",
        "g: tanh(linear(mean(source, over=slot), n))\nh: {state: [n], A: sigmoid(g), input: x}\ny: linear(h, m) + sum(g * x, over=n)",
    ),
    "a mask of tokens": (
        "{x: [n], source: {token: slot}}",
        "e: embed(source, seven, n)\nk: linear(e, q, over=n)\ns: where(source > 2, dot(linear(x, q), k, over=q), -1e9)\ny: linear(dot(softmax(s, over=slot), e, over=slot), m)",
    ),
    "places along it, beside a register that grows": (
        "{x: [n], source: [slot, n]}",
        "k: linear(source, q, over=n) + 0.1 * arange(slot)\ns: dot(linear(x, q), k, over=q) - arange(slot)\nseen: dot(softmax(s, over=slot), source, over=slot)\npast: {state: [w, n], A: shift(w), input: x, C: 'softmax(dot(linear(x, q), window(linear(x, q), w), over=q), over=w)'}\ny: linear(seen + past, m)",
    ),
    "every pair of entries": (
        "{x: [n], source: [slot, n]}",
        "other: rename(source, slot=slot_)\np: dot(linear(source, q, over=n), linear(other, q, over=n), over=q)\nv: linear(dot(softmax(p + sum(x, over=n), over=slot_), rename(source, slot=slot_), over=slot_), m, over=n)\ny: max(v, over=slot)",
    ),
    "nothing of it": ("{x: [n], source: [slot, n]}", "h: {state: [n], A: 0.5, input: x}\ny: linear(h, m)"),
}


@pytest.mark.parametrize("case", WHOLE)
def test_what_whole_sequences_decide_is_computed_once(case: str) -> None:
    given, graph = WHOLE[case]
    dims = "{n: 5, m: 6, q: 4, seven: 7, slot: unbounded, slot_: unbounded, w: unbounded}"
    model = ssir.compile(component(graph, given, dims), dtype=torch.float64)
    xs, others = inputs(model.graph, 2, 9), inputs(model.graph, 2, 9, seed=1)
    found, _ = decode(model, xs, 0, 9, None)
    torch.testing.assert_close(torch.stack(found, 1), ssir.reference(model, *xs)[0], rtol=1e-9, atol=1e-10)
    wholes, state, plain, other = [], None, None, deepcopy(model)
    with torch.no_grad(), model.frozen():
        for t, source in enumerate([xs[1], xs[1].clone(), others[1], others[1][:, :4], xs[1]]):
            y, state = model.step(xs[0][:, t], source, state=state)
            wanted, plain = other.step(xs[0][:, t], source, state=plain)
            torch.testing.assert_close(y, wanted, rtol=1e-9, atol=1e-10)
            assert state.packed is not None
            wholes.append(state.packed.whole)
    decides = case != "nothing of it"
    assert (wholes[0] is wholes[1]) and (wholes[1] is not wholes[2]) == decides, "kept as long as it is the same"


LAYERED = """
ssir: 1
name: layered
dims: {n: 4, q: 3, slot: unbounded}
components:
  read:
    input: {u: [slot, n]}
    graph: {y: "u + tanh(linear(u, n, over=n)) + mean(u, over=slot)"}
    output: y
  layer:
    input: {u: [n], source: [slot, n], bias: [n]}
    graph:
      deep: {stack: [read], times: 2, input: source}
      k: linear(deep, q, over=n)
      s: softmax(dot(linear(u, q), k, over=q), over=slot)
      h: {state: [n], A: 0.5, input: "dot(s, deep, over=slot)"}
      y: u + h + bias
    output: y
  plain:
    input: {u: [n], source: [slot, n], bias: [n]}
    graph: {y: "u + tanh(linear(u, n)) + max(source, over=slot)"}
    output: y
  main:
    input: {x: [n], source: [slot, n]}
    graph:
      bias: param([n], init=normal(1))
      e: {stack: [read], times: 3, input: source}
      y: {stack: [layer, plain], times: 2, input: x, with: {source: e, bias: bias}}
    output: y
main: main
"""


def test_layers_keep_what_whole_sequences_decide_of_what_they_are_given() -> None:
    model = ssir.compile(ssir.loads(LAYERED), dtype=torch.float64)
    xs = inputs(model.graph, 3, 8)
    found, end = decode(model, xs, 0, 8, None)
    whole, after = model(*xs)
    torch.testing.assert_close(torch.stack(found, 1), whole, rtol=1e-9, atol=1e-10)
    same(end, after)
    torch.testing.assert_close(whole, ssir.reference(model, *xs)[0], rtol=1e-9, atol=1e-10)


def test_a_token_outside_a_table_is_told_of_whole_sequences_too() -> None:
    given, graph = WHOLE["a mask of tokens"]
    model = ssir.compile(component(graph, given, "{n: 5, m: 6, q: 4, seven: 7, slot: unbounded}"))
    with torch.no_grad(), model.frozen(), pytest.raises(IndexError, match="not in the table"):
        model.step(torch.zeros(1, 5), torch.tensor([[1, 7]]))


def test_two_lengths_run_in_torch_and_it_says_why() -> None:
    graph = "y: x + mean(a, over=slot) + mean(b, over=w)"
    spec = component(graph, "{x: [n], a: [slot, n], b: [w, n]}", "{n: 5, slot: unbounded, w: unbounded}")
    with pytest.raises(Unfit, match="`slot` and `w` are lengths of their own"):
        print_step(spec.graph, "step")
    assert ssir.compile(spec).NATIVE is None


def test_complex_numbers_behind_an_odd_number_of_real_ones() -> None:
    graph = "h: {state: [n], A: 0.5, input: x}\nz: {state: [n], A: 'polar(0.9, x)', input: h}\ny: real(z) + h"
    model = ssir.compile(component(graph, "{x: [n]}", "{n: 3}"), dtype=torch.float64)
    x = torch.randn(1, 7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found, end = decode(model, [x], 0, 7, None)
    whole, after = model(x)
    torch.testing.assert_close(torch.stack(found, 1), whole, rtol=1e-10, atol=1e-10)
    same(end, after)


@pytest.mark.parametrize("name", ["gpt2", "griffin", "cat", "mamba", "s4"])
def test_two_continuations_of_a_state_do_not_see_each_other(name: str) -> None:
    model = ssir.compile(small(name), dtype=torch.float64)
    xs, others = inputs(model.graph, 2, 12), inputs(model.graph, 2, 12, seed=1)
    with model.frozen():  # one of them goes on in the buffers of the state
        _, state = decode(model, xs, 0, 4, None)
        before = state.fork()
        one, two = state, state
        for t in range(4, 12):
            y, one = decode(model, xs, t, t + 1, one)
            z, two = decode(model, others, t, t + 1, two)
    same(state, before)
    with torch.no_grad():
        for ys, end, last in ((xs, one, y), (others, two, z)):
            joined = [torch.cat([x[:, :4], own[:, 4:]], 1) for x, own in zip(xs, ys, strict=True)]
            whole, after = model(*joined)
            torch.testing.assert_close(last[0], whole[:, -1], rtol=1e-9, atol=1e-10)
            same(end, after)


@pytest.mark.parametrize("name", ["transformer", "griffin", "mamba", "rwkv4"])
def test_a_team_of_threads_computes_what_one_does(name: str) -> None:
    """At dims where a team is worth while."""
    wanted = {"model": 256, "layers": 2, "vocab": 300, "length": 64}
    peer: Any = registry.get("peer", name)
    model = ssir.compile(_sized(name, wanted, peer.dims(256)), dtype=torch.float64)
    xs = inputs(model.graph, 2, 40)
    found, end = decode(model, xs, 0, 40, None)
    torch.set_num_threads(1)
    alone, after = decode(model, xs, 0, 40, None)
    torch.testing.assert_close(torch.stack(found), torch.stack(alone), rtol=1e-10, atol=1e-12)
    same(end, after, 1e-11)


def test_threads_that_continue_one_state_do_not_see_each_other() -> None:
    model = ssir.compile(small("transformer"), dtype=torch.float64)
    xs = [inputs(model.graph, 1, 20, seed=seed) for seed in range(4)]
    _, start = decode(model, xs[0], 0, 3, None)
    wanted = [decode(model, x, 3, 20, start)[0][-1] for x in xs]
    for _ in range(3):
        found: dict[int, Tensor] = {}

        def run(i: int, start: State, found: dict[int, Tensor] = found) -> None:
            torch.set_num_threads(1)
            found[i] = decode(model, xs[i], 3, 20, start)[0][-1]

        with model.frozen():
            _, shared = decode(model, xs[0], 0, 3, None)
            threads = [threading.Thread(target=copy_context().run, args=(run, i, shared)) for i in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        for i in range(4):
            torch.testing.assert_close(found[i], wanted[i], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["rope", "sliding_window", "cat", "infini_attention"])
def test_registers_outgrow_their_room(name: str) -> None:
    model = ssir.compile(small(name), dtype=torch.float64)
    xs = inputs(model.graph, 1, 200)
    found, end = decode(model, xs, 0, 200, None)
    with torch.no_grad():
        whole, after = model(*xs)
    torch.testing.assert_close(torch.stack(found, 1), whole, rtol=1e-9, atol=1e-10)
    same(end, after)


@pytest.mark.parametrize("name", ["gpt2", "griffin", "lstm", "lru", "wrope"])
def test_native_steps_and_torch_take_turns(name: str) -> None:
    model = ssir.compile(small(name), dtype=torch.float64)
    xs = inputs(model.graph, 3, 12)
    reset = torch.zeros(3, 12, dtype=torch.bool)
    reset[1, 6] = True
    with torch.no_grad():
        whole, after = model(*xs, reset=reset)
        first, state = decode(model, xs, 0, 2, None)
        piece, state = model(*at(model.graph, xs, slice(2, 4)), state=state)
        more, state = decode(model, xs, 4, 6, state)
        with model.frozen():
            cleared, state = model.step(*at(model.graph, xs, 6), state=state, reset=reset[:, 6])
        chosen = state.select([2, 0, 1]).select([1, 2, 0])
        rest, end = decode(model, xs, 7, 12, chosen)
    if model.ANSWERS:
        found = rest[-1]
    else:
        found = torch.cat([torch.stack(first, 1), piece, torch.stack([*more, cleared, *rest], 1)], 1)
    torch.testing.assert_close(found, whole, rtol=1e-9, atol=1e-10)
    assert set(end) == set(after)


def test_a_state_whose_tensors_are_replaced_is_gone_on_from_as_it_is_now() -> None:
    model = ssir.compile(small("lstm"), dtype=torch.float64)
    xs = inputs(model.graph, 2, 6)
    _, state = decode(model, xs, 0, 3, None)
    changed = state.fork()
    for name in changed:
        changed[name] = state[name] = 2 * state[name]
    assert state.packed is None
    torch.testing.assert_close(decode(model, xs, 3, 4, state)[0], decode(model, xs, 3, 4, changed)[0])


def test_a_token_outside_of_the_table_is_an_error_and_the_state_goes_on() -> None:
    model = ssir.compile(small("gpt2"), dtype=torch.float64)
    xs = inputs(model.graph, 1, 6)
    _, state = decode(model, xs, 0, 3, None)
    for token in (10**6, -1):
        with pytest.raises(IndexError, match="token"):
            decode(model, [torch.full((1, 6), token)], 3, 4, state)
    found, _ = decode(model, xs, 3, 6, state)
    torch.testing.assert_close(found[-1], model(*xs)[0][:, -1], rtol=1e-9, atol=1e-10)


def test_weights_that_change_meanwhile_are_seen() -> None:
    model = ssir.compile(small("mamba"), dtype=torch.float64)
    xs = inputs(model.graph, 1, 4)
    with torch.no_grad(), model.frozen():
        _, state = model.step(*at(model.graph, xs, 0))
        for parameter in model.parameters():
            parameter.mul_(1.1)
        found, after = model.step(*at(model.graph, xs, 1), state=state)
        assert after.packed is not None
        wanted, _ = model(*at(model.graph, xs, slice(1, 2)), state=state.fork())
    torch.testing.assert_close(found, wanted[:, 0], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", ["lstm", "sliding_window"])
def test_a_hundred_thousand_steps_leave_no_more_than_a_thousand(name: str) -> None:
    model = ssir.compile(small(name))
    x = torch.tensor([1])
    state: State | None = None
    with torch.no_grad(), model.frozen():
        for step in range(100_000):
            _, state = model.step(x, state)
            if step == 1000:
                bytes, most = state.bytes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert state is not None and state.packed is not None
    assert state.bytes == bytes
    assert state.packed.rooms is None or max(state.packed.rooms.room) <= 64
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most < 10_000  # kB


def _large() -> tuple[Model, Tensor]:
    model = ssir.compile(small("lstm"), dtype=torch.float64)
    return model, inputs(model.graph, 9, 2)[0]


def test_torch_steps_where_somebody_watches_or_there_are_many_sequences() -> None:
    model, x = _large()
    seen: list[str] = []
    with torch.no_grad(), model.frozen():
        assert model.step(x[:, 0])[1].packed is None  # nine of them
        assert model.step(x[:3, 0])[1].packed is not None
        with torch.autocast("cpu", torch.bfloat16):
            assert model.step(x[:3, 0])[1].packed is None
    part = next(one for one in model.modules() if isinstance(one, nn.Linear))
    handle = part.register_forward_hook(lambda *_: seen.append("hook"))
    with torch.no_grad(), model.frozen():
        assert model.step(x[:3, 0])[1].packed is None
    handle.remove()
    assert seen == ["hook"]
    assert model.step(x[:3, 0])[1].packed is None  # gradients


class _Twice(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *given: Any) -> Any:
        found = self.inner(*given)
        return 2 * found


def _replaced(model: Model) -> None:
    path = next(name for name, one in model.named_modules() if type(one).__name__ == "Linear")
    outer, _, leaf = path.rpartition(".")
    setattr(model.get_submodule(outer), leaf, _Twice(model.get_submodule(path)))


def _wrapped(model: Model) -> None:
    layers = next(one for one in model.modules() if isinstance(one, nn.ModuleList))
    layers[0] = _Twice(layers[0])


def _patched(model: Model) -> None:
    part = next(one for one in model.modules() if type(one).__name__ == "Linear")
    before = part.forward
    part.forward = lambda x: 2 * before(x)


class _Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def _parametrised(model: Model) -> None:
    part = next(one for one in model.modules() if type(one).__name__ == "Linear")
    parametrize.register_parametrization(part, "weight", _Doubled())


def _adapted(model: Model) -> None:
    config = peft.LoraConfig(target_modules=r".*\.z", r=2, init_lora_weights=False)
    peft.inject_adapter_in_model(config, model)


@pytest.mark.parametrize("change", [_replaced, _wrapped, _patched, _parametrised, _adapted])
def test_what_somebody_has_put_into_a_model_is_called(change: Callable[[Model], None]) -> None:
    model = ssir.compile(small("mamba"), dtype=torch.float64)
    xs = inputs(model.graph, 2, 3)
    before, _ = model(*xs)
    change(model)
    model.double()
    with torch.no_grad():
        whole, _ = model(*xs)
        assert (whole - before).abs().max() > 1e-6
        with model.frozen():
            state: State | None = None
            for t in range(3):
                y, state = model.step(*at(model.graph, xs, t), state=state)
                assert state.packed is None
    torch.testing.assert_close(y, whole[:, -1], rtol=1e-9, atol=1e-11)


def test_without_a_compiler_torch_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSIR_NATIVE", "0")
    native.library.cache_clear()
    try:
        model, x = _large()
        with torch.no_grad(), model.frozen():
            assert model.step(x[:3, 0])[1].packed is None
    finally:
        monkeypatch.undo()
        native.library.cache_clear()
