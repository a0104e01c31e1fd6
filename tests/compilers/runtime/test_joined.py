"""Projections of one input lie side by side in memory, and are one product where that pays."""

import copy
import io
import pickle

import pytest
import torch
from torch import Tensor, nn

import ssir
from ssir.compilers.runtime import joined
from ssir.compilers.runtime.model import Model
from tests.small import small

from .habits import close, tokens


@pytest.fixture(autouse=True)
def _pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joined, "pays", lambda device: True)


def made(name: str = "mamba") -> Model:
    model: Model = ssir.compile(small(name), dtype="float64")
    return model


def apart(model: Model) -> Model:
    """The same model, each parameter in memory of its own."""
    found = copy.deepcopy(model)
    for parameter in found.parameters():
        parameter.data = parameter.detach().clone()
    assert not any(found.blocks())
    return found


def whole(model: Model) -> bool:
    """Whether every group of projections is one."""
    blocks = model.blocks()
    return bool(blocks) and None not in blocks


def agree(one: Model, other: Model) -> None:
    x = tokens(3, 20)
    (y, _), (wanted, _) = one(x), other(x)
    close(y, wanted)
    found, truth = (
        torch.autograd.grad(out.square().sum(), list(m.parameters())) for out, m in ((y, one), (wanted, other))
    )
    for (name, _), grad, true in zip(one.named_parameters(), found, truth, strict=True):
        assert (grad - true).abs().max() < 1e-9 * max(1.0, float(true.abs().max())), name


@pytest.mark.parametrize("name", ["mamba", "mamba2", "hawk", "gpt2", "lstm", "rwkv7"])
def test_one_product_gives_what_several_do(name: str) -> None:
    model = made(name)
    assert whole(model)
    agree(model, apart(model))


def test_products_are_fewer() -> None:
    model = made()

    def products(m: Model) -> int:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
            m(tokens(3, 20))
        return sum(event.count for event in seen.key_averages() if event.key == "aten::linear")

    assert products(apart(model)) - products(model) == 2 * (1 + 2)  # x and z; the low rank of the step size, B and C


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "saved", "moved", "loaded"])
def test_copies_lie_side_by_side_too(way: str) -> None:
    model = made()
    match way:
        case "deepcopy":
            other = copy.deepcopy(model)
        case "pickle":
            other = pickle.loads(pickle.dumps(model))
        case "saved":
            file = io.BytesIO()
            torch.save(model, file)
            file.seek(0)
            other = torch.load(file, weights_only=False)
        case "moved":
            other = copy.deepcopy(model).to(torch.float32).to(torch.float64)
            model = other
        case _:
            other = made()
            other.load_state_dict(model.state_dict())
    assert whole(other)
    assert not {x.data_ptr() for x in other.parameters()} & {x.data_ptr() for x in model.parameters()} or other is model
    agree(other, apart(model))


def test_a_file_has_every_number_once() -> None:
    model = made()
    numbers = sum(x.nbytes for x in model.parameters())
    assert len(pickle.dumps(model)) < numbers + 40_000
    own, alone = io.BytesIO(), io.BytesIO()
    torch.save(model.state_dict(), own)
    torch.save(apart(model).state_dict(), alone)
    assert own.tell() < 1.1 * alone.tell()


def test_parameters_that_were_replaced_are_used_as_they_are() -> None:
    model = made()
    wanted = apart(model)
    other = made()
    other.load_state_dict({name: x.clone() for name, x in model.state_dict().items()}, assign=True)
    assert not whole(other)
    agree(other, wanted)


def test_a_layer_in_the_place_of_another_has_its_own_weights() -> None:
    model = made()
    layers = next(m for m in model.modules() if isinstance(m, nn.ModuleList))
    layers[0] = copy.deepcopy(layers[1])
    with torch.no_grad():
        for x in layers[0].parameters():
            x.mul_(1.5)
    agree(model, apart(model))


def test_whoever_watches_a_projection_sees_it() -> None:
    model = made()
    seen: list[Tensor] = []
    one = next(module for name, module in model.named_modules() if name.endswith(".z"))
    one.register_forward_hook(lambda _, __, y: seen.append(y))
    agree(model, apart(model))
    assert seen


@pytest.mark.parametrize("which", [".x0.weight", ".z.weight"])
def test_a_weight_that_changes_before_the_backward_pass_is_noticed(which: str) -> None:
    model = made()
    y, _ = model(tokens(1, 5))
    changed = [x for name, x in model.named_parameters() if name.endswith(which)]
    assert changed
    with torch.no_grad():
        changed[0].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_gradients_of_gradients() -> None:
    model = made()
    plain = apart(model)
    found = []
    for m in (model, plain):
        weights = [x for name, x in m.named_parameters() if name.endswith("z.weight")]
        (first, *_) = torch.autograd.grad(m(tokens(1, 5))[0].square().sum(), weights, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), weights))
    for one, other in zip(*found, strict=True):
        close(one, other)


def test_biases_that_some_have_are_added_later() -> None:
    layers = [nn.Linear(3, 2, bias=bias) for bias in (True, False)]
    joined.lay(layers)
    block = joined.block(layers)
    assert block is not None
    assert block.bias is None
    assert block.later == (layers[0].bias, None)
    joined.lay([*layers[:1], nn.Linear(3, 4)])
