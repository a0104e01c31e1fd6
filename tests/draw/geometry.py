"""Where things came to lie in a rendered picture: enough geometry to find a wire that runs through a box, or text over text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from xml.etree import ElementTree

SVG = "{http://www.w3.org/2000/svg}"
Rect = tuple[float, float, float, float]
_SLACK = 1.5


def _numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", text)]


def _bounds(group: ElementTree.Element) -> Rect:
    xs: list[float] = []
    ys: list[float] = []
    for shape in group.iter():
        if shape.tag == f"{SVG}ellipse":
            cx, cy, rx, ry = (float(shape.attrib[key]) for key in ("cx", "cy", "rx", "ry"))
            xs += [cx - rx, cx + rx]
            ys += [cy - ry, cy + ry]
        elif shape.tag in (f"{SVG}polygon", f"{SVG}path", f"{SVG}polyline"):
            numbers = _numbers(shape.attrib.get("points", "") or shape.attrib.get("d", ""))
            xs += numbers[0::2]
            ys += numbers[1::2]
    return (min(xs), min(ys), max(xs), max(ys)) if xs else (0, 0, 0, 0)


def _groups(svg: ElementTree.Element, kind: str) -> Iterator[tuple[str, ElementTree.Element]]:
    for group in svg.iter(f"{SVG}g"):
        if group.attrib.get("class") == kind:
            yield group.findtext(f"{SVG}title") or "", group


def _points(path: str) -> Iterator[tuple[float, float]]:
    """Points along the Bézier curves of a wire."""
    numbers = _numbers(path)
    knots = list(zip(numbers[0::2], numbers[1::2], strict=True))
    for at in range(0, len(knots) - 3, 3):
        a, b, c, d = knots[at : at + 4]
        for step in range(21):
            t = step / 20
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
            yield tuple(sum(w * p[i] for w, p in zip(weights, (a, b, c, d), strict=True)) for i in (0, 1))  # type: ignore[misc]


def pierced(svg: ElementTree.Element) -> list[str]:
    """The wires that run through a box that is not theirs."""
    boxes = {title: _bounds(group) for title, group in _groups(svg, "node")}
    found: set[str] = set()
    for title, group in _groups(svg, "edge"):
        ends = [end.split(":")[0] for end in title.split("->")]
        for path in group.iter(f"{SVG}path"):
            for x, y in _points(path.attrib["d"]):
                for name, (left, top, right, bottom) in boxes.items():
                    inside = left + _SLACK < x < right - _SLACK and top + _SLACK < y < bottom - _SLACK
                    if name not in ends and inside:
                        found.add(f"{title} through {name}")
    return sorted(found)


def _texts(svg: ElementTree.Element) -> Iterator[tuple[str, Rect]]:
    for text in svg.iter(f"{SVG}text"):
        shown, size = "".join(text.itertext()).strip("\xa0 "), float(text.attrib.get("font-size", 12))
        if shown:
            x, y, wide = float(text.attrib["x"]), float(text.attrib["y"]), 0.45 * size * len(shown)
            left = {"middle": x - wide / 2, "end": x - wide}.get(text.attrib.get("text-anchor", "start"), x)
            yield shown, (left, y - 0.6 * size, left + wide, y)


def overlapping(svg: ElementTree.Element) -> list[str]:
    """Texts that lie on one another; what stands on one line is one text in several fonts."""
    return [
        f"{one} over {other}"
        for (one, a), (other, b) in combinations(_texts(svg), 2)
        if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] and a[3] != b[3]
    ]
