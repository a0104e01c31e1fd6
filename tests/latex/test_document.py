"""The equations of specs as text."""

import json
import os
import re
from pathlib import Path

import pytest

from ssir.cli import main
from ssir.errors import SpecError
from ssir.latex import document
from ssir.latex.document import displays
from ssir.spec.load import load, loads
from tests.latex.odd import ODD
from tests.small import component

GOLDEN = Path(__file__).parent / "golden"
UPDATE = "SSIR_UPDATE_GOLDEN=1 pytest tests/latex/test_document.py"
Captured = pytest.CaptureFixture[str]


def equations(graph: str, inputs: str = "{u: [n]}", dims: str = "{n: 4, m: 3, slot: unbounded, tap: 3}") -> list[str]:
    """The lines of the equations of a component, without numbers and with spaces in one way."""
    text = displays(component(graph, inputs, dims)).split("\n")[1:-1]
    return [" ".join(line.removesuffix("\\\\").split()) for line in text]


@pytest.mark.parametrize("name", ["lstm.mixer", "mamba.mixer", "transformer.mixer"])
def test_the_document_is_as_it_was(name: str) -> None:
    path = GOLDEN / f"{name}.tex"
    text = document(load(name))
    if os.environ.get("SSIR_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert path.is_file(), f"there is no {path.name}; write it with: {UPDATE}"
    assert text == path.read_text(encoding="utf-8"), (
        f"{path.name} differs; look at the page, and if it is good: {UPDATE}"
    )


def test_a_map_is_a_matrix_and_a_bias_named_after_its_node() -> None:
    assert equations("y: linear(u, m, bias=true)") == [r"y_{t} &= W_{y} \, u_{t} + b_{y}"]


def test_maps_in_one_expression_are_numbered_unless_they_are_named() -> None:
    assert equations("y: linear(u, m) + linear(u, m) + linear(u, m, name=U_y)") == [
        r"y_{t} &= W_{y,1} \, u_{t} + W_{y,2} \, u_{t} + U_{y} \, u_{t}"
    ]


def test_a_delay_is_an_earlier_step_and_so_is_all_that_is_in_it() -> None:
    assert equations("y: delay(u) + delay(tanh(linear(u, n)), steps=3) + delay(delay(u))") == [
        r"y_{t} &= u_{t - 1} + \tanh ( W_{y} \, u_{t - 3} ) + u_{t - 2}"
    ]


def test_what_stands_in_a_delay_before_the_first_step_is_told() -> None:
    assert equations("y: delay(u, initial=2)") == [r"y_{t} &= u_{t - 1}", "u_{-1} &= 2"]


def test_a_state_that_is_read_as_it_is_keeps_its_name() -> None:
    assert equations("a: sigmoid(u)\ny: {state: [n], A: a, B: 1 - a, input: u}") == [
        r"a_{t} &= \sigma ( u_{t} )",
        r"y_{t} &= a_{t} \odot y_{t - 1} + ( 1 - a_{t} ) \odot u_{t}",
    ]


def test_a_state_that_is_read_by_a_sum_is_h_and_its_coefficients_stand_before_it() -> None:
    graph = "y: {state: [n, m], A: 'exp(-linear(u, m))', B: 'linear(u, m)', input: u, C: 'linear(u, m)', D: 2}"
    assert equations(graph) == [
        r"A_{t} &= \exp ( - W_{A} \, u_{t} )",
        r"B_{t} &= W_{B} \, u_{t}",
        r"h_{t} &= A_{t} \odot h_{t - 1} + B_{t} \otimes u_{t}",
        r"C_{t} &= W_{C} \, u_{t}",
        r"y_{t} &= \langle C_{t} , h_{t} \rangle_{m} + 2 \, u_{t}",
    ]


def test_an_axis_that_is_called_like_a_value_makes_nothing_change_with_time() -> None:
    found = equations("m: 2 * u\ny: {state: [n, m], A: 'exp(-exp(param([m]) * 3 + 1))', input: m}")
    assert found[1:] == [
        r"A &= \exp ( - \exp ( 3 \, w_{A} + 1 ) )",
        r"y_{t} &= A \odot y_{t - 1} + m_{t}",
    ]


def test_two_states_are_told_apart() -> None:
    one = "{state: [n, m], B: 'linear(u, m)', input: u, C: 'linear(u, m)'}"
    found = "\n".join(equations(f"a: {one}\nb: {one}\ny: a + b"))
    assert "h^{(a)}_{t}" in found and "h^{(b)}_{t}" in found and "W_{a,B}" in found and "W_{b,B}" in found


def test_read_before_reads_the_step_before() -> None:
    assert equations("y: {state: [n], A: 0.5, input: u, read: before}") == [
        r"h_{t} &= 0.5 \, h_{t - 1} + u_{t}",
        "y_{t} &= h_{t - 1}",
    ]


def test_max_plus_is_a_maximum_of_sums() -> None:
    assert equations("y: {state: [n], A: 0 - u, B: 1, input: u, algebra: max_plus}") == [
        r"y_{t} &= \max ( 0 - u_{t} + y_{t - 1} , 1 + u_{t} )"
    ]


def test_rank_one_is_written_with_a_transpose() -> None:
    graph = "k: linear(u, n)\ny: {state: [n, m], A: '1 - outer(0.5 * k, k, over=n)', B: k, input: 'linear(u, m)'}"
    assert equations(graph)[1] == (
        r"y_{t} &= ( I - 0.5 \, k_{t} \, k_{t}^{\top} ) \, y_{t - 1} + k_{t} \otimes W_{\mathrm{input}} \, u_{t}"
    )


@pytest.mark.parametrize(
    ("method", "a", "b"),
    [
        ("euler", r"1 + 0.1 \, A", r"0.1 \, B"),
        ("zoh", r"\exp ( 0.1 \, A )", r"\frac{\exp ( 0.1 \, A ) - 1}{A} \odot B"),
        ("bilinear", r"\frac{1 + 0.1 \, A / 2}{1 - 0.1 \, A / 2}", r"\frac{0.1}{1 - 0.1 \, A / 2} \odot B"),
    ],
)
def test_rates_are_sampled_in_sight(method: str, a: str, b: str) -> None:
    graph = f"r: param([n])\ny: {{state: [n], A: -exp(r), B: r, input: u, discretize: {{method: {method}, dt: 0.1}}}}"
    found = equations(graph)
    assert found[:2] == [r"A &= - \exp ( r )", "B &= r"]
    assert found[2:] == [
        rf"\bar{{A}} &= {a}",
        rf"\bar{{B}} &= {b}",
        r"y_{t} &= \bar{A} \odot y_{t - 1} + \bar{B} \odot u_{t}",
    ]


def test_a_filter_is_a_sum_over_the_steps_before() -> None:
    assert equations("y: {state: [tap, n], A: shift(tap), input: u, C: 'param([tap, n])'}") == [
        r"y_{t} &= \sum_{j=0}^{\mathrm{tap} - 1} C^{(y)}_{j} \odot u_{t - j}"
    ]


def test_attention_is_a_softmax_over_slots() -> None:
    graph = """
q: linear(u, m)
scores: dot(q, window(q, slot), over=m) * m ** -0.5
y:
  state: [slot, n]
  A: shift(slot)
  input: u
  C: softmax(scores, over=slot)
"""
    assert equations(graph) == [
        r"q_{t} &= W_{q} \, u_{t}",
        r"\mathrm{scores}_{t,j} &= \frac{\langle q_{t} , q_{t - j} \rangle_{m}}{\sqrt{m}}",
        r"y_{t} &= \sum_{j=0}^{t} \operatorname{softmax}_{j} ( \mathrm{scores}_{t,j} ) \, u_{t - j}",
    ]


def test_a_sequence_that_is_there_as_a_whole_has_no_time_and_its_slots_have_an_index() -> None:
    found = equations(
        "y: dot(softmax(dot(u, memory, over=n), over=slot), memory, over=slot)", "{u: [n], memory: [slot, n]}"
    )
    assert found == [
        r"y_{t} &= \sum_{j} \operatorname{softmax}_{j} ( \langle u_{t} , \mathrm{memory}_{j} \rangle_{n} ) \, \mathrm{memory}_{j}"
    ]


@pytest.mark.parametrize(
    ("written", "printed"),
    [
        ("u - (v - u)", "u_{t} - ( v_{t} - u_{t} )"),
        ("-(u - v)", "v_{t} - u_{t}"),
        ("u * (u + v)", r"u_{t} \odot ( u_{t} + v_{t} )"),
        ("u * -v", r"- u_{t} \odot v_{t}"),
        ("(u % 2) * v", r"( u_{t} \bmod 2 ) \odot v_{t}"),
        ("u ** 2 / n ** 0.5", r"\frac{u_{t}^{2}}{\sqrt{n}}"),
        ("u * n ** -0.5", r"\frac{u_{t}}{\sqrt{n}}"),
        ("(-u) ** 2", "( - u_{t} )^{2}"),
        ("(u / v) ** 2", r"\Bigl( \frac{u_{t}}{v_{t}} \Bigr)^{2}"),
        ("2 ** u", "2^{u_{t}}"),
        ("1 - exp(u + 1e-5)", r"1 - \exp ( u_{t} + 10^{-5} )"),
        ("3 * 2 ** n * u", r"3 \cdot 2^{n} \, u_{t}"),
        ("sum(u, over=n) * v", r"\Bigl( \sum_{n} u_{t} \Bigr) \, v_{t}"),
        ("u * dot(u, v, over=n)", r"u_{t} \, \langle u_{t} , v_{t} \rangle_{n}"),
    ],
)
def test_brackets_stand_where_they_are_needed_and_nowhere_else(written: str, printed: str) -> None:
    assert equations(f"y: {written}", "{u: [n], v: [n]}") == [f"y_{{t}} &= {printed}"]


def test_bounds_are_told() -> None:
    assert equations("y: clamp(u, low=-1, high=2) + clamp(u, low=0)") == [
        r"y_{t} &= \min ( \max ( u_{t} , -1 ) , 2 ) + \max ( u_{t} , 0 )"
    ]


def test_conditions_are_cases() -> None:
    assert equations("y: where(position > 3, u, 0)") == [
        r"y_{t} &= \begin{cases} u_{t} & \text{if } t > 3 \\ 0 & \text{else} \end{cases}"
    ]


STACKED = """
ssir: 1
name: stacked
dims: {n: 4, layers: 6}
components:
  one: {input: {u: [n]}, graph: {y: u + layer}, output: y}
  two: {input: {u: [n]}, graph: {y: 2 * u}, output: y}
  main:
    input: {u: [n]}
    graph:
      x: {stack: [one, two], times: layers, input: u}
    output: x
main: main
"""


def test_a_stack_is_a_recursion_over_layers() -> None:
    text = displays(loads(STACKED))
    assert r"y_{t} &= u_{t} + \ell" in text
    assert r"x^{(0)}_{t} &= u_{t}" in text
    assert r"x^{(\ell + 1)}_{t} &= f_{\ell} ( x^{(\ell)}_{t} ), \quad \ell = 0 , \ldots , \mathrm{layers} - 1" in text
    assert r"f_{0} , f_{1} , \ldots &= \mathrm{one} , \mathrm{two} , \ldots" in text
    assert r"x_{t} &= x^{(\mathrm{layers})}_{t}" in text


def test_the_glossary_names_what_it_can_and_what_is_named_otherwise_keeps_its_name() -> None:
    text = document(load("mamba.mixer"))
    assert r"\Delta_{t} &=" in text and r"$N = 16$" in text  # dt and state
    assert r"$D$ is \texttt{model}" in text and r"u_{t} \in \mathbb{R}^{\mathrm{model}}" in text  # D is the readout's
    assert r"\mathrm{conv}_{t} &=" in text


def test_a_capital_for_a_state_is_what_it_holds() -> None:
    text = document(load("gla.mixer"))
    assert r"S_{t} &= \alpha_{t} \odot S_{t - 1} + k_{t} \otimes v_{t}" in text
    assert r"\mathrm{memory}_{t} &=" in text


def test_the_table_tells_structure_and_dependence() -> None:
    text = " ".join(document(load("mamba.mixer")).split())
    assert r"diagonal over inner$\times$state, 0 to 1 & input \\" in text
    assert r"$C$ & $W_{C} \, x_{t}$ & \raggedright sum over state & input \\" in text


def test_a_state_that_an_equation_makes_is_in_the_table() -> None:
    text = document(component("y: 0.5 * delay(y) + u", "{u: [n]}", "{n: 4}"))
    assert r"y_{t} &= 0.5 \, y_{t - 1} + u_{t}" in text
    assert r"$A$ & $0.5$ & \raggedright scalar, 0.5 to 0.5 & constant \\" in text


def test_small_digits_and_dots_of_a_glossary_are_mathematics() -> None:
    text = document(load("vit"))
    assert r"P$^2$$\cdot$C is \texttt{pixel}" in text and "U+" not in text


def test_signs_of_latex_are_escaped_in_prose_and_in_names() -> None:
    text = document(loads(ODD))
    assert r"\section*{50\% \& more\_of $<$that$>$ \#1 \$x\$" in text
    assert r"\mathrm{model\_width}" in text and r"\mathrm{\_lead}_{t}" in text
    assert r"\texttt{U+6F22}" in text and "漢" not in text and text.count(r"\end{document}") == 1
    outside = re.sub(r"\\begin\{(align|tabular|cases)\}.*?\\end\{\1\}", "", text, flags=re.DOTALL)
    assert not re.search(r"(?<!\\)[&#%]", outside)


def test_long_lines_are_broken_between_terms() -> None:
    found = equations("y: " + " + ".join(f"tanh({i} * u + {i}) * u" for i in range(12)))
    assert 2 <= len(found) <= 5
    assert all(line.startswith(r"&\quad +") for line in found[1:])


def test_a_component_alone_is_shown_alone() -> None:
    assert document(load("mamba.mixer")).count(r"\subsection*") == 1
    whole = document(load("griffin"))
    assert r"\subsection*{lm}" in whole and r"\subsection*{recurrent: hawk.mixer}" in whole


def test_the_command_prints_a_document_and_one_form_only(capsys: Captured) -> None:
    assert main(["show", "lstm", "--latex"]) == 0
    printed = capsys.readouterr().out
    assert printed == document(load("lstm"))
    assert printed.startswith(r"\documentclass") and printed.endswith("\\end{document}\n")
    assert main(["show", "lstm", "--latex", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["latex"] == printed
    assert main(["show", "lstm", "--latex", "--ir"]) == 2
    assert "not allowed with" in capsys.readouterr().err


def test_sizes_that_are_set_are_told(capsys: Captured) -> None:
    assert main(["show", "mamba", "--latex", "--set", "state=4"]) == 0
    assert "$N = 4$" in capsys.readouterr().out


def test_a_wrong_spec_is_told_as_ever() -> None:
    with pytest.raises(SpecError, match="nothing here is called `v`"):
        document(component("y: u + v", "{u: [n]}", "{n: 4}"))


def test_the_documentation_shows_what_is_printed() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "latex.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```tex\n(.*?)```", page, re.DOTALL)
    assert shown in document(load("mamba.mixer"))
