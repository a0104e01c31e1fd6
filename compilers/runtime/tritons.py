"""Runs loops that are written in Triton, on CUDA. (Its interpreter, TRITON_INTERPRET=1, runs them anywhere; tests do that.)"""

import hashlib
import linecache
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from . import native

WARPS = 8
_REAL = {torch.float32: "float32", torch.float64: "float64"}
_HEAD = """import triton
import triton.language as tl
from {package}.elementary import *


"""


@cache
def available() -> bool:
    return find_spec("triton") is not None


def reaches(device: torch.device) -> bool:
    """Whether kernels run on this device."""
    return device.type == "cuda"


def usable(source: str, *tensors: Tensor | None) -> bool:
    """Whether a kernel can take these tensors: plain ones of one real type (or bool) on one device, nobody watching."""
    if not source or not available() or not native.alone():
        return False
    found = {(x.device, x.dtype) for x in tensors if x is not None and x.dtype != torch.bool}
    if len(found) != 1 or any(type(x) not in (Tensor, torch.nn.Parameter) for x in tensors if x is not None):
        return False
    ((device, dtype),) = found
    return dtype in _REAL and reaches(device)


def rows(batch: int, device: torch.device) -> int:
    """Sequences that one program computes: more only where there is more than one for each processor of the machine."""
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    most = 1
    while most < 8 and batch >= 4 * most * processors:
        most *= 2
    return most


@cache
def functions(source: str) -> dict[str, Any]:
    """What a source defines."""
    text = _HEAD.format(package=__package__) + source
    name = f"<triton_{hashlib.sha256(source.encode()).hexdigest()[:16]}>"
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    found: dict[str, Any] = {"__name__": name, "__file__": name}
    exec(compile(text, name, "exec"), found)  # noqa: S102 - written by SSIR, or a file of an artifact that was checked
    return found


def call(source: str, name: str, batch: int, steps: int, like: Tensor, *pointers: Tensor | None) -> None:
    """Run a loop for all sequences; each of ``rows`` of them is a program of its own."""
    found = functions(source)
    many = rows(batch, like.device)
    scratch = like.new_empty(max(1, batch * found[f"{name}_scratch"]))
    kind = getattr(import_module("triton.language"), _REAL[like.dtype])
    grid = (-(-batch // many), found[f"{name}_parts"])
    found[name][grid](*pointers, scratch, batch, steps, ROWS=many, REAL=kind, num_warps=WARPS)
