"""A call of a function, as whoever says it in mathematics sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssir.draw.maths import Maths, Sign
from ssir.latex.scope import Where, axes_in
from ssir.spec import expr as syntax

if TYPE_CHECKING:
    from ssir.latex.expressions import Expression


@dataclass(frozen=True)
class Called:
    """A call in an expression, its arguments by name, and where it is read."""

    expression: Expression
    call: syntax.Call
    given: Mapping[str, syntax.Expr]
    where: Where

    def of(self, argument: str, where: Where | None = None) -> Maths:
        return self.expression.of(self.given[argument], where or self.where)

    def axes(self, argument: str) -> tuple[str, ...]:
        """The axes that an argument names."""
        return axes_in(self.given.get(argument))

    def axis(self, argument: str) -> str:
        return self.axes(argument)[0]

    @property
    def letters(self) -> Mapping[str, Sign]:
        return self.expression.scope.letters

    def places(self, argument: str) -> tuple[Maths, ...]:
        """The indices, here, of the axes that an argument names."""
        return tuple(self.where.index[axis] for axis in self.axes(argument) if axis in self.where.index)
