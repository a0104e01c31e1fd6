"""The table of A, B, C and D of the states of a component: each as a formula, its structure, and what it depends on."""

from __future__ import annotations

from collections.abc import Iterator

from ssir import passes
from ssir.draw import equations, shown, signals
from ssir.draw.circuit import Coefficient
from ssir.draw.maths import Maths, Number, Sign
from ssir.draw.values import delayed_by
from ssir.ir.graph import Graph, Node, parents
from ssir.latex import names, typeset
from ssir.latex.names import prose
from ssir.latex.scope import Scope
from ssir.latex.states import role
from ssir.spec.schema import State

_WIDEST = 150.0
_SHIFT = "shift"


def table(scope: Scope) -> list[str]:
    """Of the component's own states, those that its equations make among them; nothing where it has none."""
    graph = shown.plain(passes.run(scope.graph))
    own = [node for node in graph.states if not any(path in graph.calls for path in parents(node.name))]
    rows = [row for i, node in enumerate(own) for row in _state(scope, graph, node, first=not i)]
    if not rows:
        return []
    return [
        r"\begin{center}\small\setlength{\tabcolsep}{4pt}",
        r"\begin{tabular}{@{}p{29mm}clp{49mm}l@{}}",
        r"\toprule",
        r"state & & & structure & depends on \\",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{center}",
    ]


def _state(scope: Scope, graph: Graph, node: Node, first: bool) -> Iterator[str]:
    called = scope.held.get(node.name) or signals.called(signals.Signals(graph, scope.signs), node)
    sign = f"${typeset.inline(Sign(called))}$" if names.name(called) is not None else prose(called)
    named = [name for name, _ in node.attrs["axes"] if name.rstrip("_") in scope.module.file.dims]
    axes = ", ".join(f"${typeset.inline(scope.axes([name]))}$" for name in named)
    yield r"\midrule" if first else r"\addlinespace"
    steps = delayed_by(graph, node)
    if steps is not None:
        late = "one step" if steps == 1 else f"{steps} steps"
        yield rf"\raggedright {sign} [{axes}] & & & a delay of {late} & constant \\"
        return
    known = equations.system(graph, node, "", scope.signs)
    for i, (_, one) in enumerate(sorted(known.coefficients.items())):
        head = rf"\raggedright {sign} [{axes}]" if not i else ""
        yield f"{head} & {_row(one, _formula(scope, node, one))}"


def _formula(scope: Scope, node: Node, one: Coefficient) -> Maths | None:
    """A coefficient as the spec says it; of a state that a function made, as the graph does."""
    body = scope.definition.graph.get(node.name)
    if isinstance(body, State):
        if getattr(body, one.letter) is not None:
            return role(scope, node.name, one.letter)
    elif one.tree is not None:
        return one.tree
    return Number(1) if node.role(one.letter) is None else None


def _row(one: Coefficient, formula: Maths | None) -> str:
    *structure, dependence = one.words.split(" · ")
    fits = formula is not None and typeset.width(formula, small=True) < _WIDEST and not one.words.startswith(_SHIFT)
    said = f"${typeset.inline(formula)}$" if formula is not None and fits else ""
    return rf"${one.letter}$ & {said} & \raggedright {prose(', '.join(structure))} & {prose(dependence)} \\"
