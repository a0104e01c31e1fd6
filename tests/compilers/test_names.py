"""Names of a spec that mean something to Python, to torch or to what is generated are names like any other."""

import builtins
import keyword

import pytest
import torch

import ssir

OWN = {"true", "false", "start", "layer", "position", "pi", "inf", "_", "linear"}
WORDS = sorted(
    {*keyword.kwlist, *keyword.softkwlist, *(word for word in dir(builtins) if not word.startswith("__"))}
    | set("self time old new torch nn F f state forward training model step Any Tensor Body Model State Time".split())
    | set("recall previous keep push v1 data none annotations root at kept owner stacks type".split())
)
WORDS = [word for word in WORDS if word not in OWN]


def everywhere(word: str) -> str:
    """The word is a component, an input, a dim, a constant, a node, and the name of a parameter and of a memory."""
    return f"""
ssir: 1
name: nasty
dims: {{{word}: 3}}
components:
  {word}:
    input: {{{word}: [{word}], {word}_: [{word}]}}
    graph:
      y: silu(linear({word}, {word}, name={word}__)) + delay({word}_) * param([{word}], init=ones, name={word}___)
    output: {{{word}: y}}
  named:
    input: {{u: [{word}]}}
    graph:
      {word}: {word}(u, u)
      y: {word} + delay({word}, name={word}_)
    output: y
main: named
"""


@pytest.mark.parametrize("words", [WORDS[i::8] for i in range(8)], ids=lambda words: words[0])
def test_every_name_runs(words: list[str]) -> None:
    x = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(0))
    found = []
    for word in words:
        model = ssir.compile(ssir.loads(everywhere(word)))
        names = [key.replace(word, "x") for key in model.state_dict()]
        assert set(names) == {"x.x___", "x.x__.weight"}, word
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(0.5)
            whole, _ = model(x)
            y, _ = model.step(x[:, 0], model.initial_state(1))
        torch.testing.assert_close(y, whole[:, 0])
        found.append(whole)
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


@pytest.mark.parametrize("word", ["_", "__", "_1", "__class", "F", "None_1"])
def test_underscores_and_digits_are_names_too(word: str) -> None:
    model = ssir.compile(ssir.loads(everywhere(word)))
    assert model(torch.ones(1, 4, 3))[0].shape == (1, 4, 3)


def test_inputs_that_differ_by_what_is_added_to_them_stay_apart() -> None:
    text = """
ssir: 1
name: alike
dims: {model: 4}
components:
  mixer:
    input: {time: [model], time_: [model], time_2: [model]}
    graph:
      y: silu(time) + time_ - 2 * time_2
    output: y
main: mixer
"""
    model = ssir.compile(ssir.loads(text))
    a, b, c = torch.randn(3, 2, 5, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(a, b, c)[0], torch.nn.functional.silu(a) + b - 2 * c)
