"""A and B sampled with a step by a component of the spec, where no method of the language is meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ssir.errors import Span, nearest
from ssir.functions.operators import lifted
from ssir.functions.systems import METHODS
from ssir.spec.build import Site
from ssir.spec.calls import fail, unified
from ssir.spec.module import sized
from ssir.spec.written import Values

if TYPE_CHECKING:
    from ssir.spec.instance import Instance


def sampled_by(
    instance: Instance, method: str, given: Values, scope: str, span: Span, site: Site, spans: Mapping[str, Span]
) -> Values:
    """What a component {A, B, dt} -> {A, B} makes of them, entry by entry. Raises SpecError if it is none such, or A is an operator."""
    home = instance.module
    callee = home.callee(method)
    if callee is None:
        near = nearest(method, [*METHODS, *home.callable_names()])
        other = f"the nearest is `{near}`" if near else f"there are {', '.join(METHODS)}, and components of your own"
        fail("SSIR012", f"no method is called `{method}`", span, other)
    module, component = callee
    definition = module.component(component)
    labels = set(definition.output) if isinstance(definition.output, dict) else set()
    if set(definition.input) != set(given) or labels != {"A", "B"}:
        help = "a method has `input: {A: [...], B: [...], dt: [...]}` and `output: {A: a, B: b}`"
        fail("SSIR013", f"`{method}` is no method of sampling", span, help)
    if given["A"].type.operator:
        help = "use bilinear or euler, or write the discrete A yourself"
        fail("SSIR019", f"`{method}` is given the entries of A, and this is an operator", spans["A"], help)
    borrowed = module is not home
    dims = sized(module, {}, span) if borrowed else instance.dims
    types = {name: node.type for name, node in given.items()}
    dims = unified(module, component, dims, {}, types, spans, span, borrowed)
    instance.graph.builder.calls[scope] = method
    constants = dict(module.constants if borrowed else instance.constants)
    callers = instance.callers_of(module, component, span)
    found = instance.called(module, component, dims, constants, given, scope, instance.shared, callers)
    return {"A": lifted(site, found["A"]), "B": found["B"]}
