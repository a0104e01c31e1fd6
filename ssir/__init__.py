"""SSIR: every sequence model is a graph of state-space systems.

h[t] = A[t] h[t-1] + B[t] x[t],   y[t] = C[t] h[t] + D[t] x[t]
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ssir.errors import EnvironmentLacks as EnvironmentLacks
from ssir.errors import SpecError as SpecError
from ssir.errors import SSIRError as SSIRError
from ssir.errors import UsageError as UsageError

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ssir.analyze import analyze as analyze
    from ssir.api import compile as compile
    from ssir.api import parameter_groups as parameter_groups
    from ssir.api import reference as reference
    from ssir.artifact import open as open
    from ssir.artifact import save as save
    from ssir.diff import diff as diff
    from ssir.draw import draw as draw
    from ssir.proof.verify import verify as verify
    from ssir.registry import registry as registry
    from ssir.spec.load import Spec as Spec
    from ssir.spec.load import load as load
    from ssir.spec.load import loads as loads

# Where the public names live; imported when first asked for, since most need no torch, and it takes seconds to import.
_HOMES = {
    "analyze": "ssir.analyze",
    "compile": "ssir.api",
    "parameter_groups": "ssir.api",
    "reference": "ssir.api",
    "open": "ssir.artifact",
    "save": "ssir.artifact",
    "diff": "ssir.diff",
    "draw": "ssir.draw",
    "registry": "ssir.registry",
    "Spec": "ssir.spec.load",
    "load": "ssir.spec.load",
    "loads": "ssir.spec.load",
    "verify": "ssir.proof.verify",
}


class _Package(ModuleType):
    """`ssir.draw`, `ssir.reference` and others are functions, held by modules of the same names; importing one of those must not
    put the module in the function's place."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module `ssir` has no `{name}`")
        value = getattr(import_module(_HOMES[name]), name)
        super().__setattr__(name, value)
        return value

    def __dir__(self) -> list[str]:
        return sorted([*super().__dir__(), *_HOMES])


sys.modules[__name__].__class__ = _Package
