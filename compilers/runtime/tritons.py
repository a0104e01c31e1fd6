"""Runs loops that are written in Triton, on CUDA. (Its interpreter, TRITON_INTERPRET=1, runs them anywhere; tests do that.)"""

import hashlib
import linecache
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import native

WARPS = 8
_PROCESSORS = 132  # of an H100 or H200, where there is none
_FILLED = 4  # programs for each of them
LEAST = 64  # steps of a piece
REAL = {torch.float32: "float32", torch.float64: "float64"}
_TYPES = REAL | {torch.float16: "float16", torch.bfloat16: "bfloat16", torch.bool: "int1"}
_HEAD = """import triton
import triton.language as tl
from {package}.elementary import *


"""


@cache
def available() -> bool:
    return find_spec("triton") is not None


def reaches(device: torch.device) -> bool:
    """Whether kernels run on this device."""
    return device.type == "cuda" or (not torch.compiler.is_compiling() and _noted.get() is not None)


def takes(*tensors: Tensor | None) -> bool:
    """Whether kernels can take these tensors: plain ones (real or bool) on one device, nobody watching."""
    there = [x for x in tensors if x is not None]
    device = there[0].device
    if not reaches(device) or not available() or not native.alone():
        return False
    return all(type(x) in (Tensor, torch.nn.Parameter) and x.dtype in _TYPES and x.device == device for x in there)


def _processors(device: torch.device) -> int:
    if device.type != "cuda":
        return _PROCESSORS
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def rows(batch: int, device: torch.device) -> int:
    """Sequences that one program computes: more only where there is more than one for each processor of the machine."""
    most = 1
    while most < 8 and batch >= 4 * most * _processors(device):
        most *= 2
    return most


def piece(programs: int, steps: int, every: int, device: torch.device) -> int:
    """Steps that one program computes, where it need not wait for those before: all, if so many programs fill the machine; else a multiple of
    ``every``, in pieces that fill it."""
    pieces = min(_FILLED * _processors(device) // programs, steps // LEAST)
    return steps if pieces < 2 else -(-steps // (pieces * every)) * every


def spelled(dtype: torch.dtype) -> Any:
    """A type as Triton calls it."""
    return getattr(import_module("triton.language"), _TYPES[dtype])


@cache
def functions(source: str) -> dict[str, Any]:
    """What a source defines."""
    text = _HEAD.format(package=__package__) + source
    name = f"<triton_{hashlib.sha256(source.encode()).hexdigest()[:16]}>"
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    found: dict[str, Any] = {"__name__": name, "__file__": name}
    exec(compile(text, name, "exec"), found)  # noqa: S102 - written by SSIR, or a file of an artifact that was checked
    return found


def spacing(x: Tensor) -> int | None:
    """How many numbers lie between the beginnings of neighbouring rows of x [B,T,*sizes]; None if there is no such number, or rows are not in
    one piece."""
    batch, steps, *sizes = x.shape
    inner = 1
    for size, stride in zip(reversed(sizes), reversed(x.stride()[2:]), strict=True):
        if size > 1 and stride != inner:
            return None
        inner *= size
    apart: int = x.stride(1) if steps > 1 else x.stride(0) if batch > 1 else inner
    if apart < inner or (batch > 1 and steps > 1 and x.stride(0) != steps * apart):
        return None
    return apart


def spaced(x: Tensor) -> Tensor:
    """x as kernels read it: rows in one piece, and as far apart from each other as any."""
    return x.contiguous() if spacing(x) is None else x


def call(
    source: str,
    name: str,
    batch: int,
    steps: int,
    scratch: Tensor,
    before: Sequence[Tensor | None],
    columns: Sequence[Tensor],
    behind: Sequence[Tensor | None],
    piece: int | None = None,
) -> None:
    """Run a loop for all sequences; each of ``rows`` of them, and each ``piece`` of the steps, is a program of its own. scratch: empty, of the
    device and the type of what is computed; what is before the columns, the columns and what is behind them may be of other types; columns are
    ``spaced``."""
    found = functions(source)
    many, piece = rows(batch, scratch.device), piece or steps
    pieces = -(-steps // piece)
    scratch = scratch.new_empty(max(1, batch * pieces * found[f"{name}_scratch"]))
    grid = (-(-batch // many) * pieces, found[f"{name}_parts"])
    apart = [spacing(x) for x in columns]
    given = (*before, *columns, *behind, *apart, scratch, batch, steps, piece)
    launch(found[name], grid, *given, ROWS=many, REAL=spelled(scratch.dtype))


class Launch(NamedTuple):
    """A kernel, in how many programs it runs, what it is given, what it was compiled for."""

    kernel: Any
    grid: tuple[int, ...]
    given: tuple[Any, ...]
    fixed: dict[str, Any]
    options: dict[str, int]


def launch(kernel: Any, grid: tuple[int, ...], *given: Any, warps: int = WARPS, stages: int = 3, **fixed: Any) -> None:
    """Run a kernel in as many programs of so many groups of 32 threads; ``stages``: how many turns of a loop are loaded at once."""
    noted, options = _noted.get(), {"num_warps": warps, "num_stages": stages}
    if noted is None:
        kernel[grid](*given, **fixed, **options)
    else:
        noted.append(Launch(kernel, grid, given, fixed, options))


_noted: ContextVar[list[Launch] | None] = ContextVar("noted", default=None)


@contextmanager
def noted() -> Iterator[list[Launch]]:
    """Inside, kernels are taken everywhere, and not run but written down: to look at what would run on a GPU that is not here."""
    found: list[Launch] = []
    token = _noted.set(found)
    try:
        yield found
    finally:
        _noted.reset(token)
