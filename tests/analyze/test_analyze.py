"""The whole analysis: every row of the zoo, its table, its data, its figure, and the command."""

from __future__ import annotations

import json
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch

import ssir
from ssir import passes
from ssir.analyze import Analysis, plots
from ssir.analyze.costs import LENGTHS
from ssir.analyze.plots import STYLE, figure
from ssir.analyze.subject import Subject
from ssir.cli import main
from ssir.compilers.plan import plan
from ssir.spec.load import zoo
from tests.small import SMALL, small

Captured = pytest.CaptureFixture[str]
FIVE = ["min", "q1", "median", "q3", "max"]
SIZE = ["--set", "model=8", "--set", "layers=2", "--set", "vocab=11", "--steps", "5"]


def analysis(name: str, steps: int = 4) -> Analysis:
    return ssir.analyze(small(name), steps=steps)


@pytest.mark.parametrize("name", [name for name, _ in zoo() if name in SMALL])
def test_every_row_of_the_zoo_is_analysed(name: str) -> None:
    found = analysis(name)
    record = json.loads(json.dumps(found.record(), allow_nan=False))
    entries = {entry.path: entry for entry in plan(passes.run(small(name).graph)).entries}
    kinds = [one["state"] for one in record["states"]]
    assert {kind: kinds.count(kind) for kind in kinds} == {path: entry.count for path, entry in entries.items()}
    assert {one["state"] for one in record["costs"]} == set(entries)
    for one in record["states"]:
        assert one["unknown"] is None and one["looked_at"] == one["entries"] > 0
        lives = [one["half_life"][key] for key in FIVE]
        numbers = [float("inf") if life is None else life for life in lives]
        assert numbers == sorted(numbers) and numbers[0] >= 0
        assert not one["unstable"] and one["magnitude"]["max"] <= 1 + 1e-12
        assert 0 <= one["frequency"]["min"] <= one["frequency"]["max"] <= 0.5
    text = str(found)
    assert name in text and max(map(len, text.splitlines())) <= 180
    if entries:
        assert "half-life" in text and "T = 65536" in text


def test_the_layout_of_the_data_is_stable() -> None:
    record = analysis("mamba").record()
    assert list(record) == [
        *("name", "trained", "seed", "looked_at", "states", "responses", "device", "dtype", "batch", "lengths", "costs")
    ]
    conv, s, *_ = record["states"]
    assert list(s) == [
        *("state", "path", "structure", "depends_on", "algebra", "steps", "entries", "looked_at", "window", "grows"),
        *("magnitude", "frequency", "half_life", "unstable", "poles", "unknown", "jacobian"),
    ]
    assert (s["state"], s["path"], s["steps"]) == ("x[block].y.mixer.s", "x.0.y.mixer.s", 4)
    assert list(s["half_life"]) == FIVE and conv["window"] == 4
    (response,) = record["responses"]
    assert list(response) == ["state", "frequencies", "channels", "unknown"]
    assert list(response["channels"][0]) == [
        *("memory", "path", "at", "half_life", "stable", "impulse", "impulse_imag", "decibels", "phase")
    ]
    assert list(record["costs"][0]) == [
        *("state", "count", "state_bytes", "grows", "planned", "cheapest", "crossovers", "forms")
    ]
    assert list(record["costs"][0]["forms"][0]) == ["form", "flops_per_token", "bytes_per_token", "seconds"]
    assert record["lengths"] == list(LENGTHS)
    jacobian = analysis("lstm").record()["states"][1]["jacobian"]
    assert list(jacobian) == ["states", "size", "at", "radius", "unknown"]


def _keys(value: Any) -> set[str]:
    """All keys of plain data, but for the names of axes."""
    if isinstance(value, list):
        return {key for one in value[:3] for key in _keys(one)}
    if not isinstance(value, dict):
        return set()
    inner = {key for name, one in value.items() if not (name == "at" and isinstance(one, dict)) for key in _keys(one)}
    return set(value) | inner


def test_the_page_says_what_each_key_means() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "analyze.md").read_text(encoding="utf-8")
    for name in ("s4", "lstm"):
        assert not [key for key in _keys(analysis(name).record()) if f"`{key}`" not in page]


def test_what_is_not_known_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    from ssir.analyze import poles, responses

    monkeypatch.setattr(poles, "LARGEST", 3)
    monkeypatch.setattr(responses, "LARGEST", 3)
    text = str(analysis("s4"))
    assert "A is a matrix of 8 rows" in text and "a channel reads 8 entries" in text and "?" in text


