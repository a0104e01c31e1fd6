"""A spec as YAML again, with the dims and constants that were chosen.

A dim that follows from others keeps its arithmetic, because a call of a component may set those others anew.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from ssir.spec.load import Spec
from ssir.spec.module import sized


class _Dumper(yaml.SafeDumper):
    """Writes YAML 1.2: only what our reader takes for a number, a boolean or null needs quotes to be text."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


for _tag, _pattern in (
    ("bool", "true|false"),
    ("null", "~|null|"),
    ("int", "[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"),
):
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})\\Z"), None)


def resolved(spec: Spec) -> str:
    """The text of the spec with its dims set. It loads to the same graph."""
    module = spec.module
    data: dict[str, Any] = dict(module.document.data)
    data.pop("sizes", None)
    if "dims" in data:
        chosen = {key: value for key, value in spec.overrides.items() if not isinstance(module.file.dims[key], str)}
        by_itself = sized(module, chosen, whole=False)
        data["dims"] = {
            name: _size(module.file.dims[name], by_itself[name], value) for name, value in spec.dims.items()
        }
    if "constants" in data:
        data["constants"] = {name: _number(value) for name, value in module.constants.items()}
    data["main"] = spec.component
    text = yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
    return str(text)


def _size(written: int | str, by_itself: float | None, value: float | None) -> Any:
    if value is None:
        return "unbounded"
    return written if isinstance(written, str) and by_itself == value else _number(value)


def _number(value: float) -> float | str:
    return int(value) if float(value).is_integer() else str(value) if math.isinf(value) else value
