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
    # What transformers has at these sizes (the masked language models).
    ("sliding_window", None): 7_241_732_096,
    ("bert", None): 109_514_298,
    ("bert", "large"): 335_174_458,
    ("distilbert", None): 66_985_530,
    ("perceiver_io", None): 201_108_230,
    ("albert", None): 11_221_680,
    ("albert", "large"): 16_795_824,
    ("albert", "xlarge"): 54_821_040,
    ("albert", "xxlarge"): 206_368_944,
    ("rope", None): 1_100_048_384,  # TinyLlama's, whose sizes it has
    ("mamba", None): 129_135_360,
    ("mamba", "2.8b"): 2_768_345_600,
    ("mamba2", "130m"): 128_989_632,
    ("mamba2", "370m"): 368_346_624,
    ("mamba2", "780m"): 780_161_280,
    ("mamba2", "1.3b"): 1_343_757_312,
    ("mamba2", "2.7b"): 2_702_599_680,
    ("h3", "125m"): 126_387_456,
    ("h3", "355m"): 361_058_304,
    ("h3", "1.3b"): 1_326_096_384,
    ("h3", "2.7b"): 2_670_307_840,
    ("hyena", None): 153_700_416,
    ("griffin", None): 2_682_862_080,
    ("jamba", None): 51_570_323_328,
    ("jamba", "1.5-large"): 398_555_145_696,
    ("t5", None): 60_506_624,
    ("t5", "base"): 222_903_552,
    ("t5", "large"): 737_668_096,
    ("t5", "3b"): 2_851_598_336,
    ("t5", "11b"): 11_307_321_344,
    ("samba", None): 421_793_280,
    ("samba", "1.3b"): 1_330_207_488,
    ("zamba", None): 7_232_490_496,
    ("rwkv4", None): 169_342_464,
    # The paper's formula, 13 D^2 L + 14 D L + 4 D + 2 D V.
    ("rwkv5", "0.4b"): 461_721_600,
    ("rwkv5", "1.5b"): 1_577_754_624,
    ("rwkv5", "3b"): 3_062_999_040,
    ("rwkv5", "7b"): 7_518_044_160,
    ("rwkv6", None): 1_599_873_024,
    ("mlstm", "7b"): 6_865_424_896,
    ("rwkv7", "0.1b"): 191_034_624,
    ("rwkv7", "0.4b"): 450_767_872,
    ("rwkv7", "1.5b"): 1_527_404_544,
    ("rwkv7", "2.9b"): 2_947_735_040,
}


@pytest.mark.parametrize(("name", "size"), COUNTS, ids=lambda value: str(value))
def test_a_model_has_the_published_number_of_parameters(name: str, size: str | None) -> None:
    found = dict(parameters(load(name, size).graph))
    assert sum(node.type.numel() for node in found.values()) == COUNTS[name, size]
