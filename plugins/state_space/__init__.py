"""State-space models: expanded states with a diagonal A, and how they start."""

from ssir.registry import Registry


def register(registry: Registry) -> None:
    from ssir.plugins.state_space import hippo
    from ssir.plugins.state_space.forms import SelectiveScan
    from ssir.plugins.state_space.invariant import ConstantScan, Convolution
    from ssir.plugins.state_space.rotation import RotatingScan

    for form in (SelectiveScan(), Convolution(), ConstantScan(), RotatingScan()):
        registry.add("form", form.name, form)
    hippo.register(registry)
