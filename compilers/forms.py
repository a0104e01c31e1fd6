"""Forms: from the inferred structure of a memory to an algorithm.

A form is registered by a plugin as the kind ``form``. It looks at facts, never at names; of those that match, the cheapest runs.
What it gives is a part of a program: arithmetic, and kernels, which are functions of a runtime module that needs torch alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ssir.analysis.facts import Facts
from ssir.ir.graph import Graph

if TYPE_CHECKING:
    from ssir.compilers.program.function import Function
    from ssir.ir.builder import Value


@dataclass(frozen=True)
class Machine:
    """Floating-point operations and bytes a second, and seconds to start an operation, as machines of today have them; ``wait``: between two
    steps of a compiled loop, in operations started; ``scanned``: of a compiled scan, if nothing else keeps it busy; ``programs``: so many run at
    once, and share the steps of a scan."""

    flops: float
    bytes: float
    start: float
    wait: float
    scanned: float
    programs: int


MACHINES = {"cpu": Machine(2e11, 3e10, 4e-6, 0.15, 0.0, 1), "cuda": Machine(2e14, 4e12, 4e-6, 0.5, 0.3, 528)}
_ENTRIES = 2048  # of a memory that one program has
_LEAST = 64  # steps of one program


@dataclass(frozen=True)
class Setting:
    """What a plan is made for: so many sequences, of so many steps, of numbers of a type, on a device."""

    batch: int = 1
    steps: int = 1024
    dtype: str = "float32"
    device: str = "cpu"

    @property
    def machine(self) -> Machine:
        return MACHINES.get(self.device, MACHINES["cpu"])

    def scan(self, entries: int) -> float:
        """The time that a compiled scan of so many entries waits between its steps, in operations started."""
        machine, needed = self.machine, self.batch * -(-entries // _ENTRIES)
        pieces = max(1, min(machine.programs // needed, self.steps // _LEAST))
        return machine.scanned * self.steps / pieces * (2 if pieces > 1 else 1)


USUAL = Setting()


@dataclass(frozen=True)
class Cost:
    """Per token and sequence, forward: floating-point operations, and bytes moved, of float32; and how many operations follow one another in
    a whole sequence (each costs a dispatch)."""

    flops: float
    bytes: float
    serial: float

    def seconds(self, at: Setting) -> float:
        """A rough time for all sequences, to rank forms by."""
        machine, size = at.machine, {"float64": 2.0, "float32": 1.0}.get(at.dtype, 0.5)
        inside = max(self.flops / machine.flops, size * self.bytes / machine.bytes)
        return at.batch * at.steps * inside + self.serial * machine.start


@dataclass(frozen=True)
class Match:
    """A form that fits. ``why`` says so in words; ``covers``: further states that it computes; ``gives``: values beyond the cycle of
    its states that it computes along with them; ``details``: what it found."""

    form: Form
    why: str
    covers: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


class Form(Protocol):
    """An algorithm for a memory."""

    name: str

    def match(self, graph: Graph, facts: Facts) -> Match | None:
        """Whether this form computes that state of the graph."""

    def cost(self, graph: Graph, facts: Facts, match: Match, at: Setting) -> Cost:
        """What it costs in a setting."""

    def sequence(self, f: Function, facts: Facts, match: Match) -> Value | Mapping[str, Value]:
        """The readout over a sequence, [*axes] of every step; if it takes a whole cycle, all values of it that are seen outside, by node.

        A form that has a step of its own has a method ``step`` with the same arguments; others step as the equations say.
        """
