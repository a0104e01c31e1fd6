"""Every function of the language: what is compiled against the meaning, over a sequence, step by step, and through gradients."""

from __future__ import annotations

import textwrap

import pytest
import torch
from torch import Tensor

import ssir
from ssir.ir.ops.elementwise import UNARY
from ssir.registry import registry

DIMS = "{a: 3, b: 4, c: 5, half: 2, tall: 2, wide: 12, slot: 3, both: 7, entry: 6, a2: 3, a3: 3, b2: 4}"

EXPRESSIONS = {
    "neg": "neg(x)",
    "exp": "exp(x)",
    "expm1": "expm1(x)",
    "log": "log(square(x) + 0.5)",
    "log1p": "log1p(square(x))",
    "sqrt": "sqrt(square(x) + 0.5)",
    "rsqrt": "rsqrt(square(x) + 0.5)",
    "square": "square(x)",
    "abs": "abs(x)",
    "sign": "x * sign(x - 0.1)",
    "floor": "x * floor(3 * x)",
    "ceil": "x * ceil(3 * x)",
    "round": "x * round(3 * x)",
    "sin": "sin(x)",
    "cos": "cos(x)",
    "tan": "tan(x)",
    "tanh": "tanh(x)",
    "arctan": "arctan(x)",
    "sigmoid": "sigmoid(x)",
    "logsigmoid": "logsigmoid(4 * x)",
    "silu": "silu(x)",
    "gelu": "gelu(x)",
    "gelu_tanh": "gelu_tanh(x)",
    "relu": "relu(x)",
    "elu": "elu(x)",
    "softplus": "softplus(4 * x)",
    "reciprocal": "reciprocal(x + 3)",
    "erf": "erf(x)",
    "real": "real(complex(x, 2 * x) * complex(x, 1))",
    "imag": "imag(complex(x, 2 * x) * complex(x, 1))",
    "conj": "imag(conj(complex(x, 2 * x)) * complex(1, x))",
    "complex": "real(complex(x, w) * complex(w, x))",
    "polar": "imag(polar(x, w) * polar(w, x))",
    "stop_gradient": "x * stop_gradient(x)",
    "float32": "x * float32(x)",
    "dropout": "dropout(x, 0.3)",
    "inverse": "inverse(x + 3)",
    "apply": "apply(inverse(w + 5), x) + apply(x, w)",
    "cumsum": "cumsum(x)",
    "cummean": "cummean(x)",
    "cummax": "cummax(x)",
    "pool": "x * pool(x) + pool(w * x, by=max) + pool(x, by=first) + x * pool(x, by=last)",
    "add": "x + w",
    "sub": "w - x",
    "sub a number": "2 - x",
    "mul": "x * w",
    "div": "w / (x + 3)",
    "div by a number": "x / 3",
    "pow": "square(x) ** 1.5",
    "power of a power": "(square(x) + 1) ** (w + 1)",
    "mod": "x % 0.7",
    "mod of a negative": "(-3 * x) % (square(w) + 0.5)",
    "maximum": "maximum(x, w)",
    "minimum": "minimum(x, w)",
    "lt": "where(x < w, x, 2 * w)",
    "le": "where(position <= 2, x, 2 * w)",
    "gt": "where(x > w, x, 2 * w)",
    "ge": "where(position >= 2, x, 2 * w)",
    "eq": "where(position == 2, x, 2 * w)",
    "ne": "where(position != 2, x, 2 * w)",
    "where": "where(start, x, w)",
    "position": "x * position",
    "clamp": "clamp(x, low=-0.5, high=0.7)",
    "clamp below": "clamp(x, low=-0.5)",
    "sum": "sum(x * w, over=b)",
    "mean": "mean(x * w, over=a)",
    "max": "max(x, over=b)",
    "min": "min(x, over=[a, b])",
    "softmax": "softmax(x, over=a) * w",
    "softmax over two": "softmax(x, over=[a, b]) * w",
    "dot": "dot(x, linear(x, [b, c]), over=b)",
    "dot over two": "dot(x, linear(x, [b, a]), over=[a, b])",
    "rms_norm": "rms_norm(x, over=b)",
    "layer_norm": "layer_norm(x, over=a)",
    "layer_norm over two": "layer_norm(x, over=[a, b])",
    "group_norm": "group_norm(x, over=b)",
    "l2_norm": "l2_norm(x, over=a)",
    "linear": "linear(x, [c, half])",
    "linear over one": "linear(x, c, over=a, bias=true, bias_init=normal(1))",
    "linear per": "linear(x, c, per=a, bias=true, bias_init=normal(1))",
    "linear over the first per the last": "linear(x, c, per=b)",
    "embed": "x * embed(position % 6, entry, b)",
    "rename": "rename(x, b=b2) * rename(x, a=a2)",
    "split": "linear(split(x, [half, tall], axis=b), c, over=[half], bias=true)",
    "merge": "merge(x, [a, b], wide)",
    "merge turned": "merge(x, [b, a], wide)",
    "concat": "concat([x, linear(x, [a, a3])], both)",
    "pack": "linear(pack([x, w * x], half), c, over=[half, b])",
    "slice of no other name": "concat([slice(x, b, 2, 4), slice(x, b, 0, 2)], b)",
    "slice": "slice(x, b, 1, 3, out=half) * slice(x, b, stop=2, out=half)",
    "select": "select(x, b, position % 4)",
    "select a number": "select(x, b, 1) * 2",
    "expand": "expand(sum(x, over=b), [c])",
    "arange": "x * arange(a)",
    "eye": "dot(x, eye([b, b_]), over=b)",
    "array": "dot(x, array([[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 1, 2], [3, 4, 5, 6]], [b, b_]), over=b)",
    "param": "x * param([a], init=normal(1))",
    "matmul": "dot(matmul(m, m, half), linear(x, half_), over=half_)",
    "expm": "dot(expm(m, half), linear(x, half_), over=half_)",
    "solve": "solve(m + 3 * eye([half, half_]), linear(x, half), half)",
    "window": "sum(window(x, slot) * param([slot], init=normal(1)), over=slot)",
    "delay": "delay(x, steps=2) + delay(x)",
    "hold": "hold(x, every=3)",
    "rotate": "rotate(x, w2 + position * arange(half), over=b)",
    "rotate halves": "rotate(x, w2 + position * arange(half), over=b, pairs=halves)",
    "top": "x * top(x + w, 2, over=b)",
    "experts": "experts(x, softmax(linear(x, c), over=c) * top(linear(x, c), 2, over=c), c, half, both)",
    "experts of all": "experts(x, sigmoid(linear(x, c)), c, half, both, gated=false, activation=gelu)",
    "outer": "system(1 - outer(l2_norm(x, over=b), l2_norm(x, over=b) * 0.5, over=b))",
    "dense": "system(dense(0.3 * d, over=b))",
    "shift": "system(shift(b) * 0.5)",
}
# What reads the future: tests/compilers/test_context.py; a buffer is a param that is not learned: tests/reference.
ELSEWHERE = {"context", "reverse", "buffer"}


