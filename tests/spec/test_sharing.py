"""What calls share and what they keep: adapters of their own in a shared block, blocks by turns, components over whatever axes they are given."""

from typing import Any

import pytest
import torch

import ssir
from ssir.api import meaning_parameters
from ssir.errors import SpecError
from ssir.ir.graph import parameters
from ssir.spec.check import check
from ssir.spec.load import loads

BY_TURNS = """ssir: 1
name: s1
dims: {model: 8, head: 2, key: 6, half: 2, rank: 2, layers: 4}
components:
  norm:
    input: {x: [...]}
    graph: {y: rms_norm(x)}
    output: y
  adapter:
    input: {x: [model]}
    graph:
      y: linear(linear(x, rank, name=down), model, init=zeros, name=up)
    output: y
  shared:
    input: {x: [model]}
    graph:
      u: norm(x)
      angle: position * 100 ** (-arange(half) / half)
      q: norm(rotate(linear(u, [head, key]), angle, over=key))
      k: l2_norm(linear(u, [head, key]), over=key, eps=1e-6, within=root)
      d: dot(q, k, over=key)
      y: x + linear(u, model) + adapter(u, share=false) + linear(d, model)
    output: y
  a:
    input: {x: [model]}
    graph: {y: "shared(x, share=first)"}
    output: y
  b:
    input: {x: [model]}
    graph: {y: "shared(x, share=second)"}
    output: y
  net:
    input: {x: [model]}
    graph:
      y: {stack: [a, b], times: layers, input: x}
    output: y
main: net
"""


def _paths(spec: Any) -> list[str]:
    return [name for name, *_ in parameters(spec.graph)]


def test_two_blocks_by_turns_have_their_weights_once_and_an_adapter_a_layer() -> None:
    paths = _paths(loads(BY_TURNS))
    adapters = [path for path in paths if "adapter" in path]
    assert adapters == [f"y.{i}.y.y.adapter.{part}.weight" for i in range(4) for part in ("down", "up")]
    rest = [path for path in paths if "adapter" not in path]
    assert {path.partition(".")[0] for path in rest} == {"first", "second"}
    assert len(rest) == len(set(rest)) == 12


def test_shared_blocks_with_adapters_mean_what_copies_of_them_mean() -> None:
    model = ssir.compile(loads(BY_TURNS), dtype="float64")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.5, generator=torch.Generator().manual_seed(parameter.numel()))
    x = torch.randn(2, 7, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    own = meaning_parameters(model)
    y, wanted = model(x)[0], x
    for layer in range(4):
        block = ("first", "second")[layer % 2]
        wanted = _block(wanted, own, block, f"y.{layer}.y.y.adapter")
    torch.testing.assert_close(y, wanted)
    torch.testing.assert_close(y, ssir.reference(model, x)[0])


def _block(x: torch.Tensor, own: dict[str, torch.Tensor], block: str, adapter: str) -> torch.Tensor:
    """The block of BY_TURNS, written out."""
    u = x * (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * own[f"{block}.u.y.weight"]
    q = torch.einsum("btm,hkm->bthk", u, own[f"{block}.q.linear.weight"].reshape(2, 6, 8))
    angle = torch.arange(7.0, dtype=torch.float64)[:, None] * 100 ** (-torch.arange(2.0, dtype=torch.float64) / 2)
    turned = torch.view_as_real(
        torch.view_as_complex(q[..., :4].unflatten(-1, (2, 2)).contiguous())
        * torch.polar(torch.ones(()).double(), angle)[:, None]
    ).flatten(-2)
    q = torch.cat([turned, q[..., 4:]], -1)
    q = q * (q.square().mean((-1, -2), keepdim=True) + 1e-5).rsqrt() * own[f"{block}.q.norm.y.weight"]
    k = torch.einsum("btm,hkm->bthk", u, own[f"{block}.k.weight"].reshape(2, 6, 8))
    k = k * (k.square().sum(-1, keepdim=True) + 1e-6).rsqrt()
    y = x + u @ own[f"{block}.y.linear.weight"].T
    y = y + u @ own[f"{adapter}.down.weight"].T @ own[f"{adapter}.up.weight"].T
    return y + (q * k).sum(-1) @ own[f"{block}.y.linear_2.weight"].T


def test_a_component_that_takes_any_axes_is_checked_with_one() -> None:
    text = BY_TURNS.replace(
        "main: net", '  free:\n    input: {x: [...]}\n    graph: {y: "linear(x, model)"}\n    output: y\nmain: net'
    )
    check(loads(text))
    wrong = text.replace('linear(x, model)"}', 'linear(x, modle)"}')
    with pytest.raises(SpecError, match="no dim is called `modle`"):
        check(loads(wrong))


@pytest.mark.parametrize("share", ["true", "3", "[a]"])
def test_share_is_a_name_or_false(share: str) -> None:
    with pytest.raises(SpecError, match="share is a name, or false"):
        check(loads(BY_TURNS.replace("share=false", f"share={share}")))


def test_a_norm_without_axes_is_told() -> None:
    with pytest.raises(SpecError, match="there is no axis to normalise along"):
        check(loads(BY_TURNS.replace("d: dot(q, k, over=key)", "d: dot(q, k, over=key) * norm(mean(x, over=model))")))
