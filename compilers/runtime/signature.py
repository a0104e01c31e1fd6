"""What a C function takes: the type, the size and the layout of every argument, checked before each call.

A signature is the name of the function and its arguments in order:

    B  W<=8              an integer, at most 8
    x[B,T,D]             real numbers of this shape, contiguous; sizes are those that are handed over as integers
    x(B,T,D)             so many of them in whatever shape, contiguous
    x{B:s,D:1}           B rows of D numbers, a row s after the row before: within what the tensor has of memory
    x?  x:bool  x:uint8  which may be missing; of another type than the real one

A size may be a number, W-1, W+1, T/16 (rounded up) or a product 2*B*D. `threads` is the number of threads.
"""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_ARGUMENT = re.compile(r"(\w+)(\?)?(?::(\w+))?(?:([\[({])(.*)[\])}])|(\w+)(?:<=(\d+))?")
_TYPES = {"bool": torch.bool, "uint8": torch.uint8, "int64": torch.int64}
_TENSORS = (Tensor, torch.nn.Parameter)


class Signature:
    """The arguments of one C function. ``values(dtype, threads, *given)`` gives what to hand over, and raises TypeError or ValueError
    where an argument is not as it must be."""

    def __init__(self, text: str) -> None:
        self.name, *words = text.split()
        matches = [_ARGUMENT.fullmatch(word) for word in words]
        places = {match[6]: f"a{i}" for i, match in enumerate(matches) if match and match[6]} | {"threads": "threads"}
        self.arguments = [
            _Argument(f"a{i}", word, match, places)
            for i, (word, match) in enumerate(zip(words, matches, strict=True))
            if match
        ]
        if len(self.arguments) != len(words):
            raise ValueError(f"`{self.name}`: a signature that cannot be read: {text}")
        sizes = " ".join(argument.size for argument in self.arguments)
        for argument in self.arguments:
            argument.counts = argument.most is not None or re.search(rf"\b{argument.place}\b", sizes) is not None
        self.values: Callable[..., tuple[int, ...]] = self._written()

    def _written(self) -> Callable[..., tuple[int, ...]]:
        # As code of its own: this runs some twenty times a token and layer, and a loop over the arguments takes twice as long.
        numbers = [argument for argument in self.arguments if not argument.bracket]
        tensors = [argument for argument in self.arguments if argument.bracket]
        lines = [
            f"def {self.name}(dtype, threads, {', '.join(argument.place for argument in self.arguments)}):",
            *(f"    {line}" for argument in (*numbers, *tensors) for line in argument.check(self.name)),
            f"    return ({', '.join([*(f'at_{x.place}' for x in tensors), *(x.place for x in numbers), 'threads'])},)",
        ]
        scope: dict[str, Any] = {
            **{f"argument_{argument.place}": argument for argument in self.arguments},
            **{f"_{name}": dtype for name, dtype in _TYPES.items()},
            "Tensor": Tensor,
            "Parameter": torch.nn.Parameter,
            "strided": torch.strided,
            "holds": _holds,
        }
        exec("\n".join(lines), scope)  # noqa: S102 - the code above
        found: Callable[..., tuple[int, ...]] = scope[self.name]
        return found


