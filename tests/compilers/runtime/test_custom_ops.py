"""Every kernel as an operator of torch: watched by compilers, under transforms, in every mode, and at the edge."""

import importlib.util
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ssir.compilers.runtime import custom_ops, native
from ssir.compilers.runtime.pointwise import gated, rms_norm
from ssir.compilers.runtime.scan import diagonal_scan, max_plus_scan, rotation_scan
from ssir.plugins.convolution.kernels.fir import fir
from ssir.plugins.linear_attention.kernels.chunked import key_decay, scalar_decay, turned_decay
from ssir.plugins.linear_attention.kernels.joint import joint
from ssir.plugins.linear_attention.kernels.rank_one import rank_one
from ssir.plugins.mixture.kernels import experts
from ssir.plugins.mixture.kernels.experts import top
from ssir.plugins.state_space.kernels.invariant import System

from ..loops.made import GRU, LSTM, made, made_scan
from .checks import close

Kernel = Callable[..., Any]
Case = tuple[Kernel, dict[str, Any]]


def run(a: Tensor, b: Tensor, c: Tensor, x: Tensor, h0: Tensor | None, reset: Tensor | None) -> Any:
    return System(a, b, c).run(x, h0, reset)


def steps(a: Tensor, x: Tensor, h0: Tensor | None, reset: Tensor | None) -> Any:
    return System(a).scan(x, h0, reset)


def block(
    g: Tensor, b: Tensor, k: Tensor, a: Tensor, v: Tensor, q: Tensor, h0: Any, reset: Any, read: Any = "after"
) -> Any:
    return joint(g, b, k, a, v, q, h0, reset, read, 1, [0, 1, 1])


