"""Compiled models against the meaning, through the same report that `ssir verify` prints."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import ssir
from ssir.analysis.facts import Facts
from ssir.compilers.core import Scan
from ssir.compilers.forms import Match
from ssir.compilers.loops import form
from ssir.compilers.program.function import Function
from ssir.compilers.runtime import scan
from ssir.compilers.runtime.model import Model
from ssir.ir.builder import Value
from ssir.passes import fold, merge
from ssir.proof.report import Report
from tests.small import SMALL, at, first, inputs, last, small

SPECS = Path(__file__).parent / "specs"
NAMES = [*SMALL, *(str(path) for path in sorted(SPECS.glob("*.yaml")))]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: Path(name).stem)
def test_the_planned_forms_agree_with_the_meaning(name: str) -> None:
    report = ssir.verify(small(name), steps=(1, 2, 70), every_form=False)
    bad = [row for row in report.worst() if not row.ok]
    assert report.ok, bad


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES, ids=lambda name: Path(name).stem)
def test_every_form_agrees_with_the_meaning(name: str) -> None:
    report = ssir.verify(ssir.load(name))
    bad = [row for row in report.worst() if not row.ok]
    assert report.ok, bad


ONE = """
ssir: 1
name: one
dims: {n: 3}
components:
  main:
    input: {x: [n]}
    graph:
      h:
        state: [n]
        A: sigmoid(linear(x, n))
        input: x
    output: h
