"""Attention: registers of keys and values, read by a softmax of products."""

from ssir.registry import Registry


def register(registry: Registry) -> None:
    from ssir.plugins.attention.forms import Attention

    registry.add("form", Attention.name, Attention())
