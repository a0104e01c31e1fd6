"""The command line: what it prints, where, and with which exit code."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from ssir.cli import main
from ssir.proof import report
from ssir.spec.load import load, zoo

ROOT = Path(__file__).parent.parent.parent

GOOD = """\
ssir: 1
name: average
dims: {model: 4}
components:
  mixer:
    input: {u: [model]}
    graph:
      h: {state: [model], A: 0.9, B: 0.1, input: u}
    output: h
main: mixer
"""
BAD = GOOD.replace("input: u}", "input: v}").replace("A: 0.9", "A: sigmod(u)")


def torch_has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


Captured = pytest.CaptureFixture[str]


def program(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "ssir.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
        timeout=120,
    )


@pytest.fixture
def good(tmp_path: Path) -> str:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    return str(path)


@pytest.fixture
def bad(tmp_path: Path) -> str:
    path = tmp_path / "bad.yaml"
    path.write_text(BAD)
    return str(path)


# check


def test_a_good_spec_is_good(good: str, capsys: Captured) -> None:
    assert main(["check", good, "mamba"]) == 0
    out, err = capsys.readouterr()
    assert "good.yaml: good (1 component)" in out and "mamba: good" in out and not err


def test_every_fault_of_every_file_is_printed(good: str, bad: str, tmp_path: Path, capsys: Captured) -> None:
    worse = tmp_path / "worse.yaml"
    worse.write_text("ssir: 1\n- what")
    assert main(["check", bad, good, str(worse)]) == 1
    out, err = capsys.readouterr()
    assert "good.yaml: good" in out
    assert "bad.yaml:8:30: error[SSIR012]" in err and "the nearest is `sigmoid`" in err
    assert "bad.yaml:8:56: error[SSIR011]" in err and "worse.yaml:2:1: error[SSIR001]" in err


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    for text, code in ((GOOD, 0), (BAD, 1), ("\xff", 1), ("", 1)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode("latin-1"))))
        assert main(["check", "-"]) == code
    assert "<stdin>:8:30: error[SSIR012]" in capsys.readouterr().err


def test_what_is_not_used_is_checked_too(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "unused.yaml"
    path.write_text(
        GOOD.replace("main:", "  spare:\n    input: {u: [model]}\n    graph: {y: u + w}\n    output: y\nmain:")
    )
    assert main(["check", str(path)]) == 1
    assert "nothing here is called `w`" in capsys.readouterr().err


def test_check_tells_programs_what_it_tells_people(bad: str, capsys: Captured) -> None:
    assert main(["check", bad, "--json"]) == 1
    out, err = capsys.readouterr()
    (spec,) = json.loads(out)["specs"]
    assert not err and not spec["ok"]
    assert [(one["code"], one["place"]["line"], one["place"]["column"]) for one in spec["diagnostics"]] == [
        ("SSIR012", 8, 30),
        ("SSIR011", 8, 56),
    ]


# Exit codes


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "usage"),
        (["frobnicate"], 2, "invalid choice"),
        (["show", "mambaa"], 2, "the nearest is `mamba`"),
        (["show", "mamba.mixr"], 2, "the nearest is `mixer`"),
        (["show", "mamba", "--set", "modle=3"], 2, "the nearest is `model`"),
        (["show", "mamba", "--set", "model"], 2, "dim=value"),
        (["show", "mamba", "--set", "model=1e999"], 2, "is not a number"),
        (["show", "mamba", "--set", "model=0"], 1, "a size lies between"),
        (["show", "mamba", "--set", "model=2.5"], 1, "whole number"),
        (["show", "mamba", "--size", "9000m"], 2, "has no size"),
        (["show", "/nowhere/x.yaml"], 2, "there is no file"),
        (["check", "/nowhere/x.yaml"], 2, "there is no file"),
        (["show", "/"], 1, "it is a directory"),
        (["explain", "SSIR999"], 2, "there is no code"),
        (["plan", "mamba", "--form", "x=nonsense"], 2, "there is no form"),
        (["plan", "mamba.mixer", "lstm"], 2, "unrecognized"),
    ],
)
def test_errors_are_told_on_stderr_with_their_code(
    arguments: list[str], code: int, words: str, capsys: Captured
) -> None:
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert words in err and not out and "Traceback" not in err


def test_with_json_an_error_is_an_object_too(bad: str, capsys: Captured) -> None:
    assert main(["plan", bad, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False and {one["code"] for one in told["diagnostics"]} == {"SSIR011", "SSIR012"}


def test_an_interrupt_and_a_fault_of_our_own_have_their_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    for error, code in (
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("no"), 70),
        (PermissionError(13, "Denied", "x"), 3),
    ):

        def fail(_: object, error: BaseException = error) -> int:
            raise error

        monkeypatch.setattr("ssir.cli.reading.explain", fail)
        assert main(["explain"]) == code
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setattr("ssir.cli.reading.explain", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["explain", "--traceback"])


def test_a_size_that_none_of_several_specs_has_is_told(capsys: Captured) -> None:
    assert main(["draw", "lstm", "gru", "--size", "smal"]) == 2
    assert "none of these specs has a size `smal`; the nearest is `small`" in capsys.readouterr().err


def test_an_error_into_a_closed_pipe_shows_no_traceback() -> None:
    command = f"{sys.executable} -m ssir.cli show no_such_spec --json | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m ssir.cli explain | true"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""


# What the reading commands tell


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"],
        ["show", "mamba"],
        ["show", "griffin", "--ir"],
        ["show", "lstm", "--resolved"],
        ["plan", "transformer"],
        ["plugins"],
        ["explain"],
        ["explain", "ssir016"],
        ["explain", "16"],
    ],
)
def test_reading_commands_print_a_versioned_object(arguments: list[str], capsys: Captured) -> None:
    assert main([*arguments, "--json"]) in (0, 3)
    assert json.loads(capsys.readouterr().out)["schema_version"] == 1


def test_the_list_has_every_spec_with_its_memory(capsys: Captured) -> None:
    main(["list", "--json"])
    listed = {one["name"]: one for one in json.loads(capsys.readouterr().out)["specs"]}
    assert set(listed) == {name for name, _ in zoo()}
    assert not [one for one in listed.values() if "error" in one]
    assert listed["mamba"]["state_bytes"] == 24 * 4 * (4 * 1536 + 16 * 1536)
    assert listed["transformer"]["bytes_per_token"] > 0
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in listed)


def test_the_list_can_be_cut_to_tags(capsys: Captured) -> None:
    assert main(["list", "--tag", "hybrid", "--tag", "gated", "--json"]) == 0
    listed = [one["name"] for one in json.loads(capsys.readouterr().out)["specs"]]
    assert "griffin" in listed and "hawk" not in listed and "transformer" not in listed
    assert main(["list", "--tag", "hybird"]) == 2
    assert "the nearest is `hybrid`" in capsys.readouterr().err


def test_a_broken_spec_does_not_break_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    (tmp_path / "broken.yaml").write_text("ssir: 2")
    monkeypatch.setattr("ssir.spec.load.files", lambda _: tmp_path)
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert "broken" in out and "SSIR007" in out


def test_show_tells_the_sizes_that_were_set(capsys: Captured) -> None:
    assert main(["show", "mamba", "--set", "model=64", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["dims"]["inner"] == {"written": "2 * model", "size": 128}
    assert main(["show", "mamba", "--size", "370m"]) == 0
    assert "2048   2 * model" in capsys.readouterr().out


def test_a_resolved_spec_is_a_spec_of_the_same_graph(tmp_path: Path, capsys: Captured) -> None:
    for name, _ in zoo():
        assert main(["show", name, "--resolved"]) == 0
        path = tmp_path / f"{name}.yaml"
        path.write_text(capsys.readouterr().out)
        assert load(str(path)).graph == load(name).graph
    assert main(["show", "mamba", "--resolved", "--set", "layers=2"]) == 0
    path.write_text(capsys.readouterr().out)
    assert load(str(path)).graph == load("mamba", layers=2).graph


def test_the_plan_says_what_stays_wide_in_a_narrow_model(capsys: Captured) -> None:
    assert main(["plan", "griffin", "--dtype", "bfloat16", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {one["state"].rpartition(".")[2]: one["dtype"] for one in found["states"]} == {
        "conv": "bfloat16",
        "h": "float32",
        "scores": "bfloat16",
        "read": "bfloat16",
    }
    assert found["wide"] == ["x[attention].mixed.mixer.angle"]
    assert main(["plan", "griffin", "--dtype", "bfloat16"]) == 0
    assert "float32      x[attention].mixed.mixer.angle: also where the model is narrower" in capsys.readouterr().out
    assert main(["plan", "griffin"]) == 0
    assert "narrower" not in capsys.readouterr().out


def test_the_plan_says_what_dropout_changes_in_training(capsys: Captured) -> None:
    assert main(["plan", "gpt2.mixer"]) == 0
    assert "training     with dropout; scores by `register`; read by `register`" in capsys.readouterr().out
    assert main(["plan", "gpt2.mixer", "--set", "drop=0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["training"] is None


def test_the_plan_says_why(capsys: Captured) -> None:
    assert main(["plan", "mamba", "--set", "layers=2"]) == 0
    out = capsys.readouterr().out
    assert "diagonal over" in out and "×2" in out and "parameters" in out and "FLOPs/token" in out


TWO = """\
ssir: 1
name: two
dims: {model: 4, key: 3}
components:
  main:
    input: {u: [model]}
    graph:
      h: {state: [key, model], A: 'sigmoid(linear(u, key))', B: 'linear(u, key)', input: u, C: 'linear(u, key)'}
    output: h