def mixture(x: Tensor, weights: Tensor, chosen: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Any:
    return experts.experts(x, weights, chosen, 2, gate, up, down, "silu")


def cells(name: str, width: int) -> Kernel:
    """The loop of an LSTM or a GRU, its gates as one tensor [B,T,gates,n], their matrices as one [gates,n,n]."""
    order = {"cell": "ifgo", "average": "rzg"}[name]
    inputs = ", ".join(f"x{gate}: [n]" for gate in order)
    region, loop = made({"cell": LSTM, "average": GRU}[name], f"{{{inputs}}}", f"{{n: {width}}}")
    columns = [order.index(column[1]) for column in region.columns.values()]
    constants = [None if "bias" in one else order.index(one[0]) for one in region.constants.values()]
    delayed = [memory.states[0] == "m" for memory in region.memories]

    def run(gates: Tensor, R: Tensor, h0: Any, reset: Any, c0: Any = None, bn: Any = None) -> Any:
        starts = [h0 if own else c0 for own in delayed]
        given = [bn if i is None else R[i] for i in constants]
        return loop(reset, starts, [None] * len(starts), [gates[:, :, i] for i in columns], given)

    return run


def scan(text: str, inputs: str, dims: str, readout: bool = False) -> Kernel:
    """A compiled scan, given by name; what is no input is its constant."""
    made = {
        read: made_scan(f"y: {{state: {text}, read: {read}}}", inputs, dims, readout) for read in ("after", "before")
    }

    def run(h0: Any, reset: Any, read: str = "after", **given: Tensor) -> Any:
        found, loop = made[read]
        columns = [given.pop(name) for name in found.region.columns.values()]
        return loop(reset, [h0], [None], columns, list(given.values()))

    return run


def selective(n: int, m: int) -> Kernel:
    text, inputs = "[n, m], A: 'exp(g * param([n, m]))', B: b, input: u, C: c", "{g: [n], u: [n], b: [m], c: [m]}"
    return scan(text, inputs, f"{{n: {n}, m: {m}}}", True)


def draw(name: str, batch: int, time: int, state: bool, packed: bool, dtype: torch.dtype = torch.float32) -> Case:
    """A kernel and what it is given: all sizes differ, keys and values too."""
    generator = torch.Generator().manual_seed(1)

    def some(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=generator, dtype=torch.float64).to(dtype)

    def gates(*sizes: int) -> Tensor:
        return -torch.rand(sizes, generator=generator, dtype=torch.float64).to(dtype)

    def memory(*sizes: int) -> Tensor | None:
        return some(batch, *sizes) if state else None

    reset = torch.rand(batch, time, generator=generator) < 0.2 if packed else None
    lead = (batch, time)
    q, k, v = some(*lead, 2, 4), some(*lead, 2, 4), some(*lead, 4, 5)
    attention = {"q": q, "k": k, "v": v, "h0": memory(4, 4, 5), "reset": reset}
    match name:
        case "diagonal":
            return diagonal_scan, {"a": gates(*lead, 7), "b": some(*lead, 7), "h0": memory(7), "reset": reset}
        case "gated":
            return scan("[n], A: a, input: b", "{a: [n], b: [n]}", "{n: 7}"), {
                "a": gates(*lead, 7),
                "b": some(*lead, 7),
                "h0": memory(7),
                "reset": reset,
            }
        case "max_plus":
            return max_plus_scan, {"a": gates(*lead, 1), "b": some(*lead, 7), "h0": memory(7), "reset": reset}
        case "rotation":
            given = {"decay": gates(*lead, 3), "angle": some(*lead, 3), "b": some(*lead, 6), "h0": memory(6)}
            return rotation_scan, given | {"reset": reset}
        case "selective":
            given = {"g": -gates(*lead, 7), "L": gates(7, 3), "u": some(*lead, 7)}
            given |= {"b": some(*lead, 3), "c": some(*lead, 3)}
            return selective(7, 3), given | {"h0": memory(7, 3), "reset": reset}
        case "cell":
            given = {"gates": some(*lead, 4, 7), "R": some(4, 7, 7) / 3, "h0": memory(7), "c0": memory(7)}
            return cells(name, 7), given | {"reset": reset}
        case "average":
            given = {"gates": some(*lead, 3, 7), "R": some(3, 7, 7) / 3, "bn": some(7), "h0": memory(7)}
            return cells(name, 7), given | {"reset": reset}
        case "fir":
            given = {"x": some(*lead, 7), "w": some(4, 7), "history": memory(3, 7), "bias": some(7)}
            return fir, given | {"reset": reset}
        case "fir_long":
            return fir, {"x": some(*lead, 7), "w": some(50, 1) / 7, "history": memory(49, 7), "reset": reset}
        case "scalar":
            return scalar_decay, attention | {"g": gates(*lead, 4)}
        case "key":
            return key_decay, attention | {"g": gates(*lead, 4, 4), "read": "before"}
        case "turned":
            return turned_decay, attention | {"angle": some(*lead, 2, 2), "g": gates(*lead, 4)}
        case "rank_one":
            wide = {"q": some(*lead, 4, 4), "k": some(*lead, 4, 4), "a": some(*lead, 4, 4) / 8, "b": some(*lead, 4, 4)}
            return rank_one, attention | wide | {"g": gates(*lead, 4, 4)}
        case "joint":
            given = {"g": -gates(*lead, 4, 2, 2) / 2, "b": some(*lead, 4, 3) / 4, "k": some(*lead, 4, 2, 3) / 2}
            given |= {"a": some(*lead, 4, 2, 2) / 4, "v": some(*lead, 4, 2, 5), "q": some(*lead, 4, 3, 3)}
            return block, given | {"h0": memory(4, 2, 3, 5), "reset": reset}
        case "system":
            given = {"a": -gates(2, 6), "b": some(2, 6, 3), "c": some(2, 4, 6), "x": some(*lead, 2, 3)}
            return run, given | {"h0": memory(2, 6), "reset": reset}
        case "system_scan":
            return steps, {"a": -gates(2, 6), "x": some(*lead, 2, 6), "h0": memory(2, 6), "reset": reset}
        case _:
            weights = torch.softmax(some(*lead, 5), -1)
            given = {"x": some(*lead, 3), "weights": weights, "chosen": top(weights, -1, 2)}
            return mixture, given | {"gate": some(5, 6, 3), "up": some(5, 6, 3), "down": some(5, 4, 6)}


RECURRENT = [
    "gated",
    "diagonal",
    "max_plus",
    "rotation",
    "selective",
    "cell",
    "average",
    "fir",
    "fir_long",
    "scalar",
    "key",
]
RECURRENT += ["turned", "rank_one", "joint", "system", "system_scan"]
NAMES = [*RECURRENT, "experts"]
STATES = ("h0", "c0", "history")
TIMED = {"a", "b", "decay", "angle", "g", "u", "c", "gates", "x", "q", "k", "v"}
STILL = {"system": {"a", "b", "c"}, "system_scan": {"a"}}


def outputs(found: Any) -> tuple[Tensor, ...]:
    return (found,) if isinstance(found, Tensor) else tuple(found)


def leaves(given: dict[str, Any]) -> dict[str, Any]:
    """Copies that ask for gradients; what is chosen has none."""
    return {
        name: x.detach().clone().requires_grad_() if is_real(x) and name != "chosen" else x for name, x in given.items()
    }


def is_real(x: Any) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point()


def results(kernel: Kernel, given: dict[str, Any]) -> dict[str, Tensor]:
    """Outputs, and the gradients of all inputs."""
    given = leaves(given)
    found = outputs(kernel(**given))
    return {f"output {i}": y.detach() for i, y in enumerate(found)} | gradients(found, given)


def gradients(found: tuple[Tensor, ...], given: dict[str, Any]) -> dict[str, Tensor]:
    wanted = {name: x for name, x in given.items() if isinstance(x, Tensor) and x.requires_grad}
    weights = [torch.linspace(-1, 2, y.numel(), dtype=y.dtype, device="cpu").view(y.shape) for y in found]
    grads = torch.autograd.grad(found, list(wanted.values()), weights, allow_unused=True)
    return {f"gradient of {name}": g for name, g in zip(wanted, grads, strict=True) if g is not None}


def agree(got: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-4) -> None:
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        close(name, got[name], value, tolerance)


# Watched


def watched(monkeypatch: pytest.MonkeyPatch, kernel: Kernel, given: dict[str, Any]) -> tuple[Any, tuple[Any, ...]]:
    """The operator that a kernel is to who watches, and what it is given."""
    found: list[tuple[Any, tuple[Any, ...]]] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if op.namespace.startswith("ssir") and not op._opname.endswith("_backward"):
                found.append((op, args))
            return op(*args, **(kwargs or {}))

    with monkeypatch.context() as patch, Watch():  # type: ignore[no-untyped-call]
        patch.setattr(native, "watched", lambda: bool(torch._C._len_torch_dispatch_stack()))
        kernel(**given)
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("batch", "time", "full"), [(1, 1, True), (3, 63, False), (2, 70, True)])
def test_operators_hold_what_they_say(
    monkeypatch: pytest.MonkeyPatch, name: str, batch: int, time: int, full: bool
) -> None:
    torch.use_deterministic_algorithms(False)
    op, args = watched(monkeypatch, *draw(name, batch, time, full, full))
    # Copies: torch cannot make a fake of a complex view of real numbers.
    args = tuple(x.detach().clone() if isinstance(x, Tensor) else x for x in args)
    args = tuple(x.requires_grad_() if is_real(x) or (isinstance(x, Tensor) and x.is_complex()) else x for x in args)
    torch.library.opcheck(op, args)
    found = outputs(op(*args))
    needed = [isinstance(x, Tensor) and x.requires_grad for x in args]
    backward = getattr(torch.ops.ssir, f"{op._opname}_backward").default
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(backward, ([torch.ones_like(y) for y in found], needed, *args), test_utils=tests)


