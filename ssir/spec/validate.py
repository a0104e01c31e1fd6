"""A document against a pydantic model: every fault in our words, at its place.

Pydantic tries each branch of a union and tells the faults of all; here the branch that the writer most likely meant is
picked, and only its faults are told. A validator may raise PydanticCustomError with one of our codes as its type.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from inspect import isclass
from types import UnionType
from typing import Annotated, Any, TypeGuard, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, RootModel, ValidationError
from pydantic_core import ErrorDetails

from ssir.errors import Report, nearest
from ssir.spec.yaml import Document, Path, kind

Model = TypeVar("Model", bound=BaseModel)

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dataclass_type": "a mapping",
    "none_required": "nothing",
}
_BOUNDS = {
    "greater_than": ("gt", "a number greater than {}"),
    "greater_than_equal": ("ge", "a number of at least {}"),
    "less_than": ("lt", "a number less than {}"),
    "less_than_equal": ("le", "a number of at most {}"),
    "string_too_short": ("min_length", "a text of at least {} characters"),
    "string_too_long": ("max_length", "a text of at most {} characters"),
    "string_pattern_mismatch": ("pattern", "a text of the form {}"),
    "too_short": ("min_length", "at least {} items"),
    "too_long": ("max_length", "at most {} items"),
}
_NAME_PATTERN = "^[A-Za-z_][A-Za-z0-9_]"
_NAME = "a name: letters, digits and _, at most 64, the first no digit"
_CHOICES = {"literal_error": "expected", "enum": "expected", "union_tag_invalid": "expected_tags"}


def validate(document: Document, model: type[Model], report: Report) -> Model | None:
    """The document as a model; where it is none, what is wrong goes into the report."""
    try:
        # Through JSON, so that a list may become a tuple and a text an enumeration, and nothing else is converted.
        return model.model_validate_json(json.dumps(document.data), strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False)
    faults = [_Fault.of(detail, document) for detail in details]
    told = _relevant(faults)
    misfits: dict[tuple[Path, bool], list[_Fault]] = {}
    meant: set[tuple[Path, str]] = set()
    for fault in told:
        if fault.type == "extra_forbidden":
            meant.add((fault.path[:-1], _tell_unknown(fault, document, model, report)))
        elif fault.expected():
            misfits.setdefault((fault.path, fault.on_key), []).append(fault)
        elif not fault.lacking:
            _tell_other(fault, document, report)
    for (path, on_key), of_path in misfits.items():
        _tell_misfit(path, on_key, of_path, document, report)
    for fault in told:
        # A key that is there in a wrong spelling is told once.
        if fault.lacking and (fault.path, fault.lacking) not in meant:
            _tell_missing(fault, document, report)
    return None


@dataclass(frozen=True)
class _Fault:
    """One of pydantic's errors: where its value stands, and which branches of unions lead there."""

    path: Path
    branches: tuple[tuple[Path, str], ...]
    detail: ErrorDetails

    @staticmethod
    def of(detail: ErrorDetails, document: Document) -> "_Fault":
        parts = list(detail["loc"])
        if detail["type"] == "missing" or parts[-1:] == ["[key]"]:
            parts.pop()
        if detail["type"] == "union_tag_invalid":
            parts.append(detail["ctx"]["discriminator"].strip("'"))
        path: Path = ()
        branches = []
        for part in parts:
            if document.has((*path, part)):
                path = (*path, part)
            else:
                branches.append((path, str(part)))
        return _Fault(path, tuple(branches), detail)

    @property
    def type(self) -> str:
        return self.detail["type"]

    @property
    def on_key(self) -> bool:
        """Whether the key is at fault, and not the value."""
        return self.detail["loc"][-1:] == ("[key]",)

    @property
    def lacking(self) -> str:
        """The key that is missing, if that is the fault."""
        if self.type == "union_tag_not_found":
            return str(self.detail["ctx"]["discriminator"]).strip("'")
        return str(self.detail["loc"][-1]) if self.type == "missing" else ""

    def expected(self) -> str | None:
        """What should have stood here, if the fault is that something else does."""
        if self.type in _CHOICES:
            return str(self.detail["ctx"][_CHOICES[self.type]])
        if self.type in _BOUNDS:
            key, words = _BOUNDS[self.type]
            bound = str(self.detail["ctx"][key])
            return _NAME if bound.startswith(_NAME_PATTERN) else words.format(bound)
        return _EXPECTED.get(self.type)


def _relevant(faults: list[_Fault], depth: int = 0) -> list[_Fault]:
    """The faults to tell: of the branches of a union only the best, or all where the value fits none."""
    told: list[_Fault] = []
    unions: dict[Path, dict[str, list[_Fault]]] = {}
    for fault in faults:
        if len(fault.branches) <= depth:
            told.append(fault)
        else:
            path, branch = fault.branches[depth]
            unions.setdefault(path, {}).setdefault(branch, []).append(fault)
    for path, branches in unions.items():
        each = [_relevant(branch, depth + 1) for branch in branches.values()]
        fitting = [branch for branch in each if not any(fault.path == path and fault.expected() for fault in branch)]
        if fitting:
            best = min(fitting, key=lambda branch: _distance(branch, path))
            told += best
        else:
            told += [fault for branch in each for fault in branch]
    return told


