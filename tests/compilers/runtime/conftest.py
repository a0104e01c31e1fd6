from collections.abc import Iterator

import pytest
import torch

from ssir.compilers.runtime import native


@pytest.fixture(params=["native", "twin"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test once with compiled code and once with the PyTorch twins."""
    way: str = request.param
    if way == "twin":
        monkeypatch.setattr(native, "library", lambda dtype, source="": None)
    elif not native.available():
        pytest.skip(native.reason())
    return way


@pytest.fixture(autouse=True)
def poison() -> Iterator[None]:
    """Fresh memory holds NaN, so that reading what nobody wrote shows."""
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
