"""Some random specs, the same in every run; `python -m tests.random` proves as many others as one likes."""

import pytest

from .proof import DTYPES, campaign, prove

FOUND = {  # by campaigns
    "two windows of one step, which no step reads": """
        v: sum(window(z, tap) * softmax(linear(z, tap), over=tap), over=tap)
        w: sum(window(x, tap) * softmax(linear(x, tap), over=tap), over=tap)
        y: linear(v, [a]) + linear(w, [a])
""",
    "what enters a scan is larger than all that it is made of, which only states decide": """
        w: delay(f, initial=0.3)
        f: 0.5 * sin(linear(x, [b]) + w)
        y: sum(h, over=b)
        h: {state: [b, a], A: "where(position % 3 == 2, 0, 0.9)", input: "sin(linear(z, [b, a]) - w * param([b], init=ones))", read: before}
""",
    "a delta rule by two states that are one memory": """
        k: 0.5 * l2_norm(linear(z, [key], bias=true), over=key)
        e: dot(k, delay(w), over=key) - tanh(linear(x, [b]))
        v: {state: [key, b], A: "sigmoid(linear(z, [], bias=true))", B: -k, input: e}
        w: {state: [key, b], A: 0, input: v}
        y: linear(dot(linear(x, [key]), w, over=key), [a])
""",
    "a difference of two numbers that are nearly one": """
        u: 0.5 * square(sigmoid(z + z))
        n: layer_norm(1 + u, over=b)
        v: {state: [key, b], A: "sigmoid(linear(n, [], bias=true))", B: "tanh(linear(u, [key]))", input: "sigmoid(u - n)"}
        y: linear(delay(sin(linear(n, [b]))), [a]) + linear(dot(linear(x, [key]), v, over=key), [a])
""",
}
HEAD = """
ssir: 1
name: found
dims: {a: 1, b: 2, key: 2, tap: 1}
components:
  main:
    input: {x: [a], z: [b]}
    graph:
"""


@pytest.mark.parametrize("seed", range(8))
def test_every_form_of_a_random_spec_agrees_with_its_meaning(seed: int) -> None:
    assert campaign(5, seed, (1, 11), (DTYPES[seed % 2],)) > 2


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_once_agrees_with_its_meaning(name: str) -> None:
    graph = "\n".join(line[2:] for line in FOUND[name].splitlines())
    prove(f"{HEAD}{graph}\n    output: y\nmain: main\n")
