"""Where parameters and memories belong: the path of every call that owns some.

A node of a component instance with path S has the path ``S.node``; an expression that has a role in it, ``S.node.role``. If one call
in an expression owns, it has the path of the expression; of several each has its called name below it, the second of one
name ``_2``, the third ``_3``, in the order of the text. ``name=q`` puts a call at ``S.q``, and it counts no more. Which calls own is a
matter of what is called, never of the arguments; so nothing that is written elsewhere, and no order, changes a path.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from ssir.errors import Report, SpecError
from ssir.functions.kinds import Later, Nested, Operator
from ssir.ir.graph import Node
from ssir.registry import registry
from ssir.spec import expr as syntax
from ssir.spec.arguments import signature
from ssir.spec.calls import Path
from ssir.spec.module import Module

NAME = "name"
_PLAIN = 4
"""The length of the way to an expression that is a node, and no role of one."""


def is_named_by(module: Module, call: syntax.Call) -> bool:
    """Whether `name=` in a call says where it belongs: it does in one that owns, unless that is what an input is called."""
    callee = module.callee(call.function)
    if callee is not None:
        return NAME not in callee[0].component(callee[1]).input
    return registry.owns(call.function)


def given_name(module: Module, call: syntax.Call) -> syntax.Expr | None:
    """What `name=` of an owning call says."""
    found = [value for key, value, _, _ in call.kwargs if key == NAME]
    return found[0] if found and is_named_by(module, call) else None


def owning(module: Module, tree: syntax.Expr) -> list[syntax.Call]:
    """The calls in an expression that own parameters or memory, in the order of the text."""
    return sorted(_owning(module, tree), key=lambda call: call.function_start)


def _owning(module: Module, tree: syntax.Expr) -> Iterator[syntax.Call]:
    match tree:
        case syntax.Unary(operand=operand):
            yield from _owning(module, operand)
        case syntax.Binary(left=left, right=right) | syntax.Compare(left=left, right=right):
            yield from _owning(module, left)
            yield from _owning(module, right)
        case syntax.List(items=items):
            for item in items:
                yield from _owning(module, item)
        case syntax.Call():
            callee = module.callee(tree.function)
            if callee is not None:
                inputs = callee[0].component(callee[1]).input
                values = [*tree.args, *(value for key, value, _, _ in tree.kwargs if key in inputs)]
            else:
                values = _values(tree)
            if callee is not None or registry.owns(tree.function):
                yield tree
            for value in values:
                yield from _owning(module, value)


def _values(call: syntax.Call) -> list[syntax.Expr]:
    """The arguments of a function that are values of the graph."""
    function = registry.get("function", call.function)
    if function is None:
        return list(call.args)
    parameters, rest = signature(function)
    kinds = {p.name: p.annotation for p in parameters}
    given = [*zip(kinds, call.args, strict=False), *((key, value) for key, value, _, _ in call.kwargs)]
    return [value for key, value in given if _is_value(kinds.get(key, rest))]


def _is_value(kind: Any) -> bool:
    return kind in (Node, Later, Nested, Operator) or any(
        map(_is_value, get_args(kind) if get_origin(kind) is not tuple else ())
    )


def paths(module: Module, tree: syntax.Expr, at: str, scope: str) -> dict[int, str]:
    """The path of every owning call of the expression at a path, by the offset of its name. Raises SpecError."""
    found: dict[int, str] = {}
    counted: list[syntax.Call] = []
    for call in owning(module, tree):
        name = given_name(module, call)
        if isinstance(name, syntax.Name):
            found[call.function_start] = f"{scope}.{name.id}" if scope else name.id
        else:
            counted.append(call)
    if len(counted) == 1:
        return {**found, counted[0].function_start: at}
    taken = {call.function for call in counted}
    seen: Counter[str] = Counter()
    for call in counted:
        own, n = call.function, seen[call.function] + 1
        while n > 1 and f"{own}_{n}" in taken:
            n += 1
        seen[own] = n
        found[call.function_start] = f"{at}.{own}" if n == 1 else f"{at}.{own}_{n}"
    return found


def refuse_clashes(module: Module, component: str) -> None:
    """Raise SpecError where a `name=` puts a call where something else of its component belongs."""
    definition = module.component(component)
    nodes = {name.strip(): key for key in definition.graph for name in key.split(",")}
    taken: dict[str, str] = {}
    report = Report()
    for key, path in expressions(module, component):
        try:
            calls = owning(module, module.expression(path))
        except SpecError:  # whoever needs the expression says what is wrong with it
            continue
        others = [call for call in calls if given_name(module, call) is None]
        for call in calls:
            name = given_name(module, call)
            if not isinstance(name, syntax.Name):
                continue
            own = name.id == key.split(",")[0].strip() and len(path) == _PLAIN and not others
            what = (
                f"by `{taken[name.id]}`" if name.id in taken else "as a node" if name.id in nodes and not own else None
            )
            if what is not None:
                place = module.document.locate(path, name.start, name.end)
                words = f"`{name.id}` is taken {what}"
                report.error("SSIR024", words, place, help="give each `name=` once in a component, and no node's name")
            taken.setdefault(name.id, call.function)
    report.raise_if_any()


def expressions(module: Module, component: str) -> Iterator[tuple[str, Path]]:
    """The expressions of a component, each with the key of its node."""
    for path in module.expressions():
        if path[1] == component and path[4:5] not in (("stack",), ("times",)):
            yield str(path[3]), path