main: main
"""


def test_a_form_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Scan.sequence

    def wrong(self: Scan, f: Function, fact: Facts, match: Match) -> Value:
        return 1.001 * right(self, f, fact, match)

    assert ssir.verify(ssir.loads(ONE), steps=(5,)).ok
    monkeypatch.setattr(Scan, "sequence", wrong)
    report = ssir.verify(ssir.loads(ONE), steps=(5,))
    assert not report.ok
    assert {row["form"] for row in report.summary() if not row["ok"]} == {"scan"}


def test_a_gradient_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Scan.sequence

    def wrong(self: Scan, f: Function, fact: Facts, match: Match) -> Value:
        return f.b("detach", right(self, f, fact, match))

    monkeypatch.setattr(Scan, "sequence", wrong)
    row = ssir.verify(ssir.loads(ONE), steps=(5,)).rows[0]
    assert row.forward <= row.limit and row.gradient is not None and row.gradient > row.limit
    assert not row.ok and row.verdict == "WRONG" and row.tensor.startswith("the gradient by")


def one(graph: str, dims: str = "n: 3", inputs: str = "x: [n]", output: str = "h") -> ssir.Spec:
    text = "".join(f"      {line}\n" for line in graph.strip().splitlines())
    return ssir.loads(
        f"ssir: 1\nname: one\ndims: {{{dims}}}\ncomponents:\n  main:\n    input: {{{inputs}}}\n    graph:\n{text}"
        f"    output: {output}\nmain: main\n"
    )


def wrong(report: Report) -> set[tuple[str, str]]:
    """The cases that failed, and the tensors."""
    return {(row.case.removesuffix(", resets"), row.tensor) for row in report.rows if not row.ok}


@pytest.fixture(autouse=True)
def written_anew() -> Iterator[None]:
    """Generated modules are imported once a process, with the kernels that there were: faults are to be seen, and to leave no trace."""
    _forget()
    yield
    _forget()


def _forget() -> None:
    for name in [name for name in sys.modules if name.startswith("ssir_compiled_")]:
        del sys.modules[name]


def scanned(monkeypatch: pytest.MonkeyPatch, fault: Any) -> None:
    """Put a fault behind the scan of torch, which is taken: it is given what is read and what is left, and the gate."""
    right = scan.diagonal_scan
    monkeypatch.setattr(form, "compiled_scan", lambda *rest, **named: None)

    def faulty(gate: Tensor, into: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = fault(*right(gate, into, *rest), gate)
        return found

    monkeypatch.setattr(scan, "diagonal_scan", faulty)


DOUBLED = "h: x * 2 + delay(x)"


def test_a_fault_of_a_pass_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ssir.verify(one(DOUBLED), steps=(3,)).ok
    monkeypatch.setattr(fold, "_NEUTRAL", {"mul": (2, (0, 1))})
    assert not ssir.verify(one(DOUBLED), steps=(3,)).ok


def test_the_meaning_has_not_been_through_the_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold, "_NEUTRAL", {"mul": (2, (0, 1))})
    model = ssir.compile(one(DOUBLED), dtype=torch.float64)
    x = torch.ones(1, 2, 3, dtype=torch.float64)
    assert model(x)[0][0, :, 0].tolist() == [1, 2], "the pass has its fault"
    assert ssir.reference(model, x)[0][0, :, 0].tolist() == [2, 3]


def test_memories_that_the_passes_keep_in_one_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = one("a: delay(x)\nb: delay(x)\nh: a * 2 + b * x")
    report = ssir.verify(spec, steps=(3,))
    assert report.ok and report.merged == {"b": "a"}
    model = ssir.compile(spec, dtype=torch.float64)
    x = torch.randn(2, 7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole, last = ssir.reference(model, x)
    _, state = model(x[:, :4])
    rest, after = ssir.reference(model, x[:, 4:], state=state)
    torch.testing.assert_close(rest, whole[:, 4:])
    assert set(after) - {"position"} == {"a"} and torch.equal(after["a"], last["a"])


def test_memories_that_are_merged_and_differ_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = one("a: delay(x, initial=0)\nb: delay(x, initial=1)\nh: a * 2 + b * x")
    assert ssir.verify(spec, steps=(1, 3)).ok
    right = merge._key
    monkeypatch.setattr(merge, "_key", lambda node: node.op if node.op == "state" else right(node))
    assert not ssir.verify(one("a: delay(x, initial=0)\nb: delay(x, initial=1)\nh: a * 2 + b * x"), steps=(1, 3)).ok


def test_a_final_state_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    scanned(monkeypatch, lambda h, last, gate: (h, 1.001 * last))
    assert ("whole", "the memory `h`") in wrong(ssir.verify(ssir.loads(ONE), steps=(5,), every_form=False))


def test_a_final_state_that_loses_its_gradient_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    scanned(monkeypatch, lambda h, last, gate: (h, last.detach()))
    found = wrong(ssir.verify(ssir.loads(ONE), steps=(5,), every_form=False))
    assert any(case == "whole" and tensor.startswith("the gradient") for case, tensor in found)


def test_an_initial_state_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Model.initial_state

    def faulty(self: Model, batch: int = 1, *rest: Any) -> Any:
        state = right(self, batch, *rest)
        for name in state:
            if state[name].is_floating_point():
                state[name] = state[name] + 0.01
        return state

    monkeypatch.setattr(Model, "initial_state", faulty)
    assert ("whole", "the memory `h at the start`") in wrong(ssir.verify(ssir.loads(ONE), steps=(1,), every_form=False))


def test_rotations_by_the_negated_angle_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = one("h: {state: [n], A: 'rotate(linear(x, half), over=n) * 0.9', input: x}", "n: 4, half: n / 2")
    assert ssir.verify(spec, steps=(3,)).ok
    right = scan.rotation_scan
    monkeypatch.setattr(scan, "rotation_scan", lambda decay, angle, *rest: right(decay, -angle, *rest))
    _forget()
    assert not ssir.verify(spec, steps=(3,)).ok


def test_what_several_threads_get_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    scanned(
        monkeypatch,
        lambda h, last, gate: (h * 1.001, last) if torch.get_num_threads() > 1 and h.shape[1] > 1 else (h, last),
    )
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        report = ssir.verify(ssir.loads(ONE), steps=(5,), every_form=False, thorough=True)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert {row.threads for row in report.rows if not row.ok} == {2}


@pytest.mark.parametrize("past", [32, 64])
def test_remainders_past_a_block_that_are_wrong_are_found(past: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scanned(monkeypatch, lambda h, last, gate: (torch.cat([h[:, :past], 1.001 * h[:, past:]], 1), last))
    assert not ssir.verify(ssir.loads(ONE), every_form=False).ok


def test_what_only_long_axes_get_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    scanned(monkeypatch, lambda h, last, gate: (torch.cat([h[..., :16], 1.001 * h[..., 16:]], -1), last))
    spec = one(ONE_GRAPH, "n: 64")
    assert ssir.verify(spec, steps=(5,), every_form=False).ok, "small dims do not show it"
    report = ssir.verify(spec, steps=(5,), every_form=False, thorough=True)
    assert {row.at for row in report.rows if not row.ok} == {"odd dims", "real dims"}


def test_what_only_bfloat16_gets_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def rounded(model: Model, *xs: Any, **named: Any) -> Any:
        y, state = right(model, *xs, **named)
        return (1.2 * y, state) if y.dtype is torch.bfloat16 else (y, state)

    right = Model.over
    monkeypatch.setattr(Model, "over", rounded)
    report = ssir.verify(ssir.loads(ONE), steps=(5,), every_form=False, thorough=True)
    assert {row.dtype for row in report.rows if not row.ok} == {"bfloat16"}


ONE_GRAPH = "h: {state: [n], A: 'sigmoid(linear(x, n))', input: x}"


def test_two_decodings_that_share_a_buffer_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Model.one

    def shared(self: Model, values: Any, state: Any, reset: Any) -> Any:
        y, after = right(self, values, state, reset)
        for name, value in after.items():
            if not torch.is_grad_enabled() and state and name in state and state[name].shape == value.shape:
                after[name] = state[name].copy_(value)
        return y, after

    assert ssir.verify(ssir.loads(ONE), steps=(9,), every_form=False).ok
    monkeypatch.setattr(Model, "one", shared)
    found = {case for case, _ in wrong(ssir.verify(ssir.loads(ONE), steps=(9,), every_form=False))}
    assert "two decodings from one state" in found and "step by step" not in found


def test_several_tokens_that_do_not_see_a_filled_state_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Model.over

    def forgetful(self: Model, values: Any, state: Any, *more: Any) -> Any:
        few = 2 <= values[0].shape[1] <= 3
        return right(self, values, None if few else state, *more)

    monkeypatch.setattr(Model, "over", forgetful)
    assert {case for case, _ in wrong(ssir.verify(ssir.loads(ONE), steps=(50,), every_form=False))} == {
        "into a filled state"
    }


def test_minus_infinity_equals_itself_and_nothing_equals_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = one("m: {state: [n], algebra: max_plus, A: -softplus(x), input: x, read: before}\nh: where(m > 0, m, 0)")
    assert ssir.verify(spec, steps=(1, 5)).ok
    scanned(monkeypatch, lambda h, last, gate: (h, torch.full_like(last, torch.nan)))
    assert not ssir.verify(ssir.loads(ONE), steps=(5,), every_form=False).ok


CHAOS = "p: 'delay(h, initial=0.3)'\nh: 3.9 * p * (1 - p) + x * 0.0001 - 0.00005"


def test_a_spec_that_is_ill_conditioned_is_named_as_such() -> None:
    report = ssir.verify(one(CHAOS), steps=(1, 40))
    assert report.ok
    verdicts = {row.dtype: set() for row in report.rows}  # type: ignore[var-annotated]
    for row in report.rows:
        verdicts[row.dtype].add(row.verdict)
    assert "ill-conditioned" in verdicts["float32"]
    worst = max((row for row in report.rows if row.condition), key=lambda row: row.condition or 0)
    assert worst.condition is not None and worst.condition > 1e4


def test_a_spec_is_ill_conditioned_too_where_only_what_it_computes_loses_digits() -> None:
    report = ssir.verify(one("h: layer_norm(1 + 0.0001 * x, over=n)"), steps=(5,), dtypes=(torch.float32,))
    assert report.ok, report.worst()
    assert {row.verdict for row in report.rows} == {"ill-conditioned"}


def test_what_is_chaotic_is_not_called_wrong_at_its_bounds() -> None:
    graph = "p: delay(h, initial=0.3)\nh: sin(6 * linear(p, n) + x)"
    report = ssir.verify(one(graph), steps=(123,), dtypes=(torch.float64,))
    assert report.ok, report.worst()
    assert max(row.condition or 0 for row in report.rows) > 1e14


def test_a_form_that_is_wrong_is_not_excused_by_an_ill_conditioned_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Model.over

    def faulty(self: Model, *xs: Any, **named: Any) -> Any:
        y, state = right(self, *xs, **named)
        return y * 1.001, state

    monkeypatch.setattr(Model, "over", faulty)
    assert not ssir.verify(one(CHAOS), steps=(1, 40)).ok


DELTA = """
k0: linear(x, key)
k: k0 / sqrt(dot(k0, k0, over=key))
beta: sigmoid(sum(linear(x, key), over=key))
h:
  state: [key, n]
  A: 1 - outer(beta * k, k, over=key)
  B: beta * k
  input: x
  C: linear(x, key)
