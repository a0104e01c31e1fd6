"""Forms: from the inferred structure of a memory to an algorithm.

A form is registered by a plugin as the kind ``form``. It looks at facts, never at names; of those that match, the cheapest runs.
It writes source: what it writes calls functions of its runtime module, which needs torch alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ssir.ir.graph import Graph
from ssir.passes.facts import Facts

if TYPE_CHECKING:
    from ssir.compilers.torch.emit import Emitter


@dataclass(frozen=True)
class Cost:
    """Per token and sequence, forward: floating-point operations, bytes moved, and how many operations follow one another in a
    sequence of ``steps`` (each costs a dispatch)."""

    flops: float
    bytes: float
    serial: float

    def seconds(self, steps: int, device: str) -> float:
        """A rough time for a sequence, to rank forms by."""
        rate, bandwidth, dispatch = _DEVICES.get(device, _DEVICES["cpu"])
        return steps * max(self.flops / rate, self.bytes / bandwidth) + self.serial * dispatch


_DEVICES = {"cpu": (2e11, 3e10, 4e-6), "cuda": (2e14, 4e12, 4e-6)}


@dataclass(frozen=True)
class Match:
    """A form that fits. ``why`` says so in words; ``covers``: further states that it computes; ``details``: what it found."""

    form: Form
    why: str
    covers: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


class Form(Protocol):
    """An algorithm for a memory, over a sequence and in a step."""

    name: str

    def match(self, graph: Graph, facts: Facts) -> Match | None:
        """Whether this form computes that state of the graph."""

    def cost(self, graph: Graph, facts: Facts, match: Match) -> Cost:
        """What it costs."""

    def sequence(self, e: Emitter, facts: Facts, match: Match) -> str:
        """Write the computation over a sequence; the expression of y [batch, steps, *axes]."""

    def step(self, e: Emitter, facts: Facts, match: Match) -> str:
        """Write one step; the expression of y [batch, *axes]."""
