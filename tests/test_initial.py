"""The first values of parameters."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ssir.api import compile
from ssir.errors import SpecError
from ssir.initial import initialise
from ssir.spec import init
from ssir.spec.check import check
from ssir.spec.load import load, loads
from tests.oracles.compare import parameters

SPEC = """
ssir: 1
name: maps
dims: {n: 6, head: 3, key: 2, wide: 12, part: 2}
components:
  main:
    input: {x: [n]}
    graph:
      square: linear(x, [head, key], init=orthogonal)
      tall: linear(x, wide, init=orthogonal(2))
      each: linear(pack([x, x], part), key, per=part, init=orthogonal)
      radius: param([wide], init=uniform(0.25, 1))
      rest: param([wide], init=1 - uniform(0.25, 1), draws=radius)
      w: param([part, key], init=legs_w)
      p: complex(param([key], init=legs_p_real, name=p_real), param([key], init=legs_p_imag, name=p_imag))
      b: complex(param([key], init=legs_b_real, name=b_real), param([key], init=legs_b_imag, name=b_imag))
      normed: layer_norm(x, over=n, init=0.5 * (1 + arange(n)))
    output: {square: square, tall: tall, each: each, normed: normed, radius: radius, rest: rest, w: w, p: p, b: b}
main: main
"""


def _values(tmp_path: Path) -> dict[str, Tensor]:
    path = tmp_path / "maps.yaml"
    path.write_text(SPEC)
    graph = load(str(path)).graph
    return {key: initialise(graph, node, key, 0, seed=0) for key, node in parameters(graph)}


def test_an_orthogonal_map_is_orthogonal_from_all_its_inputs_to_all_its_outputs(tmp_path: Path) -> None:
    values = _values(tmp_path)
    square, tall = values["square.weight"].reshape(6, 6), values["tall.weight"]
    assert torch.allclose(square @ square.T, torch.eye(6, dtype=torch.float64))
    assert torch.allclose(tall.T @ tall, 4 * torch.eye(6, dtype=torch.float64))


def test_every_one_of_several_maps_is_orthogonal(tmp_path: Path) -> None:
    for one in _values(tmp_path)["each.weight"]:
        assert torch.allclose(one @ one.T, torch.eye(2, dtype=torch.float64))


def test_the_weight_of_a_norm_can_be_initialised(tmp_path: Path) -> None:
    assert _values(tmp_path)["normed.weight"].tolist() == [0.5, 1, 1.5, 2, 2.5, 3]


def test_a_parameter_can_draw_the_numbers_of_another_again(tmp_path: Path) -> None:
    values = _values(tmp_path)
    assert torch.equal(values["rest"], 1 - values["radius"])


def test_legs_gives_the_modes_the_rank_one_and_the_input_of_hippo(tmp_path: Path) -> None:
    values = _values(tmp_path)
    n = torch.arange(4, dtype=torch.float64)
    scale = torch.sqrt(2 * n + 1)
    hippo = -torch.tril(torch.outer(scale, scale), -1) - torch.diag(n + 1)

    def both(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, x.conj()])

    assert torch.equal(values["w"][0], values["w"][1]) and bool((values["w"][0].diff() < 0).all())
    modes = both(torch.complex(torch.full((2,), -0.5, dtype=torch.float64), values["w"][0]))
    p, b = (both(torch.complex(values[f"{name}_real"], values[f"{name}_imag"])) for name in ("p", "b"))
    assert b.imag.abs().max() <= 2
    # Its imaginary part is cut at 2, as the authors' code does; that of p is not, and without the cut b is sqrt(2) p.
    b = torch.where(b.imag.abs() == 2, 2**0.5 * p, b)
    matrix, power, wanted = torch.diag(modes) - torch.outer(p, p.conj()), b, scale
    for _ in range(4):
        # c A^k b for c = p* is the same in both coordinates.
        assert torch.allclose((p.conj() @ power).real, torch.sqrt(n + 0.5) @ wanted)
        power, wanted = matrix @ power, hippo @ wanted


WHOLE = """
ssir: 1
name: initial
dims: {{model: 4, other: 3}}
components:
  mixer:
    input: {{u: [model]}}
    graph:
      y: u * param([{axes}], init={init})
    output: y
main: mixer
"""
CALLS = [
    *sorted(init.WORDS),
    *(f"{name}({', '.join(['0.5', '0.75'][:most])})" for name, (_, most) in init.DRAWS.items()),
    *(f"{name}(ones)" for name, (count, _) in sorted(init.FUNCTIONS.items()) if count == 1 and name != "arange"),
    "maximum(0.5, arange(model))",
    "minimum(0.5, arange(model))",
    "where(arange(model) > 1, 1, 0)",
    "arange(other)",
    "2 * eye",
]


@pytest.mark.parametrize("axes", ["", "model", "model, other"])
@pytest.mark.parametrize("call", CALLS)
def test_what_check_accepts_compiles_and_what_does_not_compile_is_refused(call: str, axes: str) -> None:
    spec = loads(WHOLE.format(axes=axes, init=call))
    try:
        check(spec)
    except SpecError as error:
        assert {fault.code for fault in error.diagnostics} == {"SSIR013"}
        return
    value = dict(compile(spec).named_parameters())["y"]
    assert value.isfinite().all()


@pytest.mark.parametrize("call", ["eye", "arange(other)"])
def test_an_initialiser_that_asks_for_axes_that_are_not_there_is_refused(call: str) -> None:
    with pytest.raises(SpecError, match=r"axis|axes"):
        check(loads(WHOLE.format(axes="model", init=call)))
