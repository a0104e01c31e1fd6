"""A compiled model is an ordinary module: its parts are found, watched, wrapped, replaced, copied, pickled, moved."""

import copy
import io
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

import ssir
from ssir.compilers.runtime.body import Body
from ssir.compilers.runtime.model import InputError, Model
from ssir.errors import UsageError
from tests.compilers.runtime.habits import NAMES, close, model, tokens
from tests.small import small


@pytest.mark.parametrize("name", NAMES)
def test_every_module_that_owns_parameters_is_called(name: str) -> None:
    ours, fired = model(name), set[str]()
    inner = [path for path, one in ours.named_modules() if path and any(True for _ in one.parameters(recurse=False))]
    for path, one in ours.named_modules():
        one.register_forward_hook(lambda *_, path=path: fired.add(path))
    ours(tokens())
    assert not [path for path in inner if path not in fired]
    fired.clear()
    ours.step(tokens()[:, 0])
    assert not [path for path in inner if path not in fired]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_watched_gives_what_is_not(name: str) -> None:
    ours, x = model(name, dtype=torch.float64), tokens()
    y, state = ours(x)
    handles = [one.register_forward_hook(lambda *_: None) for one in ours.modules()]
    watched, after = ours(x)
    close(watched, y, 1e-10)
    for key, value in state.items():
        close(after[key], value, 1e-10)
    for handle in handles:
        handle.remove()
    close(ours(x)[0], y, 1e-12)


def test_a_hook_sees_a_component_where_the_spec_has_it() -> None:
    ours, seen = model("mamba"), list[torch.Tensor]()
    layer = ours.get_submodule("x.0")
    mixer = next(one for path, one in layer.named_modules() if path and isinstance(one, Body))
    mixer.register_forward_hook(
        lambda _module, _inputs, output: seen.append(output[0] if isinstance(output, tuple) else output)
    )
    ours(tokens(2, 20))
    assert [list(one.shape[:2]) for one in seen] == [[2, 20]]


def test_a_hook_may_replace_what_a_component_gives() -> None:
    ours, x = model("mamba"), tokens()
    layer = ours.get_submodule("x.0")
    mixer = next(one for path, one in layer.named_modules() if path and isinstance(one, Body))
    before = ours(x)[0]
    handle = mixer.register_forward_hook(lambda _module, _inputs, output: torch.zeros_like(output))
    assert not torch.allclose(ours(x)[0], before)
    handle.remove()
    close(ours(x)[0], before)


@pytest.mark.parametrize("name", NAMES)
def test_projections_and_tables_are_those_of_torch(name: str) -> None:
    kinds = {type(one).__mro__[1] for one in model(name).modules()}
    assert nn.Linear in kinds and nn.Embedding in kinds


class Double(nn.Module):
    def forward(self, w: torch.Tensor) -> torch.Tensor:
        return 2 * w


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_can_be_parametrised(name: str) -> None:
    ours, x = model(name, dtype=torch.float64), tokens()
    before = ours(x)[0]
    for path, one in list(ours.named_modules()):
        if isinstance(one, nn.Linear):
            parametrize.register_parametrization(one, "weight", Double())
            other = copy.deepcopy(ours)
            with torch.no_grad():
                assert not torch.allclose(ours(x)[0], before), path
                close(ours(x)[0], other(x)[0], 1e-12)
            parametrize.remove_parametrizations(one, "weight", leave_parametrized=False)
    close(ours(x)[0], before, 1e-12)


def test_a_layer_may_be_wrapped() -> None:
    class Wrapped(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, *inputs: object) -> object:
            return torch.utils.checkpoint.checkpoint(self.inner, *inputs, use_reentrant=False)

    ours, x = model("mamba"), tokens()
    y, state = ours(x)
    y.square().mean().backward()
    wanted = {key: p.grad for key, p in ours.named_parameters()}
    ours.zero_grad()
    layers = ours.get_submodule("x")
    assert isinstance(layers, nn.ModuleList)
    layers[0] = Wrapped(layers[0])
    again, after = ours(x)
    close(again, y)
    assert after.keys() == state.keys()
    again.square().mean().backward()
    for key, p in ours.named_parameters():
        found, expected = p.grad, wanted[key.replace("0.inner.", "0.")]
        assert found is not None and expected is not None
        close(found, expected)


