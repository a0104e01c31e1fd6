"""The commands that make something: draw, compile, new."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from ssir.cli import say, specs
from ssir.errors import UsageError

_SPEC = """\
# yaml-language-server: $schema=ssir.schema.json
# (`ssir schema > ssir.schema.json` lets an editor complete keys.)
ssir: 1
name: {name}
title: an exponential moving average between two linear maps
dims:                          # sizes; any can be set: --set model=128
  vocab: 256
  model: 64
  layers: 2
  hidden: 4 * model            # arithmetic over those above

components:
  mixer:                       # what mixes steps: h[t] = A h[t-1] + B x[t]
    input: {{u: [model]}}        # inputs with their axes; batch and time are never written
    graph:                     # nodes by name, in any order
      keep: sigmoid(linear(u, model, bias=true))
      h:
        state: [model]         # the axes of what is remembered
        A: keep                # elementwise, since it has axes of the state; it depends on the input
        B: 1 - keep
        input: linear(u, model)
      y: linear(h, model)
    output: y

  mlp:
    input: {{u: [model]}}
    graph:
      y: linear(silu(linear(u, hidden)), model)
    output: y

  block:
    input: {{u: [model]}}
    graph:
      mixed: u + mixer(rms_norm(u, over=model))
      y: mixed + mlp(rms_norm(mixed, over=model))
    output: y

  lm:
    input: {{tokens: token}}
    graph:
      e: embed(tokens, vocab, model, init=normal(0.02))
      x:
        stack: [block]         # one after another, each with weights of its own
        times: layers
        input: e
      logits: linear(rms_norm(x, over=model), vocab, tie=e)
    output: logits

main: lm                       # what `ssir compile {name}.yaml` means

# Next: `ssir check --watch {name}.yaml`, `ssir plan {name}.yaml`, `ssir draw {name}.yaml -o {name}.svg`.
"""

_PLUGIN = '''\
"""A plugin of SSIR: it adds a function to the language, written in terms of others."""

from __future__ import annotations

from ssir.ir import Node
from ssir.registry import Registry
from ssir.spec.build import Site


def {name}(cx: Site, a: Node) -> Node:
    """a * tanh(a), entry by entry."""
    return cx.emit("mul", (a, cx.emit("tanh", (a,), "tanh")))


def register(registry: Registry) -> None:
    registry.function({name})
'''

_PROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "ssir-{name}"
version = "0.1.0"
dependencies = ["ssir"]

[project.entry-points."ssir.plugins"]
{name} = "ssir_{name}:register"

[tool.setuptools]
py-modules = ["ssir_{name}"]
"""


def draw(options: Namespace) -> int:
    """Draw one spec, or several side by side; without a file, the DOT goes to stdout."""
    from ssir.draw import draw as picture

    chosen = specs.several(options, options.specs)
    out = None if options.output in (None, "-") else Path(options.output)
    text = picture(chosen, out, options.level, options.state)
    if out is None:
        print(text)
    else:
        say.console(stderr=True).print(f"wrote {out}", soft_wrap=True)
    return 0


def compile_spec(options: Namespace) -> int:
    """Compile a spec; tell the plan, or write an artifact."""
    import torch

    import ssir

    try:
        torch.device(options.device)
    except RuntimeError:
        raise UsageError(f"there is no device `{options.device}`; there are cpu, cuda, cuda:0, ...") from None
    out = Path(options.output) if options.output else None
    if out is not None and out.exists() and not options.force:
        raise UsageError(f"{out} is there already; --force replaces it")
    if options.int8 and options.backend != "c":
        raise UsageError("--int8 is of the backend `c`: add --backend c")
    model: Any
    if (Path(options.spec) / "manifest.json").is_file():
        model = _of_artifact(options)
    else:
        spec = specs.one(options)
        model = ssir.compile(
            spec,
            backend=options.backend,
            device=options.device,
            dtype=getattr(torch, options.dtype),
            seed=options.seed,
            forms=specs.forms(options, spec),
            batch=options.batch,
            steps=options.steps,
        )
    if out is not None and options.int8:
        model.save(out, force=options.force, int8=True)
    elif out is not None:
        ssir.save(model, out, force=options.force)
    _tell_twins(model)
    if options.json:
        say.record(
            name=model.spec.name,
            backend=options.backend,
            output=None if out is None else str(out),
            plan=model.plan.record(),
        )
        return 0
    from ssir import plan_table

    plan_table.tell(model.plan, say.console())
    if out is not None:
        say.console(stderr=True).print(f"wrote {out}", soft_wrap=True)
    return 0


def _of_artifact(options: Namespace) -> Any:
    """The model of an artifact, with its weights, for the backend `c`."""
    import ssir
    from ssir.compilers.c.export import Program

    if options.backend != "c":
        raise UsageError(
            f"{options.spec} is an artifact, which is compiled already; --backend c writes it as a program in C"
        )
    if options.set or options.size or options.form or options.forms:
        raise UsageError(f"{options.spec} is an artifact: its dims and forms are what they are")
    return Program(ssir.open(options.spec))


def _tell_twins(model: Any) -> None:
    """Say when forms that have compiled code run in PyTorch here, and why."""
    from ssir.compilers.runtime import native

    forms = {entry.match.form for entry in model.plan.entries}
    names = sorted(form.name for form in forms if getattr(form, "native", False))
    if names and model.device.type == "cpu" and not native.available():
        told = f"there are no native kernels on this machine ({native.reason().splitlines()[0]}): in PyTorch run {', '.join(names)}"
        say.console(stderr=True).print(told, soft_wrap=True, markup=False, highlight=False)


def new(options: Namespace) -> int:
    """Write a small spec or plugin; nothing that is there is overwritten."""
    name: str = options.name
    if not name.isidentifier() or not name.isascii():
        raise UsageError(f"`{name}` is no name: letters, digits and _, the first no digit")
    folder = Path(options.output)
    if options.kind == "spec":
        files = {folder / f"{name}.yaml": _SPEC.format(name=name)}
        hint = f"ssir check {folder / name}.yaml"
    else:
        files = {
            folder / f"ssir_{name}.py": _PLUGIN.format(name=name),
            folder / "pyproject.toml": _PROJECT.format(name=name),
        }
        hint = f"pip install -e {folder}; ssir plugins"
    taken = [str(path) for path in files if path.exists()]
    if taken:
        raise UsageError(f"{', '.join(taken)} is there already")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        path.write_text(text, "utf-8")
    said: Any = say.console(stderr=True)
    said.print(f"wrote {', '.join(map(str, files))}; next: {hint}", soft_wrap=True)
    return 0