"""


@pytest.mark.parametrize("seed", [0, 12, 23])
def test_a_norm_written_by_hand_is_not_called_wrong(seed: int) -> None:
    report = ssir.verify(one(DELTA, "n: 3, key: 2"), steps=(107,), seed=seed)
    assert report.ok, [row for row in report.worst() if not row.ok]


MET = """
ssir: 1
name: met
dims: {n: 4, both: 2 * n}
components:
  main:
    input: {x: [n]}
    graph:
      wave: cos(position * arange(n))
      still: dot(param([n], init=normal(1)), array([[1, 2, 0, 0], [0, 1, 2, 0], [0, 0, 1, 2], [2, 0, 0, 1]], [n, n_]), over=n)
      parts: concat([x * wave, x + rename(still, n_=n)], both)
      y: linear(parts + linear(concat([wave, wave], both), both), n)
    output: y
main: main
"""


def test_what_positions_decide_is_exact_and_meets_data_in_its_dtype() -> None:
    spec = ssir.loads(MET)
    exact, half = (ssir.compile(spec, dtype=dtype) for dtype in (torch.float64, torch.bfloat16))
    (x,) = inputs(exact.graph, 1, 2000)
    y, wanted = first(half(x.to(torch.bfloat16))[0]), first(exact(x)[0])
    assert y.dtype == torch.bfloat16
    assert (y.double() - wanted).abs().max() < 0.05 * wanted.abs().max()  # bfloat16 has no 1001


@pytest.mark.parametrize("name", list(SMALL))
def test_bfloat16_stays_near_float64(name: str) -> None:
    """A smoke test: half precision runs, forward and backward, in sequence and step, with states in float32."""
    spec = small(name)
    exact, half = (ssir.compile(spec, dtype=dtype) for dtype in (torch.float64, torch.bfloat16))
    xs = inputs(exact.graph, 2, 20)
    halves = [x.to(torch.bfloat16).requires_grad_() if x.is_floating_point() else x for x in xs]
    y, wanted = first(half(*halves)[0]), first(exact(*xs)[0])
    y.float().square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in half.parameters() if p.grad is not None)
    assert ((y.double() - wanted).abs().max() / wanted.abs().max()).item() < 0.1
    if not half.has_step:
        return
    with torch.no_grad():
        state = half.initial_state(2)
        for t in range(20):
            step, state = half.step(*at(half.graph, halves, t), state=state)
    assert ((first(step).double() - last(half.graph, wanted)).abs().max() / wanted.abs().max()).item() < 0.1


def test_no_step_is_past_the_end_of_a_table_of_positions() -> None:
    text = """ssir: 1
name: short
dims: {vocab: 50, model: 8, length: 20}
components:
  lm:
    input: {tokens: token}
    graph:
      e: embed(tokens, vocab, model) + embed(position, length, model)
      logits: linear(delay(e) + e, vocab)
    output: logits
main: lm
"""
    report = ssir.verify(ssir.loads(text), steps=(1, 50), every_form=False, thorough=True)
    assert report.ok and max(row.steps for row in report.rows) == 20


def test_gradients_of_a_norm_add_up_in_bfloat16() -> None:
    spec = ssir.loads(
        """ssir: 1
name: normed
dims: {model: 4}
components:
  main:
    input: {x: [model]}
    graph: {y: "layer_norm(x, over=model)"}
    output: y
main: main
"""
    )
    model = ssir.compile(spec, dtype=torch.bfloat16)
    x, weight = (torch.randn(3, 200, 4, generator=torch.Generator().manual_seed(i)).bfloat16() for i in (0, 1))
    y, _ = model(x)
    found = torch.autograd.grad((y * weight).float().sum(), dict(model.named_parameters())["y.bias"])[0]
    wanted = weight.double().sum((0, 1))
    assert (found.double() - wanted).abs().max() <= 0.004 * wanted.abs().max()