def test_poles_outside_the_circle_and_a_sample_of_many_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from ssir.analyze import poles
    from tests.small import component

    monkeypatch.setattr(poles, "_NUMBERS", 4)
    growing = component("y: {state: [model], A: 'param([model], init=1.5)', input: u}", "{u: [model]}", "{model: 9}")
    found = ssir.analyze(growing)
    text = str(found)
    (channel,) = found.record()["responses"][0]["channels"]
    assert not channel["stable"] and set(channel["decibels"]) == {None} and "it grows" in text
    assert "100.0% of the poles lie outside the unit circle" in text and "4 of 9 poles were looked at" in text


def test_a_compiled_model_is_analysed_with_its_own_parameters() -> None:
    model = ssir.compile(small("s4d"), seed=3)
    with torch.no_grad():
        dict(model.named_parameters())["x.0.y.mixer.log_rate"].fill_(0.0)
    trained, first = ssir.analyze(model), analysis("s4d")
    assert trained.trained and not first.trained and "its own parameters" in str(trained)
    dt = torch.exp(dict(model.named_parameters())["x.0.y.mixer.log_dt"].detach().double())
    lives = sorted(float(0.6931471805599453 / x) for x in dt)
    found = trained.record()["states"][0]["half_life"]
    assert found["min"] == pytest.approx(lives[0], rel=1e-5) and found["max"] == pytest.approx(lives[-1], rel=1e-5)


def test_a_run_of_a_model_records_no_gradients() -> None:
    watched: list[bool] = []
    subject = Subject.of(ssir.compile(small("lstm")), None, 3, 0)
    subject.look(
        subject.places, lambda _, step: watched.extend(x.requires_grad for x in step.values.values()), lambda _: None
    )
    assert watched and not any(watched)


def test_the_same_seed_gives_the_same_numbers_as_compiling() -> None:
    spec = small("mamba")
    first = ssir.analyze(spec, seed=2, steps=4).record()["states"][1]
    made = ssir.analyze(ssir.compile(spec, seed=2), seed=2, steps=4).record()["states"][1]
    assert made["half_life"]["median"] == pytest.approx(first["half_life"]["median"], rel=1e-4)
    assert ssir.analyze(spec, seed=1, steps=4).record()["states"][1]["half_life"] != first["half_life"]


def test_wrong_questions_are_told() -> None:
    with pytest.raises(ssir.UsageError, match="one step at least"):
        ssir.analyze("lstm", steps=0)
    with pytest.raises(ssir.UsageError, match="the text is empty"):
        ssir.analyze("lstm", text="")


def test_what_does_not_fit_into_memory_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    from ssir.analyze import subject

    monkeypatch.setattr(subject, "_free", lambda: 1e3)
    with pytest.raises(ssir.EnvironmentLacks, match="set smaller dims"):
        analysis("mamba")
    assert analysis("s4d").poles  # constants are found without the rest


# The figure


def _texts(whole: Any) -> list[Any]:
    """Titles, labels of axes, legends and notes of a figure."""
    found = [axes.get_legend() for axes in whole.axes if axes.get_legend() is not None]
    for axes in whole.axes:
        if axes.axison:
            found += [axes.xaxis.label, axes.yaxis.label, axes._left_title, *axes.texts]
    return [one for one in [*found, whole._suptitle] if not hasattr(one, "get_text") or one.get_text()]


@pytest.mark.parametrize(
    "name", ["s4d", "s4", "lru", "mamba2", "lstm", "transformer", "mass_spring", "pyramid", "zamba"]
)
def test_no_text_of_the_figure_lies_on_another(name: str) -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="plots need matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with matplotlib.rc_context(STYLE):
        whole = figure(analysis(name))
        canvas: Any = FigureCanvasAgg(whole)
        canvas.draw()
        boxes = [(one, one.get_window_extent(canvas.get_renderer())) for one in _texts(whole)]
    assert len(boxes) > 6
    for (one, left), (other, right) in combinations(boxes, 2):
        wide = min(left.x1, right.x1) - max(left.x0, right.x0)
        high = min(left.y1, right.y1) - max(left.y0, right.y0)
        assert wide <= 1 or high <= 1, f"{one} lies on {other}"
    for one, box in boxes:
        assert box.x0 >= -1 and box.x1 <= whole.bbox.x1 + 1 and box.y0 >= -1, f"{one} leaves the figure"


