"""Every model has the number of parameters that its authors published, or that their implementation has at those sizes."""

import pytest

from ssir.spec.load import load
from tests.oracles.compare import parameters

# By size; None is what the spec says by itself.
COUNTS = {
    ("gpt2", None): 124_439_808,
    ("gpt2", "medium"): 354_823_168,
    ("gpt2", "large"): 774_030_080,
    ("gpt2", "xl"): 1_557_611_200,
    ("transformer", None): 1_100_048_384,
    ("transformer", "llama2-7b"): 6_738_415_616,
    ("transformer", "llama3-8b"): 8_030_261_248,
    ("mamba", None): 129_135_360,
    ("mamba", "2.8b"): 2_768_345_600,
    ("griffin", None): 2_682_862_080,
    ("rwkv4", None): 169_342_464,
    ("rwkv6", None): 1_599_873_024,
}


@pytest.mark.parametrize(("name", "size"), COUNTS, ids=lambda value: str(value))
def test_a_model_has_the_published_number_of_parameters(name: str, size: str | None) -> None:
    found = dict(parameters(load(name, size).graph))
    assert sum(node.type.numel() for node in found.values()) == COUNTS[name, size]