def one(expression: str) -> ssir.Spec:
    system = expression.removeprefix("system(").removesuffix(")") if expression.startswith("system(") else None
    y = f"{{state: [a, b], A: '{system}', input: x}}" if system else f"'{expression}'"
    return ssir.loads(
        f"ssir: 1\nname: one\ndims: {DIMS}\ncomponents:\n  main:\n    input: {{x: [a, b]}}\n    graph:\n"
        "      w: param([b], init=normal(1))\n      w2: param([half], init=normal(1))\n"
        "      m: param([half, half_], init=normal(1))\n      d: param([b, b_], init=normal(1))\n"
        f"      y: {y}\n    output: y\nmain: main\n"
    )


def test_every_function_is_compared() -> None:
    known = {name for name, _ in registry.all("function")}
    text = " ".join(EXPRESSIONS.values())
    assert {name for name in known if f"{name}(" not in text} <= ELSEWHERE


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_what_is_compiled_means_what_is_written(name: str) -> None:
    model = ssir.compile(one(EXPRESSIONS[name]), dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 7, 3, 4, dtype=torch.float64, generator=generator)
    found = results(model, lambda x, reset: model(x, reset=reset)[0], x)
    wanted = results(model, lambda x, reset: ssir.reference(model, x, reset=reset)[0], x)
    for what, ours, theirs in zip(("y", "dx", "gradients"), found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9, msg=f"{name}: {what}")
    with torch.no_grad():
        state = model.initial_state(2)
        for t in range(7):
            y, state = model.step(x[:, t], state=state, reset=RESET[:, t])
            torch.testing.assert_close(y, wanted[0][:, t], rtol=1e-9, atol=1e-9, msg=f"{name}: step {t}")


