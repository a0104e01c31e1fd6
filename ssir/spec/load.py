"""Finding a spec: a name of the zoo, NAME.component, a path, or PATH:component."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from os import PathLike, fspath
from pathlib import Path

from ssir.errors import UsageError, nearest
from ssir.ir.graph import Graph
from ssir.registry import registry
from ssir.spec import module as modules
from ssir.spec.elaborate import elaborate
from ssir.spec.module import Module


@dataclass(frozen=True, eq=False)
class Spec:
    """A component of a spec with its dims set; what everything else starts from."""

    module: Module
    component: str
    overrides: Mapping[str, float] = field(default_factory=dict)

    def __deepcopy__(self, memo: object) -> Spec:
        return self  # nothing in it changes

    def __repr__(self) -> str:
        changed = "".join(f", {dim}={value:g}" for dim, value in self.overrides.items())
        title = self.module.file.title
        return f"<spec {self.name}{changed}{f': {title}' if title else ''}>"

    def _repr_mimebundle_(
        self, include: Container[str] | None = None, exclude: Container[str] | None = None
    ) -> dict[str, str]:
        """In a notebook: its picture and its equations."""
        from ssir.notebook import of_spec

        return of_spec(self, include, exclude)

    @property
    def name(self) -> str:
        whole = self.component == self.module.file.main
        return self.module.file.name if whole else f"{self.module.file.name}.{self.component}"

    @cached_property
    def dims(self) -> Mapping[str, float | None]:
        return modules.sized(self.module, self.overrides)

    @cached_property
    def graph(self) -> Graph:
        """The IR, as it is written (no pass has run). Raises SpecError."""
        return elaborate(self.module, self.component, self.overrides)


def zoo() -> Iterator[tuple[str, Path]]:
    """The specs that are installed: name and file, the project's first, then those of plugins."""
    directories = [Path(str(files("ssir.zoo")))]
    directories += [Path(directory) for _, directory in registry.all("zoo")]
    for directory in directories:
        for path in sorted(directory.rglob("*.yaml")):
            yield path.stem, path


def _find(name: str) -> Path:
    known = dict(zoo())
    if name not in known:
        near = nearest(name, known)
        raise UsageError(
            f"no spec is called `{name}`" + (f"; the nearest is `{near}`" if near else "; `ssir list` shows them")
        )
    return known[name]


def _is_path(name: str) -> bool:
    return "/" in name or name.endswith((".yaml", ".yml"))


def module_of(name: str, beside: Path | None = None, overrides: Mapping[str, float] | None = None) -> Module:
    """The spec file of that name, or at that path, or beside another. Raises UsageError and SpecError."""
    if _is_path(name):
        return modules.open_file(Path(name), overrides)
    if beside is not None:
        for suffix in (".yaml", ".yml"):
            if (beside / f"{name}{suffix}").is_file():
                return modules.open_file(beside / f"{name}{suffix}", overrides)
    return modules.open_file(_find(name), overrides)


def given(spec: Spec | str | PathLike[str]) -> Spec:
    """A spec, or the one that is called so."""
    return spec if isinstance(spec, Spec) else load(spec)


def load(name: str | PathLike[str], /, size: str | None = None, **dims: float) -> Spec:
    """A spec by name, by component (``NAME.mixer``), by path (``my.yaml``), or both (``my.yaml:mixer``).

    ``size`` is one of the spec's named sizes; keywords set dims and constants. Raises UsageError for a name that does not
    exist, SpecError for a spec that is wrong.
    """
    name = fspath(name)
    target, component = name, ""
    path, colon, rest = name.rpartition(":")
    if colon and _is_path(path) and not _is_path(rest):
        target, component = path, rest
    elif not _is_path(name) and "." in name:
        target, _, component = name.partition(".")
    if _is_path(target) and not Path(target).exists():
        raise UsageError(f"there is no file `{target}`")
    module = module_of(target)
    chosen: dict[str, float] = {}
    if size is not None:
        if size not in module.file.sizes:
            near = nearest(size, module.file.sizes)
            raise UsageError(
                f"`{target}` has no size `{size}`"
                + (f"; the nearest is `{near}`" if near else f"; it has {', '.join(module.file.sizes) or 'none'}")
            )
        chosen = {key: float(value) for key, value in module.file.sizes[size].items()}
    chosen |= dims
    unknown = [key for key in chosen if key not in module.file.dims and key not in module.file.constants]
    if unknown:
        near = nearest(unknown[0], [*module.file.dims, *module.file.constants])
        raise UsageError(
            f"`{target}` has no dim or constant `{unknown[0]}`"
            + (f"; the nearest is `{near}`" if near else f"; it has {', '.join(module.file.dims)}")
        )
    module.constants.update(modules.constants_of(module, chosen))
    if not component:
        module.component(module.file.main)
    component = component or module.file.main
    if component not in module.file.components:
        near = nearest(component, module.file.components)
        raise UsageError(
            f"`{target}` has no component `{component}`"
            + (f"; the nearest is `{near}`" if near else f"; it has {', '.join(module.file.components)}")
        )
    spec = Spec(module, component, {key: value for key, value in chosen.items() if key in module.file.dims})
    if spec.overrides:
        _ = spec.dims  # what the caller chose and cannot be is told now
    return spec


def loads(text: str, name: str = "<spec>", **dims: float) -> Spec:
    """A spec from its text. Raises SpecError."""
    module = modules.parse(text, name, dims)
    return Spec(module, module.file.main, dims)
