"""A spec file as read: its text, its shape, its dims and constants, and the components of other specs that it imports."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath

from ssir.errors import Diagnostic, Report, Span, SpecError, UsageError, nearest
from ssir.spec import expr as syntax
from ssir.spec.schema import Component, File, Stack, State
from ssir.spec.static import StaticError, evaluate
from ssir.spec.validate import validate
from ssir.spec.yaml import Document, read, read_file

Path = tuple[str | int, ...]
Dims = dict[str, float | None]
LARGEST_SIZE = 2**31
_IMPORT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*(\.[A-Za-z_][A-Za-z0-9_]*)?")


def fail(code: str, message: str, span: Span | None, help: str | None = None) -> SpecError:
    return SpecError([Diagnostic(code, message, span, (), help)])


@dataclass(eq=False)
class Module:
    """One spec file. ``constants`` are those of the file, changed by what the user set."""

    document: Document
    file: File
    constants: dict[str, float] = field(default_factory=dict)
    imported: dict[str, Module] = field(default_factory=dict)
    sealed: bool = False  # whether all that may be imported is in ``imported`` already
    _trees: dict[Path, syntax.Expr] = field(default_factory=dict)

    def component(self, name: str) -> Component:
        if name not in self.file.components:
            near = nearest(name, self.file.components)
            span = self.document.span(("main",)) if name == self.file.main else None
            raise fail(
                "SSIR020",
                f"`{self.file.name}` has no component `{name}`",
                span,
                f"the nearest is `{near}`" if near else f"there are {', '.join(self.file.components)}",
            )
        return self.file.components[name]

    def callable_names(self) -> list[str]:
        return [*self.file.components, *self.file.imports]

    def callee(self, name: str) -> tuple[Module, str] | None:
        """The module and component that a called name stands for."""
        if name in self.file.components:
            return self, name
        if name not in self.file.imports:
            return None
        target, span = self.file.imports[name], self.document.span(("imports", name))
        spec, _, component = target.partition(".")
        if not _IMPORT.fullmatch(target):
            # A path could make an error message show any file of the machine.
            help = "write NAME.component: a spec of the zoo, or NAME.yaml beside this file"
            raise fail("SSIR020", f"`{target}` names no component of a spec", span, help)
        if spec not in self.imported and self.sealed:
            raise fail(
                "SSIR020", f"`{target}` is not here", span, "what was written with its imports reads nothing else"
            )
        if spec not in self.imported:
            try:
                from ssir.spec.load import module_of

                self.imported[spec] = module_of(spec, FilePath(self.document.source.name).parent)
            except UsageError as error:
                raise fail("SSIR020", str(error), span, "write NAME.component, with the name of a spec") from None
        module = self.imported[spec]
        component = component or module.file.main
        if component not in module.file.components:
            near = nearest(component, module.file.components)
            raise fail(
                "SSIR020",
                f"`{spec}` has no component `{component}`",
                span,
                f"the nearest is `{near}`" if near else None,
            )
        return module, component

    def expressions(self) -> Iterator[Path]:
        """Where the file holds expressions."""
        for name, component in self.file.components.items():
            for key, body in component.graph.items():
                path: Path = ("components", name, "graph", key)
                if isinstance(body, State):
                    yield from (
                        (*path, role)
                        for role in ("A", "B", "input", "C", "D", "initial")
                        if getattr(body, role) is not None
                    )
                    if body.discretize is not None:
                        yield (*path, "discretize", "dt")
                elif isinstance(body, Stack):
                    yield from ((*path, "stack", i) for i in range(len(body.stack)))
                    yield (*path, "input")
                    yield from ((*path, "times") for _ in range("times" in body.model_fields_set))
                    yield from ((*path, "with", key) for key in body.with_)
                    yield from ((*path, "carry", key) for key in body.carry)
                else:
                    yield path

    def expression(self, path: Path) -> syntax.Expr:
        """The tree of the expression at a path. Raises SpecError."""
        if path not in self._trees:
            text = self.document.text(path)
            try:
                self._trees[path] = syntax.parse(text)
            except syntax.ExprError as error:
                raise fail(
                    "SSIR010", error.message, self.document.locate(path, error.start, error.end), error.help
                ) from None
        return self._trees[path]

    def overrides_of(self, dims: Mapping[str, float | None]) -> dict[str, float]:
        """Which dims differ from what the file says by itself."""
        own = sized(self, {})
        written = {name for name, value in self.file.dims.items() if not isinstance(value, str) or value == "unbounded"}
        free = {name: v for name, v in dims.items() if v is not None and own.get(name) != v}
        derived = sized(self, {name: v for name, v in free.items() if name in written}, whole=False)
        return {name: v for name, v in free.items() if name in written or derived.get(name) != v}


def sized(module: Module, overrides: Mapping[str, float], span: Span | None = None, whole: bool = True) -> Dims:
    """The dims of a spec with some of them set: arithmetic over earlier names is done anew.

    Raises SpecError for a name that is no dim and for a size that is no whole number of at least 1; with ``whole`` false
    such a size stays, for where a component is borrowed: it may not use that dim.
    """
    for name in overrides:
        if name not in module.file.dims and name not in module.file.constants:
            near = nearest(name, [*module.file.dims, *module.file.constants])
            raise fail(
                "SSIR021",
                f"`{module.file.name}` has no dim or constant `{name}`",
                span,
                f"the nearest is `{near}`" if near else f"it has {', '.join(module.file.dims)}",
            )
    dims: Dims = {}
    report = Report()
    for name, given in module.file.dims.items():
        try:
            value = overrides[name] if name in overrides else _written(module, name, dims)
            dims[name] = value if value is None else _size(module, name, value, given, whole)
        except SpecError as error:
            report.diagnostics += error.diagnostics
        except _Unknown:
            report.failed = True
    report.raise_if_any()
    return dims


class _Unknown(Exception):
    """A dim is computed from one that is at fault already."""


def _written(module: Module, name: str, dims: Dims) -> float | None:
    """What the file says that a dim is, from those above it."""
    if module.file.dims[name] == "unbounded":
        return None
    tree = module.expression(("dims", name))
    above = list(module.file.dims)[: list(module.file.dims).index(name)]
    used = syntax.names(tree)
    if any(other in above and other not in dims for other in used):
        raise _Unknown
    try:
        return evaluate(tree, {**dims, **module.constants})
    except StaticError as error:
        later = [other for other in module.file.dims if other not in above and other in used]
        help = error.help
        if error.code == "SSIR011" and later:
            help = (
                "a dim cannot be computed from itself"
                if later == [name]
                else f"a dim uses only those above it: move `{name}` below `{later[-1]}`"
            )
        raise fail(
            error.code, error.message, module.document.locate(("dims", name), error.start, error.end), help
        ) from None


def _size(module: Module, name: str, value: float, given: int | str, whole: bool) -> float:
    place = module.document.span(("dims", name))
    if not float(value).is_integer():
        if not whole:
            return value
        division = "/" in str(given)
        raise fail(
            "SSIR015" if division else "SSIR018",
            f"`{name}` is {value:g}, and a size is a whole number",
            place,
            "choose dims that divide, or round it: ceil(...)" if division else "write a whole number",
        )
    if not 0 < value <= LARGEST_SIZE:
        raise fail(
            "SSIR018",
            f"`{name}` is {value:g}, and a size lies between 1 and {LARGEST_SIZE}",
            place,
            "give it, or the dims that it is computed from, another size",
        )
    return int(value)


def constants_of(module: Module, overrides: Mapping[str, float]) -> dict[str, float]:
    """The constants of a spec with some of them set: arithmetic over earlier ones is done anew. Raises SpecError."""
    report = Report()
    constants: dict[str, float] = {}
    for name, value in module.file.constants.items():
        path: Path = ("constants", name)
        if name in overrides:
            constants[name] = float(overrides[name])
        elif isinstance(value, str):
            try:
                constants[name] = float(evaluate(module.expression(path), {**constants}))
            except StaticError as error:
                place = module.document.locate(path, error.start, error.end)
                report.error(error.code, error.message, place, help=error.help or "a constant uses only those above it")
            except SpecError as error:
                report.diagnostics += error.diagnostics
        else:
            constants[name] = float(value)
    report.raise_if_any()
    return constants


def parse(text: str, name: str, overrides: Mapping[str, float] | None = None) -> Module:
    """A spec from its text. Raises SpecError."""
    return _module(read(text, name), overrides or {})


def open_file(path: FilePath, overrides: Mapping[str, float] | None = None) -> Module:
    """A spec from a file. Raises SpecError."""
    return _module(read_file(path), overrides or {})


def _module(document: Document, overrides: Mapping[str, float]) -> Module:
    report = Report()
    file = validate(document, File, report)
    report.raise_if_any()
    assert file is not None
    module = Module(document, file)
    for name in file.dims:
        if name in file.constants:
            report.error(
                "SSIR024",
                f"`{name}` is a dim and a constant",
                document.span(("constants", name), key=True),
                help="rename one of the two",
            )
    for name in file.imports:
        if name in file.components:
            report.error(
                "SSIR024",
                f"`{name}` is imported and a component",
                document.span(("imports", name), key=True),
                help="import it under another name",
            )
    with report.catching():
        module.constants.update(constants_of(module, overrides))
    report.raise_if_any()
    return module
