"""What a stranger tried, and what it must do: an answer at once, the right value, or an error that says what to mend."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ssir
from ssir.cli import main
from ssir.errors import SpecError
from ssir.spec.check import check

HEAD = "ssir: 1\nname: door\ndims: {model: 4, head: 2, key: 3, slot: unbounded}\ncomponents:\n"


def text(*nodes: str, more: str = "") -> str:
    graph = "".join(f"      {node}\n" for node in nodes)
    return f"{HEAD}{more}  mixer:\n    input: {{u: [model]}}\n    graph:\n{graph}    output: y\nmain: mixer\n"


def codes(*nodes: str, more: str = "") -> set[str]:
    with pytest.raises(SpecError) as caught:
        check(ssir.loads(text(*nodes, more=more)))
    return {fault.code for fault in caught.value.diagnostics}


@pytest.mark.parametrize(
    "nodes",
    [
        ("a: 9007199254740991", "b: 9007199254740992", "y: u * a ** b"),
        ("a: 10 ** 300", "y: u * a * a * (a * a)"),
        ("y: u * 9 ** 9 ** 9 ** 9",),
        ("a: 0", "b: 1", "y: u * (b / a)"),
        ("a: 1000", "y: u * exp(a)"),
        ("y: u * (0 / 0)",),
    ],
)
def test_numbers_that_cannot_be_reckoned_with_are_errors(nodes: tuple[str, ...]) -> None:
    assert codes(*nodes) == {"SSIR018"}


def test_calls_that_double_are_counted_and_refused() -> None:
    calls = "  c0:\n    input: {u: [model]}\n    graph: {y: 2 * u}\n    output: y\n"
    for i in range(1, 31):
        calls += f"  c{i}:\n    input: {{u: [model]}}\n    graph:\n      a: c{i - 1}(u)\n      y: c{i - 1}(a)\n    output: y\n"
    assert codes("y: c30(u)", more=calls) == {"SSIR004"}


def test_stacks_that_double_are_counted_and_refused() -> None:
    calls = "  c0:\n    input: {u: [model]}\n    graph: {y: 2 * u}\n    output: y\n"
    for i in range(1, 31):
        calls += (
            f"  c{i}:\n    input: {{u: [model]}}\n    graph:\n"
            f"      y: {{stack: [c{i - 1}, c{i - 1}(key=5)], times: 2, input: u}}\n    output: y\n"
        )
    assert codes("y: c30(u)", more=calls) == {"SSIR004"}


def test_a_register_that_grows_is_entered_at_its_first_slot() -> None:
    state = "h: {state: [slot, model], A: shift(slot), B: 'where(arange(slot) > 0, 1, 0)', input: u}"
    assert codes(state, "y: sum(h, over=slot)") == {"SSIR018"}


GATES = [
    "sqrt(1 - sigmoid(linear(u, head)))",
    "sqrt(sqrt(sigmoid(linear(u, head))))",
    "square(sigmoid(linear(u, head)))",
    "sigmoid(linear(u, head)) ** 3",
    "(1 - sigmoid(linear(u, head))) ** param([head], init=ones)",
    "reciprocal(1 + softplus(linear(u, head)))",
    "rsqrt(1 + exp(linear(u, head)))",
]


@pytest.mark.parametrize("gate", GATES)
def test_a_power_of_a_gate_is_what_it_says(gate: str) -> None:
    graph = [
        "k: linear(u, [head, key])",
        "v: linear(u, [head, key_])",
        f"w: {gate}",
        "S: {state: [head, key, key_], A: w, B: k, input: v, C: k}",
        "y: linear(S, model)",
    ]
    model = ssir.compile(ssir.loads(text(*graph)), dtype=torch.float64)
    x = torch.randn(2, 9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(x)[0], ssir.reference(model, x)[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("own", ["float32", "float64"])
def test_a_parameter_keeps_its_dtype_and_meets_data_in_theirs(dtype: torch.dtype, own: str) -> None:
    spec = ssir.loads(text(f"y: linear(u * param([model], init=0.1 + arange(model), dtype={own}), model)"))
    model = ssir.compile(spec, dtype=dtype)
    kept = dict(model.named_parameters())["y.param"]
    assert kept.dtype == getattr(torch, own)
    x = torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    y, _ = model(x)
    assert y.dtype == dtype
    tolerance = 0.05 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(y.double(), ssir.reference(model, x.double())[0], rtol=tolerance, atol=tolerance)


def test_what_nothing_reads_is_told_and_breaks_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "unread.yaml"
    path.write_text(text("gate: sigmoid(linear(u, model))", "y: linear(u, model)"))
    assert main(["check", "--json", str(path)]) == 0
    found = json.loads(capsys.readouterr().out)["specs"][0]
    assert found["ok"] and {(one["level"], one["code"]) for one in found["diagnostics"]} == {("warning", "SSIR040")}
    assert {one["message"] for one in found["diagnostics"]} >= {"nothing reads `gate`", "nothing reads the dim `head`"}
    assert main(["check", str(path)]) == 0
    assert "warning[SSIR040]: nothing reads `gate`" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["check", "show", "plan", "draw", "compile", "verify"])
def test_a_main_that_does_not_exist_is_a_fault_of_the_spec(command: str, tmp_path: Path) -> None:
    path = tmp_path / "nope.yaml"
    path.write_text(text("y: silu(u)").replace("main: mixer", "main: nope"))
    assert main([command, str(path)]) == 1


def test_a_component_of_a_file_is_named_here_and_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(text("y: silu(u)"))
    monkeypatch.chdir(tmp_path)
    for name in ("my.yaml:mixer", "./my.yaml:mixer", f"{path}:mixer"):
        assert ssir.load(name).component == "mixer"
    assert main(["check", "my.yaml:mixer"]) == 0


def test_parameters_are_listed_with_the_line_that_makes_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "mamba", "--parameters", "--json", "--set", "layers=2"]) == 0
    rows = {row["path"]: row for row in json.loads(capsys.readouterr().out)["parameters"]}
    rate = rows["x.1.y.mixer.A_log"]
    assert rate["shape"] == {"inner": 1536, "state": 16} and rate["init"] == "log_arange" and rate["decay"] is False
    line = Path(rate["file"]).read_text("utf-8").splitlines()[rate["line"] - 1]
    assert "name=A_log" in line
    assert set(rows) == set(ssir.compile(ssir.load("mamba", layers=2)).state_dict())


def test_python_runs_the_package_as_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ssir", "explain", "SSIR016"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "cycle" in done.stdout