@pytest.mark.parametrize("name", NAMES)
def test_compiled_whole_with_gradients(name: str) -> None:
    torch._dynamo.reset()
    kernel, given = draw(name, 2, 20, True, True)
    compiled = torch.compile(kernel, fullgraph=True, backend="aot_eager", dynamic=True)
    agree(results(compiled, given), results(kernel, given))


@pytest.mark.parametrize("name", NAMES)
def test_exported_once_for_all_lengths(name: str) -> None:
    kernel, given = draw(name, 2, 20, True, True)

    class Whole(torch.nn.Module):
        def forward(self, given: dict[str, Any]) -> Any:
            return kernel(**given, **fixed)

    fixed = {key: x for key, x in given.items() if not isinstance(x, Tensor)}
    given = {key: x for key, x in given.items() if isinstance(x, Tensor)}
    time = torch.export.Dim("time", min=2, max=512)
    still = STILL.get(name, set())
    moves = {
        key: {1: time} if x.dim() > 1 and x.shape[1] == 20 and key not in still else None for key, x in given.items()
    }
    program = torch.export.export(Whole(), (given,), dynamic_shapes=(moves,), strict=False)
    for length in (2, 33, 130):
        kernel, longer = draw(name, 2, length, True, True)
        longer = {key: x for key, x in longer.items() if isinstance(x, Tensor)}
        wanted = outputs(kernel(**longer, **fixed))
        for y, expected in zip(outputs(program.module()(longer)), wanted, strict=True):
            close(f"{length} steps", y, expected, 1e-5)


