"""The catalogue of error codes keeps its promises."""

import re
from pathlib import Path

import pytest

import ssir
from ssir.codes import CODES
from ssir.errors import SpecError
from ssir.spec.load import loads
from ssir.spec.warn import warnings

ROOT = Path(ssir.__file__).parent
# A graph without a step form is a good graph until somebody asks for a step.
LATER = {"SSIR022"}
WARNINGS = {"SSIR040", "SSIR041"}
EXAMPLES = [code for code, entry in CODES.items() if entry.wrong_file]


@pytest.mark.parametrize("code", [code for code in EXAMPLES if code not in LATER | WARNINGS])
def test_the_wrong_example_has_the_code(code: str) -> None:
    with pytest.raises(SpecError) as caught:
        _ = loads(CODES[code].wrong_file, code).graph
    assert {diagnostic.code for diagnostic in caught.value.diagnostics} == {code}
    assert all(diagnostic.span for diagnostic in caught.value.diagnostics)


@pytest.mark.parametrize("code", sorted(WARNINGS))
def test_the_wrong_example_is_warned_of_and_the_mended_one_is_not(code: str) -> None:
    example = CODES[code]
    assert code in {warning.code for warning in warnings(loads(example.wrong_file, code))}
    mended = [one for one in warnings(loads(example.right_file, code)) if "dim" not in one.message]
    assert not mended
    assert all(warning.level == "warning" and warning.span for warning in warnings(loads(example.wrong_file, code)))


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_mended_example_is_right(code: str) -> None:
    assert loads(CODES[code].right_file, code).graph


def test_every_code_in_the_sources_is_in_the_catalogue() -> None:
    used = {code for path in ROOT.rglob("*.py") for code in re.findall(r"SSIR[0-9]{3}", path.read_text("utf-8"))}
    assert used <= set(CODES)


@pytest.mark.parametrize("code", CODES)
def test_entries_are_written_for_people(code: str) -> None:
    entry = CODES[code]
    assert entry.title and not entry.title.endswith(".")
    assert entry.explanation.endswith(".")
    assert bool(entry.wrong) == bool(entry.right)
