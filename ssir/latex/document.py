"""A spec as the page that a paper would print: its equations, what its letters stand for, and the table of A, B, C and D."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from ssir.draw.maths import Number, Sign
from ssir.latex import names, typeset
from ssir.latex.display import display
from ssir.latex.equations import equations
from ssir.latex.expressions import Expression, value
from ssir.latex.glossary import signs
from ssir.latex.names import prose
from ssir.latex.scope import Scope
from ssir.latex.table import table
from ssir.latex.weights import shapes
from ssir.spec.load import Spec
from ssir.spec.module import Module
from ssir.spec.schema import REST

PREAMBLE = r"""\documentclass{article}
\usepackage{amsmath,amssymb,booktabs}
\setlength{\textwidth}{170mm}
\setlength{\textheight}{247mm}
\setlength{\oddsidemargin}{-5mm}
\setlength{\topmargin}{-15mm}
\setlength{\parindent}{0pt}
\setlength{\parskip}{4pt plus 1pt}
\setlength{\emergencystretch}{60pt}
\allowdisplaybreaks
\begin{document}
\raggedright
"""
_BETWEEN = frozenset("()/+-,")
END = "\\end{document}\n"


def document(spec: Spec) -> str:
    """A whole LaTeX document. Raises SpecError."""
    return f"{PREAMBLE}{body(spec)}{END}"


def body(spec: Spec) -> str:
    """What stands between the beginning and the end of the document."""
    file = spec.module.file
    source = [rf"\texttt{{{prose(spec.name)}}}", *([prose(file.paper.rstrip("."))] if file.paper else [])]
    idea = f" {prose(file.idea[:1].upper() + file.idea[1:])}." if file.idea else ""
    parts = [
        rf"\section*{{{prose(file.title or spec.name)}}}",
        f"{', '.join(source)}.{idea}",
        *_glossary(spec),
        *_sizes(spec),
    ]
    for scope, title in _scopes(spec):
        parts += _component(scope, title)
    return "\n".join(parts) + "\n"


def displays(spec: Spec) -> str:
    """The equations of the components alone, for where no document is around them. Raises SpecError."""
    return "\n".join(display(found, False) for scope, _ in _scopes(spec) if (found := list(equations(scope))))


def _scopes(spec: Spec) -> Iterator[tuple[Scope, str]]:
    """The component that is named; for a whole spec all of the file, and those that it imports."""
    module, called = spec.module, signs(spec.module)
    if spec.component != module.file.main:
        yield Scope(module, spec.component, spec.overrides, called), spec.component
        return
    for name in module.file.components:
        yield Scope(module, name, spec.overrides, called), name
    for name in module.file.imports:
        callee = module.callee(name)
        if callee is not None:
            other, component = callee
            yield Scope(other, component, {}, signs(other)), f"{name}: {other.file.name}.{component}"


# The head.


def _glossary(spec: Spec) -> list[str]:
    found = [f"{_letter(sign)} is {_meaning(words, spec.module)}" for sign, words in spec.module.file.glossary.items()]
    return [f"The paper's letters: where {', '.join(found)}."] if found else []


def _letter(sign: str) -> str:
    """A sign of the paper's; of more than a sign, what can be set as one."""
    parts = [part for part in re.split(r"([^\w'\u0300-\u036f]+)", unicodedata.normalize("NFC", sign)) if part]
    if all(names.name(part) is not None or part.strip() in _BETWEEN for part in parts):
        return f"${''.join(part if part.strip() in _BETWEEN else typeset.inline(Sign(part)) for part in parts)}$"
    return prose(sign)


def _meaning(words: str, module: Module) -> str:
    known = {*module.file.dims, *module.file.constants}
    for one in module.file.components.values():
        known |= {name.strip() for key in one.graph for name in key.split(",")} | one.input.keys()
    code = any(word.strip("(),") in known for word in words.split()) or "(" in words
    return rf"\texttt{{{prose(words)}}}" if code else prose(words)


def _sizes(spec: Spec) -> list[str]:
    called = signs(spec.module)
    sizes = {name: r"\infty" if size is None else typeset.inline(Number(size)) for name, size in spec.dims.items()}
    sizes |= {name: typeset.inline(Number(x)) for name, x in spec.module.constants.items()}
    said = [f"${typeset.inline(Sign(called.get(name, name)))} = {size}$" for name, size in sizes.items()]
    return [f"Sizes: {', '.join(said)}."] if said else []


# A component.


def _component(scope: Scope, title: str) -> list[str]:
    found = list(equations(scope))
    return [
        rf"\subsection*{{{prose(title)}}}",
        _interface(scope),
        *([display(found)] if found else []),
        *_legend(scope),
        *table(scope),
    ]


def _interface(scope: Scope) -> str:
    where = scope.here.without(*scope.letters)
    takes = [f"${typeset.inline(value(scope, name, where))}{_space(scope, name)}$" for name in scope.definition.input]
    output = scope.definition.output
    gives = [output] if isinstance(output, str) else list(output.values()) if isinstance(output, dict) else output
    given = ", ".join(f"${typeset.inline(value(scope, name, where))}$" for name in gives)
    return f"Reads {', '.join(takes)}; gives {given}." if takes else f"Reads nothing; gives {given}."


def _space(scope: Scope, name: str) -> str:
    axes = [
        r"\cdots" if axis == REST else typeset.inline(Sign(scope.sign(axis))) for axis in scope.definition.axes(name)
    ]
    numbers = r"\mathbb{N}" if scope.definition.is_token(name) else r"\mathbb{R}"
    return rf" \in {numbers}" + (f"^{{{_times(axes)}}}" if axes else "")


def _times(axes: list[str]) -> str:
    return r" \times ".join(axes)


def _legend(scope: Scope) -> list[str]:
    """The indices, and the shapes of the parameters."""
    runs = [
        rf"${letter.text}$ counts along ${typeset.inline(scope.axes([axis]))}$"
        for axis, letter in scope.letters.items()
    ]
    alike: dict[str, dict[str, None]] = {}
    for path in scope.paths:
        if path[4:5] not in (("stack",), ("times",)):
            for sign, node in shapes(Expression(scope, path)):
                axes = [typeset.inline(scope.axes([axis])) for axis in node.type.names]
                alike.setdefault(_times(axes), {})[f"${typeset.inline(sign)}$"] = None
    found = [
        f"{', '.join(signs)} $\\in \\mathbb{{R}}{f'^{{{axes}}}' if axes else ''}$" for axes, signs in alike.items()
    ]
    said = [f"Here {', '.join(runs)}."] if runs else []
    return [*said, f"Parameters: {'; '.join(found)}."] if found else said
