"""The ways in which a compiled loop runs."""

from collections.abc import Iterator

import pytest

from ssir.compilers.loops import triton
from ssir.compilers.runtime import native

from ..interpreted import interpreted
from .made import made


@pytest.fixture(params=["native", "twin", "triton", "triton, tile by tile"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """As C; as the PyTorch twin; as Triton, in its interpreter, with matrices in registers and without."""
    way: str = request.param
    if way == "native":
        if not native.available():
            pytest.skip(native.reason())
        yield way
        return
    monkeypatch.setattr(native, "library", lambda dtype, source="": None)
    if way == "twin":
        yield way
        return
    found = interpreted(monkeypatch)
    if way == "triton, tile by tile":
        monkeypatch.setattr(triton, "RESIDENT", 0)
        made.cache_clear()
        request.addfinalizer(made.cache_clear)
    yield way
    wanted = {"forward"} if request.node.get_closest_marker("forward") else {"forward", "backward"}
    ran = {name.rpartition("_")[2] for name in found}
    assert ran == wanted, f"of the kernels ran {ran or 'none'}"