SCALE = [10.0**k for k in range(-6, 3)] + [3.0, 15.0, 19.0, 21.0, 30.0, 36.0, 39.0, 41.0, 88.0, 89.0, 700.0]


@pytest.mark.parametrize("op", sorted(UNARY - {"real", "imag", "conj", "detach", "final"}))
def test_functions_are_right_at_every_size(op: str) -> None:
    """Also where exp overflows, and where a short cut would do in float32."""
    text = f"ssir: 1\nname: one\ndims: {{n: {2 * len(SCALE)}, m: 4}}\ncomponents: {{main: {{input: {{x: [n, m]}}, graph: {{y: '{op}(x)'}}, output: y}}}}\nmain: main\n"
    spec = ssir.loads(text)
    line = torch.tensor([sign * size for size in SCALE for sign in (1, -1)], dtype=torch.float64)
    near = torch.linspace(0.97, 1.03, 4 * 30, dtype=torch.float64).view(30, 1, 4)
    for dtype, close in ((torch.float64, 1e-14), (torch.float32, 2e-6)):
        model = ssir.compile(spec, dtype=dtype)
        x = (line[:, None] * near).to(dtype)[None].requires_grad_()
        exact = x.detach().double().requires_grad_()
        found, wanted = model(x)[0], ssir.reference(model, exact)[0]
        slope, steep = (torch.autograd.grad(y.sum(), at)[0] for y, at in ((found, x), (wanted, exact)))
        pairs: list[tuple[str, Tensor, Tensor]] = [("value", found, wanted), ("slope", slope, steep)]
        for what, one, other in pairs:
            inside = other.abs() < torch.finfo(dtype).max / 4
            error = ((one.double() - other).abs() / (1 + other.abs() + exact.abs()))[inside]
            assert error.max() <= close, (
                what,
                dtype,
                float(exact.detach()[inside][error.argmax()]),
                float(error.max()),
            )


RESET = torch.zeros(2, 7, dtype=torch.bool)
RESET[1, 4] = True


def results(model: torch.nn.Module, run, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[no-untyped-def]
    """y, its gradient by x, and those by all parameters in one row."""
    x = x.clone().requires_grad_()
    model.zero_grad()
    y = run(x, RESET)
    weight = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    leaves = [x, *model.parameters()]
    given = torch.autograd.grad((y * weight).sum(), leaves, allow_unused=True)
    dx, *rest = (torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, given, strict=True))
    return y.detach(), dx, torch.cat([torch.zeros(1, dtype=torch.float64), *(g.flatten() for g in rest)])


