"""What a notebook shows of specs, models and plans. A picture that cannot be drawn is left out: a cell shows text at least."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Container, Mapping
from html import escape
from typing import TYPE_CHECKING

from ssir.errors import SSIRError

if TYPE_CHECKING:
    from ssir.compilers.plan import Plan
    from ssir.spec.load import Spec

Bundle = dict[str, str]


def of_spec(spec: Spec, include: Container[str] | None = None, exclude: Container[str] | None = None) -> Bundle:
    """Its picture and its equations. The picture is there as HTML too: JupyterLab shows equations rather than SVG, but HTML first."""
    svg = _Once(lambda: _drawn(spec))
    ways: dict[str, Callable[[], str]] = {
        "image/svg+xml": svg,
        "text/html": lambda: _image(svg(), spec.name),
        "text/latex": lambda: _equations(spec),
    }
    return _bundle(repr(spec), ways, include, exclude)


def of_plan(plan: Plan, include: Container[str] | None = None, exclude: Container[str] | None = None) -> Bundle:
    """Its table."""
    from ssir import plan_table

    return _bundle(plan_table.text(plan), {"text/html": lambda: plan_table.html(plan)}, include, exclude)


def _bundle(
    text: str, ways: Mapping[str, Callable[[], str]], include: Container[str] | None, exclude: Container[str] | None
) -> Bundle:
    found: Bundle = {}
    told: dict[str, None] = {}
    for kind, make in ways.items():
        if (include is None or kind in include) and (exclude is None or kind not in exclude):
            try:
                found[kind] = make()
            except SSIRError as error:
                told[str(error)] = None
            except Exception:  # whatever a renderer on this machine does, the object can be looked at
                continue
    return {**found, "text/plain": "\n".join([text, *told])}


class _Once:
    """A text that is made when it is first asked for."""

    def __init__(self, make: Callable[[], str]) -> None:
        self.make = make
        self.made: str | None = None

    def __call__(self) -> str:
        if self.made is None:
            self.made = self.make()
        return self.made


def _drawn(spec: Spec) -> str:
    from ssir.draw import draw
    from ssir.draw.render import render

    svg = render(draw(spec), "svg").decode()
    return svg[svg.index("<svg") :]


def _image(svg: str, name: str) -> str:
    data = b64encode(svg.encode()).decode()
    return f'<img alt="{escape(name)}" style="background: white" src="data:image/svg+xml;base64,{data}">'


def _equations(spec: Spec) -> str:
    from ssir.latex import displays

    return displays(spec)
