"""Two hundred random specs, the same in every run; `python -m tests.random` proves as many others as one likes."""

import pytest

from .proof import campaign


@pytest.mark.parametrize("seed", range(8))
def test_every_form_of_a_random_spec_agrees_with_its_meaning(seed: int) -> None:
    assert campaign(25, seed, (1, 11)) > 15
