"""What the language means, by the reference: every rule of it against a few lines that say the same in torch."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

import ssir
from ssir import passes
from ssir.errors import SpecError
from ssir.ir.graph import Graph
from ssir.reference.interpreter import Interpreter, State
from ssir.spec.load import Spec, load, loads
from tests.oracles.compare import close, parameters, random_like

TIME, BATCH = 7, 2
DIMS = "n: 4, half: 2, m: 3, r: 2, slot: 3, all: unbounded, layers: 3"
SPECS = Path(__file__).parents[1] / "specs"


WAYS = ["reference", "compiled"]
"""How the language is run here: by the reference interpreter, or compiled."""


@pytest.fixture(params=WAYS, autouse=True)
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs every test of this module in every way."""
    global _way
    _way = request.param
    yield _way


_way = "reference"


@dataclass(frozen=True)
class Case:
    """A spec and its IR after all passes, or as it was written."""

    spec: Spec
    graph: Graph


def spec(graph: str, more: str = "", inputs: str = "x: [n]", output: str = "y") -> Case:
    """The IR of a graph with the input x[n] and the output y; ``more`` are further components."""
    text = f"ssir: 1\nname: test\ndims: {{{DIMS}}}\ncomponents:\n  whole:\n    input: {{{inputs}}}\n    graph:\n"
    text += textwrap.indent(textwrap.dedent(graph).strip(), " " * 6)
    text += f"\n    output: {output}\n" + textwrap.indent(textwrap.dedent(more), "  ") + "\nmain: whole\n"
    return case(loads(text))


