"""Attention: registers of keys and values, or whole sequences of them, read by a softmax of products."""

from ssir.registry import Registry


def register(registry: Registry) -> None:
    from ssir.plugins.attention.forms import Attention
    from ssir.plugins.attention.whole import WholeAttention

    registry.add("form", Attention.name, Attention())
    registry.add("fusion", "attention", WholeAttention())
