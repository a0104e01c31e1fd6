"""Plugins: the project's own use the same door as anyone's, and none takes the rest with it when it goes or fails."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from ssir.registry import Clash, Registry, registry
from tests.small import SMALL, small

ROOT = Path(__file__).parent.parent
OWN = sorted(path.name for path in (ROOT / "plugins").iterdir() if (path / "__init__.py").is_file())

TRY = """
import json, sys, torch
import ssir
from ssir.registry import registry
from tests.small import SMALL, first, inputs

found = {}
for name in sys.argv[1:]:
    dims = SMALL[name]
    try:
        model = ssir.compile(ssir.load(name, **dims), dtype=torch.float64)
        xs = inputs(model.graph, 2, 5)
        y, wanted = first(model(*xs)[0]), first(ssir.reference(model, *xs)[0])
        found[name] = "good" if torch.allclose(y, wanted, rtol=1e-9, atol=1e-12) else "wrong"
    except ssir.SSIRError as error:
        found[name] = str(error)
print(json.dumps({"zoo": found, "failed": [p.name for p in registry.plugins if p.error]}))
"""


def run(program: str, *path: Path, given: Sequence[str] = ()) -> str:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", program, *given], env=env, cwd=path[0], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the project that can be mutilated."""
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("compilers", "plugins", "zoo"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignore)
    shutil.copytree(ROOT / "ssir", tmp_path / "ssir", ignore=ignore, symlinks=True)
    (tmp_path / "tests").mkdir()
    for name in ("__init__.py", "small.py"):
        shutil.copy(ROOT / "tests" / name, tmp_path / "tests" / name)
    return tmp_path


def without(plugin: str, tree: Path, names: Sequence[str]) -> None:
    """Some of the zoo in a project that lacks a plugin."""
    shutil.rmtree(tree / "plugins" / plugin)
    result = json.loads(run(TRY, tree, given=names))
    assert result["failed"] == [plugin]
    provides = next(p for p in registry.plugins if p.name == plugin).provides
    gave = [name for kind, name in provides if kind in ("function", "initializer")]
    lost = {name: outcome for name, outcome in result["zoo"].items() if outcome != "good"}
    for name, outcome in lost.items():
        assert any(f"`{one}`" in outcome for one in gave), (name, outcome)
        assert f"the plugin `{plugin}` failed" in outcome, (name, outcome)
    assert set(lost) == {name for name in names if uses(name, gave)}


FEW = ["lstm", "mamba", "griffin", "rwkv6", "hgrn2", "gpt2"]
USERS = {
    "attention": ["perceiver", "bert"],
    "convolution": ["pyramid"],
    "linear_attention": ["delta_net", "mlstm"],
    "mixture": ["jamba"],
    "position": ["wrope_blend", "rope"],
    "state_space": ["s4", "hippo_legs", "quaternion"],
}


@pytest.mark.parametrize("plugin", OWN)
def test_deleting_a_plugin_removes_what_it_gives_and_breaks_nothing_else(plugin: str, tree: Path) -> None:
    without(plugin, tree, [*FEW, *USERS.get(plugin, [])])


@pytest.mark.slow
@pytest.mark.parametrize("plugin", OWN)
def test_deleting_a_plugin_breaks_nothing_else_in_the_whole_zoo(plugin: str, tree: Path) -> None:
    without(plugin, tree, list(SMALL))


def uses(name: str, gave: list[str]) -> bool:
    nodes = [node for graph in small(name).graph.walk() for node in graph]
    words = {word for node in nodes if node.op == "param" for word in re.findall(r"\w+", str(node.attrs["init"]))}
    return not words.isdisjoint(gave) or any(node.op in gave for node in nodes)


def installed(where: Path, name: str, code: str) -> None:
    """A distribution with a plugin, as an installer would leave it."""
    (where / f"{name}_plugin.py").write_text(code)
    info = where / f"{name}_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[ssir.plugins]\n{name} = {name}_plugin:register\n")