@pytest.mark.parametrize("name", [*NAMES, "s4d", "t5", "zamba", "albert"])
def test_models_are_pickled_and_copied(name: str) -> None:
    ours: Model = ssir.compile(small(name))
    buffer = io.BytesIO()
    torch.save(ours, buffer)
    buffer.seek(0)
    for other in (pickle.loads(pickle.dumps(ours)), torch.load(buffer, weights_only=False), copy.deepcopy(ours)):
        assert type(other) is type(ours)
        assert other.plan.record() == ours.plan.record()
        for (key, p), (own, q) in zip(other.named_parameters(), ours.named_parameters(), strict=True):
            assert key == own and p is not q and torch.equal(p, q)


def test_a_pickle_opens_in_another_process_hooks_and_all(tmp_path) -> None:  # type: ignore[no-untyped-def]
    ours = model("griffin")
    torch.save((ours, ours(tokens())[0].detach()), tmp_path / "model.pt")
    code = (
        "import sys, torch; ours, y = torch.load(sys.argv[1], weights_only=False);"
        "from tests.compilers.runtime.habits import tokens, close; close(ours(tokens())[0], y)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.pt")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-400:]


@pytest.mark.parametrize("name", NAMES)
def test_built_on_meta_and_filled(name: str) -> None:
    with torch.device("meta"):
        ours: Model = ssir.compile(small(name))
    assert all(p.is_meta for p in ours.parameters())
    real = model(name)
    ours.load_state_dict(real.state_dict(), assign=True)
    assert ours.device.type == "cpu"
    close(ours(tokens())[0], real(tokens())[0])


def test_built_in_inference_mode() -> None:
    with torch.inference_mode():
        ours = model("mamba")
        ours(tokens())
        with ours.frozen():
            ours.step(tokens()[:, 0])
    ours(tokens())[0].sum().backward()


def test_dtypes_are_named_too() -> None:
    assert ssir.compile(small("mamba"), dtype="bfloat16").dtype == torch.bfloat16
    with pytest.raises(UsageError, match="nearest is `bfloat16`"):
        ssir.compile(small("mamba"), dtype="bfloat")


def test_a_model_reads_like_one() -> None:
    text = repr(model("mamba"))
    assert "Embedding(11, " in text and "Linear(in_features=" in text and "RMSNorm" in text and "Block(" in text


# Inputs.


def test_inputs_go_by_the_names_of_the_spec() -> None:
    ours, x = model("mamba"), tokens()
    close(ours(tokens=x)[0], ours(x)[0])
    close(ours.step(tokens=x[:, 0])[0], ours.step(x[:, 0])[0])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (tokens()[0], r"`tokens` must be \[batch, time\]; got \[20\]"),
        (tokens().float(), r"`tokens` must be \[batch, time\] of whole numbers.*got torch.float32"),
        ([1, 2], r"`tokens` must be \[batch, time\]; got list"),
    ],
)
def test_wrong_inputs_are_told_by_the_names_of_the_spec(given: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        model("mamba")(given)


def test_wrong_vectors_and_resets_are_told() -> None:
    ours: Model = ssir.compile(ssir.load("mamba.mixer", model=8, state=2))
    with pytest.raises(InputError, match=r"`u` must be \[batch, time, 8\]; got \[1, 3, 9\]"):
        ours(torch.randn(1, 3, 9))
    with pytest.raises(InputError, match=r"of torch\.float32, the dtype of the model; got torch\.float64"):
        ours(torch.randn(1, 3, 8, dtype=torch.float64))
    with pytest.raises(InputError, match=r"`reset` must be \[batch, time\] of bool, here \[1, 3\]; got \[1, 4\]"):
        ours(torch.randn(1, 3, 8), reset=torch.zeros(1, 4, dtype=torch.bool))
    with pytest.raises(InputError, match=r"got .* torch\.float32"):
        ours(torch.randn(1, 3, 8), reset=torch.zeros(1, 3))


@pytest.mark.parametrize("name", NAMES)
def test_no_steps_and_no_sequences(name: str) -> None:
    ours, x = model(name), tokens()
    y, state = ours(x[:, :0])
    assert y.shape == (2, 0, 11)
    close(ours(x[:, :1], state)[0], ours(x[:, :1])[0])
    _, carried = ours(x[:, :5])
    _, same = ours(x[:, :0], carried)
    assert all(torch.equal(same[key], value) for key, value in carried.items())
    y, state = ours(x[:0])
    assert y.shape == (0, 20, 11) and state.batch == 0
