"""What each command takes. Only argparse is needed to know it."""

from __future__ import annotations

import argparse
import math
from typing import Any

_EPILOG = """\
A spec is a name (`ssir list` shows them), a component (NAME.mixer), a file (my.yaml), or a component of a file (my.yaml:mixer).

exit codes: 0 good, 1 the spec is wrong, 2 wrong usage, 3 the environment lacks something, 70 a fault of SSIR,
130 interrupted"""


def number(text: str) -> float:
    """A finite number; a whole one stays whole."""
    try:
        value = float(text)
        if not math.isfinite(value):
            raise ValueError
        return int(text) if text.lstrip("+-").isdecimal() else value
    except ValueError:
        raise argparse.ArgumentTypeError(f"`{text}` is not a number") from None


def assignment(text: str) -> tuple[str, float]:
    """dim=value"""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"`{text}` is not of the form dim=value")
    return name.strip(), number(value.strip())


def choice(text: str) -> tuple[str, str]:
    """state=form"""
    state, equals, form = text.partition("=")
    if not equals or not state or not form:
        raise argparse.ArgumentTypeError(f"`{text}` is not of the form state=form")
    return state, form


def whole(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"`{text}` is not a whole number of at least 1")
    return int(text)


class _Commands:
    """Adds commands to the parser, with the options that many share."""

    def __init__(self, commands: Any) -> None:
        self.commands = commands

    def add(
        self, name: str, runs: str, help: str, *, json: bool = False, dims: bool = False, machine: bool = False
    ) -> argparse.ArgumentParser:
        one: argparse.ArgumentParser = self.commands.add_parser(
            name,
            help=help,
            description=f"{help[0].upper()}{help[1:]}.",
            epilog=_EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        one.set_defaults(runs=runs)
        one.add_argument(
            "--traceback", action="store_true", default=argparse.SUPPRESS, help="show where in SSIR an error arose"
        )
        if json:
            one.add_argument("--json", action="store_true", help="print one JSON object")
        if dims:
            _settable(one)
            one.add_argument("--size", metavar="SIZE", help="one of the named sizes of the spec")
        if machine:
            one.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
            one.add_argument(
                "--dtype",
                default="float32",
                choices=["float64", "float32", "bfloat16", "float16"],
                help="float32 by default",
            )
            one.add_argument(
                "--form",
                metavar="STATE=FORM",
                action="append",
                type=choice,
                default=[],
                help="compute a state by this form",
            )
            one.add_argument("--forms", metavar="FILE", help="the forms that `ssir plan --tune` found")
            one.add_argument(
                "--batch", metavar="N", type=whole, default=1, help="sequences to choose forms for (default 1)"
            )
            one.add_argument("--steps", metavar="N", type=whole, default=1024, help="and their length (default 1024)")
        return one


def _settable(command: argparse.ArgumentParser) -> None:
    help = "set a dim or a constant; may be given more than once"
    command.add_argument("--set", metavar="DIM=VALUE", action="append", type=assignment, default=[], help=help)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    whole_line = argparse.ArgumentParser(
        prog="ssir",
        description="Sequence models declared once, as graphs of state-space systems.",
        epilog=f"{_EPILOG}\n\n`ssir COMMAND --help` says more about a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole_line.add_argument("--version", action=_Version, nargs=0, help="print the version")
    whole_line.add_argument("--traceback", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    commands = _Commands(whole_line.add_subparsers(metavar="COMMAND", title="commands"))

    listing = commands.add("list", "reading:list_specs", "list the specs that are installed", json=True)
    listing.add_argument("--tag", action="append", default=[], help="only those with this tag; of several, with all")

    show = commands.add("show", "reading:show", "show what a spec declares", json=True, dims=True)
    show.add_argument("spec", metavar="SPEC")
    form = show.add_mutually_exclusive_group()
    form.add_argument("--resolved", action="store_true", help="print the spec as YAML with its dims set")
    form.add_argument("--ir", action="store_true", help="print the IR as text")
    form.add_argument("--latex", action="store_true", help="print its equations as a LaTeX document")
    form.add_argument("--parameters", action="store_true", help="list the parameters, and what makes each")
    show.add_argument("--until", metavar="PASS", help="with --ir: the last pass to run, or `none`")

    check = commands.add(
        "check", "reading:check", "check specs, and print everything that is wrong", json=True, dims=True
    )
    check.add_argument("specs", metavar="FILE", nargs="+", help="a file, a name, or - for standard input")
    check.add_argument("--watch", action="store_true", help="check again whenever a spec in their folders changes")

    plan = commands.add(
        "plan",
        "reading:show_plan",
        "show which form computes each state, why, and at what cost",
        json=True,
        dims=True,
        machine=True,
    )
    plan.add_argument("spec", metavar="SPEC")
    plan.add_argument(
        "--program",
        action="store_true",
        help="print what the plan makes of the graph: over a sequence, in a step, at the start",
    )
    plan.add_argument(
        "--tune", metavar="FILE", help="measure the forms that fit, here, and write the fastest to a file"
    )

    draw = commands.add("draw", "making:draw", "draw specs as block diagrams, several side by side", dims=True)
    draw.add_argument("specs", metavar="SPEC", nargs="+")
    draw.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="an .svg, .png, .pdf or .dot file, or .html: a page to explore; - is stdout (DOT by default)",
    )
    draw.add_argument("--level", choices=["model", "block", "mixer", "state"], help="how much to show")
    draw.add_argument("--state", metavar="NAME", help="the state to line up, or to draw alone")

    diff = commands.add("diff", "reading:diff", "tell what differs between two specs", json=True, dims=True)
    diff.add_argument("a", metavar="SPEC")
    diff.add_argument("b", metavar="SPEC")
    diff.add_argument("-o", "--output", metavar="FILE", help="write the picture too: an .svg, .png, .pdf or .dot file")

    analyze = commands.add(
        "analyze",
        "analysing:analyze",
        "show poles, half-lives, responses and costs of the states, as tables and plots",
        json=True,
        dims=True,
    )
    analyze.add_argument("spec", metavar="SPEC", nargs="?")
    analyze.add_argument("--trained", metavar="DIR", help="the weights of an artifact, instead of first values")
    analyze.add_argument(
        "--text", metavar="FILE", help="what is read where A depends on the input, a token a byte (default: drawn)"
    )
    analyze.add_argument("--steps", metavar="N", type=whole, default=64, help="of it, at most (default 64)")
    analyze.add_argument("--seed", type=int, default=0, help="for parameters and inputs (default 0)")
    analyze.add_argument("--device", default="cpu", help="that costs are told for: cpu (default) or cuda")
    analyze.add_argument("-o", "--output", metavar="FILE", help="plot it: an .svg, .png or .pdf file")

    compile = commands.add(
        "compile",
        "making:compile_spec",
        "compile a spec to a module, or to an artifact in a folder",
        json=True,
        dims=True,
        machine=True,
    )
    compile.add_argument("spec", metavar="SPEC")
    compile.add_argument(
        "--backend", default="torch", help="torch (default), cuda-graph, c (a program in C), or that of a plugin"
    )
    compile.add_argument("--int8", action="store_true", help="with --backend c: matrices as whole numbers of 8 bits")
    compile.add_argument("--seed", type=int, default=0, help="for the parameters (default 0)")
    compile.add_argument("-o", "--output", metavar="DIR", help="write an artifact there")
    compile.add_argument("--force", action="store_true", help="replace what is there")

    verify = commands.add("verify", "proving:verify", "hold every form against its meaning", json=True, dims=True)
    verify.add_argument("specs", metavar="SPEC", nargs="*")
    verify.add_argument(
        "--all", action="store_true", help="every spec of the zoo, but those that the output holds already"
    )
    verify.add_argument(
        "--quick",
        action="store_true",
        help="short sequences, and only the forms of the plan, at small dims, in float64 and float32, on one thread",
    )
    verify.add_argument("-o", "--output", metavar="FILE.md", help="add a table of each spec to a page")
    verify.add_argument("--seed", type=int, default=0, help="for parameters and inputs (default 0)")

    bench = commands.add("bench", "proving:bench", "measure forward, backward and decoding, beside peers", json=True)
    bench.add_argument("specs", metavar="SPEC", nargs="*", help="(default: all that have a peer to compare with)")
    _settable(bench)
    bench.add_argument("--model", metavar="N", type=whole, action="append", help="a width; may be given more than once")
    bench.add_argument("--layers", metavar="N", type=whole, default=4, help="(default 4)")
    several = "; may be given more than once (default: as in docs/benchmarks.md)"
    bench.add_argument("--steps", metavar="N", type=whole, action="append", help=f"length of the sequences{several}")
    bench.add_argument("--batch", metavar="N", type=whole, action="append", help=f"number of sequences{several}")
    bench.add_argument("--threads", metavar="N", type=whole, help="(default: as many as torch takes)")
    bench.add_argument("--seconds", type=number, default=10.0, help="time for each measurement, at least (default 10)")
    bench.add_argument("--dtype", default="float32", choices=["float64", "float32", "bfloat16"])
    bench.add_argument("--mode", action="append", choices=["forward", "forward+backward", "decode"])
    bench.add_argument("--no-peers", action="store_true", help="measure only what SSIR compiles")
    bench.add_argument("-o", "--output", metavar="DIR", help="write benchmarks.md and benchmarks.json there")

    commands.add("plugins", "reading:plugins", "list the plugins, what they bring, and which failed", json=True)
    commands.add("schema", "reading:schema", "print the JSON schema of a spec file, for editors")

    completion = commands.add(
        "completion", "shell:completion", "print a script that makes a shell complete what is typed"
    )
    completion.add_argument("shell", choices=["bash", "zsh", "tcsh"])

    explain = commands.add("explain", "reading:explain", "explain an error code, or list them all", json=True)
    explain.add_argument("code", metavar="CODE", nargs="?")

    new = commands.add("new", "making:new", "write a small spec, or a plugin, to start from")
    new.add_argument("kind", choices=["spec", "plugin"])
    new.add_argument("name", metavar="NAME")
    new.add_argument("-o", "--output", metavar="DIR", default=".", help="the folder to write it to (default: this one)")
    return whole_line


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from ssir import __version__

        print(f"ssir {__version__}")
        parser.exit()