def test_copies_of_the_sources_share_their_operators_and_others_have_their_own(tmp_path: Path) -> None:
    folder = Path(custom_ops.__file__).parent

    def loaded(name: str, change: str) -> Any:
        target = tmp_path / name / "compilers" / "runtime"
        target.mkdir(parents=True)
        for path in folder.iterdir():
            if path.is_file():
                (target / path.name).write_text(path.read_text())
        (target / "support.py").write_text((target / "support.py").read_text() + change)
        spec = importlib.util.spec_from_file_location(
            name, target / "__init__.py", submodule_search_locations=[str(target)]
        )
        assert spec and spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        return importlib.import_module(f"{name}.scan")

    same, other = loaded("same_runtime", ""), loaded("other_runtime", "\n\nother = 1\n")
    copies = [sys.modules[f"{name}.custom_ops"] for name in ("same_runtime", "other_runtime")]
    names = [copy._namespace(Path(copy.__file__ or "").parent) for copy in copies]
    assert names[0] == "ssir"
    assert names[1].startswith("ssir_")
    x = torch.rand(2, 5, 3)
    for module in (same, other):
        compiled: Any = torch.compile(module.diagonal_scan, fullgraph=True, backend="aot_eager")
        close("h", compiled(x, x)[0], diagonal_scan(x, x)[0], 1e-6)


# Transforms


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_gradients_for_any_layout(way: str, name: str) -> None:
    kernel, given = draw(name, 2, 3, True, True, torch.float64)
    real = {key: x for key, x in given.items() if is_real(x) and key != "chosen"}
    rest = {key: x for key, x in given.items() if key not in real}
    turned = [x.mT.contiguous().mT.requires_grad_() if x.dim() > 1 else x.requires_grad_() for x in real.values()]

    def function(*xs: Tensor) -> Any:
        return kernel(**dict(zip(real, xs, strict=True)), **rest)

    torch.autograd.gradcheck(function, turned, fast_mode=True)
    weights = [torch.randn_like(y.mT if y.dim() > 1 else y) for y in outputs(function(*turned))]
    for w in weights:
        w.requires_grad_()
    laid = [w.mT if w.dim() > 1 else w for w in weights]
    torch.autograd.gradgradcheck(function, turned, laid, fast_mode=True)