THIRD = '''
def swish(cx, a: "Node", beta: float = 1.0) -> "Node":
    """a sigmoid(beta a)."""
    return cx.emit("mul", (a, cx.emit("sigmoid", (cx.emit("mul", (a, cx.number(beta))),))))

from ssir.ir.graph import Node

def register(registry):
    registry.function(swish)
'''
USE = """
import torch, ssir
spec = ssir.loads('''
ssir: 1
name: tiny
dims: {n: 3}
components:
  main:
    input: {x: [n]}
    graph: {y: 'swish(x, beta=2)'}
    output: y
main: main
''')
model = ssir.compile(spec, dtype=torch.float64)
x = torch.randn(1, 4, 3, dtype=torch.float64)
assert torch.allclose(model(x)[0], x * torch.sigmoid(2 * x))
from ssir.registry import registry
print([(p.name, p.distribution, p.version, p.error) for p in registry.plugins if p.name in ("third", "broken", "greedy")])
"""


def test_a_plugin_of_another_distribution_is_found_by_its_entry_point(tmp_path: Path) -> None:
    installed(tmp_path, "third", THIRD)
    assert "('third', 'third-plugin', '1.0', None)" in run(USE, tmp_path, ROOT)


def test_a_plugin_that_fails_is_noted_and_breaks_nothing(tmp_path: Path) -> None:
    installed(tmp_path, "third", THIRD)
    installed(tmp_path, "broken", "raise RuntimeError('no such luck')")
    assert "RuntimeError: no such luck" in run(USE, tmp_path, ROOT)


def test_a_name_that_is_taken_is_refused_naming_both(tmp_path: Path) -> None:
    installed(tmp_path, "third", THIRD)
    installed(tmp_path, "greedy", THIRD)
    out = run(USE, tmp_path, ROOT)
    assert "function `swish` is registered by `greedy` and again by `third`" in out


def test_a_registry_knows_only_its_kinds() -> None:
    registry = Registry()
    registry.add("form", "a", object())
    with pytest.raises(Clash, match=r"form `a` is registered by `core` and again by `core`"):
        registry.add("form", "a", object())
    with pytest.raises(Exception, match="there is no kind `flavour`"):
        registry.add("flavour", "a", object())


ADDED = """
import torch
import ssir

spec = ssir.loads('''
ssir: 1
name: tiny
dims: {n: 3}
components:
  main:
    input: {x: [n]}
    graph:
      a: sigmoid(linear(x, n))
      h: {state: [n], A: a, input: x}
      m: tanh(x + 0.3 * sinh(delay(m)) + h)
      y: m * sinh(x)
    output: y
main: main
''')
report = ssir.verify(spec)
assert not (wrong := [row for row in report.worst() if not row.ok]), wrong
model = ssir.compile(spec)
print({state: found.form.name for (_, state), found in model.plan.chosen.items()})
ssir.save(model, "artifact")
x = torch.randn(2, 5, 3)
assert torch.equal(ssir.open("artifact")(x)[0], model(x)[0])
"""


def test_a_function_and_a_form_are_added_by_a_file_each(tmp_path: Path) -> None:
    """As docs/adding.md shows. The meaning judges both: over sequences, in steps, forwards and backwards, in native loops and native steps."""
    page = (ROOT / "docs" / "adding.md").read_text()
    for name in ("sinh", "pairs"):
        (code,) = re.findall(rf"```python\n# {name}_plugin\.py\n(.*?)```", page, re.DOTALL)
        installed(tmp_path, name, code)
    out = run(ADDED, tmp_path, ROOT)
    assert "'h': 'paired'" in out
    assert "'m': 'compiled loop'" in out


RAISES = """
def register(registry):
    registry.function(boom)


def boom(cx, a: "Node"):
    \"\"\"Fails.\"\"\"
    return 1 / 0


from ssir.ir.graph import Node
"""


def test_a_fault_in_the_code_of_a_plugin_is_told_as_that_plugins(tmp_path: Path) -> None:
    installed(tmp_path, "third", RAISES)
    (tmp_path / "tiny.yaml").write_text(
        "ssir: 1\nname: tiny\ndims: {n: 3}\ncomponents:\n  main:\n    input: {x: [n]}\n    graph: {y: boom(x)}\n    output: y\nmain: main\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (tmp_path, ROOT)))}
    call = [sys.executable, "-m", "ssir.cli", "check", str(tmp_path / "tiny.yaml")]
    done = subprocess.run(call, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 70
    assert "ZeroDivisionError" in done.stderr
    assert "a fault of the plugin `third` (third-plugin 1.0), not of SSIR" in done.stderr
