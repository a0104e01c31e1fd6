"""A compiled model as a directory: what it was made from, the source that runs, the weights, and hashes of all of it.

manifest.json        versions, and the SHA-256 of every file
spec.json, spec/     the component and the dims, and the text of the spec and of those that it imports
plan.json            the plan
model.py             the modules as written; with this folder on the path, `import model; model.load()` needs torch alone
runtime/             what model.py imports, laid out as in ssir: torch and the standard library only
weights.safetensors  the parameters (complex ones as pairs of reals)
"""

from __future__ import annotations

import builtins
import hashlib
import json
import os
import re
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ssir.api import to_torch
from ssir.compilers.c.export import Program
from ssir.compilers.cuda_graph import GraphModel
from ssir.compilers.runtime.model import Model
from ssir.compilers.runtime.weights import own_tensors, with_weights
from ssir.compilers.torch.lower import located, runtime_modules, write
from ssir.errors import SSIRError, UsageError
from ssir.files import written
from ssir.ir.text import digest
from ssir.spec.load import Spec
from ssir.spec.module import Module, parse

FORMAT = 1

_LOAD = '''

def load(dtype: torch.dtype = torch.{dtype}) -> Model:
    """The whole, with the weights that stand beside this file."""
    from pathlib import Path

    from runtime.compilers.runtime.weights import with_weights

    return with_weights(model(dtype), Path(__file__).with_name("weights.safetensors"))
'''


class Damaged(SSIRError):
    """An artifact that is not what its manifest says."""


def save(model: Model | GraphModel | Program, directory: str | os.PathLike[str], force: bool = False) -> Path:
    """Write a compiled model as a directory, all or nothing: an artifact, or the files of a C program. Raises UsageError if it is there
    already (unless ``force``), and never replaces what is no artifact."""
    if isinstance(model, Program):
        return model.save(directory, force)
    model = model.model if isinstance(model, GraphModel) else model
    with written(directory, force, "manifest.json", "artifact") as made:
        _fill(model, made)
        manifest = {
            "format": FORMAT,
            "versions": {"ssir": version("ssir"), "torch": torch.__version__, "python": sys.version.split()[0]},
            "ir": digest(model.graph),
            "files": {name: _hash(made / name) for name in _files(made)},
        }
        _write(made / "manifest.json", json.dumps(manifest, indent=1, sort_keys=True))
    return Path(directory)


def open(directory: str | os.PathLike[str], device: str | torch.device = "cpu") -> Model:
    """The model of an artifact. Raises Damaged if anything is not as its manifest says, UsageError if it is no artifact."""
    at = Path(directory)
    manifest = _manifest(at)
    listed: dict[str, str] = manifest["files"]
    odd = sorted(set(_files(at)) ^ set(listed))
    if odd:
        raise Damaged(
            f"`{at}` does not match its manifest: `{odd[0]}` is {'missing' if odd[0] in listed else 'not listed'}"
        )
    for name, known in listed.items():
        if _hash(at / name) != known:
            raise Damaged(f"`{at / name}` has changed since it was written")
    about = json.loads((at / "spec.json").read_text())
    spec = Spec(_module(at, about["module"]), about["component"], about["dims"])
    model = to_torch(spec, dtype=getattr(torch, about["dtype"]), forms=about["forms"])
    if digest(model.graph) != manifest["ir"]:
        raise Damaged(f"the spec in `{at}` gives another graph with this version of SSIR; compile it anew")
    weights = at / "weights.safetensors"
    try:
        found = {name: list(value.shape) for name, value in load_file(weights).items()}
    except SafetensorError as error:
        raise Damaged(f"`{weights}` cannot be read: {error}") from None
    wanted = {n: [*p.shape, *([2] if p.is_complex() else [])] for n, p in own_tensors(model)}
    if found != wanted:
        raise Damaged(f"`{weights}` does not hold the parameters of the spec")
    return with_weights(model, weights).to(device)


def _fill(model: Model, at: Path) -> None:
    spec: Spec = model.spec
    (at / "spec").mkdir()
    about = {
        "name": spec.name,
        "component": spec.component,
        "dims": dict(spec.overrides),
        "module": _texts(spec.module, at),
        "forms": {entry.path: entry.match.form.name for entry in model.plan.entries if entry.chosen},
        "dtype": model.plan.at.dtype,
    }
    _write(at / "spec.json", json.dumps(about, indent=1))
    _write(at / "plan.json", json.dumps(model.plan.record(), indent=1))
    source = write(model.graph, model.plan, f"{spec.name}, written by SSIR", "runtime")
    _write(at / "model.py", source.text + _LOAD.format(dtype=model.plan.at.dtype))
    modules = {located(name, "runtime"): Path(module.__file__) for name, module in runtime_modules(source)}
    for name, path in modules.items():
        *above, last = name.split(".")
        if above[:1] != ["runtime"]:
            at.joinpath(*above).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, at.joinpath(*above, f"{last}.py"))
        elif not at.joinpath(*above).exists():
            _copy(path.parent, at.joinpath(*above))
            for i in range(1, len(above)):
                at.joinpath(*above[:i], "__init__.py").touch()
    weights = {name: p.detach().cpu() for name, p in own_tensors(model)}
    real = {name: (torch.view_as_real(w) if w.is_complex() else w).contiguous() for name, w in weights.items()}
    save_file(real, at / "weights.safetensors", metadata={"ir": digest(model.graph)})


def _copy(folder: Path, to: Path) -> None:
    """What there is in a folder of runtime modules."""
    to.mkdir(parents=True)
    for path in sorted(folder.iterdir()):
        if path.suffix in (".py", ".c", ".h"):
            shutil.copyfile(path, to / path.name)


def _texts(module: Module, at: Path) -> dict[str, Any]:
    """Write the text of a spec and of its imports; how they hang together."""
    name = f"{len(list((at / 'spec').iterdir()))}.yaml"
    _write(at / "spec" / name, module.document.source.text)
    imports = {spec: _texts(other, at) for spec, other in module.imported.items()}
    return {"file": name, "constants": dict(module.constants), "imports": imports}


def _module(at: Path, about: dict[str, Any]) -> Module:
    if not re.fullmatch(r"[0-9]+\.yaml", about["file"]):
        raise Damaged(f"`{at / 'spec.json'}` names a file outside the artifact: `{about['file']}`")
    text = (at / "spec" / about["file"]).read_text(encoding="utf-8")
    module = parse(text, str(at / "spec" / about["file"]), about["constants"])
    module.imported.update({spec: _module(at, other) for spec, other in about["imports"].items()})
    module.sealed = True
    return module


def _manifest(at: Path) -> dict[str, Any]:
    path = at / "manifest.json"
    if not path.is_file():
        raise UsageError(f"`{at}` is no artifact: it has no manifest.json")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        known, listed = manifest["format"], manifest["files"]
        outside = any(".." in Path(name).parts or Path(name).is_absolute() for name in listed)
        manifest["ir"]
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"`{path}` cannot be read: {error}") from None
    if known != FORMAT:
        raise Damaged(f"`{at}` has format {known}, and this version of SSIR reads {FORMAT}")
    if outside:
        raise Damaged(f"`{path}` lists files outside the artifact")
    return manifest


def _files(at: Path) -> list[str]:
    found = []
    for path in sorted(at.rglob("*")):
        if path.is_symlink():
            raise Damaged(f"`{path}` is a link, and an artifact holds none")
        if path.is_file() and path.name != "manifest.json" and "__pycache__" not in path.parts:
            found.append(path.relative_to(at).as_posix())
    return found


def _write(path: Path, text: str) -> None:
    with builtins.open(path, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
