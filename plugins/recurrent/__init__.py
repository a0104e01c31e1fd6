"""Nonlinear recurrences: gated cells whose gates read the step before."""

from ssir.registry import Registry


def register(registry: Registry) -> None:
    from ssir.plugins.recurrent.forms import FORMS

    for form in FORMS:
        registry.add("form", form.name, form)
