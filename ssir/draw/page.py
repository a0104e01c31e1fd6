"""A page to explore specs with: every picture of each, the facts of its nodes, and a script, in one file that needs nothing else."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any
from xml.etree import ElementTree

from ssir.draw import render
from ssir.draw.ledger import ledger
from ssir.draw.tree import Shape, Tree, View
from ssir.draw.words import leaf
from ssir.spec.load import Spec

_SVG = "http://www.w3.org/2000/svg"
_SCRIPTS = ("page.spec.js", "page.pane.js", "page.js")  # one program, in this order
_PORT = re.compile(r"(:[^:]*)+$")


def page(specs: Sequence[Spec], title: str, level: str | None = None, state: str | None = None) -> str:
    """The page as HTML; it opens at the first picture of each spec at ``level``, at that of a ``state``, or at the outermost.

    Where nothing can render, the pictures are DOT, and the page says what to install.
    """
    drawable = render.can_render()
    views: list[str] = []
    data: list[dict[str, Any]] = []
    for i, spec in enumerate(specs):
        tree = Tree(spec)
        views += [
            f'<template id="view-{i}-{n}">{_inside(view, drawable)}</template>' for n, view in enumerate(tree.views)
        ]
        start = next((view for view in tree.views if _begins(view, level, state)), tree.views[0])
        data.append({**ledger(spec, tree.graph), "views": [_record(view) for view in tree.views], "start": start.key})
    parts = {
        "title": html.escape(title),
        "style": _file("page.css"),
        "script": "\n".join(map(_file, _SCRIPTS)),
        "views": "\n".join(views),
        "data": json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
    }
    return re.sub(r"\{(title|style|script|views|data)\}", lambda found: parts[found[1]], _file("page.html"))


def _begins(view: View, level: str | None, state: str | None) -> bool:
    if state is not None:
        return view.level == "state" and state in (view.node, leaf(view.node))
    return level == view.level


def _file(name: str) -> str:
    return (files("ssir.draw") / name).read_text("utf-8")


def _record(view: View) -> dict[str, Any]:
    return {
        "key": view.key,
        "title": view.title,
        "level": view.level,
        "parent": view.parent,
        "shapes": {key: _shape(shape) for key, shape in view.shapes.items()},
    }


def _shape(shape: Shape) -> dict[str, Any]:
    return {"node": shape.node, "stands": sorted(shape.stands), "opens": shape.opens}


def _inside(view: View, drawable: bool) -> str:
    if not drawable:
        told = f"Nothing on the machine that wrote this page can draw it: {render.ADVICE}."
        return f"<p>{html.escape(told)}</p><pre>{html.escape(view.source)}</pre>"
    return _marked(render.render(view.source, "svg"), view.level == "state")


def _marked(svg: bytes, by_role: bool) -> str:
    """An SVG whose boxes and wires say what they are: data-key, or data-tail and data-head; boxes ``by_role`` in a state say that.
    Graphviz's own marks go."""
    ElementTree.register_namespace("", _SVG)
    root = ElementTree.fromstring(svg)
    for paper in root.iter(f"{{{_SVG}}}polygon"):
        if paper.get("fill") == "white":
            paper.set("fill", "none")  # the page has a colour of its own
    for group in root.iter(f"{{{_SVG}}}g"):
        group.attrib.pop("id", None)
        kind, _, role = group.attrib.get("class", "").partition(" role-")
        title = group.find(f"{{{_SVG}}}title")
        if title is None:
            continue
        said = title.text or ""
        group.remove(title)
        if by_role:
            if role:
                group.set("data-key", role)
        elif kind == "edge":
            tail, _, head = said.partition("->")
            group.set("data-tail", _key(tail))
            group.set("data-head", _key(head))
        elif kind == "node":
            group.set("data-key", _key(said))
    return ElementTree.tostring(root, encoding="unicode")


def _key(name: str) -> str:
    """0.s:h:e is the box s of the first row."""
    return _PORT.sub("", name.partition(".")[2])
