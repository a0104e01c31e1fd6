"""A and B sampled with a step, by a method that is a component: one of the language's own (methods.yaml), or one of the spec's."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from ssir.errors import Diagnostic, Span, SpecError, nearest
from ssir.functions.algebra import settled
from ssir.functions.operators import lifted
from ssir.spec.build import Site
from ssir.spec.calls import fail, unified
from ssir.spec.module import Module, parse, sized
from ssir.spec.written import Values

if TYPE_CHECKING:
    from ssir.spec.instance import Instance


@cache
def methods() -> Module:
    """Those of the language."""
    return parse((files("ssir.spec") / "methods.yaml").read_text("utf-8"), "methods.yaml")


def sampled(
    instance: Instance, method: str, given: Values, scope: str, span: Span, site: Site, spans: Mapping[str, Span]
) -> Values:
    """What a component {A, B, dt} -> {A, B} makes of them. Raises SpecError if it is none such, or knows no such A."""
    home, own = instance.module, methods()
    if home.callee(method) is None and method in own.file.components:
        rate = given["A"]
        if method == "zoh" and rate.op == "const" and rate.attrs["value"] == 0:
            method = "euler"  # its text divides by A; this is the limit
        try:
            return _called(instance, own, method, given, f"{scope}/sampled", span, site, spans)
        except SpecError as error:
            first = error.diagnostics[0]  # told of the A that is sampled, and not of the text of the method
            raise SpecError([Diagnostic(first.code, first.message, spans["A"], first.notes, first.help)]) from None
    callee = home.callee(method)
    if callee is None:
        near = nearest(method, [*own.file.components, *home.callable_names()])
        other = f"the nearest is `{near}`" if near else f"there are {', '.join(own.file.components)}"
        fail("SSIR012", f"no method is called `{method}`", span, f"{other}, and components of your own")
    module, component = callee
    definition = module.component(component)
    labels = set(definition.output) if isinstance(definition.output, dict) else set()
    if set(definition.input) != set(given) or labels != {"A", "B"}:
        help = "a method has `input: {A: [...], B: [...], dt: [...]}` and `output: {A: a, B: b}`"
        fail("SSIR013", f"`{method}` is no method of sampling", span, help)
    instance.graph.builder.calls[f"{scope}.discretize"] = method
    return _called(instance, module, component, given, f"{scope}.discretize", span, site, spans)


def _called(
    instance: Instance,
    module: Module,
    component: str,
    given: Values,
    scope: str,
    span: Span,
    site: Site,
    spans: Mapping[str, Span],
) -> Values:
    borrowed = module is not instance.module
    dims = sized(module, {}, span) if borrowed else instance.dims
    types = {name: node.type for name, node in given.items()}
    dims = unified(module, component, dims, {}, types, spans, span, borrowed)
    constants = dict(module.constants if borrowed else instance.constants)
    callers = instance.callers_of(module, component, span)
    found = instance.called(module, component, dims, constants, given, scope, instance.shared, callers, operators=True)
    if found["B"].type.operator:
        fail("SSIR019", "this B is an operator, and a value is needed", span, "write apply(operator, B)")
    return {"A": lifted(site, settled(site, found["A"])), "B": found["B"]}