class _Argument:
    """One argument, called ``place`` in the code that checks it. ``size``: what it must measure, as Python: a shape, a number of
    elements, or of those from its first on. ``counts``: whether it is a number that is never negative."""

    def __init__(self, place: str, word: str, match: re.Match[str], places: dict[str, str]) -> None:
        self.place, self.word, self.optional = place, word, bool(match[2])
        self.name, self.bracket, self.type = match[1] or match[6], match[4] or "", match[3]
        self.most = int(match[7]) if match[7] else None
        self.counts = False
        pairs = [size.split(":") for size in match[5].split(",")] if match[5] else []
        self.size = _extent(self.bracket, [[_size(part, places) for part in pair] for pair in pairs])

    def check(self, function: str) -> list[str]:
        """Code that refuses what it must not be, and, for a tensor, says where its numbers are."""
        x, size = self.place, self.size
        refuse = f"argument_{x}.refuse({function!r}, {x}, dtype, {size})"
        if not self.bracket:
            bounds = [f"type({x}) is not int"]
            bounds += [f"{x} < 0"] if self.counts else []
            bounds += [] if self.most is None else [f"{x} > {self.most}"]
            return [f"if {' or '.join(bounds)}: {refuse}"]
        wrong = [
            f"(type({x}) is not Tensor and type({x}) is not Parameter)",
            f"not {x}.is_cpu",
            f"{x}.layout is not strided",
            f"{x}.dtype is not {f'_{self.type}' if self.type else 'dtype'}",
            f"{x}.is_neg()",
        ]
        if self.bracket == "{":
            wrong += [f"not holds({x}, {size})"]
        else:
            wrong += [
                f"{x}.shape != {size}" if self.bracket == "[" else f"{x}.numel() != {size}",
                f"not {x}.is_contiguous()",
            ]
        found = [
            f"if {' or '.join(wrong)}: {refuse}",
            f"at_{x} = {x}.data_ptr()",
            # Some libraries free the memory of a tensor that they leave alive.
            f"if not at_{x} and {x}.numel(): {refuse}",
        ]
        return [f"at_{x} = 0", f"if {x} is not None:", *(f"    {line}" for line in found)] if self.optional else found

    def refuse(self, function: str, x: Any, dtype: torch.dtype, size: Any) -> None:
        if not self.bracket:
            bounds = "" if not self.counts else " from 0" if self.most is None else f" from 0 to {self.most}"
            kind = ValueError if isinstance(x, int) else TypeError
            raise kind(f"{function}: `{self.name}` must be an integer{bounds}, not {x!r:.50}")
        own = _TYPES[self.type] if self.type else dtype
        kind_wanted = str(own).removeprefix("torch.")
        wanted = (
            f"{function}: `{self.name}` must be a {kind_wanted} tensor on the CPU that is laid out as `{self.word}`"
        )
        if type(x) not in _TENSORS:
            raise TypeError(f"{wanted}, not {type(x).__name__}")
        found = f"{str(x.dtype).removeprefix('torch.')}{list(x.shape)} on {x.device}"
        if x.layout is not torch.strided or not x.is_cpu or x.dtype is not own or x.is_neg():
            raise TypeError(f"{wanted}; it is {found}{', negated' if x.is_neg() else ''}")
        sizes = {"[": "shape", "(": "elements:", "{": "elements from the first on:"}[self.bracket]
        raise ValueError(f"{wanted}, {sizes} {size}; it is {found} with strides {list(x.stride())}")


def _holds(x: Tensor, size: int) -> bool:
    """Whether so many numbers lie in its memory, from its first on."""
    return bool(0 <= size <= x.untyped_storage().nbytes() // x.element_size() - x.storage_offset())


def _extent(bracket: str, pairs: list[list[str]]) -> str:
    sizes = [pair[0] for pair in pairs]
    if bracket == "[":
        return f"({', '.join(sizes)},)"
    if bracket == "(":
        return " * ".join(f"({size})" for size in sizes)
    behind = " + ".join(f"({size} - 1) * {stride}" for size, stride in pairs)
    return f"(1 + {behind} if {' and '.join(sizes)} else 0)" if bracket else "None"


def _size(text: str, places: dict[str, str]) -> str:
    """A size as Python."""
    if "*" in text:
        return "(" + " * ".join(_size(factor, places) for factor in text.split("*")) + ")"
    if text.isdigit():
        return text
    name, sign, by = re.fullmatch(r"(\w+?)(?:([-+/])(\d+))?", text).groups()  # type: ignore[union-attr]
    place = places[name]
    if not sign:
        return place
    return f"(-(-{place} // {by}))" if sign == "/" else f"({place} {sign} {by})"
