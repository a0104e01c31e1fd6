"""Kernels that are written in Triton, run by its interpreter."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from ssir.compilers.runtime import native, tritons


def interpreted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """From now on kernels take all that they can take, and C nothing; how often each has run."""
    if not tritons.available():
        pytest.skip("there is no Triton for this machine")
    launch, found = tritons.launch, Counter[str]()

    def counted(kernel: Any, *given: Any, **named: Any) -> None:
        with np.errstate(all="ignore"):  # a processor does not warn of what is not chosen
            launch(kernel, *given, **named)
        found[kernel.fn.__name__] += 1

    _round_bfloat16(monkeypatch)
    monkeypatch.setattr(native, "library", lambda dtype, source="": None)
    monkeypatch.setattr(tritons, "launch", counted)
    monkeypatch.setattr(tritons, "reaches", lambda device: True)
    monkeypatch.setattr(tritons, "rows", lambda batch, device: 2)
    return found


def _round_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter keeps bfloat16 as the bits that it is, and multiplies matrices of these bits (Triton 3.7)."""
    from triton.runtime import interpreter

    multiply = interpreter.InterpreterBuilder.create_dot

    def wide(x: Any) -> Any:
        if x.dtype.scalar != interpreter.tl.bfloat16:
            return x
        data = interpreter._convert_float(x.data, interpreter.tl.bfloat16, interpreter.tl.float32, None)
        return interpreter.TensorHandle(data.view(np.float32), interpreter.tl.float32)

    def create_dot(builder: Any, a: Any, b: Any, *rest: Any) -> Any:
        return multiply(builder, wide(a), wide(b), *rest)

    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_dot", create_dot)
