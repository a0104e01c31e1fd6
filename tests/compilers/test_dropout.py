"""Dropout: nothing in what is evaluated; while training what the reference says of the same masks, whatever computes the memory."""

import pickle
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

import ssir
from ssir.compilers.runtime.model import InputError
from ssir.errors import SpecError
from ssir.spec.load import loads

HEAD = (
    "ssir: 1\nname: dropping\ndims: {m: 6, head: 2, key: 3, slot: unbounded, near: 20, tap: 4, vocab: 7, layers: 2}\n"
)


def _spec(graph: str, output: str = "y", inputs: str = "x: [m]", more: str = "") -> Any:
    lines = "\n".join(f"      {line}" for line in graph.strip().splitlines())
    main = f"  net:\n    input: {{{inputs}}}\n    graph:\n{lines}\n    output: {output}\nmain: net\n"
    return loads(f"{HEAD}components:\n{more}{main}")


ATTENTION = """
q: linear(x, [head, key])
k: window(linear(x, [head, key]), SLOT)
v: window(linear(x, [head, key]), SLOT)
w: dropout(softmax(dot(q, k, over=key), over=SLOT), 0.4)
y: dot(w, v, over=SLOT)
"""
SPECS = {
    "a projection": "y: linear(dropout(x, 0.3), m)",
    "shared over an axis": "y: linear(x, [head, key]) * 2\nz: dropout(y, 0.3, over=key)\n",
    "twice": "y: dropout(dropout(linear(x, m), 0.3), 0.2, over=m)\n",
    "once for all steps": "y: dropout(linear(x, m), 0.5, each=sequence)",
    "a whole branch": "y: x + dropout(linear(x, m), 0.5, over=m, each=sequence)",
    "attention": ATTENTION.replace("SLOT", "slot"),
    "attention over the last twenty": ATTENTION.replace("SLOT", "near"),
    "attention over the last four": ATTENTION.replace("SLOT", "tap"),
    "the whole sequence": ATTENTION.replace("window(", "context(").replace("SLOT", "slot"),
    "a scan": """
a: sigmoid(linear(x, m, name=gate))
y:
  state: [m]
  A: dropout(a, 0.3)
  input: dropout(x, 0.3)
""",
    "a matrix memory": """
k: linear(x, key, name=k)
v: linear(x, m, name=v)
y:
  state: [key, m]
  A: 0.9
  B: k
  input: dropout(v, 0.3)
  C: dropout(linear(x, key, name=q), 0.3)
""",
    "a filter": "y: sum(window(dropout(x, 0.3), tap) * param([tap, m], init=normal(1)), over=tap)",
    "a recurrence": "h: tanh(linear(dropout(delay(h), 0.3, each=sequence), m, name=U) + linear(x, m, name=W))\ny: dropout(h, 0.2)",
    "a mask a step within a recurrence": "h: tanh(linear(dropout(delay(h), 0.3), m, name=U) + linear(x, m, name=W))\ny: h",
    "memories that are equal without": "y: delay(dropout(x, 0.4)) + 2 * delay(dropout(x, 0.4)) + delay(x)",
    "an answer": "y: dropout(linear(pool(dropout(x, 0.3)), m), 0.4)",
}


def _model(name: str) -> Any:
    output = "z" if "z:" in SPECS[name] else "y"
    return ssir.compile(_spec(SPECS[name], output), dtype="float64")


def _inputs(batch: int, steps: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(batch * 100 + steps)
    x = torch.randn(batch, steps, 6, dtype=torch.float64, generator=generator)
    return x, torch.rand(batch, steps, generator=generator) < 0.2


def _close(found: Tensor, wanted: Tensor, what: str) -> None:
    assert found.shape == wanted.shape, what
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-10, msg=lambda text: f"{what}: {text}")


