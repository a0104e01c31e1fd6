from tests.compilers.kernels.conftest import poison, way

__all__ = ["poison", "way"]