def _distance(branch: list[_Fault], path: Path) -> tuple[int, int, int]:
    """How far a mapping is from the model of a branch: unknown keys tell most, then missing ones."""
    foreign = sum(fault.type in ("extra_forbidden", "literal_error") and fault.path[:-1] == path for fault in branch)
    missing = sum(fault.type == "missing" and fault.path == path for fault in branch)
    return foreign, missing, len(branch)


def _tell_unknown(fault: _Fault, document: Document, model: type[BaseModel], report: Report) -> str:
    """Report an unknown key; returns the one that was probably meant."""
    *parents, name = fault.detail["loc"]
    keys = _keys(model, parents)
    meant = nearest(str(name), keys)
    listed = ", ".join(f"`{key}`" for key in keys)
    help = f"did you mean `{meant}`?" if meant else f"the keys here are {listed}" if keys else None
    report.error("SSIR006", f"unknown key `{name}`", document.span(fault.path, key=True), help=help)
    return meant or ""


def _tell_missing(fault: _Fault, document: Document, report: Report) -> None:
    path, name = fault.path, fault.lacking
    where = f" in `{path[-1]}`" if path and isinstance(path[-1], str) else ""
    span = document.span(path, key=True)
    report.error("SSIR007", f"the key `{name}` is missing{where}", span, help=f"add `{name}: ...`")


def _tell_misfit(path: Path, on_key: bool, faults: list[_Fault], document: Document, report: Report) -> None:
    wanted = list(dict.fromkeys(words for fault in faults if (words := fault.expected())))
    if "a number" in wanted and "a whole number" in wanted:
        wanted.remove("a whole number")
    expected = " or ".join([", ".join(wanted[:-1]), wanted[-1]] if len(wanted) > 1 else wanted)
    value = path[-1] if on_key else document.value(path)
    choices = [choice for fault in faults if fault.type in _CHOICES for choice in re.findall("'([^']*)'", expected)]
    meant = nearest(value, choices) if isinstance(value, str) else None
    help = f"did you mean `{meant}`?" if meant else _advice(value, wanted)
    report.error("SSIR005", f"expected {expected}, found {kind(value)}", document.span(path, key=on_key), help=help)


def _advice(value: Any, wanted: list[str]) -> str | None:
    if isinstance(value, list) and "text" in wanted and "a list" not in wanted:
        return "an expression is one text; a list stands only inside a call"
    if isinstance(value, str) and wanted == ["a list"] and value.isidentifier():
        return f"write [{value}]"
    if isinstance(value, float) and "a whole number" in wanted:
        return "a size is whole; numbers that are not are declared under `constants`"
    if value is None:
        return "write a value after the `:`, or remove the key"
    return "`ssir explain SSIR005` shows an example" if wanted else None


def _tell_other(fault: _Fault, document: Document, report: Report) -> None:
    code = fault.type if re.fullmatch(r"SSIR[0-9]{3}", fault.type) else "SSIR005"
    message = str(fault.detail.get("ctx", {}).get("error", fault.detail["msg"]))
    report.error(code, message[:1].lower() + message[1:], document.span(fault.path, key=fault.on_key))


def _keys(model: type[BaseModel], loc: Iterable[int | str]) -> list[str]:
    """The keys that a mapping may have, found by following a place through the types of the model."""
    here: list[Any] = [model]
    for part in loc:
        unpacked = list(_unpacked(here))
        # A part that names one of the types here picks a branch of a union.
        picked = [type for type in unpacked if getattr(type, "__name__", None) == part]
        here = picked or [inner for type in unpacked for inner in _inside(type, part)] or unpacked
    return sorted({key for type in _unpacked(here) if _is_model(type) for key in _fields(type)})


def _unpacked(kinds: Iterable[Any]) -> Iterator[Any]:
    """The types themselves, out of unions, annotations and root models."""
    for type in kinds:
        origin = get_origin(type)
        if origin is Annotated:
            yield from _unpacked(get_args(type)[:1])
        elif origin in (Union, UnionType):
            yield from _unpacked(get_args(type))
        elif _is_model(type) and issubclass(type, RootModel):
            yield from _unpacked([type.model_fields["root"].annotation])
        else:
            yield type


def _inside(type: Any, part: int | str) -> list[Any]:
    """The types of what stands at one part of a place inside a type."""
    if _is_model(type):
        return [field for key, field in _fields(type).items() if key == part]
    arguments = [argument for argument in get_args(type) if argument is not Ellipsis]
    return arguments[-1:] if get_origin(type) is dict else arguments if isinstance(part, int) else []


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _is_model(type: Any) -> TypeGuard[type[BaseModel]]:
    return isclass(type) and issubclass(type, BaseModel)
