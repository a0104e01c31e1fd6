"""Where memories go in the passes: equal ones are one, by layer, and states are handed over so."""

from ssir.analysis.memories import kept_in, merged, unmerged
from ssir.ir.graph import Graph
from ssir.spec.load import loads

EQUAL = """ssir: 1
name: t
dims: {model: 4}
components:
  layer:
    input: {u: [model]}
    graph:
      a: delay(u)
      b: delay(u)
      c: delay(2 * u)
      y: a + 3 * b + c
    output: y
  whole:
    input: {x: [model]}
    graph:
      first: delay(x)
      y0: {stack: [layer], times: 2, input: first}
      again: delay(x)
      y: y0 + again
    output: y
main: whole
"""


def graph() -> Graph:
    return loads(EQUAL).graph


EACH = [{"first", "again"}, *({f"y0.{layer}.a", f"y0.{layer}.b"} for layer in (0, 1)), {"y0.0.c"}, {"y0.1.c"}]


def test_equal_memories_are_held_by_one_of_them() -> None:
    held = kept_in(graph())
    assert held.keys() == set().union(*EACH)
    for equal in EACH:
        (holder,) = {held[name] for name in equal}
        assert holder in equal


def test_states_are_handed_over_under_the_names_of_those_that_hold_them() -> None:
    held = kept_in(graph())
    state = {name: i for i, name in enumerate([*held, "position"])}
    fewer = merged(graph(), state)
    assert fewer == {name: state[name] for name in {*held.values(), "position"}}
    assert unmerged(graph(), fewer) == {
        **{name: state[holder] for name, holder in held.items()},
        "position": state["position"],
    }
