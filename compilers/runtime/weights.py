"""The weights of a model on disk, read with torch alone."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator

import torch
from torch import Tensor

from .model import Model


def read_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a safetensors file, read with torch alone."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = bytearray(file.read())
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        dtype = _SAFETENSORS[entry["dtype"]]
        flat = (
            torch.frombuffer(data, dtype=dtype, count=(end - start) // dtype.itemsize, offset=start)
            if end > start
            else torch.empty(0, dtype=dtype)
        )
        found[name] = flat.reshape(entry["shape"]).clone()
    return found


_SAFETENSORS = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def own_tensors(model: Model) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by full name."""
    yield from model.named_parameters()
    yield from model.named_buffers()


def with_weights(model: Model, path: str | os.PathLike[str]) -> Model:
    """A model whose parameters and buffers are those of a file; complex ones are stored as pairs of reals. Raises KeyError if one is missing."""
    weights = read_weights(path)
    with torch.no_grad():
        for name, parameter in own_tensors(model):
            value = weights[name]
            parameter.copy_(torch.view_as_complex(value) if parameter.is_complex() else value)
    return model
