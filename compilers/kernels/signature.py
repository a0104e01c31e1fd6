"""What a C function takes: the type, the size and the layout of every argument, checked before each call.

A signature is the name of the function and its arguments in order:

    B  W<=8              an integer, at most 8
    x[B,T,D]             real numbers of this shape, contiguous; sizes are those that are handed over as integers
    x(B,T,D)             so many of them in whatever shape, contiguous
    x{B:s,D:1}           B rows of D numbers, a row s after the row before: within what the tensor has of memory
    x?  x:bool  x:uint8  which may be missing; of another type than the real one

A size may be a number, W-1, W+1, T/16 (rounded up) or a product 2*B*D. `threads` is the number of threads.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_ARGUMENT = re.compile(r"(\w+)(\?)?(?::(\w+))?(?:([\[({])(.*)[\])}])|(\w+)(?:<=(\d+))?")
_TYPES = {"bool": torch.bool, "uint8": torch.uint8, "int64": torch.int64}
_TENSORS = (Tensor, torch.nn.Parameter)
_MOST_KNOWN = 512

Arguments = tuple[Tensor | int | None, ...]
Size = Callable[[tuple[Any, ...]], int]


class Signature:
    """The arguments of one C function; ``values`` gives what to hand over."""

    def __init__(self, text: str) -> None:
        self.name, *words = text.split()
        matches = [_ARGUMENT.fullmatch(word) for word in words]
        places = {match[6]: i for i, match in enumerate(matches) if match and match[6]} | {"threads": len(words)}
        self.arguments = [_Argument(word, match, places) for word, match in zip(words, matches, strict=True) if match]
        if len(self.arguments) != len(words):
            raise ValueError(f"`{self.name}`: a signature that cannot be read: {text}")
        self.first = len(words) - len(places) + 1  # integers come after all tensors
        self.plan = [(argument.bracket, argument.optional, argument.dtype) for argument in self.arguments[: self.first]]
        self.known: dict[tuple[Any, ...], list[Any]] = {}

    def values(self, dtype: torch.dtype, given: Arguments, threads: int) -> list[int]:
        """What the function is called with. Raises TypeError or ValueError where an argument is not as it must be."""
        numbers = (*given[self.first :], threads)
        sizes = self.known.get(numbers)
        if sizes is None:
            sizes = self._sizes(given, threads)
        values: list[Any] = []
        x: Any
        # In one place and without calls: this runs some twenty times a token and layer.
        for x, (bracket, optional, own), size in zip(given, self.plan, sizes, strict=False):
            if x is None and optional:
                values.append(0)
                continue
            if (
                type(x) not in _TENSORS
                or not x.is_cpu
                or x.layout is not torch.strided
                or x.dtype is not (own or dtype)
                or x.is_neg()
                or (x.shape != size if bracket == "[" else x.numel() != size if bracket == "(" else not _holds(x, size))
                or (bracket != "{" and not x.is_contiguous())
            ):
                self.arguments[len(values)].refuse(self.name, x, dtype, size)
            values.append(x.data_ptr())
            # Some libraries free the memory of a tensor that they leave alive.
            if not values[-1] and x.numel():
                self.arguments[len(values) - 1].refuse(self.name, x, dtype, size)
        values += numbers
        return values

    def _sizes(self, given: Arguments, threads: int) -> list[Any]:
        """What every tensor is to be like."""
        if len(given) != len(self.arguments):
            raise TypeError(f"{self.name} takes {len(self.arguments)} arguments; {len(given)} were given")
        for x, argument in zip(given[self.first :], self.arguments[self.first :], strict=True):
            if not isinstance(x, int) or (argument.most is not None and not 0 <= x <= argument.most):
                argument.refuse(self.name, x, torch.int64, None)
        sizes = [argument.size((*given, threads)) for argument in self.arguments[: self.first]]
        if len(self.known) >= _MOST_KNOWN:
            self.known.clear()
        self.known[(*given[self.first :], threads)] = sizes
        return sizes


class _Argument:
    def __init__(self, word: str, match: re.Match[str], places: dict[str, int]) -> None:
        self.word, self.optional = word, bool(match[2])
        self.name, self.bracket = match[1] or match[6], match[4] or ""
        self.most = int(match[7]) if match[7] else None
        self.dtype = _TYPES[match[3]] if match[3] else None
        pairs = [size.split(":") for size in match[5].split(",")] if match[5] else []
        self.sizes = tuple(_size(pair[0], places) for pair in pairs)
        self.strides = tuple(_size(pair[1], places) for pair in pairs if len(pair) > 1)

    def size(self, known: tuple[Any, ...]) -> Any:
        """A shape, a number of elements, or a number of elements that lie behind the first."""
        sizes, strides = ([size(known) for size in all_] for all_ in (self.sizes, self.strides))
        if min(*sizes, *strides, 0) < 0:
            return -1
        if self.bracket == "[":
            return tuple(sizes)
        if self.bracket == "(" or 0 in sizes:
            return math.prod(sizes)
        return 1 + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))

    def refuse(self, function: str, x: Any, dtype: torch.dtype, size: Any) -> None:
        if not self.bracket:
            most = "" if self.most is None else f" from 0 to {self.most}"
            kind = ValueError if isinstance(x, int) else TypeError
            raise kind(f"{function}: `{self.name}` must be an integer{most}, not {x!r:.50}")
        kind_wanted = str(self.dtype or dtype).removeprefix("torch.")
        wanted = (
            f"{function}: `{self.name}` must be a {kind_wanted} tensor on the CPU that is laid out as `{self.word}`"
        )
        if type(x) not in _TENSORS:
            raise TypeError(f"{wanted}, not {type(x).__name__}")
        found = f"{str(x.dtype).removeprefix('torch.')}{list(x.shape)} on {x.device}"
        if x.layout is not torch.strided or not x.is_cpu or x.dtype is not (self.dtype or dtype) or x.is_neg():
            raise TypeError(f"{wanted}; it is {found}{', negated' if x.is_neg() else ''}")
        sizes = {"[": "shape", "(": "elements:", "{": "elements from the first on:"}[self.bracket]
        raise ValueError(f"{wanted}, {sizes} {size}; it is {found} with strides {list(x.stride())}")


def _holds(x: Tensor, size: int) -> bool:
    """Whether so many numbers lie in its memory, from its first on."""
    return bool(0 <= size <= x.untyped_storage().nbytes() // x.element_size() - x.storage_offset())


def _size(text: str, places: dict[str, int]) -> Size:
    """A size, from all that is handed over."""
    if "*" in text:
        factors = [_size(factor, places) for factor in text.split("*")]
        return lambda known: math.prod(factor(known) for factor in factors)
    if text.isdigit():
        number = int(text)
        return lambda known: number
    name, sign, rest = re.fullmatch(r"(\w+?)(?:([-+/])(\d+))?", text).groups()  # type: ignore[union-attr]
    place, by = places[name], int(rest or 0)
    if sign == "/":
        return lambda known: -(-known[place] // by)
    by = -by if sign == "-" else by
    return lambda known: known[place] + by