def test_a_figure_is_written_as_its_suffix_says(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots need matplotlib")
    found = analysis("one_pole")
    heads = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
    for suffix, head in heads.items():
        out = tmp_path / f"x.{suffix}"
        found.plot(out)
        assert out.read_bytes().startswith(head)
    found.plot(tmp_path / "x.svg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.pdf", "x.png", "x.svg"]
    with pytest.raises(ssir.UsageError, match="no state"):
        analysis("glu").plot(tmp_path / "y.png")


def test_without_matplotlib_a_plot_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    assert main(["analyze", "one_pole", *SIZE, "-o", str(tmp_path / "x.png")]) == 3
    out, err = capsys.readouterr()
    assert not out and "matplotlib" in err and len(err.strip().splitlines()) == 1
    assert main(["analyze", "one_pole", *SIZE]) == 0


# The command


def test_the_command_prints_the_tables(capsys: Captured) -> None:
    assert main(["analyze", "one_pole", *SIZE]) == 0
    out, err = capsys.readouterr()
    assert "x[block].y.mixer.memory ×2" in out and "Responses of constant systems" in out and "cheapest" in out
    assert not err


def test_the_command_gives_the_data_and_writes_the_plot(tmp_path: Path, capsys: Captured) -> None:
    pytest.importorskip("matplotlib", reason="plots need matplotlib")
    out, text = tmp_path / "x.svg", tmp_path / "t.txt"
    text.write_bytes(b"\x00\xff\x0a!")
    assert main(["analyze", "mamba", *SIZE, "--json", "--text", str(text), "-o", str(out)]) == 0
    told = capsys.readouterr()
    record = json.loads(told.out)
    assert record["schema_version"] == 1 and record["name"] == "mamba" and "wrote" in told.err
    assert record["looked_at"] == "4 bytes of the text, modulo 11, as `tokens`" and out.stat().st_size > 1000


def test_an_artifact_is_analysed_with_its_weights(tmp_path: Path, capsys: Captured) -> None:
    made = tmp_path / "made"
    ssir.save(ssir.compile(ssir.load("one_pole", model=4, layers=1, vocab=5), seed=4), made)
    assert main(["analyze", "--trained", str(made), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    fresh = ssir.analyze(ssir.load("one_pole", model=4, layers=1, vocab=5), seed=4).record()
    assert record["trained"] and record["states"][0]["half_life"]["max"] == pytest.approx(
        fresh["states"][0]["half_life"]["max"], rel=1e-4
    )
    assert main(["analyze", "one_pole", "--trained", str(made)]) == 0
    assert main(["analyze", "lstm", "--trained", str(made)]) == 2
    assert main(["analyze", "--trained", str(made), "--set", "model=3"]) == 2
    assert main(["analyze", str(made)]) == 2
    err = capsys.readouterr().err
    assert "not of `lstm`" in err and "its dims are what they are" in err and f"--trained {made}" in err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "nothing to analyse"),
        (["mambaa"], 2, "the nearest is `mamba`"),
        (["mamba", "-o", "x.bmp"], 2, "no kind of plot"),
        (["mamba", "-o", "/nowhere/x.png"], 2, "there is no folder"),
        (["mamba", "--text", "/nowhere/x"], 2, "there is no file"),
        (["mamba", "--device", "tpu"], 2, "there are cpu, cuda"),
        (["mamba", "--steps", "0"], 2, "at least 1"),
        (["--trained", "/nowhere"], 2, "no artifact"),
        (["mamba", "--set", "modle=3"], 2, "the nearest is `model`"),
    ],
)
def test_wrong_usage_is_told(arguments: list[str], code: int, words: str, capsys: Captured) -> None:
    assert main(["analyze", *arguments]) == code
    out, err = capsys.readouterr()
    assert words in err and not out and "Traceback" not in err


def test_costs_can_be_asked_for_another_device(capsys: Captured) -> None:
    assert main(["analyze", "one_pole", *SIZE, "--device", "cuda:0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["device"] == "cuda"


def test_the_package_needs_no_matplotlib_to_analyse() -> None:
    import subprocess

    script = (
        "import sys, ssir; str(ssir.analyze('mass_spring'));sys.exit('imported' if 'matplotlib' in sys.modules else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