@pytest.mark.parametrize(("batch", "steps"), [(1, 1), (3, 7), (1, 63)])
@pytest.mark.parametrize("name", SPECS)
def test_training_is_what_the_reference_says_of_the_same_masks(name: str, batch: int, steps: int) -> None:
    model = _model(name).train()
    x, reset = _inputs(batch, steps)
    state = None
    for given in (None, reset, None):
        carried = state if model.has_step else None
        masks: dict[str, Tensor] = {}
        y, after = model(x, state=carried, reset=given, masks=masks)
        wanted, end = ssir.reference(model, x, state=carried, reset=given, masks=masks)
        _close(y, wanted, "output")
        for memory in after:
            if None in model.signature.memories[memory].sizes:
                continue  # what a reset has closed is let go of; the next call shows what was kept
            _close(after[memory].to(end[memory].dtype), end[memory], memory)
        probe = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        parameters = dict(model.named_parameters())
        if parameters:
            own, meant = (
                torch.autograd.grad((one * probe).sum(), list(parameters.values()), retain_graph=True)
                for one in (y, wanted)
            )
            for name, ours, theirs in zip(parameters, own, meant, strict=True):
                _close(ours, theirs, f"gradient of {name}")
        state = {key: value.detach() for key, value in after.items()}


@pytest.mark.parametrize("name", SPECS)
def test_what_is_evaluated_drops_nothing(name: str) -> None:
    model = _model(name)
    assert not model.training
    x, _ = _inputs(3, 7)
    _close(model(x)[0], ssir.reference(model, x)[0], "output")


def test_decoding_drops_nothing() -> None:
    model = _model("attention").train()
    x, _ = _inputs(3, 7)
    model.eval()
    whole, _ = model(x)
    model.train()
    state, found = None, []
    for t in range(7):
        y, state = model.step(x[:, t], state=state)
        found.append(y)
    _close(torch.stack(found, 1), whole, "decoding")


def test_dropout_costs_nothing_where_it_is_left_out() -> None:
    """The plan of what is evaluated is that of a spec without it; training has one of its own."""
    with_it = ssir.load("gpt2", model=8, head=2, layers=1, vocab=7, length=9)
    without = ssir.load("gpt2", model=8, head=2, layers=1, vocab=7, length=9, drop=0)
    one, other = (ssir.compile(spec) for spec in (with_it, without))
    assert [entry.match.form.name for entry in one.plan.entries] == [
        entry.match.form.name for entry in other.plan.entries
    ]
    assert {entry.match.form.name for entry in one.plan.trained.plan.entries} == {"register"}
    assert other.plan.trained is None and not other.DROPS
    assert "run.mask" not in other.source.text
    assert list(one.source.program.functions) == list(other.source.program.functions)
    for name in one.source.program.functions:
        ops = [[node.op for node in source.program.functions[name]] for source in (one.source, other.source)]
        assert ops[0] == ops[1], name


def test_each_call_draws_anew_by_the_generator_of_torch() -> None:
    model = _model("a projection").train()
    x, _ = _inputs(3, 7)
    torch.manual_seed(5)
    first, second = model(x)[0], model(x)[0]
    torch.manual_seed(5)
    again = model(x)[0]
    assert not torch.equal(first, second)
    assert torch.equal(first, again)


def test_a_seed_draws_the_same_masks_whatever_else_is_drawn_and_whatever_form_computes() -> None:
    spec = _spec(SPECS["a scan"])
    x, _ = _inputs(3, 7)
    one = ssir.compile(spec, dtype="float64").train()
    other = ssir.compile(spec, dtype="float64", forms={"y": "loop"}).train()
    first = one(x, masks=11)[0]
    one(x)
    _close(one(x, masks=11)[0], first, "the same seed")
    _close(other(x, masks=11)[0], first, "another form")
    assert not torch.equal(one(x, masks=12)[0], first)


def test_the_rate_is_the_share_that_is_dropped_and_the_mean_stays() -> None:
    model = ssir.compile(_spec("y: dropout(x, 0.3)"), dtype="float64").train()
    torch.manual_seed(0)
    y, _ = model(torch.ones(50, 40, 6, dtype=torch.float64))
    assert set(y.unique().tolist()) == {0.0, 1 / 0.7}
    assert abs((y == 0).double().mean() - 0.3) < 0.02


