"""The core knows no architecture: its source names none of the zoo."""

import re
from pathlib import Path

import pytest

from ssir.spec.load import zoo

ROOT = Path(__file__).parent.parent

# Names of specs that are ordinary words of the field, or of Python.
WORDS = {
    "cat",
    "lru",  # functools.lru_cache
    "gated_memory",
    "integrator",
    "linear_attention",
    "one_pole",
    "multi_head_attention",
    "dot_product_attention",
    "state_expansion",
    "sliding_window",
    "sinusoidal",
    "amplitude_decay",
    "quaternion",
    "glu",
    "geglu",
    "swiglu",
}
# What is named in passing elsewhere, and the families of the names above.
MORE = {"rwkv", "hippo", "llama", "gemma", "recurrentgemma", "mistral", "eagle", "finch", "goose", "ssd", "s6", "xlstm"}


@pytest.mark.parametrize("folder", ["ssir", "compilers"])
def test_no_source_of_the_core_names_an_architecture(folder: str) -> None:
    names = ({name for name, _ in zoo()} | MORE) - WORDS
    pattern = re.compile(rf"(?<![a-z0-9])({'|'.join(sorted(names, key=len, reverse=True))})(?![a-z0-9])", re.IGNORECASE)
    found = []
    for path in sorted((ROOT / folder).rglob("*")):
        below = path.relative_to(ROOT / folder).parts[0]
        if path.suffix in (".py", ".c", ".h") and below not in ("compilers", "plugins", "zoo"):
            for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                found += [f"{path.relative_to(ROOT)}:{n}: {line.strip()}" for _ in pattern.finditer(line)]
    assert not found, "\n".join(found)
