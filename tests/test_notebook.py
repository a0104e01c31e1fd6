"""What notebooks show of specs, models and plans; and the notebook of the documentation, run."""

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ssir
from ssir.draw import render
from ssir.errors import EnvironmentLacks
from tests.notebook import kinds
from tests.small import small

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "docs" / "first-steps.ipynb"

BROKEN = """
ssir: 1
name: broken
dims: {n: 3}
components: {m: {input: {u: [n]}, graph: {y: u + v}, output: y}}
main: m
"""


def test_a_spec_shows_its_picture_and_its_equations() -> None:
    shown = small("lstm")._repr_mimebundle_()
    assert set(shown) == {"image/svg+xml", "text/html", "text/latex", "text/plain"}
    assert shown["image/svg+xml"].startswith("<svg") and "lstm" in shown["image/svg+xml"]
    data = re.fullmatch(r'<img alt="lstm" .*src="data:image/svg\+xml;base64,(.*)">', shown["text/html"])
    assert data and base64.b64decode(data[1]).decode() == shown["image/svg+xml"]
    assert r"c_{t} &= f_{t} \odot c_{t - 1} + i_{t} \odot g_{t}" in shown["text/latex"]
    assert r"\documentclass" not in shown["text/latex"] and "tabular" not in shown["text/latex"]
    assert shown["text/plain"] == "<spec lstm, model=6, layers=2, vocab=11: Long short-term memory>"


def test_only_the_kinds_that_are_asked_for_are_made() -> None:
    spec = small("lstm")
    assert set(spec._repr_mimebundle_(include={"text/latex"})) == {"text/latex", "text/plain"}
    assert "image/svg+xml" not in spec._repr_mimebundle_(exclude={"image/svg+xml"})


def test_a_model_shows_the_picture_of_its_spec_and_its_modules() -> None:
    spec = small("lstm")
    model = ssir.compile(spec)
    shown = model._repr_mimebundle_()
    assert set(shown) == {"image/svg+xml", "text/html", "text/plain"}
    assert shown["image/svg+xml"] == spec._repr_mimebundle_()["image/svg+xml"]
    assert shown["text/plain"] == repr(model) and "Embedding" in repr(model)
    assert set(model._repr_mimebundle_(include={"text/plain"})) == {"text/plain"}


def test_a_plan_shows_its_table() -> None:
    plan = ssir.compile(small("mamba")).plan
    shown = plan._repr_mimebundle_()
    assert set(shown) == {"text/html", "text/plain"}
    for told in (shown["text/html"], shown["text/plain"]):
        assert "selective scan" in told and "diagonal over" in told and "parameters" in told
    assert shown["text/html"].count("<tr>") == 1 + len(plan.entries)
    assert shown["text/html"].count("<td") == 6 * len(plan.entries)


def test_a_plan_without_states_says_so() -> None:
    shown = ssir.compile(small("glu")).plan._repr_mimebundle_()
    assert "nothing here remembers" in shown["text/html"] and "nothing here remembers" in shown["text/plain"]


@pytest.mark.parametrize("fault", [EnvironmentLacks("nothing here can draw"), RuntimeError("out of ink")])
def test_where_nothing_can_be_drawn_text_is_shown(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    def refuse(*_: object) -> bytes:
        raise fault

    monkeypatch.setattr(render, "render", refuse)
    shown = small("lstm")._repr_mimebundle_()
    assert set(shown) == {"text/latex", "text/plain"}
    assert shown["text/plain"].startswith("<spec lstm")
    assert ("nothing here can draw" in shown["text/plain"]) == isinstance(fault, EnvironmentLacks)


def test_a_wrong_spec_says_what_is_wrong() -> None:
    shown = ssir.loads(BROKEN)._repr_mimebundle_()
    assert set(shown) == {"text/plain"}
    assert shown["text/plain"].startswith("<spec broken>") and shown["text/plain"].count("called `v`") == 1


def test_the_notebook_of_the_documentation_runs_and_shows_what_it_showed(tmp_path: Path) -> None:
    pytest.importorskip("IPython", reason="the notebook needs IPython: pip install 'ssir[test]'")
    out = tmp_path / "run.ipynb"
    command = [sys.executable, "-m", "tests.notebook", str(NOTEBOOK), "-o", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    committed, run = (json.loads(path.read_text(encoding="utf-8"))["cells"] for path in (NOTEBOOK, out))
    code = [(old, new) for old, new in zip(committed, run, strict=True) if old["cell_type"] == "code"]
    assert [kinds(old) for old, _ in code] == [kinds(new) for _, new in code], (
        "run: python -m tests.notebook docs/first-steps.ipynb"
    )
    shown = [kind for _, new in code for kind in kinds(new)]
    assert "image/svg+xml text/html text/latex text/plain" in shown and "text/html text/plain" in shown
    printed = "".join(line for _, new in code for one in new["outputs"] for line in one.get("text", []))
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+)", printed)]
    assert len(losses) >= 3 and losses[-1] < losses[0] / 4
    assert "written: 2 5 8" in printed and "float64: True" in printed


def test_a_cell_that_fails_is_told(tmp_path: Path) -> None:
    pytest.importorskip("IPython", reason="the notebook needs IPython: pip install 'ssir[test]'")
    cell: dict[str, object] = {
        "cell_type": "code",
        "id": "a",
        "metadata": {},
        "execution_count": None,
        "outputs": [],
        "source": ["1 / 0"],
    }
    path = tmp_path / "bad.ipynb"
    path.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    command = [sys.executable, "-m", "tests.notebook", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "cell 1 failed: ZeroDivisionError" in done.stderr
