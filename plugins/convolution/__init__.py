"""Filters of finite length: registers read through constant taps."""

from ssir.registry import Registry


def register(registry: Registry) -> None:
    from ssir.plugins.convolution.forms import Filter

    registry.add("form", Filter.name, Filter())
