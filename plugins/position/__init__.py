"""Positions: pairs turned by an angle (RoPE and its kin)."""

from ssir.registry import Registry


def register(registry: Registry) -> None:
    from ssir.plugins.position.rotate import Rotate, rotate

    registry.function(rotate)
    registry.add("op", "rotate", Rotate())
