"""The ways in which a compiled loop runs."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ssir.compilers.loops import triton
from ssir.compilers.runtime import native, tritons

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
    if not tritons.available():
        pytest.skip("there is no Triton for this machine")
    run, ran = tritons.call, set[str]()

    def call(source: str, name: str, *given: Any) -> None:
        with np.errstate(all="ignore"):  # a processor does not warn of what is not chosen
            run(source, name, *given)
        ran.add(name.rpartition("_")[2])

    monkeypatch.setattr(tritons, "call", call)
    monkeypatch.setattr(tritons, "reaches", lambda device: True)
    monkeypatch.setattr(tritons, "rows", lambda batch, device: 2)
    if way == "triton, tile by tile":
        monkeypatch.setattr(triton, "RESIDENT", 0)
        made.cache_clear()
        request.addfinalizer(made.cache_clear)
    yield way
    wanted = {"forward"} if request.node.get_closest_marker("forward") else {"forward", "backward"}
    assert ran == wanted, f"of the kernels ran {ran or 'none'}"