@pytest.mark.parametrize(
    "value",
    [
        "x",
        "position * x",
        "arange(a) * x",
        "param([a], init=ones, dtype=float32) * x",
        "delay(x)",
        "delay(position * x)",
        "window(x, slot)",
        "window(position * x, slot)",
        "hold(x, every=2)",
        "hold(position * x, every=2)",
        "delay(hold(x, every=2))",
        "delay(delay(x))",
        "window(delay(x), slot)",
        "window(hold(x, every=2), slot)",
    ],
)
def test_what_is_wide_enters_a_product_as_data_and_memories_are_kept_as_is_said(value: str) -> None:
    made = {
        dtype: ssir.compile(one(f"linear({value}, c, over=b)"), dtype=dtype)
        for dtype in (torch.float64, torch.bfloat16)
    }
    x = torch.randn(2, 7, 3, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.no_grad():
        wanted, _ = made[torch.float64](x.double(), reset=RESET)
        narrow = made[torch.bfloat16]
        y, after = narrow(x, reset=RESET)
        state, steps = narrow.initial_state(2), []
        for t in range(7):
            out, state = narrow.step(x[:, t], state=state, reset=RESET[:, t])
            steps.append(out)
    for name, memory in narrow.signature.memories.items():
        assert after[name].dtype == state[name].dtype == memory.dtype, name
    for found in (y, torch.stack(steps, 1)):
        assert found.dtype == torch.bfloat16
        assert (found.double() - wanted).abs().max() <= 0.03 * wanted.abs().max()


def test_what_is_said_to_be_wide_is_so_until_a_product_takes_it() -> None:
    text = """
      s: linear(x, n)
      narrow: (s + 1000) - 1000
      wide: (float32(s) + 1000) - 1000
      whole: float32(s)
      mixed: silu(float32(s)) * x
      taken: linear(float32(s), n)
      normed: layer_norm(float32(s), over=n)
      by: float32(param([n], init=ones)) * s
    output: [narrow, wide, whole, mixed, taken, normed, by]
"""
    spec = ssir.loads(
        f"ssir: 1\nname: wide\ndims: {{n: 5}}\ncomponents:\n  main:\n    input: {{x: [n]}}\n    graph:{text}main: main\n"
    )
    x = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0)).bfloat16()
    model = ssir.compile(spec, dtype="bfloat16")
    for y in (
        model(x)[0],
        {name: one[:, None] for name, one in model.step(x[:, 0], model.initial_state(2))[0].items()},
    ):
        kinds = {name: one.dtype for name, one in y.items()}
        assert kinds == dict.fromkeys(kinds, torch.bfloat16) | {"whole": torch.float32}
        whole = y["whole"].bfloat16()
        assert torch.equal(y["wide"], whole) and torch.equal(y["by"], whole)
        assert (y["narrow"] - whole).abs().max() > 0.1
    sum(one.float().square().sum() for one in model(x)[0].values()).backward()
    assert all(p.grad is not None for p in model.parameters())
    exact = ssir.compile(spec, dtype="float64")
    assert all(one.dtype == torch.float64 for one in exact(x.double())[0].values())


@pytest.mark.parametrize("form", ["scan", "selective scan", "chunked, decay by key"])
def test_what_parameters_decide_loses_no_digits_in_bfloat16(form: str) -> None:
    """A memory of a thousand steps: its decay as a number of bfloat16 would be one of 256 steps, or of none."""
    graph = "h: {state: [k, n], A: 'exp(-exp(param([k], name=rate)))', B: k0, input: x, C: q}\ny: h * 1"
    text = "ssir: 1\nname: slow\ndims: {k: 3, n: 5}\ncomponents:\n  main:\n    input: {x: [n], k0: [k], q: [k]}\n    graph:\n"
    text += textwrap.indent(graph, "      ") + "\n    output: y\nmain: main\n"
    draw = torch.Generator().manual_seed(0)
    given = [torch.rand(1, 1500, size, generator=draw).bfloat16() for size in (5, 3, 3)]
    found = []
    for dtype in (torch.bfloat16, torch.float64):
        model = ssir.compile(ssir.loads(text), dtype=dtype, forms={"h": form})
        with torch.no_grad():
            next(model.parameters()).copy_(-torch.tensor([6.9, 6.0, 5.0]).bfloat16())
            found.append(model(*(x.to(dtype) for x in given))[0].double())
    assert (found[0] - found[1]).abs().max() < 0.01 * found[1].abs().max()