def test_one_tensor_in_two_places_has_a_gradient_in_each() -> None:
    x = torch.rand(1, 6, 3, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradgradcheck(lambda x: diagonal_scan(x, x)[0], (x,))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # torch's own, at its first tangent
@pytest.mark.parametrize("name", NAMES)
def test_transforms_of_functions(way: str, name: str) -> None:
    kernel, given = draw(name, 2, 40, True, True, torch.float64)
    moving = next(key for key in ("b", "u", "gates", "x", "v") if key in given and key not in STILL.get(name, ()))

    def function(x: Tensor) -> Tensor:
        return outputs(kernel(**{**given, moving: x}))[0]

    x, t = given[moving], torch.randn_like(given[moving])
    batch = torch.stack([x, 2 * x, x + 1])
    close("vmap", torch.vmap(function)(batch), torch.stack([function(one) for one in batch]), 1e-10)
    leaf = x.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(function(leaf).square().sum(), leaf)
    got = torch.func.grad(lambda x: function(x).square().sum())(x)
    close("grad", got, wanted, 1e-10)
    ones = torch.func.vmap(torch.func.grad(lambda x: function(x).square().sum()))(batch)
    close("gradients of each", ones[0], wanted, 1e-10)
    y, tangent = torch.func.jvp(function, (x,), (t,))[:2]
    close("y", y, function(x), 1e-10)
    near = (function(x + 1e-6 * t) - function(x - 1e-6 * t)) / 2e-6
    close("jvp", tangent, near, 1e-6)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, t)
        close("dual", torch.autograd.forward_ad.unpack_dual(function(dual)).tangent, tangent, 1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_checkpointing(way: str, name: str) -> None:
    kernel, given = draw(name, 2, 20, True, False)

    def checkpointed(**given: Any) -> Any:
        return torch.utils.checkpoint.checkpoint(kernel, use_reentrant=False, **given)

    agree(results(checkpointed, given), results(kernel, given))


# Modes


MODES = [*NAMES, "rms_norm", "gated"]


def drawn(name: str) -> Case:
    if name in NAMES:
        return draw(name, 2, 40, True, True)
    x = torch.linspace(-2, 3, 2 * 40 * 128, device="cpu").view(2, 40, 128)
    if name == "rms_norm":
        return lambda x, w: rms_norm(x, w, 1e-5), {"x": x, "w": x[0, 0]}
    return lambda x, b: gated(x, b, "silu"), {"x": x, "b": x + 1}


@pytest.mark.parametrize("name", MODES)
@pytest.mark.parametrize(("forward", "backward"), [*itertools.product([False, True], repeat=2)])
def test_autocast_around_either_pass(way: str, name: str, forward: bool, backward: bool) -> None:
    kernel, given = drawn(name)
    wanted = results(kernel, given)
    given = leaves(given)
    with torch.autocast("cpu", torch.bfloat16, enabled=forward):
        found = outputs(kernel(**given))
    with torch.autocast("cpu", torch.bfloat16, enabled=backward):
        got = {f"output {i}": y.detach() for i, y in enumerate(found)} | gradients(found, given)
    # What PyTorch's own operations do in a backward pass inside autocast is theirs; mixtures follow autocast.
    exact = name != "experts" and not backward
    agree(got, wanted, 1e-4 if exact else 0.1)
    assert all(got[key].dtype == x.dtype for key, x in wanted.items())


@pytest.mark.parametrize("name", ["diagonal", "selective", "cell", "average", "fir", "rms_norm", "gated"])
def test_autocast_does_not_touch_native_code(name: str) -> None:
    if not native.available():
        pytest.skip(native.reason())
    kernel, given = drawn(name)
    with torch.autocast("cpu", torch.bfloat16):
        got = results(kernel, given)
    agree(got, results(kernel, given), 1e-6)


@pytest.fixture
def defaults() -> Iterator[None]:
    yield
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", MODES)
def test_defaults_are_not_looked_at(way: str, name: str, defaults: None) -> None:
    kernel, given = drawn(name)
    wanted = results(kernel, given)
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    got = results(kernel, given)
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)
    agree(got, wanted, 1e-6)
    assert all(got[key].dtype == x.dtype for key, x in wanted.items())


@pytest.mark.parametrize("name", MODES)
def test_inference_mode(way: str, name: str) -> None:
    kernel, given = drawn(name)
    wanted = outputs(kernel(**given))
    with torch.inference_mode():
        given = {key: x.clone() if isinstance(x, Tensor) else x for key, x in given.items()}
        for y, expected in zip(outputs(kernel(**given)), wanted, strict=True):
            close("y", y, expected, 1e-6)


