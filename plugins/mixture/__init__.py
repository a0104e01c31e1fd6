"""Mixtures: the k largest entries of an axis, and maps of which only those chosen are run."""

from ssir.registry import Registry


def register(registry: Registry) -> None:
    from ssir.plugins.mixture.routing import Experts, Top, experts, top

    registry.function(top)
    registry.function(experts, owns=True)
    registry.add("op", "top", Top())
    registry.add("op", "experts", Experts())