main: main
"""


def test_forms_are_measured_and_used(tmp_path: Path, capsys: Captured) -> None:
    spec, forms = tmp_path / "two.yaml", tmp_path / "forms.json"
    spec.write_text(TWO)
    assert main(["plan", str(spec), "--tune", str(forms), "--steps", "20", "--batch", "2"]) == 0
    told = capsys.readouterr()
    found = json.loads(forms.read_text())
    assert found["forms"].keys() == {"h"} and found["forms"]["h"] in found["measured"]["h"]
    assert len(found["measured"]["h"]) > 1 and all(form in told.err for form in found["measured"]["h"])
    assert found["at"] == {"batch": 2, "steps": 20, "dtype": "float32", "device": "cpu"}
    found["forms"]["h"] = "loop"
    forms.write_text(json.dumps(found))
    for command in ("plan", "compile"):
        assert main([command, str(spec), "--forms", str(forms), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        states = (told if command == "plan" else told["plan"])["states"]
        assert states[0]["form"] == "loop"


def test_forms_of_another_spec_are_refused(tmp_path: Path, capsys: Captured) -> None:
    spec, forms = tmp_path / "two.yaml", tmp_path / "forms.json"
    spec.write_text(TWO)
    for text, words in (
        ("{", "holds no forms"),
        ("[]", "holds no forms"),
        ('{"forms": {}}', "holds no forms"),
        ('{"forms": {}, "digest": "a"}', "of another spec, or of other dims"),
    ):
        forms.write_text(text)
        assert main(["plan", str(spec), "--forms", str(forms)]) == 2
        assert words in capsys.readouterr().err
    assert main(["plan", str(spec), "--forms", str(tmp_path / "none.json")]) == 2


def test_a_component_and_a_component_of_a_file_are_specs(good: str, capsys: Captured) -> None:
    assert main(["plan", "mamba.mixer"]) == 0
    assert main(["plan", f"{good}:mixer"]) == 0


def test_the_schema_is_one_that_the_zoo_keeps(capsys: Captured) -> None:
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["$schema"].endswith("2020-12/schema")
    assert {"ssir", "name", "components", "main"} <= set(schema["required"])
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    for name, path in zoo():
        told = [fault.message for fault in validator.iter_errors(yaml.safe_load(path.read_text("utf-8")))]
        assert not told, f"{name}: {told}"


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ("h: {state: [model], A: 0.9, inptu: u}", "graph"),
        ("h: {state: [model], read: later, input: u}", "graph"),
        ("h: {stack: [mixer]}", "graph"),
    ],
)
def test_an_editor_is_told_what_the_schema_refuses(wrong: str, place: str, capsys: Captured) -> None:
    assert main(["schema"]) == 0
    validator = jsonschema.Draft202012Validator(json.loads(capsys.readouterr().out))
    spec = yaml.safe_load(GOOD.replace("h: {state: [model], A: 0.9, B: 0.1, input: u}", wrong))
    assert [place in fault.absolute_path for fault in validator.iter_errors(spec)] == [True]


def test_a_new_spec_is_good(tmp_path: Path, capsys: Captured) -> None:
    assert main(["new", "spec", "mine", "-o", str(tmp_path)]) == 0
    assert main(["check", str(tmp_path / "mine.yaml")]) == 0
    assert main(["new", "spec", "mine", "-o", str(tmp_path)]) == 2
    assert main(["new", "spec", "../mine", "-o", str(tmp_path)]) == 2


def test_a_new_plugin_is_a_plugin(tmp_path: Path, capsys: Captured) -> None:
    assert main(["new", "plugin", "bend", "-o", str(tmp_path)]) == 0
    metadata = tmp_path / "ssir_bend-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: ssir-bend\nVersion: 0.1.0\n")
    (metadata / "entry_points.txt").write_text("[ssir.plugins]\nbend = ssir_bend:register\n")
    (tmp_path / "bent.yaml").write_text(GOOD.replace("input: u}", "input: bend(u)}"))
    done = program("check", str(tmp_path / "bent.yaml"), PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    listed = json.loads(program("plugins", "--json", PYTHONPATH=str(tmp_path)).stdout)
    (mine,) = [plugin for plugin in listed["plugins"] if plugin["name"] == "bend"]
    assert mine["distribution"] == "ssir-bend" and mine["provides"][0]["name"] == "bend"


def test_a_plugin_whose_annotations_cannot_be_read_has_failed(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(
        "from __future__ import annotations\n"
        "def odd(cx: Site, a: Node) -> Node:\n    return a\n"
        "def register(registry):\n    registry.function(odd)\n"
    )
    metadata = tmp_path / "odd-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 0.1.0\n")
    (metadata / "entry_points.txt").write_text("[ssir.plugins]\nodd = odd:register\n")
    done = program("plugins", PYTHONPATH=str(tmp_path))
    assert done.returncode == 3 and "the annotations of `odd`" in done.stderr
    (tmp_path / "bent.yaml").write_text(GOOD.replace("input: u}", "input: odd(u)}"))
    done = program("check", str(tmp_path / "bent.yaml"), PYTHONPATH=str(tmp_path))
    assert done.returncode == 1 and "the plugin `odd` failed" in done.stderr


def test_drawing_prints_dot_or_writes_a_file(tmp_path: Path, capsys: Captured) -> None:
    assert main(["draw", "lstm"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("digraph") and not err
    for suffix in ("svg", "dot", "html"):
        path = tmp_path / f"both.{suffix}"
        assert main(["draw", "lstm", "mamba", "-o", str(path)]) == 0
        assert path.stat().st_size > 500
    assert not capsys.readouterr().out
    assert main(["draw", "lstm", "-o", str(tmp_path / "x.bmp")]) == 2
    assert main(["draw", "lstm", "-o", str(tmp_path / "nowhere" / "x.svg")]) == 2


# What computes


def test_compiling_tells_the_plan_and_writes_an_artifact(tmp_path: Path, capsys: Captured) -> None:
    small = ["--set", "model=16", "--set", "layers=2", "--set", "vocab=32"]
    out = tmp_path / "made"
    assert main(["compile", "mamba", *small, "-o", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["plan"]["parameters"] > 0 and (out / "model.py").is_file()
    assert main(["compile", "mamba", *small, "-o", str(out)]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["compile", "mamba", *small, "-o", str(out), "--force"]) == 0
    assert main(["compile", "mamba", *small, "--backend", "torhc"]) == 2
    assert main(["compile", "mamba", *small, "--device", "nonsense"]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.skipif(torch_has_cuda(), reason="this machine has a CUDA device")
def test_what_the_machine_lacks_has_its_own_exit_code(capsys: Captured) -> None:
    small = ["--set", "model=16", "--set", "layers=2", "--set", "vocab=32"]
    assert main(["compile", "mamba", *small, "--device", "cuda"]) == 3
    assert main(["compile", "mamba", *small, "--backend", "cuda-graph"]) == 3
    assert "cpu" in capsys.readouterr().err


def test_verifying_prints_the_errors_of_the_forms(capsys: Captured) -> None:
    assert main(["verify", "lstm", "--quick", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] and all(form["ok"] for form in told["specs"][0]["forms"])
    assert main(["verify", "lstm", "--quick"]) == 0
    assert "good" in capsys.readouterr().out


def test_a_form_that_is_wrong_is_told(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr("ssir.proof.report.FLOORS", dict.fromkeys(report.FLOORS, 1e-300))
    monkeypatch.setattr("ssir.proof.report.MULTIPLES", dict.fromkeys(report.MULTIPLES, 0.0))
    assert main(["verify", "one_pole", "--quick"]) == 1
    told = capsys.readouterr().out
    assert "WRONG" in told and "steps, whole" in told
    assert main(["verify", "one_pole", "--quick", "--json"]) == 1
    (spec,) = json.loads(capsys.readouterr().out)["specs"]
    assert {form["verdict"] for form in spec["forms"]} == {"WRONG"} and spec["forms"][0]["tensor"]


def test_what_is_ill_conditioned_is_told(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr("ssir.proof.report.FLOORS", dict.fromkeys(report.FLOORS, 1e-300))
    monkeypatch.setattr("ssir.proof.report.MULTIPLES", dict.fromkeys(report.MULTIPLES, 1e6))
    assert main(["verify", "one_pole", "--quick"]) == 0
    told = capsys.readouterr().out
    assert "WRONG" not in told and "ill-conditioned: in float32, moving inputs, parameters and memories" in told


def test_a_page_of_proofs_goes_on_where_it_was_stopped(tmp_path: Path, capsys: Captured) -> None:
    page = tmp_path / "verify.md"
    assert main(["verify", "one_pole", "--quick", "-o", str(page)]) == 0
    first = page.read_text()
    assert "## one_pole" in first and "| as planned | scan | small dims | float64 |" in first
    assert main(["verify", "one_pole", "integrator", "--quick", "-o", str(page)]) == 0
    assert page.read_text().startswith(first) and page.read_text().count("## one_pole") == 1
    assert "## integrator" in page.read_text()
    capsys.readouterr()
    assert main(["verify"]) == 2
    assert "--all" in capsys.readouterr().err


def test_measuring_tells_each_result(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr("ssir.limits._SHAPES", ((4, 4, 4),))
    monkeypatch.setattr("ssir.bench._SAMPLE", 0.0)
    size = ["--model", "8", "--layers", "1", "--steps", "8", "--seconds", "0", "--mode", "forward"]
    assert main(["bench", "lstm", *size, "--no-peers", "--json"]) == 0
    out, err = capsys.readouterr()
    (cell,) = json.loads(out)["cells"]
    assert cell["mode"] == "forward" and "tokens/s" in err
    assert main(["bench", "nothing", *size]) == 2


# Speed


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["list"],
        ["check", "mamba"],
        ["draw", "lstm"],
        ["plan", "mamba"],
        ["show", "lstm", "--ir"],
        ["explain"],
    ],
)
def test_what_needs_no_torch_does_not_import_it(arguments: list[str]) -> None:
    script = (
        "import sys; from ssir.cli import main; main(sys.argv[1:]);"
        "heavy = {'torch', 'numpy', 'scipy'} & set(sys.modules); sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_needs_nothing_but_the_standard_library() -> None:
    script = "import sys; from ssir.cli import main; main(['--help']); print(sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not [name for name in ("networkx", "pydantic", "yaml", "rich") if f"'{name}'" in done.stderr]


def test_output_survives_a_terminal_without_unicode() -> None:
    done = program("show", "mamba", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr


def test_compiling_says_when_there_are_no_native_kernels(tmp_path: Path) -> None:
    call = [
        sys.executable,
        "-m",
        "ssir.cli",
        "compile",
        "mamba",
        "--set",
        "model=8",
        "--set",
        "layers=1",
        "--set",
        "vocab=9",
    ]
    for off in (True, False):
        env = {**os.environ, "SSIR_NATIVE": "0" if off else "1"}
        done = subprocess.run(call, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        words = "there are no native kernels on this machine (turned off by SSIR_NATIVE=0): in PyTorch run filter, selective scan"
        assert (words in done.stderr) == off