@pytest.mark.parametrize("name", ["diagonal", "selective", "cell", "average", "fir", "scalar", "system"])
def test_one_thread_or_two(name: str) -> None:
    kernel, given = draw(name, 4, 300, True, True)
    given = {
        key: x.repeat_interleave(30, -1) if name in ("diagonal", "fir") and is_real(x) else x
        for key, x in given.items()
    }
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(results(kernel, given))
    finally:
        torch.set_num_threads(before)
    agree(found[1], found[0], 1e-5)


# The edge


@pytest.mark.parametrize("name", RECURRENT)
@pytest.mark.parametrize(("batch", "time"), [(2, 0), (0, 3), (0, 0)])
@pytest.mark.parametrize("full", [False, True])
def test_no_steps_leave_the_state_as_it_is(way: str, name: str, batch: int, time: int, full: bool) -> None:
    kernel, given = draw(name, batch, time, full, full)
    found = outputs(kernel(**leaves(given)))
    assert found[0].shape[:2] == (batch, time)
    if len(found) > 1 and name != "cell":
        state = next((x for key, x in given.items() if key in STATES), None)
        assert found[1].shape[0] == batch
        wanted = torch.zeros_like(found[1]) if state is None else state
        if name == "max_plus" and state is None:
            wanted = wanted - torch.inf
        if time == 0:
            assert torch.equal(found[1], wanted)


@pytest.mark.parametrize("name", RECURRENT)
@pytest.mark.parametrize("read", ["after", "before"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_nothing_gets_back_in_time(way: str, name: str, read: str, bad: float) -> None:
    kernel, given = draw(name, 2, 90, True, False)
    if "read" in kernel.__code__.co_varnames or name in ("scalar", "key", "turned", "rank_one", "selective"):
        given["read"] = read
    wanted = outputs(kernel(**given))[0]
    timed = [key for key in given if key in TIMED and key not in STILL.get(name, ())]
    for key in timed:
        spoiled = given[key].clone()
        spoiled[0, 70:73] = bad
        found = outputs(kernel(**{**given, key: spoiled}))
        close(f"before {key}", found[0][:, :70], wanted[:, :70], 1e-5)
        close(f"beside {key}", found[0][1], wanted[1], 1e-5)
        if bad != bad and key in ("b", "u", "gates", "x", "v") and name != "max_plus":
            assert not found[0][0, 73:].isfinite().all(), f"NaN in {key} has gone"


@pytest.mark.parametrize("name", RECURRENT)
@pytest.mark.parametrize("at", [0, 37])
def test_a_reset_shuts_out_what_is_not_finite(way: str, name: str, at: int) -> None:
    kernel, given = draw(name, 2, 90, True, True)
    given["reset"][:, : at + 1] = False
    given["reset"][:, at] = True

    def seen(given: dict[str, Any]) -> dict[str, Tensor]:
        given = leaves(given)
        found = list(outputs(kernel(**given)))
        found[0] = found[0][:, at:]
        if name == "cell":
            found[1] = found[1][:, at:]
        grads = gradients(tuple(found), given)
        if at:  # what stands before it in the same row is not finite, and so are its gradients
            kept = [key for key in given if key in TIMED and key not in STILL.get(name, ())]
            grads = {f"gradient of {key}": grads[f"gradient of {key}"][:, at:] for key in kept}
        return {f"output {i}": y.detach() for i, y in enumerate(found)} | grads

    wanted = seen(given)
    spoiled = {key: torch.full_like(x, torch.nan) if key in STATES else x for key, x in given.items()}
    spoiled["h0" if "h0" in spoiled else "history"][0] = torch.inf
    agree(seen(spoiled), wanted, 1e-4)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in RECURRENT
        if name not in ("gated", "selective", "cell", "average", "joint", "system", "system_scan")
    ],
)
def test_wide_results_of_narrow_data(way: str, name: str) -> None:
    kernel, given = draw(name, 2, 20, True, True, torch.bfloat16)
    wide, narrow = kernel(**given, wide=True), kernel(**given)
    assert wide[0].dtype == wide[1].dtype == narrow[1].dtype == torch.float32
    assert narrow[0].dtype == torch.bfloat16
    assert torch.equal(wide[0].bfloat16(), narrow[0])
