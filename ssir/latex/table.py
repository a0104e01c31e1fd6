"""The table of A, B, C and D of the states of a component: each as a formula, its structure, and what it depends on."""

from __future__ import annotations

from collections.abc import Iterator

from ssir import passes
from ssir.draw import equations, shown, state_box
from ssir.draw.circuit import Coefficient
from ssir.draw.maths import Sign
from ssir.draw.signals import Signals
from ssir.ir.graph import Graph, Node, parents
from ssir.latex import names, typeset
from ssir.latex.names import prose
from ssir.latex.scope import Scope

_WIDEST = 175.0


def table(scope: Scope) -> list[str]:
    """Of the component's own states, those that its equations make among them; nothing where it has none."""
    graph = shown.plain(passes.run(scope.graph))
    own = [node for node in graph.states if not any(path in graph.calls for path in parents(node.name))]
    rows = [row for i, node in enumerate(own) for row in _state(scope, graph, node, first=not i)]
    if not rows:
        return []
    return [
        r"\begin{center}\small",
        r"\begin{tabular}{@{}lclp{58mm}l@{}}",
        r"\toprule",
        r"state & & & structure & depends on \\",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{center}",
    ]


def _state(scope: Scope, graph: Graph, node: Node, first: bool) -> Iterator[str]:
    signals = Signals(graph, scope.signs)
    called = state_box.called(signals, node)
    sign = f"${typeset.inline(Sign(called))}$" if names.name(called) is not None else prose(called)
    steps = state_box.delayed_by(graph, node)
    yield r"\midrule" if first else r"\addlinespace"
    if steps is not None:
        late = "one step" if steps == 1 else f"{steps} steps"
        yield rf"{sign} & & & a delay of {late}: $A = 0$, read before & constant \\"
        return
    known = equations.system(graph, node, "", scope.signs)
    sizes = f" $[{', '.join(typeset.inline(Sign(scope.sign(name))) for name, _ in node.attrs['axes'])}]$"
    coefficients = dict(known.coefficients)
    for i, one in enumerate(coefficients.values()):
        yield f"{sign + sizes if not i else ''} & {_row(one, _role(node, one.letter))}"


def _role(node: Node, letter: str) -> str | None:
    return node.role(letter)


def _row(one: Coefficient, operand: str | None) -> str:
    *structure, dependence = one.words.split(" · ")
    formula = ""
    if one.tree is not None and operand is not None and typeset.width(one.tree) < _WIDEST:
        formula = f"${typeset.inline(one.tree)}$"
    elif operand is None:
        formula = "$1$"
    return rf"${one.letter}$ & {formula} & {prose(', '.join(structure))} & {prose(dependence)} \\"
