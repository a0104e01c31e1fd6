"""A spec as plain data that holds the text of its file and of those that it imports: what pickles are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssir.spec.load import Spec
from ssir.spec.module import Module, parse


def texts(spec: Spec) -> dict[str, Any]:
    """The record of a spec that has been elaborated."""
    return {"component": spec.component, "dims": dict(spec.overrides), "module": _record(spec.module)}


def from_texts(record: Mapping[str, Any]) -> Spec:
    """The spec of a record. Raises SpecError."""
    return Spec(_module(record["module"]), record["component"], record["dims"])


def _record(module: Module) -> dict[str, Any]:
    return {
        "name": module.document.source.name,
        "text": module.document.source.text,
        "constants": dict(module.constants),
        "imports": {name: _record(other) for name, other in module.imported.items()},
    }


def _module(record: Mapping[str, Any]) -> Module:
    module = parse(record["text"], record["name"], record["constants"])
    module.imported.update({name: _module(other) for name, other in record["imports"].items()})
    module.sealed = True
    return module
