"""What plugins add, by kind and name: functions of the language, operations, forms, backends, zoo directories, ...

A plugin is an entry point in the group ``ssir.plugins`` that names a callable taking a Registry. It is called when something
is asked for that the core does not have; one that fails is noted, and breaks nothing else.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssir.errors import SSIRError, nearest

if TYPE_CHECKING:
    from ssir.ir.ops.elementwise import Elementwise

GROUP = "ssir.plugins"
KINDS = tuple("function op form fusion backend zoo renderer analysis importer initializer peer".split())


class Clash(SSIRError):
    """Two plugins registered the same name."""

    exit_code = 3


@dataclass
class Plugin:
    """An installed plugin: where it is from, and what became of it."""

    name: str
    value: str
    distribution: str
    version: str
    error: str | None = None
    provides: list[tuple[str, str]] = field(default_factory=list)


class Registry:
    """Names to objects, by kind. ``owner`` is set while a plugin registers."""

    def __init__(self) -> None:
        self._entries: dict[str, dict[str, tuple[Any, str]]] = {kind: {} for kind in KINDS}
        self._owner: Plugin | None = None
        self._plugins: list[Plugin] | None = None
        self._owning: set[str] = set()

    def add(self, kind: str, name: str, value: Any) -> None:
        """Register ``value`` as the ``kind`` called ``name``. Raises Clash if another has it."""
        if kind not in self._entries:
            raise SSIRError(f"there is no kind `{kind}` to register; the kinds are {', '.join(KINDS)}")
        owner = self._owner.name if self._owner else "core"
        taken = self._entries[kind].get(name)
        if taken is not None:
            raise Clash(f"{kind} `{name}` is registered by `{taken[1]}` and again by `{owner}`")
        self._entries[kind][name] = (value, owner)
        if self._owner:
            self._owner.provides.append((kind, name))

    def function(self, call: Callable[..., Any], owns: bool = False) -> None:
        """Add a function of the language under its own name (a trailing underscore is dropped). ``owns`` says that it makes
        parameters or memories, whatever its arguments: then a call of it has a path, and takes ``name=``."""
        name = call.__name__.rstrip("_")
        if self._owner:
            try:
                inspect.signature(call, eval_str=True)
            except NameError as error:
                words = f"the annotations of `{name}` say what its arguments are, and cannot be read: {error}"
                raise SSIRError(f"{words}; import what they use, outside TYPE_CHECKING too") from None
        self.add("function", name, call)
        if owns:
            self._owning.add(name)

    def elementwise(self, one: Elementwise) -> None:
        """Add an operation on entries, and the function of the language that calls it."""
        from ssir.functions.elementwise import calling

        self.function(calling(one.op))
        self.add("op", one.op.name, one)

    def owns(self, name: str) -> bool:
        """Whether a function makes parameters or memories."""
        return self.get("function", name) is not None and name in self._owning

    def get(self, kind: str, name: str) -> Any | None:
        """The object, or None; loads the plugins if the core has none of that name."""
        if name not in self._entries[kind]:
            self.load()
        found = self._entries[kind].get(name)
        return found[0] if found else None

    def require(self, kind: str, name: str) -> Any:
        """The object; raises SSIRError with the nearest name if there is none."""
        found = self.get(kind, name)
        if found is None:
            near = nearest(name, self._entries[kind])
            hint = (
                f"; the nearest is `{near}`"
                if near
                else f"; there are {', '.join(sorted(self._entries[kind])) or 'none'}"
            )
            raise SSIRError(f"no {kind} `{name}`{hint}")
        return found

    def all(self, kind: str) -> Iterator[tuple[str, Any]]:
        """Every object of a kind, with its name, in the order of registration."""
        self.load()
        for name, (value, _) in self._entries[kind].items():
            yield name, value

    def names(self, kind: str) -> list[str]:
        self.load()
        return list(self._entries[kind])

    def owner(self, kind: str, name: str) -> str:
        return self._entries[kind][name][1]

    @property
    def plugins(self) -> list[Plugin]:
        self.load()
        return list(self._plugins or ())

    @property
    def faults(self) -> list[str]:
        """What to tell whoever looks for a name in vain: it may be that of a plugin that failed."""
        return [
            f"the plugin `{plugin.name}` failed; `ssir plugins` says why" for plugin in self.plugins if plugin.error
        ]

    def culprit(self, error: BaseException) -> Plugin | None:
        """The plugin, of another distribution than this, in whose code an error was raised, or which called what raised it."""
        found, trace = None, error.__traceback__
        while trace is not None:
            package = str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
            for plugin in self._plugins or ():
                if package == plugin.value.partition(":")[0].partition(".")[0] != __name__.partition(".")[0]:
                    found = plugin
            trace = trace.tb_next
        return found

    def load(self) -> None:
        """Call every plugin once."""
        if self._plugins is not None:
            return
        self._plugins = []
        for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
            self._load_one(point)

    def _load_one(self, point: EntryPoint) -> None:
        assert self._plugins is not None
        dist = point.dist
        plugin = Plugin(point.name, point.value, dist.name if dist else "?", dist.version if dist else "?")
        self._plugins.append(plugin)
        before = {kind: dict(entries) for kind, entries in self._entries.items()}
        self._owner = plugin
        try:
            point.load()(self)
        except Exception as error:  # a plugin can fail in any way, and must not take the rest with it
            self._entries = before
            plugin.provides.clear()
            plugin.error = f"{type(error).__name__}: {error}"
        finally:
            self._owner = None

    def where(self, kind: str, name: str) -> str:
        """The file and line that define an object."""
        value = self._entries[kind][name][0]
        target = value if callable(value) and hasattr(value, "__code__") else type(value)
        module = sys.modules.get(getattr(target, "__module__", ""), None)
        path = Path(getattr(module, "__file__", None) or "?")
        code = getattr(target, "__code__", None)
        return f"{path.name}:{code.co_firstlineno}" if code else path.name


def _core() -> Registry:
    from ssir import functions

    registry = Registry()
    functions.register(registry)
    registry.add("backend", "torch", _later("ssir.api", "to_torch"))
    registry.add("backend", "cuda-graph", _later("ssir.api", "to_cuda_graph"))
    registry.add("backend", "c", _later("ssir.compilers.c.export", "to_c"))
    return registry


def _later(module: str, name: str) -> Callable[..., Any]:
    """A function of a module that is imported when it is called."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(import_module(module), name)(*args, **kwargs)

    return call


registry = _core()