def case(spec: Spec) -> Case:
    return Case(spec, passes.run(spec.graph, check=True))


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def filled(one: Case, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {key: [size or 0 for size in node.type.sizes] for key, node in parameters(one.graph)}
    return {key: random_like(torch.zeros(shape), generator) for key, shape in shapes.items()}


def run(
    one: Case,
    x: Tensor,
    params: Mapping[str, Tensor] | None = None,
    state: State | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, State]:
    weights = filled(one) if params is None else params
    if _way == "compiled":
        return compiled(one, weights)(x, state=state, reset=reset)
    name = one.graph.inputs[0].name
    outputs, after = Interpreter(one.graph, weights).run({name: x}, state, reset)
    return next(iter(outputs.values())), after


def compiled(one: Case, weights: Mapping[str, Tensor]) -> Callable[..., tuple[Tensor, State]]:
    from ssir.api import compile

    model = compile(one.spec, dtype=torch.float64)
    for name, param in model.named_parameters():
        param.data.copy_(weights[name].reshape(param.shape))
    run_model: Callable[..., tuple[Tensor, State]] = torch.no_grad()(model)
    return run_model


def meaning(graph: str, x: Tensor | None = None, params: Mapping[str, Tensor] | None = None, more: str = "") -> Tensor:
    return run(spec(graph, more), x if x is not None else some(BATCH, TIME, 4), params)[0]


X = some(BATCH, TIME, 4)


def shifted(x: Tensor, steps: int, first: float = 0.0) -> Tensor:
    return torch.cat([torch.full_like(x[:, :steps], first), x[:, : x.shape[1] - steps]], 1)


def recurrence(a: Callable[[Tensor, int], Tensor], b: Tensor, start: Tensor | None = None) -> Tensor:
    """h[t] = a(h[t-1], t) + b[t], all of them."""
    h = torch.zeros_like(b[:, 0]) if start is None else start
    found = []
    for t in range(b.shape[1]):
        h = a(h, t) + b[:, t]
        found.append(h)
    return torch.stack(found, 1)


# Memory.


def test_a_state_by_itself_sums_its_input() -> None:
    close(meaning("y: {state: [n], input: x}"), X.cumsum(1))


def test_b_alone_drives_a_state() -> None:
    close(meaning("y: {state: [n], B: x}"), X.cumsum(1))


def test_a_delay_gives_what_was_a_step_before() -> None:
    close(meaning("y: delay(x)"), shifted(X, 1))


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_delay_of_several_steps_begins_with_its_initial_value(steps: int) -> None:
    close(meaning(f"y: delay(x, steps={steps})"), shifted(X, steps))
    close(meaning(f"y: delay(x, steps={steps}, initial=1.5)"), shifted(X, steps, 1.5))


def test_a_delay_may_begin_with_something_learned() -> None:
    first = some(4, seed=5)
    y = meaning("y: delay(x, initial=param([n]))", params={"y.param": first})
    close(y[:, 0], first.expand(BATCH, 4))
    close(y[:, 1:], X[:, :-1])


def test_a_delay_may_close_a_cycle() -> None:
    close(meaning("y: tanh(x + 0.5 * delay(y))"), _tanh_cycle(X))


def _tanh_cycle(x: Tensor) -> Tensor:
    y, found = torch.zeros_like(x[:, 0]), []
    for t in range(x.shape[1]):
        y = torch.tanh(x[:, t] + 0.5 * y)
        found.append(y)
    return torch.stack(found, 1)


def test_a_window_has_the_newest_first_and_only_what_has_come() -> None:
    params = {"y.linear.weight": torch.eye(3, dtype=torch.float64)}
    y = meaning("y: linear(window(x, slot), m, over=slot)", params=params)
    for s in range(3):
        close(y[..., s], shifted(X, s))


@pytest.mark.parametrize("op", ["sum", "mean", "max", "min"])
@pytest.mark.parametrize("slot", ["slot", "all"])
def test_reductions_over_a_window_leave_absent_slots_out(op: str, slot: str) -> None:
    y = meaning(f"y: {op}(window(x, {slot}), over={slot})")
    width = 3 if slot == "slot" else TIME
    for t in range(TIME):
        seen = X[:, max(0, t + 1 - width) : t + 1]
        expected = {"sum": seen.sum(1), "mean": seen.mean(1), "max": seen.amax(1), "min": seen.amin(1)}[op]
        close(y[:, t], expected)


@pytest.mark.parametrize("slot", ["slot", "all"])
def test_softmax_over_a_window_gives_absent_slots_nothing(slot: str) -> None:
    graph = f"""
    w: window(x, {slot})
    y: dot(softmax(sum(w, over=n) - 3, over={slot}), w, over={slot})
    """
    y = meaning(graph)
    width = 3 if slot == "slot" else TIME
    for t in range(TIME):
        seen = X[:, max(0, t + 1 - width) : t + 1]
        weight = torch.softmax(seen.sum(-1) - 3, 1)
        close(y[:, t], (weight[..., None] * seen).sum(1))


def test_a_register_read_before_lacks_the_newest() -> None:
    graph = """
    w: {state: [slot, n], A: shift(slot), input: x, read: before}
    y: mean(w, over=slot)
    """
    y = meaning(graph)
    close(y[:, 0], torch.zeros_like(y[:, 0]))
    for t in range(1, TIME):
        close(y[:, t], X[:, max(0, t - 3) : t].mean(1))


def test_a_register_with_initial_contents_has_no_absent_slots() -> None:
    y = meaning("""
    w: {state: [slot, n], A: shift(slot), input: x, initial: 2}
    y: mean(w, over=slot)
    """)
    padded = torch.cat([torch.full((BATCH, 2, 4), 2.0, dtype=torch.float64), X], 1)
    close(y, padded.unfold(1, 3, 1).mean(-1))


def test_a_convolution_is_a_register_with_a_constant_readout() -> None:
    kernel = some(3, 4, seed=3)
    y = meaning(
        "y: {state: [slot, n], A: shift(slot), input: x, C: 'param([slot, n], name=kernel)'}", params={"kernel": kernel}
    )
    close(y, sum((shifted(X, s) * kernel[s] for s in range(3)), torch.zeros(())))


def test_attention_is_a_register_read_by_softmax() -> None:
    graph = """
    q: linear(x, [r, m])
    k: linear(x, m)
    v: linear(x, n)
    y0: {state: [all, n], A: shift(all), input: v, C: "softmax(dot(q, window(k, all), over=m), over=all)"}
    y: sum(y0, over=r)
    """
    one = spec(graph)
    w = filled(one)
    q = torch.einsum("bti,rmi->btrm", X, w["q.weight"])
    k, v = X @ w["k.weight"].T, X @ w["v.weight"].T
    scores = torch.einsum("btrm,bsm->brts", q, k).masked_fill(torch.ones(TIME, TIME).tril() == 0, -torch.inf)
    close(run(one, X, w)[0], torch.einsum("brts,bsn->btn", scores.softmax(-1), v))


def test_a_hold_keeps_what_it_sampled() -> None:
    close(meaning("y: hold(x, every=3)"), X[:, [0, 0, 0, 3, 3, 3, 6]])


@pytest.mark.parametrize("function", ["cumsum", "cummean", "cummax"])
def test_running_sums_means_and_maxima_are_of_a_document(function: str) -> None:
    def wanted(x: Tensor) -> Tensor:
        if function == "cummax":
            return x.cummax(1).values
        total = x.cumsum(1)
        return total / torch.arange(1, x.shape[1] + 1)[:, None] if function == "cummean" else total

    close(meaning(f"y: {function}(x)"), wanted(X))
    reset = torch.zeros(BATCH, TIME, dtype=torch.bool)
    reset[:, 3] = True
    y, _ = run(spec(f"y: {function}(x)"), X, reset=reset)
    close(y, torch.cat([wanted(X[:, :3]), wanted(X[:, 3:])], 1))


def test_a_shift_among_other_operators_moves_slots_and_the_input_enters_the_first() -> None:
    y = meaning(
        "y: {state: [slot, n], A: 0.5 * shift(slot), input: x, C: 'param([slot, n], name=c)'}",
        params={"c": torch.ones(3, 4, dtype=torch.float64)},
    )
    close(y, X + 0.5 * shifted(X, 1) + 0.25 * shifted(X, 2))


def test_b_may_say_where_a_register_is_entered() -> None:
    b = some(3, seed=4)
    graph = "y: {state: [slot, n], A: shift(slot), B: 'param([slot], name=b)', input: x, C: 'param([slot, n], name=c)'}"
    y = meaning(graph, params={"b": b, "c": torch.ones(3, 4, dtype=torch.float64)})
    h = torch.zeros(BATCH, 3, 4, dtype=torch.float64)
    for t in range(TIME):
        h = torch.cat([torch.zeros_like(h[:, :1]), h[:, :-1]], 1) + b[:, None] * X[:, t, None]
        close(y[:, t], h.sum(1))


# Coefficients and readout.


def test_a_diagonal_may_depend_on_the_input() -> None:
    a = torch.sigmoid(X)
    close(
        meaning("y: {state: [n], A: sigmoid(x), B: 1 - sigmoid(x), input: x}"),
        recurrence(lambda h, t: a[:, t] * h, (1 - a) * X),
    )


def test_a_memory_expands_by_b_and_is_read_by_c() -> None:
    graph = """
    y: {state: [m, n], A: 0.9, B: "linear(x, m, name=b)", input: x, C: "linear(x, m, name=c)", D: "param([n], name=d)"}
    """
    one = spec(graph)
    w = filled(one)
    b, c = X @ w["b.weight"].T, X @ w["c.weight"].T
    h = recurrence(lambda h, t: 0.9 * h, b[..., None] * X[..., None, :])
    close(run(one, X, w)[0], (c[..., None] * h).sum(-2) + w["d"] * X)


def test_a_memory_read_before_sees_the_present_only_through_d() -> None:
    graph = """
    b: linear(x, m)
    c: linear(x, m)
    y: {state: [m, n], A: 0.9, B: b, input: x, C: c, D: 2, read: before}
    """
    one = spec(graph)
    w = filled(one)
    b, c = X @ w["b.weight"].T, X @ w["c.weight"].T
    h = shifted(recurrence(lambda h, t: 0.9 * h, b[..., None] * X[..., None, :]), 1)
    close(run(one, X, w)[0], (c[..., None] * h).sum(-2) + 2 * X)


def test_b_contracts_what_the_state_lacks() -> None:
    graph = """
    k: linear(x, m)
    keys: pack([k, delay(k)], r)
    values: pack([x, delay(x)], r)
    y: {state: [m, n], A: 0.9, B: keys, input: values, C: k}
    """
    one = spec(graph)
    w = filled(one)
    k = X @ w["k.weight"].T
    both = k[..., None] * X[..., None, :] + shifted(k, 1)[..., None] * shifted(X, 1)[..., None, :]
    close(run(one, X, w)[0], (k[..., None] * recurrence(lambda h, t: 0.9 * h, both)).sum(-2))


def test_a_readout_broadcasts_over_what_it_does_not_contract() -> None:
    one = spec('s: {state: [m, n], B: "linear(x, m)", input: x}\ny: sum(s, over=m)')
    b = X @ filled(one)["s.B.weight"].T
    close(run(one, X)[0], (b[..., None] * X[..., None, :]).cumsum(1).sum(-2))


def test_max_plus_keeps_a_decaying_maximum() -> None:
    y = meaning("y: {state: [n], A: -0.5, input: x, algebra: max_plus}")
    best = torch.full_like(X[:, 0], -torch.inf)
    for t in range(TIME):
        best = torch.maximum(best - 0.5, X[:, t])
        close(y[:, t], best)


def test_max_plus_begins_where_it_is_told() -> None:
    y = meaning("y: {state: [n], A: -0.5, input: x, algebra: max_plus, initial: 1, read: before}")
    best = torch.ones_like(X[:, 0])
    for t in range(TIME):
        close(y[:, t], best)
        best = torch.maximum(best - 0.5, X[:, t])


def test_max_plus_refuses_a_matrix() -> None:
    with pytest.raises(SpecError, match="max_plus"):
        spec('y: {state: [n], A: "dense(param([n, n_]), over=n)", input: x, algebra: max_plus}')


def test_an_initial_state_may_be_learned() -> None:
    first = some(4, seed=6)
    y = meaning("y: {state: [n], A: 0.5, input: x, initial: 'param([n])'}", params={"y.initial": first})
    close(y, recurrence(lambda h, t: 0.5 * h, X, first.expand(BATCH, 4)))


def test_complex_states_rotate_and_decay() -> None:
    graph = """
    s: {state: [n], A: "polar(param([n], name=r), param([n], name=angle))", input: x, initial: "complex(0.5, -1)"}
    y: real(s) + 2 * imag(s)
    """
    one = spec(graph)
    w = filled(one)
    a = torch.polar(w["r"].abs(), w["angle"]) * torch.sign(w["r"])
    start = torch.full((BATCH, 4), 0.5 - 1j, dtype=torch.complex128)
    s = recurrence(lambda h, t: a * h, X.to(torch.complex128), start)
    close(run(one, X, w)[0], s.real + 2 * s.imag)


# Operators.


def _rotation(angle: Tensor) -> Tensor:
    blocks = [torch.stack([torch.stack([a.cos(), -a.sin()]), torch.stack([a.sin(), a.cos()])]) for a in angle]
    matrix: Tensor = torch.block_diag(*blocks)
    return matrix


def test_operators_are_the_matrices_that_they_stand_for() -> None:
    setup = "p: param([n])\nq: param([n])\nm: param([n, n_])\nangle: param([half])"
    full = filled(spec(setup + "\ny: p + q + sum(m, over=n_) + sum(angle, over=half)"))
    p, q, m, angle = (full[name] for name in ("p", "q", "m", "angle"))
    found = {
        "p": torch.diag(p),
        "outer(p, q, over=n)": torch.outer(p, q),
        "dense(m, over=n)": m,
        "rotate(angle, over=n)": _rotation(angle),
        "shift(n) * 1": torch.diag(torch.ones(3), -1),
        "p - outer(q, q, over=n)": torch.diag(p) - torch.outer(q, q),
        "(1 - outer(p, q, over=n)) * q": (torch.eye(4) - torch.outer(p, q)) @ torch.diag(q),
        "dense(m, over=n) * rotate(angle, over=n)": m @ _rotation(angle),
        "rotate(angle, over=n) * dense(m, over=n) - p": _rotation(angle) @ m - torch.diag(p),
        "-dense(m, over=n) + shift(n)": -m + torch.diag(torch.ones(3), -1),
        "dense(m, over=n) * dense(m, over=n) * p": m @ m @ torch.diag(p),
    }
    for operator, matrix in found.items():
        one = spec(setup + f'\ny: {{state: [n], A: "{operator}", B: 0, input: x, initial: "param([n], name=first)"}}')
        columns = [run(one, X[:, :1], {**full, "first": unit})[0][0, 0] for unit in torch.eye(4, dtype=torch.float64)]
        close(torch.stack(columns, -1), matrix.double(), operator)


def test_the_delta_rule_erases_what_a_key_stood_for() -> None:
    graph = """
    k: l2_norm(linear(x, m), over=m)
    beta: sigmoid(linear(x, []))
    y: {state: [m, n], A: "(1 - outer(beta * k, k, over=m)) * 0.9", B: beta * k, input: x, C: k}
    """
    one = spec(graph)
    w = filled(one)
    k = torch.nn.functional.normalize(X @ w["k.weight"].T, dim=-1)
    beta = torch.sigmoid(X @ w["beta.weight"])
    h = torch.zeros(BATCH, 3, 4, dtype=torch.float64)
    y = run(one, X, w)[0]
    for t in range(TIME):
        h = 0.9 * h
        old = torch.einsum("bm,bmn->bn", k[:, t], h)
        h = h + k[:, t, :, None] * (beta[:, t, None] * (X[:, t] - old))[:, None]
        close(y[:, t], torch.einsum("bm,bmn->bn", k[:, t], h))


# Discretisation.


HEUN = """
heun:
  input: {A: [...], B: [...], dt: [...]}
  graph:
    z: dt * A
    a: 1 + z + 0.5 * z * z
    b: apply(1 + 0.5 * z, dt * B)
  output: {A: a, B: b}
"""


@pytest.mark.parametrize("b", ["param([n], name=b)", "1"])
def test_a_component_may_say_how_a_and_b_are_sampled(b: str) -> None:
    one = spec(
        f"""
        dt: softplus(x)
        y: {{state: [n], A: "-exp(param([n], name=p))", B: "{b}", input: x, discretize: {{method: heun, dt: dt}}}}
        """,
        HEUN,
    )
    w = filled(one)
    dt, rate = torch.nn.functional.softplus(X), -w["p"].exp()
    z = dt * rate
    entering = dt * (1 + z / 2) * w.get("b", 1)
    close(run(one, X, w)[0], recurrence(lambda h, t: (1 + z + z**2 / 2)[:, t] * h, entering * X))


def test_a_component_called_like_a_method_takes_its_place_whatever_a_is() -> None:
    one = spec(
        "y: {state: [n], A: 0, input: x, discretize: {method: zoh, dt: 0.1}}",
        "\nzoh:\n  input: {A: [...], B: [...], dt: [...]}\n  graph: {a: 0.5 + dt * A, b: 3 * B}\n  output: {A: a, B: b}\n",
    )
    close(run(one, X, filled(one))[0], recurrence(lambda h, t: 0.5 * h, 3 * X))


def test_a_component_may_sample_a_matrix() -> None:
    one = spec(
        """
        m: param([n, n_], name=m)
        y: {state: [n], A: "dense(m, over=n) - 0.5", B: "param([n], name=b)", input: x, discretize: {method: heun, dt: 0.1}}
        """,
        HEUN,
    )
    w = filled(one)
    unit = torch.eye(4, dtype=torch.float64)
    z = 0.1 * (w["m"] - 0.5 * unit)
    entering = (unit + z / 2) @ (0.1 * w["b"])
    close(run(one, X, w)[0], recurrence(lambda h, t: h @ (unit + z + z @ z / 2).T, entering * X))


@pytest.mark.parametrize("method", ["zoh", "bilinear", "euler"])
@pytest.mark.parametrize(
    "a", ["-0.7", "-exp(param([n], name=p))", "complex(-exp(param([n], name=p)), param([n], name=w))"]
)
def test_discretized_diagonals_have_their_closed_form(method: str, a: str) -> None:
    graph = f"""
    dt: softplus(x)
    s: {{state: [n], A: "{a}", B: "param([n], name=b)", input: x, discretize: {{method: {method}, dt: dt}}}}
    y: real(s)
    """
    one = spec(graph)
    w = filled(one)
    rate = -0.7 * torch.ones(4, dtype=torch.float64) if "p" not in w else -w["p"].exp()
    rate = torch.complex(rate, w["w"]) if "w" in w else rate
    z = torch.nn.functional.softplus(X) * rate
    grown, small = {
        "zoh": (torch.exp(z), (torch.exp(z) - 1) / rate),
        "bilinear": ((1 + z / 2) / (1 - z / 2), z / rate / (1 - z / 2)),
        "euler": (1 + z, z / rate),
    }[method]
    s = recurrence(lambda h, t: grown[:, t] * h, small * w["b"] * X)
    close(run(one, X, w)[0], s.real if s.is_complex() else s)


@pytest.mark.parametrize("method", ["zoh", "bilinear", "euler"])
def test_discretized_matrices_have_their_closed_form(method: str) -> None:
    graph = f"""
    s:
      state: [r]
      A: dense(array([[0, 1], [-2, -0.3]], [r, r_]), over=r)
      B: array([0, 1], [r])
      input: sum(x, over=n)
      discretize: {{method: {method}, dt: 0.1}}
    y: s
    """
    a = torch.tensor([[0, 1], [-2, -0.3]], dtype=torch.float64)
    unit, b = torch.eye(2, dtype=torch.float64), torch.tensor([0.0, 1], dtype=torch.float64)
    below = torch.linalg.inv(unit - 0.05 * a)
    grown, small = {
        "zoh": (torch.matrix_exp(0.1 * a), torch.linalg.inv(a) @ (torch.matrix_exp(0.1 * a) - unit)),
        "bilinear": (below @ (unit + 0.05 * a), below * 0.1),
        "euler": (unit + 0.1 * a, 0.1 * unit),
    }[method]
    u = X.sum(-1, keepdim=True) * (small @ b)
    close(meaning(graph), recurrence(lambda h, t: h @ grown.T, u))


@pytest.mark.parametrize("method", ["bilinear", "euler"])
@pytest.mark.parametrize(
    ("a", "signs"),
    [
        ("d - outer(u, v, over=n)", (1, -1)),
        ("outer(u, v, over=n) + d", (1, 1)),
        ("-(outer(u, v, over=n) - d) - d", (0, -1)),
    ],
)
def test_discretized_diagonals_beside_a_rank_one_are_their_matrix(method: str, a: str, signs: tuple[int, int]) -> None:
    graph = f"""
    d: complex(-exp(param([n], name=p)), param([n], name=w))
    u: complex(param([n], name=u_re), param([n], name=u_im))
    v: conj(u)
    dt: exp(param([m], name=log_dt))
    s: {{state: [m, n], A: "{a}", B: u, input: "linear(x, m)", C: v, discretize: {{method: {method}, dt: dt}}}}
    y: real(s)
    """
    one = spec(graph)
    w = filled(one)
    u = torch.complex(w["u_re"], w["u_im"])
    matrix = signs[0] * torch.diag(torch.complex(-w["p"].exp(), w["w"])) + signs[1] * torch.outer(u, u.conj())
    dt, unit = w["log_dt"].exp()[:, None], torch.eye(4, dtype=torch.complex128)
    z = dt[..., None] * matrix
    below = torch.linalg.inv(unit - z / 2)
    grown, small = {"bilinear": (below @ (unit + z / 2), below), "euler": (unit + z, unit.expand_as(z))}[method]
    entering = (X @ w["s.input.weight"].T)[..., None] * (dt * (small @ u))
    h = recurrence(lambda h, t: torch.einsum("mij,bmj->bmi", grown, h), entering)
    close(run(one, X, w)[0], (h @ u.conj()).real)


def test_a_continuous_integrator_sums_what_flows_in() -> None:
    close(meaning("y: {state: [n], A: 0, input: x, discretize: {method: zoh, dt: 0.5}}"), 0.5 * X.cumsum(1))


# The moment.


def test_position_and_start_count_from_a_reset() -> None:
    reset = torch.zeros(BATCH, TIME, dtype=torch.bool)
    reset[0, 3] = reset[1, 5] = True
    y, _ = run(spec("y: where(start, 10, position) + 0 * x"), X, reset=reset)
    assert y[0, :, 0].tolist() == [10, 1, 2, 10, 1, 2, 3]
    assert y[1, :, 0].tolist() == [10, 1, 2, 3, 4, 10, 1]


def test_position_goes_on_with_a_carried_state() -> None:
    one = spec("y: position + 0 * x")
    _, state = run(one, X[:, :3])
    assert run(one, X[:, 3:], state=state)[0][0, :, 0].tolist() == [3, 4, 5, 6]


def test_context_reads_the_whole_sequence() -> None:
    close(meaning("y: mean(context(x, all), over=all) + 0 * x"), X.mean(1, keepdim=True).expand(X.shape))


def test_a_memory_may_wait_for_what_a_second_whole_sequence_gives() -> None:
    y = meaning("""
    first: mean(context(x, all), over=all)
    second: mean(context(first * x + delay(x), all), over=all)
    y: {state: [n], A: 0.5, input: second * x}
    """)
    first = X.mean(1, keepdim=True)
    second = (first * X + shifted(X, 1)).mean(1, keepdim=True)
    close(y, recurrence(lambda h, t: 0.5 * h, second * X))


def test_a_whole_sequence_ends_where_the_next_one_begins() -> None:
    reset = torch.zeros(BATCH, TIME, dtype=torch.bool)
    reset[0, 3] = reset[1, 5] = True
    y, _ = run(spec("y: mean(context(x, all), over=all) + 0 * x"), X, reset=reset)
    for row, cut in ((0, 3), (1, 5)):
        parts = [X[row, :cut].mean(0).expand(cut, -1), X[row, cut:].mean(0).expand(TIME - cut, -1)]
        close(y[row], torch.cat(parts))


def test_reverse_turns_each_document_and_leaves_it_where_it_is() -> None:
    reset = torch.zeros(BATCH, TIME, dtype=torch.bool)
    reset[0, 3] = reset[1, 5] = True
    y, _ = run(spec("y: reverse(x)"), X, reset=reset)
    for row, cut in ((0, 3), (1, 5)):
        close(y[row], torch.cat([X[row, :cut].flip(0), X[row, cut:].flip(0)]))
    close(meaning("y: reverse(reverse(x))"), X)


def test_a_document_that_began_before_is_turned_as_far_as_it_is_here() -> None:
    one = spec("y: reverse(x) + 0 * delay(x)")
    _, state = run(one, X[:, :3])
    close(run(one, X[:, 3:], state=state)[0], X[:, 3:].flip(1))


@pytest.mark.parametrize("by", ["mean", "max", "first", "last"])
def test_a_pool_is_one_value_for_a_sequence_and_one_so_far_where_it_meets_time(by: str) -> None:
    meant = {"mean": X.mean(1), "max": X.amax(1), "first": X[:, 0], "last": X[:, -1]}[by]
    y, _ = run(spec(f"y: 2 * pool(x, by={by})"), X)
    close(y, 2 * meant)
    so_far, _ = run(spec(f"y: pool(x, by={by}) + 0 * x"), X)
    close(so_far[:, -1], meant)
    close(so_far[:, 0], X[:, 0])


def test_the_index_of_a_slot_is_its_age_in_a_register_and_its_position_in_a_whole_sequence() -> None:
    x = torch.zeros(1, 4, 4, dtype=torch.float64)
    reset = torch.tensor([[False, False, True, False]])
    age, _ = run(spec("y: max(arange(all) + 0 * window(x, all), over=all)"), x, reset=reset)
    assert age[0, :, 0].tolist() == [0, 1, 0, 1]
    both, _ = run(spec("y: sum(10 ** arange(all) + 0 * context(x, all), over=all)"), x, reset=reset)
    assert both[0, :, 0].tolist() == [11, 11, 11, 11]
    ahead, _ = run(spec("y: max(arange(all) - position + 0 * context(x, all), over=all)"), x, reset=reset)
    assert ahead[0, :, 0].tolist() == [1, 0, 1, 0]


def test_arithmetic_on_whole_numbers_can_be_looked_up() -> None:
    table = some(4, 3)
    one = spec("y: select(param([n, m], name=w), n, minimum(2 * position % 5, 3)) + 0 * sum(x, over=n)", output="y")
    y, _ = run(one, X, {"w": table})
    close(y[0], table[[0, 2, 3, 1, 3, 0, 2]])


def test_a_stack_of_layers_that_read_the_whole_sequence_goes_layer_by_layer() -> None:
    more = """
    layer:
      input: {u: [n]}
      graph:
        y: tanh(u - mean(context(delay(u), all), over=all))
      output: y
    """
    y = meaning("y: {stack: [layer], times: layers, input: x}", more=more)
    u = X
    for _ in range(3):
        u = torch.tanh(u - shifted(u, 1).mean(1, keepdim=True))
    close(y, u)


# Composition.

LAYER = """
layer:
  input: {u: [n], hint: [n], seen: [n]}
  graph:
    s: {state: [n], A: 0.5, input: u}
    y: tanh(linear(s, n) + hint) * (1 + layer)
    next: seen + u
  output: {y: y, seen: next}
"""


def test_a_stack_gives_every_layer_the_same_and_carries_the_rest() -> None:
    graph = """
    y0, seen:
      stack: [layer]
      times: layers
      input: x
      with: {hint: 2 * x}
      carry: {seen: 0 * x}
    y: y0 + seen
    """
    one = spec(graph, LAYER)
    w = filled(one)
    u, seen = X, torch.zeros_like(X)
    for i in range(3):
        s = recurrence(lambda h, t: 0.5 * h, u)
        seen = seen + u
        u = torch.tanh(s @ w[f"y0.{i}.y.weight"].T + 2 * X) * (1 + i)
    close(run(one, X, w)[0], u + seen)


def test_a_layer_may_give_the_axes_of_the_stack_in_another_order() -> None:
    more = """
    layer:
      input: {u: [n, m]}
      graph: {y: "linear(u, n, over=n)"}
      output: y
    """
    one = spec("deep: {stack: [layer], times: layers, input: x * gain}\ngain: param([m])\ny: sum(deep, over=m)", more)
    assert next(node for node in one.graph if node.op == "stack").type.names == ("n", "m")
    w = filled(one)
    u = X[..., None] * w["gain"]
    for i in range(3):
        u = torch.einsum("on,btnm->btom", w[f"deep.{i}.y.weight"], u)
    close(run(one, X, w)[0], u.sum(-1))


def test_a_stack_cycles_through_its_pattern() -> None:
    more = """
    double:
      input: {u: [n]}
      graph: {y: 2 * u}
      output: y
    past:
      input: {u: [n]}
      graph: {y: delay(u)}
      output: y
    """
    close(meaning("y: {stack: [double, past], times: 5, input: x}", more=more), 8 * shifted(X, 2))


CELL = """
cell:
  input: {u: [n]}
  graph:
    y: {state: [n], A: 0.5, input: "linear(u, n)"}
  output: y
"""


def test_shared_calls_have_one_set_of_weights_and_memories_of_their_own() -> None:
    one = spec("y: cell(x, share=both) + 10 * cell(delay(x), share=both)", CELL)
    w = filled(one)
    assert len(w) == 1

    def cell(u: Tensor) -> Tensor:
        return recurrence(lambda h, t: 0.5 * h, u @ next(iter(w.values())).T)

    close(run(one, X, w)[0], cell(X) + 10 * cell(shifted(X, 1)))
    _, state = run(one, X, w)
    assert sum(key.startswith("y.cell") for key in state) == 2


def test_layers_of_a_stack_may_share_their_weights() -> None:
    more = (
        CELL
        + """
pair:
  input: {u: [n]}
  graph:
    y: {stack: [cell], times: 2, input: u}
  output: y
"""
    )
    one = spec("y: {stack: [pair, cell], times: 5, input: x, share: true}", more)
    w = filled(one)
    assert sorted(w) == ["y.0.y.0.y.input.weight", "y.0.y.1.y.input.weight", "y.1.y.input.weight"]

    def cell(u: Tensor, name: str) -> Tensor:
        return recurrence(lambda h, t: 0.5 * h, u @ w[name].T)

    u = X
    for i in range(5):
        u = (
            cell(u, "y.1.y.input.weight")
            if i % 2
            else cell(cell(u, "y.0.y.0.y.input.weight"), "y.0.y.1.y.input.weight")
        )
    y, state = run(one, X, w)
    close(y, u)
    assert sum(key.startswith("y") for key in state) == 8


def test_calls_that_share_nothing_have_their_own_weights() -> None:
    assert len(filled(spec("y: cell(x) + 10 * cell(delay(x))", CELL))) == 2


def test_layers_that_share_have_one_set_of_weights() -> None:
    more = (
        CELL
        + """
block:
  input: {u: [n]}
  graph: {y: "tanh(cell(u, share=only))"}
  output: y
"""
    )
    one = spec("y: {stack: [block], times: layers, input: x}", more)
    w = filled(one)
    assert len(w) == 1
    u = X
    for _ in range(3):
        u = torch.tanh(recurrence(lambda h, t: 0.5 * h, u @ next(iter(w.values())).T))
    close(run(one, X, w)[0], u)


def test_a_tied_weight_is_the_same_weight() -> None:
    tied = spec("e: embed(x, m, n)\ny: linear(e, m, tie=e)", inputs="x: token")
    w = filled(tied)
    assert set(w) == {"e.weight"}
    x = torch.tensor([[0, 2, 1]])
    close(run(tied, x, w)[0], w["e.weight"][x] @ w["e.weight"].T)


def test_an_input_may_take_further_axes() -> None:
    more = "counted:\n  input: {a: [..., n]}\n  graph: {y: a * arange(n)}\n  output: y\n"
    y = meaning("y: counted(x) + sum(counted(pack([x, 2 * x], r)), over=r)", more=more)
    close(y, 4 * X * torch.arange(4))


def test_a_value_may_be_repeated_along_an_axis() -> None:
    close(meaning("y: sum(expand(x, m), over=m)"), 3 * X)
    close(meaning("y: x * sum(expand(2, m), over=m)"), 6 * X)


def test_components_may_have_several_outputs() -> None:
    more = """
    two:
      input: {u: [n]}
      graph: {a: 2 * u, b: delay(u)}
      output: [a, b]
    """
    close(meaning("a, b: two(x)\ny: a + 10 * b", more=more), 2 * X + 10 * shifted(X, 1))


# Pieces of sequences.

SPECIMENS: dict[str, dict[str, float]] = {
    "odd": {},
    "gated_delta_net": {"vocab": 11, "model": 8, "layers": 2, "head": 2, "key": 3, "value": 4, "hidden": 10},
}


def _loaded(name: str) -> Spec:
    """A specimen of these tests, or a model of the zoo."""
    path = SPECS / f"{name}.yaml"
    return load(str(path) if path.exists() else name, None, **SPECIMENS[name])


@pytest.fixture(params=SPECIMENS)
def specimen(request: pytest.FixtureRequest) -> Case:
    return case(_loaded(request.param))


TOKENS = torch.randint(11, (BATCH, TIME), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("cuts", [[1], [3], [1, 2, 3, 4, 5, 6], [2, 5]])
def test_pieces_with_a_carried_state_equal_the_whole(specimen: Case, cuts: list[int]) -> None:
    w = filled(specimen)
    whole, end = run(specimen, TOKENS, w)
    state: State | None = None
    pieces = []
    for piece in TOKENS.tensor_split(cuts, 1):
        y, state = run(specimen, piece, w, state)
        pieces.append(y)
    close(torch.cat(pieces, 1), whole)
    assert state is not None and state.keys() == end.keys()
    for key in end:
        assert torch.allclose(state[key], end[key], atol=1e-12), key


def test_resets_equal_separate_sequences(specimen: Case) -> None:
    w = filled(specimen)
    reset = torch.zeros(BATCH, TIME, dtype=torch.bool)
    reset[0, 3] = reset[1, 2] = reset[1, 5] = True
    y, _ = run(specimen, TOKENS, w, reset=reset)
    for row, bounds in enumerate([[0, 3, TIME], [0, 2, 5, TIME]]):
        for start, stop in pairwise(bounds):
            close(y[row : row + 1, start:stop], run(specimen, TOKENS[row : row + 1, start:stop], w)[0])


def test_a_reset_on_the_first_step_changes_nothing(specimen: Case) -> None:
    w = filled(specimen)
    reset = torch.zeros(BATCH, TIME, dtype=torch.bool)
    reset[:, 0] = True
    close(run(specimen, TOKENS, w, reset=reset)[0], run(specimen, TOKENS, w)[0])


def test_the_future_changes_nothing(specimen: Case) -> None:
    w = filled(specimen)
    other = TOKENS.clone()
    other[:, 4:] = (other[:, 4:] + 1) % 11
    close(run(specimen, other, w)[0][:, :4], run(specimen, TOKENS, w)[0][:, :4])


def test_rows_of_a_batch_are_independent(specimen: Case) -> None:
    w = filled(specimen)
    whole, _ = run(specimen, TOKENS, w)
    for row in range(BATCH):
        close(run(specimen, TOKENS[row : row + 1], w)[0], whole[row : row + 1])


def test_the_passes_change_no_meaning() -> None:
    for name in SPECIMENS:
        one = case(_loaded(name))
        w = filled(one)
        close(run(one, TOKENS, w)[0], run(Case(one.spec, one.spec.graph), TOKENS, w)[0])


def test_a_buffer_begins_as_a_parameter_does_and_is_not_learned() -> None:
    one = spec("y: x * buffer([n], init=1 + arange(n), name=scale) + param([n], name=shift)")
    model = ssir.compile(one.spec, dtype=torch.float64)
    assert set(model.state_dict()) == {"scale", "shift"}
    y, _ = model(X)
    close(y, X * (1 + torch.arange(X.shape[-1], dtype=torch.float64)))
    close(ssir.reference(model, X)[0], y)
    y.sum().backward()
    assert [name for name, _ in model.named_buffers()] == ["scale"]
    assert {name: p.grad is not None for name, p in model.named_parameters()} == {"shift": True}
    assert model.plan.parameters == X.shape[-1]
    assert [len(group["params"]) for group in ssir.parameter_groups(model, 1e-3, 0.1)] == [1]
