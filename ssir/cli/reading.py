"""The commands that read and tell: list, show, check, plan, diff, plugins, schema, explain. None imports torch."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssir.cli import say, specs
from ssir.errors import SpecError, SSIRError, UsageError, nearest

if TYPE_CHECKING:
    from ssir.compilers.forms import Setting
    from ssir.compilers.plan import Plan
    from ssir.spec.load import Spec


def list_specs(options: Namespace) -> int:
    """Every installed spec, in a line each; one that is broken is shown as such, and breaks nothing else."""
    from ssir.spec.load import zoo

    names = [name for name, _ in zoo()]
    found = [_summary(name) for name in (_tagged(names, options.tag) if options.tag else names)]
    if options.json:
        say.record(specs=found)
        return 0
    table = say.table("name", "what it is", "tags", "A of its states", "state", right=("state",))
    for each in found:
        if "error" in each:
            table.add_row(each["name"], each["error"], "", "", "")
            continue
        table.add_row(
            each["name"],
            "\n".join(filter(None, (each["title"], each["idea"]))),
            ", ".join(each["tags"]),
            "\n".join(each["structures"]),
            say.memory(each["state_bytes"], each["bytes_per_token"]),
        )
    say.console().print(table)
    return 0


def _tagged(names: list[str], wanted: list[str]) -> list[str]:
    """The specs that have all of these tags; a tag that none has is an error."""
    from ssir.spec.load import load

    tags: dict[str, list[str]] = {}
    for name in names:
        with suppress(SSIRError):
            tags[name] = load(name).module.file.tags
    known = sorted({tag for each in tags.values() for tag in each})
    for tag in wanted:
        if tag not in known:
            near = nearest(tag, known)
            hint = f"the nearest is `{near}`" if near else f"there are {', '.join(known)}"
            raise UsageError(f"no spec has the tag `{tag}`; {hint}")
    return [name for name, own in tags.items() if set(wanted) <= set(own)]


def _summary(name: str) -> dict[str, Any]:
    from ssir.spec.load import load

    try:
        spec = load(name)
        plan = planned(spec)
    except SSIRError as error:
        return {"name": name, "error": str(error).splitlines()[0]}
    file = spec.module.file
    return {
        "name": name,
        "title": file.title or "",
        "idea": file.idea or "",
        "paper": file.paper or "",
        "tags": file.tags,
        "sizes": list(file.sizes),
        "structures": list(dict.fromkeys(str(entry.facts.structure) for entry in plan.entries)),
        "parameters": plan.parameters,
        "state_bytes": plan.state_bytes,
        "bytes_per_token": plan.growth,
    }


def setting(options: Namespace) -> Setting:
    """What a plan is made for."""
    from ssir.compilers.forms import Setting

    return Setting(options.batch, options.steps, options.dtype, options.device.partition(":")[0])


def planned(spec: Spec, options: Namespace | None = None) -> Plan:
    """The plan of a spec for the device, the dtype and the forms that were asked for."""
    from ssir import passes
    from ssir.compilers.plan import plan

    graph, trained = passes.run(spec.graph), passes.trained(spec.graph)
    if options is None:
        return plan(graph, trained=trained)
    return plan(graph, setting(options), specs.forms(options, spec), trained)


def show(options: Namespace) -> int:
    """What a spec declares: its text with the dims set, its equations, its IR, or its head, dims and components."""
    spec = specs.one(options)
    if options.until and not options.ir:
        raise UsageError("--until goes with --ir")
    if options.resolved or options.latex or options.ir:
        kind, text = _printed(spec, options)
        if options.json:
            say.record(name=spec.name, **{kind: text})
        else:
            print(text, end="")
        return 0
    if options.parameters:
        rows = _parameters(spec)
        if options.json:
            say.record(name=spec.name, parameters=rows)
        else:
            _tell_parameters(rows)
        return 0
    found = _declared(spec)
    if options.json:
        say.record(**found)
        return 0
    _tell(found)
    return 0


def _printed(spec: Spec, options: Namespace) -> tuple[str, str]:
    """The spec as the text that is asked for, and what that is called."""
    if options.resolved:
        from ssir.spec.resolve import resolved

        return "resolved", resolved(spec)
    if options.latex:
        from ssir.latex import document

        return "latex", document(spec)
    return "ir", _ir(spec, options.until)


def _ir(spec: Spec, until: str | None) -> str:
    from ssir.ir.text import render
    from ssir.passes import PASSES, run

    names = [name for name, _ in PASSES]
    if until == "none":
        return render(spec.graph)
    if until is not None and until not in names:
        near = nearest(until, [*names, "none"])
        raise UsageError(
            f"there is no pass `{until}`; "
            + (f"the nearest is `{near}`" if near else f"there are none, {', '.join(names)}")
        )
    return render(run(spec.graph, until))


def _parameters(spec: Spec) -> list[dict[str, Any]]:
    """Every parameter and buffer: its path in a checkpoint, its axes, how it begins and is trained, and the line that makes it."""
    from ssir.ir.graph import parameters
    from ssir.passes import run

    return [
        {
            "path": path,
            "shape": {axis.name: axis.size for axis in node.type.axes},
            "init": node.attrs["init"],
            "learned": node.attrs["learned"],
            "decay": node.attrs["decay"],
            "lr": node.attrs["lr"],
            "dtype": node.attrs["dtype"],
            "file": node.at and node.at.source.name,
            "line": node.at and node.at.line,
        }
        for path, node, _, _ in parameters(run(spec.graph))
    ]


def _tell_parameters(rows: list[dict[str, Any]]) -> None:
    table = say.table("path", "shape", "begins as", "decay", "lr", "dtype", "made in", right=("lr",))
    for row in rows:
        shape = ", ".join(f"{name}:{size}" for name, size in row["shape"].items())
        trained = ("yes" if row["decay"] else "no") if row["learned"] else "not learned"
        rate = f"{row['lr']:g}" if row["learned"] else ""
        dtype = row["dtype"] or "the model's"
        table.add_row(
            row["path"],
            f"[{shape}]",
            row["init"],
            trained,
            rate,
            dtype,
            f"{Path(row['file'] or '').name}:{row['line']}",
        )
    say.console().print(table)


def _axes(declared: Any) -> str:
    """What an input is declared as, in a line."""
    if isinstance(declared, dict):
        return f"token along {_axes(declared['token'])}"
    return declared if isinstance(declared, str) else f"[{', '.join(declared)}]"


def _declared(spec: Spec) -> dict[str, Any]:
    file = spec.module.file
    components = {}
    for name, component in file.components.items():
        output = component.output
        components[name] = {
            "input": component.model_dump(include={"input"})["input"],
            "output": [output] if isinstance(output, str) else list(output),
            "main": name == spec.component,
        }
    return {
        "name": spec.name,
        "file": spec.module.document.source.name,
        "title": file.title or "",
        "paper": file.paper or "",
        "idea": file.idea or "",
        "tags": file.tags,
        "glossary": file.glossary,
        "dims": {name: {"written": file.dims[name], "size": value} for name, value in spec.dims.items()},
        "constants": dict(spec.module.constants),
        "sizes": file.sizes,
        "imports": file.imports,
        "components": components,
    }


def _tell(found: dict[str, Any]) -> None:
    console = say.console()
    console.print(f"{found['name']}: {found['title']}" if found["title"] else found["name"], style="bold")
    for key in ("idea", "paper", "file"):
        if found[key]:
            console.print(f"{key:9} {found[key]}")
    if found["tags"]:
        console.print(f"{'tags':9} {', '.join(found['tags'])}")
    for symbol, meaning in found["glossary"].items():
        console.print(f"{'symbol':9} {symbol}: {meaning}")
    console.print()
    dims = say.table("dim", "size", "written", right=("size",))
    for name, dim in found["dims"].items():
        size = "unbounded" if dim["size"] is None else str(dim["size"])
        dims.add_row(
            name, size, str(dim["written"]) if isinstance(dim["written"], str) and dim["size"] is not None else ""
        )
    for name, value in found["constants"].items():
        dims.add_row(name, f"{value:g}", "constant")
    console.print(dims)
    components = say.table("component", "takes", "gives")
    for name, one in found["components"].items():
        takes = ", ".join(f"{key} {_axes(axes)}" for key, axes in one["input"].items())
        components.add_row(f"{name} (main)" if one["main"] else name, takes, ", ".join(one["output"]))
    for name, target in found["imports"].items():
        components.add_row(name, f"imported: {target}", "")
    console.print(components)
    for name, size in found["sizes"].items():
        changes = ", ".join(f"{dim}={value}" for dim, value in size.items())
        console.print(f"size {name}: {changes or 'as written'}")


def check(options: Namespace) -> int:
    """Hold specs against the whole language; everything that is wrong in all of them is told."""
    if options.watch:
        from ssir.cli.shell import watched

        if options.json:
            raise UsageError("--watch and --json exclude each other: one JSON object is printed when all is done")
        return watched(lambda: _check(options), options.specs)
    return _check(options)


def _check(options: Namespace) -> int:
    from ssir.spec.check import check as faults_of
    from ssir.spec.warn import warnings

    results: list[dict[str, Any]] = []
    code = 0
    for name in options.specs:
        found: dict[str, Any] = {"spec": name, "ok": True, "diagnostics": []}
        try:
            spec = specs.standard_input(options) if name == "-" else specs.several(options, [name])[0]
            faults_of(spec)
        except SpecError as error:
            code = max(code, error.exit_code)
            found |= {"ok": False, "diagnostics": say.faults(error)}
            if not options.json:
                print(error, file=sys.stderr)
        except UsageError as error:
            code = max(code, error.exit_code)
            found |= {"ok": False, "error": str(error)}
            if not options.json:
                print(f"error: {error}", file=sys.stderr)
        else:
            told = SpecError(warnings(spec))
            found["diagnostics"] = say.faults(told)
            if told.diagnostics and not options.json:
                print(told, file=sys.stderr)
            if not options.json:
                count = len(spec.module.file.components)
                print(f"{name}: good ({count} component{'s' if count > 1 else ''})")
        results.append(found)
    if options.json:
        say.record(ok=code == 0, specs=results)
    return code


def show_plan(options: Namespace) -> int:
    """For each state: what was inferred, the form chosen, why, and what it costs."""
    from ssir import plan_table

    spec = specs.one(options)
    if options.tune is not None:
        _tune(spec, options)
    plan = planned(spec, options)
    if options.program:
        text = _program(spec, plan)
        if options.json:
            say.record(name=spec.name, program=text)
        else:
            print(text, end="")
        return 0
    if options.json:
        say.record(name=spec.name, **plan.record())
        return 0
    plan_table.tell(plan, say.console())
    return 0


def diff(options: Namespace) -> int:
    """What differs between two specs; the picture of it, if a file is named."""
    from ssir.diff import diff as compared

    found = compared(*specs.several(options, [options.a, options.b]))
    if options.output is not None:
        found.draw(options.output)
    if options.json:
        say.record(**found.record())
    else:
        print(found, end="")
    if options.output is not None:
        print(f"wrote {options.output}", file=sys.stderr)
    return 0


def _program(spec: Spec, plan: Plan) -> str:
    from ssir import passes
    from ssir.compilers.program.program import program

    return str(program(passes.run(spec.graph), plan.chosen))


def _tune(spec: Spec, options: Namespace) -> None:
    """Measure the forms that fit, write down the fastest, and plan with them."""
    from ssir.tune import tune

    console = say.console(stderr=True)
    expected = {entry.path: entry.seconds for entry in planned(spec, options).entries}
    found = tune(spec, setting(options), progress=lambda words: console.print(f"measuring {words}", soft_wrap=True))
    found.write(Path(options.tune))
    options.forms = options.tune
    table = say.table("state", "form", "expected", "measured", right=("expected", "measured"))
    for state, forms in found.measured.items():
        for form, seconds in sorted(forms.items(), key=lambda pair: pair[1]):
            table.add_row(state, form, f"{1e3 * expected[state][form]:.3g} ms", f"{1e3 * seconds:.3g} ms")
    if found.measured:
        console.print(table)
        console.print("expected: of the state alone, forwards; measured: of the model, forwards and backwards")
    else:
        console.print("every state has one form only: there is nothing to choose")


def plugins(options: Namespace) -> int:
    """What is installed, what it brings, and what failed: 3 if anything did."""
    from ssir.registry import registry

    found = registry.plugins
    failed = any(plugin.error for plugin in found)
    if options.json:
        say.record(
            ok=not failed,
            plugins=[
                {
                    "name": plugin.name,
                    "distribution": plugin.distribution,
                    "version": plugin.version,
                    "object": plugin.value,
                    "error": plugin.error,
                    "provides": [
                        {"kind": kind, "name": name, "where": registry.where(kind, name)}
                        for kind, name in plugin.provides
                    ],
                }
                for plugin in found
            ],
        )
        return 3 if failed else 0
    table = say.table("plugin", "from", "object", "brings")
    for plugin in found:
        kinds: dict[str, list[str]] = {}
        for kind, name in plugin.provides:
            kinds.setdefault(kind, []).append(name)
        brings = "\n".join(f"{kind}: {', '.join(names)}" for kind, names in kinds.items())
        table.add_row(
            plugin.name,
            f"{plugin.distribution} {plugin.version}",
            plugin.value,
            f"failed: {plugin.error}" if plugin.error else brings or "nothing",
        )
    say.console().print(table)
    for plugin in found:
        if plugin.error:
            print(f"error[SSIR030]: the plugin `{plugin.name}` failed: {plugin.error}", file=sys.stderr)
    return 3 if failed else 0


def schema(options: Namespace) -> int:
    """The JSON schema of a spec file."""
    from ssir.spec.schema import File

    del options
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    print(json.dumps({**head, **File.model_json_schema()}, indent=2, ensure_ascii=False))
    return 0


def explain(options: Namespace) -> int:
    """The entry of the catalogue for a code; without one, all titles."""
    from ssir.codes import CODES

    if options.code is None:
        if options.json:
            say.record(codes=[{"code": code, "title": entry.title} for code, entry in CODES.items()])
        else:
            print("\n".join(f"{code}  {entry.title}" for code, entry in CODES.items()))
        return 0
    code = options.code.upper().removeprefix("ERROR[").removesuffix("]")
    code = f"SSIR{int(code):03}" if code.isdecimal() else code
    if code not in CODES:
        near = nearest(code, CODES)
        raise UsageError(
            f"there is no code `{options.code}`; " + (f"the nearest is {near}" if near else "`ssir explain` lists them")
        )
    entry = CODES[code]
    if options.json:
        say.record(code=code, title=entry.title, explanation=entry.explanation, wrong=entry.wrong, right=entry.right)
        return 0
    print(f"{code}: {entry.title}\n\n{_wrapped(entry.explanation)}")
    for title, example in (("wrong", entry.wrong), ("right", entry.right)):
        if example:
            print(f"\n{title}:\n\n" + "\n".join(f"    {line}" for line in example.splitlines()))
    return 0


def _wrapped(text: str) -> str:
    import textwrap

    return textwrap.fill(text, 100)
