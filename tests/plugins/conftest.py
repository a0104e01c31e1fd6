from tests.compilers.runtime.conftest import poison, way

__all__ = ["poison", "way"]
