"""Artifacts: what is written opens again as the same model, with torch alone too, and nothing else opens."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ssir
from ssir.artifact import Damaged
from ssir.compilers.runtime.model import Model
from ssir.errors import UsageError
from tests.small import small

SPECS = Path(__file__).parent / "specs"


def made(name: str) -> Model:
    model: Model = ssir.compile(small(name), seed=3)
    return model


@pytest.mark.parametrize("name", ["mamba", "griffin", "transformer", str(SPECS / "odd.yaml")])
def test_an_artifact_opens_as_the_same_model(name: str, tmp_path: Path) -> None:
    model = made(name)
    ssir.save(model, tmp_path / "a")
    again = ssir.open(tmp_path / "a")
    assert dict(again.spec.dims) == dict(model.spec.dims)
    assert again.source.text == model.source.text
    wanted, found = model.state_dict(), again.state_dict()
    assert list(wanted) == list(found)
    for key, value in wanted.items():
        assert torch.equal(found[key], value), key


def test_the_generated_module_runs_with_torch_alone(tmp_path: Path) -> None:
    model = made("griffin")
    ssir.save(model, tmp_path / "a")
    x = torch.arange(9)[None] % 7
    with torch.no_grad():
        wanted, _ = model(x)
    program = f"""
import sys
for name in ("ssir", "networkx", "pydantic", "yaml", "safetensors", "rich"):
    sys.modules[name] = None
sys.path.insert(0, {str(tmp_path / "a")!r})
import torch, model
built = model.load()
with torch.no_grad():
    y, state = built(torch.arange(9)[None] % 7)
    built.step(torch.tensor([1]), state)
torch.save(y, {str(tmp_path / "y.pt")!r})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(torch.load(tmp_path / "y.pt", weights_only=True), wanted)


def test_what_is_in_the_way_is_not_lost(tmp_path: Path) -> None:
    model = made("lstm")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for force in (False, True):
        with pytest.raises(UsageError):
            ssir.save(model, tmp_path / "mine", force=force)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    ssir.save(model, tmp_path / "a")
    with pytest.raises(UsageError, match="is there already"):
        ssir.save(model, tmp_path / "a")
    ssir.save(model, tmp_path / "a", force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "mine"]


@pytest.mark.parametrize(
    "name",
    ["weights.safetensors", "model.py", "plan.json", "spec.json", "spec/0.yaml", "runtime/compilers/runtime/memory.py"],
)
def test_a_changed_file_is_refused(name: str, tmp_path: Path) -> None:
    ssir.save(made("lstm"), tmp_path / "a")
    path = tmp_path / "a" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(Damaged, match="has changed since it was written"):
        ssir.open(tmp_path / "a")


def test_missing_added_and_linked_files_are_refused(tmp_path: Path) -> None:
    at = tmp_path / "a"
    ssir.save(made("lstm"), at)
    (at / "extra.py").write_text("")
    with pytest.raises(Damaged, match="not listed"):
        ssir.open(at)
    (at / "extra.py").unlink()
    (at / "link").symlink_to("/etc/hostname")
    with pytest.raises(Damaged, match="is a link"):
        ssir.open(at)
    (at / "link").unlink()
    (at / "plan.json").unlink()
    with pytest.raises(Damaged, match="missing"):
        ssir.open(at)


@pytest.mark.parametrize("change", [{"format": 99}, {"files": {"../../x": "0"}}, {"files": 3}, None])
def test_a_manifest_that_makes_no_sense_is_refused(change: dict[str, object] | None, tmp_path: Path) -> None:
    at = tmp_path / "a"
    ssir.save(made("lstm"), at)
    manifest = json.loads((at / "manifest.json").read_text())
    (at / "manifest.json").write_text("{" if change is None else json.dumps({**manifest, **change}))
    with pytest.raises(Damaged):
        ssir.open(at)
    with pytest.raises(UsageError, match="no artifact"):
        ssir.open(tmp_path)


def test_nothing_is_pickled(tmp_path: Path) -> None:
    ssir.save(made("mamba"), tmp_path / "a")
    for path in (tmp_path / "a").rglob("*"):
        assert path.suffix in ("", ".json", ".py", ".yaml", ".safetensors", ".c", ".h"), path
        if path.is_file():
            assert b"\x80\x04" not in path.read_bytes()[:2] and not path.read_bytes().startswith(b"PK")


def test_an_artifact_reads_nothing_outside_its_folder(tmp_path: Path) -> None:
    (tmp_path / "beside.yaml").write_text(_ONE.format(name="beside", imports="", y="2 * x"))
    (tmp_path / "own.yaml").write_text(_ONE.format(name="own", imports="imports: {f: beside.main}\n", y="f(x)"))
    model = ssir.compile(ssir.load(str(tmp_path / "own.yaml")))
    ssir.save(model, tmp_path / "a")
    for name in ("beside.yaml", "own.yaml"):
        (tmp_path / name).unlink()
    x = torch.ones(1, 2, 3)
    assert torch.equal(ssir.open(tmp_path / "a")(x)[0], 2 * x)
    about = json.loads((tmp_path / "a" / "spec.json").read_text())
    about["module"]["imports"] = {}
    _rewritten(tmp_path / "a", about)
    (tmp_path / "a" / "spec" / "beside.yaml").write_text("stray")
    with pytest.raises((Damaged, ssir.SpecError), match=r"is not here|not listed"):
        ssir.open(tmp_path / "a")
    (tmp_path / "a" / "spec" / "beside.yaml").unlink()
    with pytest.raises(ssir.SpecError, match="is not here"):
        ssir.open(tmp_path / "a")
    about["module"]["file"] = "../../own.yaml"
    _rewritten(tmp_path / "a", about)
    with pytest.raises(Damaged, match="names a file outside the artifact"):
        ssir.open(tmp_path / "a")


_ONE = """ssir: 1
name: {name}
dims: {{n: 3}}
{imports}components:
  main:
    input: {{x: [n]}}
    graph: {{y: {y}}}
    output: y
main: main
"""


def _rewritten(at: Path, about: object) -> None:
    """Another spec.json, with a manifest that vouches for it."""
    (at / "spec.json").write_text(json.dumps(about))
    manifest = json.loads((at / "manifest.json").read_text())
    manifest["files"]["spec.json"] = hashlib.sha256((at / "spec.json").read_bytes()).hexdigest()
    (at / "manifest.json").write_text(json.dumps(manifest))


def test_buffers_are_saved_and_stay_buffers(tmp_path: Path) -> None:
    text = _ONE.format(name="own", imports="", y="'x * buffer([n], init=normal(1), name=w)'")
    model = ssir.compile(ssir.loads(text))
    assert [name for name, _ in model.named_buffers()] == ["w"] and not list(model.parameters())
    ssir.save(model, tmp_path / "a")
    again = ssir.open(tmp_path / "a")
    assert torch.equal(again.state_dict()["w"], model.state_dict()["w"]) and not list(again.parameters())
    x = torch.ones(1, 2, 3)
    torch.testing.assert_close(again(x)[0].double(), ssir.reference(model, x)[0])
