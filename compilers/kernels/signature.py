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

    def values(self, dtype: torch.dtype, given: Arguments, threads: int) -> list[int]:
        """What the function is called with. Raises TypeError or ValueError where an argument is not as it must be."""
        if len(given) != len(self.arguments):
            raise TypeError(f"{self.name} takes {len(self.arguments)} arguments; {len(given)} were given")
        known = (*given, threads)
        values = [argument.value(x, dtype, known) for argument, x in zip(self.arguments, given, strict=True)]
        if None in values:
            i = values.index(None)
            self.arguments[i].refuse(self.name, given[i], dtype, known)
        values.append(threads)
        return values  # type: ignore[return-value]


class _Argument:
    def __init__(self, word: str, match: re.Match[str], places: dict[str, int]) -> None:
        self.word, self.optional = word, bool(match[2])
        self.name, self.bracket = match[1] or match[6], match[4] or ""
        self.most = int(match[7]) if match[7] else None
        self.dtype = _TYPES[match[3]] if match[3] else None
        pairs = [size.split(":") for size in match[5].split(",")] if match[5] else []
        self.sizes = tuple(_size(pair[0], places) for pair in pairs)
        self.strides = tuple(_size(pair[1], places) for pair in pairs if len(pair) > 1)

    def value(self, x: Tensor | int | None, dtype: torch.dtype, known: tuple[Any, ...]) -> int | None:
        """The number or address to hand over; None if x is not what it must be."""
        if not self.bracket:
            fits = (type(x) is int or type(x) is bool) and (self.most is None or 0 <= x <= self.most)
            return x if fits else None  # type: ignore[return-value]
        if x is None:
            return 0 if self.optional else None
        if type(x) not in _TENSORS or not x.is_cpu or x.layout is not torch.strided:  # type: ignore[union-attr]
            return None
        if x.dtype is not (self.dtype or dtype) or x.is_neg():  # type: ignore[union-attr]
            return None
        return x.data_ptr() if self._lies(x, known) else None  # type: ignore[arg-type, union-attr]

    def _lies(self, x: Tensor, known: tuple[Any, ...]) -> bool:
        sizes = [size(known) for size in self.sizes]
        if self.bracket == "{":
            strides = [stride(known) for stride in self.strides]
            if min(*sizes, *strides) < 0:
                return False
            reach = 1 + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
            have = x.untyped_storage().nbytes() // x.element_size() - x.storage_offset()
            return 0 in sizes or reach <= have
        if not x.is_contiguous() or (self.bracket == "[" and list(x.shape) != sizes):
            return False
        count = x.numel()
        if self.bracket == "(" and (count != math.prod(sizes) or min(sizes) < 0):
            return False
        # Some libraries free the memory of a tensor that they leave alive.
        return x.data_ptr() != 0 or count == 0

    def refuse(self, function: str, x: Any, dtype: torch.dtype, known: tuple[Any, ...]) -> None:
        if not self.bracket:
            most = "" if self.most is None else f" from 0 to {self.most}"
            kind = TypeError if type(x) is not int else ValueError
            raise kind(f"{function}: `{self.name}` must be an integer{most}, not {x!r:.50}")
        want = f"a contiguous {str(self.dtype or dtype).removeprefix('torch.')} tensor on the CPU, `{self.word}`"
        if type(x) not in _TENSORS:
            raise TypeError(f"{function}: `{self.name}` must be {want}, not {type(x).__name__}")
        wrong = not x.is_cpu or x.layout is not torch.strided or x.dtype is not (self.dtype or dtype) or x.is_neg()
        found = f"{str(x.dtype).removeprefix('torch.')}{list(x.shape)} on {x.device}"
        if x.layout is torch.strided:
            found += f" with strides {list(x.stride())}{', negated' if x.is_neg() else ''}"
        sizes = "" if wrong else f" with sizes {[size(known) for size in self.sizes]}"
        raise (TypeError if wrong else ValueError)(f"{function}: `{self.name}` must be {want}{sizes}; it is {found}")


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
    match sign:
        case "/":
            return lambda known: -(-known[place] // by) if type(known[place]) is int else -1
        case None:
            return lambda known: known[place] if type(known[place]) is int else -1
    by = -by if sign == "-" else by
    return lambda known: known[place] + by if type(known[place]) is int else -1