def test_a_rate_may_grow_with_the_layer() -> None:
    block = "  block:\n    input: {x: [m]}\n    graph:\n      y: x + dropout(linear(x, m), 0.9 * layer / (layers - 1), over=m, each=sequence)\n    output: y\n"
    model = ssir.compile(_spec("y: {stack: [block], times: layers, input: x}", more=block), dtype="float64").train()
    x, _ = _inputs(3, 5)
    x = x.expand(3, 5, 6).repeat(40, 1, 1)
    masks: dict[str, Tensor] = {}
    torch.manual_seed(0)
    y, _ = model(x, masks=masks)
    first, last = masks.values()
    assert first.shape == (120, 1) and first.all()
    assert 0 < last.double().mean() < 0.3
    _close(y, ssir.reference(model, x, masks=masks)[0], "output")


def test_a_checkpointed_model_has_the_same_gradients() -> None:
    """Activations that are computed again are computed with the same masks."""
    model = _model("a recurrence").train()
    x, _ = _inputs(3, 7)
    torch.manual_seed(3)
    model(x)[0].sum().backward()
    wanted = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    torch.manual_seed(3)
    checkpoint(lambda x: model(x)[0], x.requires_grad_(), use_reentrant=False).sum().backward()
    for name, p in model.named_parameters():
        _close(p.grad, wanted[name], f"gradient of {name}")


def test_copies_train_alike() -> None:
    model = _model("attention").train()
    x, _ = _inputs(3, 7)
    wanted = model(x, masks=3)[0]
    for copy in (deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301
        assert copy.training
        _close(copy(x, masks=3)[0], wanted, "a copy")


def test_an_artifact_trains_alike(tmp_path: Any) -> None:
    spec = _spec(SPECS["attention"])
    model = ssir.compile(spec)
    ssir.save(model, tmp_path / "made")
    again = ssir.open(tmp_path / "made")
    x = _inputs(3, 7)[0].float()
    assert not again.training
    torch.testing.assert_close(again.train()(x, masks=3)[0], model.train()(x, masks=3)[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torch_compile_drops_too() -> None:
    model = ssir.compile(_spec("y: dropout(linear(x, m), 0.5)"), fuse=True).train()
    x = _inputs(3, 7)[0].float()
    y, _ = model(x)
    assert 0.2 < (y == 0).double().mean() < 0.8
    assert not (model.eval()(x)[0] == 0).any()


@pytest.mark.parametrize(
    ("graph", "wrong"),
    [
        ("y: dropout(x, 1)", "a rate is a probability below 1, not 1"),
        ("y: dropout(x, -0.5)", "a rate is a probability below 1, not -0.5"),
        ("y: dropout(x, mean(x, over=m))", "a rate is made of numbers and `layer`"),
        ("y: dropout(x, 0.1, over=key)", "there is no axis `key` here"),
        ("y: dropout(x, 0.1, each=layer)", "`each` is one of step, sequence"),
        ("y: x * dropout(position, 0.1)", "only real and complex numbers are dropped"),
    ],
)
def test_what_cannot_be_dropped_is_told(graph: str, wrong: str) -> None:
    with pytest.raises(SpecError) as told:
        _spec(graph).graph  # noqa: B018
    assert wrong in str(told.value)


def test_masks_that_do_not_fit_are_told() -> None:
    model = _model("a projection")
    x, _ = _inputs(3, 7)
    with pytest.raises(InputError, match=r"call train\(\) first"):
        model(x, masks={})
    model.train()
    with pytest.raises(InputError, match="exclude each other"):
        model(x, masks={}, lengths=torch.tensor([7, 3, 2]))
    with pytest.raises(InputError, match="nothing is dropped at `other`; the nearest is `y/dropout`"):
        model(x, masks={"other": torch.ones(3, 7, 6, dtype=torch.bool)})
    with pytest.raises(ValueError, match=r"must be \[3, 7, 6\] of bool; got \[3, 6\] torch.bool"):
        model(x, masks={"y/dropout": torch.ones(3, 6, dtype=torch.bool)})
    assert "masks" not in str(ssir.compile(_spec("y: linear(x, m)")).source.text)
