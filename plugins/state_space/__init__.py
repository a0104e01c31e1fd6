"""State-space models: expanded states with a diagonal A."""

from ssir.registry import Registry


def register(registry: Registry) -> None:
    from ssir.plugins.state_space.forms import SelectiveScan

    registry.add("form", SelectiveScan.name, SelectiveScan())
