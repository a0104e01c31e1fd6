"""The faults that `python -m tests.inject` makes: there are enough, each is one change of what still parses, and the rooms are there."""

from __future__ import annotations

import ast
from itertools import islice

import pytest

from tests.inject import __main__ as inject
from tests.inject.mutants import of_file
from tests.inject.reviewed import FAULTS, harmless
from tests.inject.rooms import ROOMS, ROOT, files


def test_the_faults_that_people_thought_of_have_their_place() -> None:
    assert not inject.stale()
    assert {fault.room for fault in FAULTS} <= set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_has_files_tests_and_faults(room: str) -> None:
    assert files(room)
    assert all((ROOT / test).exists() for test in ROOMS[room].tests)
    drawn = list(islice(inject._drawn(room, 0), 30))
    assert len(drawn) == 30
    for fault in drawn:
        assert fault.text != (ROOT / fault.file).read_text(encoding="utf-8"), fault.words
        if fault.file.endswith(".py"):
            ast.parse(fault.text)


def test_a_seed_decides_which_faults_are_made() -> None:
    first, again, other = ([fault.words for fault in inject.faults(["passes"], 40, seed)] for seed in (0, 0, 1))
    assert first == again != other
    assert len(first) >= 40


def test_faults_are_of_the_kinds_that_go_unseen() -> None:
    kinds = {one.kind for path in files("memories") for one in of_file(path, path.name)}
    assert {
        "a bound",
        "off by one",
        "no to",
        "no mask",
        "no flip",
        "operands swapped",
        "a sign",
        "the other branch",
    } <= kinds
    assert {one.kind for path in files("native") for one in of_file(path, path.name)} >= {"+ to -", "* to +", "< to <="}


def test_what_changes_nothing_is_left_out() -> None:
    assert harmless("compilers/runtime/memory.py", "_append", "2 * max(entries, 32)")
    assert harmless("compilers/runtime/memory.py", "_last", "size - 1") is None
