"""The panels of a figure. Colours are those of Okabe and Ito, which the colour-blind can tell apart; markers and dashes differ too."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ssir.analyze.channel import Channel
from ssir.analyze.costs import LENGTHS, Costs
from ssir.analyze.poles import Poles, five, layers, spread
from ssir.analyze.responses import FREQUENCIES, Response, decibels
from ssir.cli import say

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8C8C8C")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
DASHES = ("-", "--", "-.", ":")
_POINTS = 400  # of a state in the complex plane
_TICKS = 16
_BELOW = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.17), "fontsize": 8}
_LONGEST = 44  # letters of a name in a title
_MOST = 8  # lines of bytes
_RANGE = 140  # decibels: what is fainter is a zero


def poles(row: Any, found: Sequence[Poles]) -> None:
    """The complex plane with the unit circle; beside it half-lives by layer."""
    plane, life = row.subplots(1, 2, width_ratios=(1, 1.9))
    kinds = list(layers(found))
    fed = [kind for kind, group in kinds if not _forgets(group)]
    style = {kind: (COLOURS[i % 8], MARKERS[i % 8]) for i, kind in enumerate(fed)}
    _plane(plane, kinds, style)
    slanted = _lives(life, found, style)
    handles, labels = _unique(plane, life)
    life.legend(handles, labels, ncols=2, **(_BELOW | ({"bbox_to_anchor": (0.5, -0.32)} if slanted else {})))


def _unique(*axes: Any) -> tuple[list[Any], list[str]]:
    known: dict[str, Any] = {}
    for one in axes:
        for handle, label in zip(*one.get_legend_handles_labels(), strict=True):
            known.setdefault(label, handle)
    return list(known.values()), list(known)


def _forgets(group: Sequence[Poles]) -> bool:
    """Whether it is a register or a delay: all poles are 0."""
    return all(one.grows or one.window is not None for one in group)


def _plane(axes: Any, kinds: Sequence[tuple[str, list[Poles]]], style: dict[str, tuple[str, str]]) -> None:
    turn = np.linspace(0, 2 * np.pi, 361)
    axes.plot(np.cos(turn), np.sin(turn), color="#555555", linewidth=0.9)
    if any(kind not in style for kind, _ in kinds):
        axes.plot(0, 0, "*", color="#555555", markersize=9, label="registers and delays: poles at 0; their length")
    for kind, (colour, marker) in style.items():
        group = dict(kinds)[kind]
        values = spread(np.concatenate([one.values for one in group]), _POINTS)
        if values.size:
            look = {"markersize": 4, "alpha": 0.55, "markeredgewidth": 0, "linestyle": "none"}
            axes.plot(values.real, values.imag, marker, color=colour, label=kind, **look)
    cycles = {id(one.jacobian): one.jacobian for _, group in kinds for one in group if one.jacobian is not None}
    moving = [one.values.reshape(-1) for one in cycles.values() if one.values.size]
    if moving:
        around = spread(np.concatenate(moving), _POINTS)
        look = {"markersize": 4, "linestyle": "none", "markeredgewidth": 0.7}
        axes.plot(around.real, around.imag, "x", color="#333333", label="one-step Jacobian of the cycle", **look)
    axes.set_aspect("equal")
    axes.set_xticks([-1, -0.5, 0, 0.5, 1])
    axes.set_yticks([-1, -0.5, 0, 0.5, 1])
    axes.set_title("Poles and the unit circle")
    axes.set_xlabel("real part")
    axes.set_ylabel("imaginary part")


def _lives(axes: Any, found: Sequence[Poles], style: dict[str, tuple[str, str]]) -> bool:
    """For each state of a layer least to greatest, thick from quartile to quartile, a mark at the median. Whether its labels are slanted."""
    prefixes = list(dict.fromkeys(one.place.frame.prefix for one in found))
    lives = np.concatenate([one.half_life for one in found])
    finite = lives[np.isfinite(lives) & (lives > 0)]
    windows = [one.window for one in found if one.window]
    told = [*finite, *windows] or [1, 10]
    low, high = min(told) / 1.5, 4 * max(told)
    never = False
    order = {kind: i for i, kind in enumerate(style)}
    for one in found:
        kind = one.place.kind
        layer = prefixes.index(one.place.frame.prefix)
        if kind not in style:
            length = high if one.window is None else one.window
            never = never or length == high
            axes.plot(layer - 0.09 * (len(style) + 1), length, "*", color="#555555", markersize=6)
        if kind not in style or not one.values.size:
            continue
        x = layer + 0.18 * (order[kind] - (len(style) - 1) / 2)
        colour, marker = style[kind]
        at = [high if value is None else max(value, low) for value in five(one.half_life).values()]
        never = never or high in at
        axes.plot([x, x], [at[0], at[4]], color=colour, linewidth=0.9, alpha=0.7)
        axes.plot([x, x], [at[1], at[3]], color=colour, linewidth=3.2, alpha=0.7, solid_capstyle="butt")
        axes.plot(x, at[2], marker, color=colour, markersize=4.5)
    axes.set_yscale("log")
    axes.set_ylim(low / 1.3, high * 1.6 if never else high / 2)
    if never:
        axes.axhline(high, color="#555555", linewidth=0.8, linestyle=":")
        axes.annotate("never", (1, high), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8)
    axes.set_xlim(-0.6, len(prefixes) - 0.4)
    shown = spread(np.arange(len(prefixes)), _TICKS)
    long = max(map(len, prefixes)) * len(shown) > 90
    names = [prefixes[i].rstrip(".") or "graph" for i in shown]
    axes.set_xticks(shown, names, rotation=30 if long else 0, ha="right" if long else "center", fontsize=8)
    axes.set_title("Half-lives by layer: least to greatest, thick between the quartiles, marked at the median")
    axes.set_ylabel("steps until half is left")
    axes.set_xlabel("layer")
    return long


def responses(row: Any, response: Response) -> None:
    """Impulse responses, each by its greatest value; gain and phase over the frequency."""
    left, right = row.subfigures(1, 2, wspace=0.02)
    impulse = left.subplots()
    gain, phase = right.subplots(2, 1, sharex=True, height_ratios=(1.6, 1))
    taps = all(one.a is None for one in response.channels.values())
    lags = [one.lags for one in response.channels.values()]
    stretched = max(lags) >= 8 * min(lags)
    loudest = 0.0
    for i, (name, channel) in enumerate(response.channels.items()):
        look = {"color": COLOURS[i], "linestyle": DASHES[i], "linewidth": 1.3}
        _impulse(impulse, channel, lags[i], _name(name, channel), look, taps, stretched)
        found = channel.frequency(FREQUENCIES)
        heard = decibels(found)
        loudest = max([loudest if i else -np.inf, *heard[np.isfinite(heard)]])
        gain.plot(FREQUENCIES, heard, **look)
        phase.plot(FREQUENCIES, np.angle(found) / np.pi, **look)
    one = next(iter(response.channels.values()))
    what = "|K|" if _complex(one) else "K"
    impulse.set_title(f"Impulse responses of {_short(response.kind)}")
    impulse.set_ylabel(f"{what}, by its greatest")
    impulse.set_xlabel("lag in steps, plus 1" if stretched else "lag in steps")
    if stretched:
        impulse.set_xscale("log")
    else:
        impulse.xaxis.get_major_locator().set_params(integer=True)
    impulse.legend(ncols=1, **_BELOW)
    gain.set_title("Frequency responses")
    gain.set_ylabel("gain in dB")
    gain.set_xscale("log")
    gain.set_ylim(bottom=max(gain.get_ylim()[0], loudest - _RANGE))
    phase.set_ylabel("phase / π")
    phase.set_ylim(-1.08, 1.08)
    phase.set_yticks([-1, 0, 1])
    phase.set_xlabel("cycles a step")


def _complex(channel: Channel) -> bool:
    return bool(channel.impulse(16).imag.any())


def _name(name: str, channel: Channel) -> str:
    where = ", ".join(f"{axis} {i}" for axis, i in channel.at.items())
    if name == "every":
        return "every channel"
    layer = channel.place.frame.prefix.rstrip(".")
    memory = f"{name} memory" if name in ("shortest", "median", "longest") else f"the {name}"
    return f"{memory}: {f'{layer}, ' if layer else ''}{where}"


def _impulse(
    axes: Any, channel: Channel, lags: int, label: str, look: dict[str, Any], taps: bool, stretched: bool
) -> None:
    values = channel.impulse(lags)
    shown = np.abs(values) if values.imag.any() else values.real
    shown = shown / max(np.abs(shown).max(), 1e-300)
    mark = {"marker": "o", "markersize": 3} if taps and lags <= 64 else {}
    axes.plot(np.arange(lags) + (1 if stretched else 0), shown, label=label, **look, **mark)


def costs(row: Any, panels: Sequence[Sequence[Costs]], whole: Sequence[Costs]) -> None:
    """Up to two panels: the time of states that cost the same; or, for an empty one, the bytes of the whole."""
    both = row.subplots(1, 2, squeeze=False)[0]
    for axes in both[len(panels) :]:
        axes.set_axis_off()
    for axes, group in zip(both, panels, strict=False):
        if group:
            _times(axes, group)
        else:
            _bytes(axes, whole)
        axes.set_xscale("log", base=2)
        axes.set_xticks(LENGTHS[::2], [str(n) for n in LENGTHS[::2]])
        axes.set_xlabel("length T in steps")


def _times(axes: Any, group: Sequence[Costs]) -> None:
    """Expected time over the length, a line a form; the cheapest lies on a broad one, and where it changes is marked."""
    one = group[0]
    edges = [(LENGTHS[0], one.cheapest[0]), *one.crossovers, (LENGTHS[-1], "")]
    for i, form in enumerate(one.forms):
        seconds = np.array(one.seconds(form))
        look = {"color": COLOURS[i % 8], "linestyle": DASHES[i % 4]}
        axes.plot(LENGTHS, seconds, label=form, linewidth=1.2, **look)
        for (start, best), (end, _) in pairwise(edges):
            if best == form:
                along = np.geomspace(start, end, 33)
                there = np.exp(np.interp(np.log(along), np.log(LENGTHS), np.log(seconds)))
                axes.plot(along, there, linewidth=6, alpha=0.3, color=COLOURS[i % 8], solid_capstyle="butt")
    for n, (steps, _) in enumerate(one.crossovers):
        axes.axvline(steps, color="#555555", linewidth=0.8, linestyle=":")
        place = (steps, 0.97 - 0.08 * n)
        axes.annotate(f" T = {steps}", place, xycoords=("data", "axes fraction"), fontsize=8, va="top")
    more = f" and {len(group) - 1} more" if len(group) > 1 else ""
    axes.set_title(f"Cost of {_short(one.kind)}{more}")
    axes.set_yscale("log")
    axes.set_ylabel(f"expected seconds, {one.at.dtype}, {one.at.device}")
    axes.legend(ncols=3, **_BELOW)


def _short(kind: str) -> str:
    """The end of a path, which says most."""
    return kind if len(kind) <= _LONGEST else f"…{kind[-_LONGEST:]}"


def _bytes(axes: Any, whole: Sequence[Costs]) -> None:
    """Bytes of state over the length: of all layers, by state, and in all."""
    lengths = np.array(LENGTHS)
    lines = {one.kind: one.bytes * one.count * (lengths if one.facts.grows else lengths**0) for one in whole}
    most = sorted(lines, key=lambda kind: -lines[kind][-1])[:_MOST]
    for i, kind in enumerate(most):
        look = {"color": COLOURS[i % 8], "linestyle": DASHES[1 + i % 3]}
        axes.plot(lengths, lines[kind], label=kind, linewidth=1.2, **look)
    if len(lines) > 1:
        axes.plot(lengths, np.sum(list(lines.values()), axis=0), color="#000000", linewidth=1.6, label="in all")
    axes.set_title("State of a sequence, in all layers")
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(lambda count, _: say.size(count))
    axes.set_ylim(min(min(line) for line in lines.values()) / 2, 2 * sum(max(line) for line in lines.values()))
    axes.legend(ncols=2, **_BELOW)
