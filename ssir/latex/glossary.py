"""The paper's signs for the names of a spec."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ssir.latex import names
from ssir.spec import expr as syntax
from ssir.spec.module import Module
from ssir.spec.paths import given_name, owning

_RESERVED = frozenset("ABCDhtWbI")
"""What equations mean something else by."""
_OF_TIME = re.compile(r"(.+?)(_[tnkjil]+|\([a-z]\))?")


def signs(module: Module) -> dict[str, str]:
    """The paper's signs for names of a spec, by its glossary, as far as they can be told from the names of other things.

    An index of time in a sign (x_n, α_t) is left out: equations have their own.
    """
    file = module.file
    nodes = {name.strip() for one in file.components.values() for key in one.graph for name in key.split(",")}
    nodes |= {name for one in file.components.values() for name in one.input} | set(_given(module))
    taken = nodes | _RESERVED
    found: dict[str, str] = {}
    for sign, meaning in file.glossary.items():
        words = meaning.split()
        if not all(word in nodes or word in file.dims or word in file.constants for word in words):
            continue
        for word in words:
            timely = _OF_TIME.fullmatch(sign) if word in nodes and len(words) == 1 else None
            own = timely.group(1) if timely else sign
            own = own if len(words) == 1 else own.partition("_")[0] + _suffix(word)
            if names.name(own) is not None and (own == word or own not in taken):
                found[word] = own
                taken.add(own)
    return found


def _suffix(word: str) -> str:
    """mu_k of μ is μ_k, c1 of C is C_1."""
    base, _, sub = word.partition("_")
    digits = base[len(base.rstrip("0123456789")) :]
    return f"_{sub or digits}" if sub or digits else f"_{word}"


def _given(module: Module) -> Iterator[str]:
    """The names that calls are given with `name=`."""
    for path in module.expressions():
        for call in owning(module, module.expression(path)):
            name = given_name(module, call)
            if isinstance(name, syntax.Name):
                yield name.id
