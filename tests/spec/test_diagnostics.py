"""Every promised error of the language: its code, what is underlined, and what it says. What a stranger sees first."""

import textwrap
from pathlib import Path

import pytest

from ssir.errors import Diagnostic, SpecError
from ssir.spec.check import check
from ssir.spec.load import load, loads

HEAD = """\
ssir: 1
name: t
dims: {vocab: 8, model: 4, head: 2, key: 2, n: 3, past: unbounded}
components:
  mixer:
    input: {u: [model]}
    graph:
"""
TAIL = """
    output: y
main: mixer
"""


def graph(body: str, more: str = "") -> str:
    """A spec with this graph, and perhaps further components."""
    return HEAD + textwrap.indent(textwrap.dedent(body).strip(), "      ") + TAIL.replace("main:", f"{more}main:")


def faults(text: str) -> tuple[Diagnostic, ...]:
    with pytest.raises(SpecError) as caught:
        _ = loads(text, "t.yaml").graph
    return caught.value.diagnostics


def underlined(fault: Diagnostic) -> str:
    assert fault.span
    return fault.span.source.line(fault.span.line)[fault.span.column - 1 : fault.span.end_column - 1]


SIZED = """\
  sub:
    input: {v: [model]}
    graph:
      y: linear(v, n)
    output: y
"""

OWN = """\
  own:
    input: {A: [...], B: [...], dt: [...]}
    graph:
      a: 1 + dt * A
      b: dt * B
    output: {A: a, B: b}
"""

# What is wrong, in a graph of u[model]; and of each fault: code, what is underlined, what is said.
WRONG: dict[str, tuple[str, list[str]]] = {
    "unknown name": (
        graph("gate: sigmoid(u)\ny: u * gaet"),
        ["SSIR011 |gaet| nothing here is called `gaet`"],
    ),
    "unknown fn": (
        graph("y: sigmod(u)"),
        ["SSIR012 |sigmod| there is no function or component `sigmod`"],
    ),
    "one fault twice on a line": (
        graph("y: linear(gaet, n) * sub(gaet) + sum(gaet, over=m)", SIZED),
        [
            "SSIR011 |gaet| nothing here is called `gaet`",
            "SSIR011 |gaet| nothing here is called `gaet`",
            "SSIR011 |gaet| nothing here is called `gaet`",
            "SSIR011 |m| no dim is called `m`",
        ],
    ),
    "two sizes in rotate": (
        graph("y: rotate(linear(u, [model, n]), linear(u, head) * sub(u, n=5), over=model)", SIZED),
        ["SSIR015 |linear(u, head) * sub(u, n=5)| axis `n` has size 3 on one side and 5 on the other"],
    ),
    "two sizes in concat": (
        graph("y: concat([linear(u, [head, n]), linear(u, key) * sub(u, n=5)], model)", SIZED),
        [
            "SSIR015 |[linear(u, [head, n]), linear(u, key) * sub(u, n=5)]| axis `n` has size 3 on one side and 5 on the other"
        ],
    ),
    "two sizes in pack": (
        graph("y: pack([linear(u, n), sub(u, n=5)], head)", SIZED),
        ["SSIR015 |[linear(u, n), sub(u, n=5)]| axis `n` has size 3 on one side and 5 on the other"],
    ),
    "two sizes in experts": (
        graph(
            "w: softmax(linear(u, [head, n]), over=head)\ny: experts(linear(u, key) * sub(u, n=5), w, expert=head, hidden=model, out=vocab, over=key)",
            SIZED,
        ),
        ["SSIR015 |w| axis `n` has size 5 on one side and 3 on the other"],
    ),
    "wrong axes in dot": (
        graph("q: split(u,[head,key])\ny: dot(q, u, over=key)"),
        ["SSIR014 |u| there is no axis `key` here: the value has [model:4]"],
    ),
    "dot axis neither": (
        graph("y: dot(u, u, over=head)"),
        ["SSIR014 |u| there is no axis `head` here: the value has [model:4]"],
    ),
    "cycle": (
        graph("a: tanh(b)\nb: c + u\nc: a * 2\ny: b"),
        ["SSIR016 |a| a cycle without memory: a -> b -> c -> a"],
    ),
    "self": (
        graph("y: y + u"),
        ["SSIR016 |y| a cycle without memory: y -> y"],
    ),
    "state cycle": (
        graph("y: {state: [model], A: 0.5, input: y + u}"),
        ["SSIR016 |y| a cycle without memory: y -> y"],
    ),
    "divide": (
        graph("y: split(u,[head,n])"),
        ["SSIR015 |[head,n]| `model` is 4, but head * n is 2 * 3 = 6"],
    ),
    "missing arg": (
        graph("y: linear(u)"),
        ["SSIR013 |linear| `linear` lacks the argument `out`"],
    ),
    "too many": (
        graph("y: tanh(u, u)"),
        ["SSIR013 |u| `tanh` takes at most 1 argument"],
    ),
    "no bound": (
        graph("y: clamp(u)"),
        ["SSIR013 |clamp(u)| `clamp` has no bound"],
    ),
    "kw": (
        graph("y: linear(u, model, biass=true)"),
        ["SSIR013 |biass| `linear` has no argument `biass`"],
    ),
    "kind": (
        graph("y: linear(u, model, bias=1)"),
        ["SSIR013 |1| `bias` is true or false"],
    ),
    "num": (
        graph("y: clamp(u, low=u)"),
        ["SSIR019 |u| `u` is a value of the graph, and this number has to be known beforehand"],
    ),
    "op as output": (
        graph("y: shift(model)"),
        ["SSIR019 |y| `y` is an operator, and an output is a value"],
    ),
    "op in fn": (
        graph("y: tanh(shift(model))"),
        ["SSIR019 |shift(model)| this is an operator, and a value is needed"],
    ),
    "op as B": (
        graph("y: {state: [model], A: 0.5, B: shift(model), input: u}"),
        ["SSIR019 |shift(model)| an operator can only be the A of a state, not its B"],
    ),
    "op div": (
        graph("y: {state: [model], A: shift(model) / 2, input: u}"),
        ["SSIR019 |shift(model) / 2| operators have sums, differences and products, but no `div`"],
    ),
    "layer changes axes": (
        graph(
            "y: {stack: [lay], times: 2, input: u}",
            "  lay:\n    input: {u: [model]}\n    graph: {y: split(u, [head, key])}\n    output: y\n".replace(
                "split(u, [head, key])", '"split(u, [head, key])"'
            ),
        ),
        ["SSIR014 |lay| a layer gives back the axes that it takes: `lay` takes [model:4] and gives [head:2, key:2]"],
    ),
    "stack in axes": (
        graph(
            "y: {stack: [lay], times: 2, input: u}",
            "  lay:\n    input: {u: [head]}\n    graph: {y: 2 * u}\n    output: y\n",
        ),
        ["SSIR014 |lay| the input `u` of `lay` has the axes [head], and is given [model]"],
    ),
    "stack missing with": (
        graph(
            "y: {stack: [lay], times: 2, input: u}",
            "  lay:\n    input: {u: [model], z: [model]}\n    graph: {y: u + z}\n    output: y\n",
        ),
        ["SSIR013 |lay| the layer `lay` needs an input `z`"],
    ),
    "stack extra with": (
        graph(
            "y: {stack: [lay], times: 2, input: u, with: {z: u}}",
            "  lay:\n    input: {u: [model]}\n    graph: {y: u}\n    output: y\n",
        ),
        ["SSIR013 |z| no layer of this stack has an input `z`"],
    ),
    "stack carry not output": (
        graph(
            "y: {stack: [lay], times: 2, input: u, carry: {z: u}}",
            "  lay:\n    input: {u: [model], z: [model]}\n    graph: {y: u + z}\n    output: y\n",
        ),
        ["SSIR013 |z| no layer of this stack gives back `z`"],
    ),
    "stack times 0": (
        graph(
            "y: {stack: [lay], times: 0, input: u}",
            "  lay:\n    input: {u: [model]}\n    graph: {y: u}\n    output: y\n",
        ),
        ["SSIR018 |0| times is a whole number of at least 1, not 0"],
    ),
    "stack times huge": (
        graph(
            "y: {stack: [lay], times: 2147483647, input: u}",
            "  lay:\n    input: {u: [model]}\n    graph: {y: u}\n    output: y\n",
        ),
        ["SSIR004 |2147483647| 2147483647 layers; at most 10000 are allowed"],
    ),
    "stack times frac": (
        graph(
            "y: {stack: [lay], times: 2.5, input: u}",
            "  lay:\n    input: {u: [model]}\n    graph: {y: u}\n    output: y\n",
        ),
        ["SSIR018 |2.5| times is a whole number of at least 1, not 2.5"],
    ),
    "stack unknown": (
        graph(
            "y: {stack: [lai], times: 2, input: u}",
            "  lay:\n    input: {u: [model]}\n    graph: {y: u}\n    output: y\n",
        ),
        ["SSIR020 |lai| no component is called `lai`"],
    ),
    "stack self": (
        graph("y: {stack: [mixer], times: 2, input: u}"),
        ["SSIR017 |mixer| a component contains itself: mixer -> mixer"],
    ),
    "stack arg": (
        graph(
            "y: {stack: [lay(u)], times: 2, input: u}",
            "  lay:\n    input: {u: [model]}\n    graph: {y: u}\n    output: y\n",
        ),
        ["SSIR013 |u| a layer is given only dims: its inputs come from the stack"],
    ),
    "calls self": (
        graph("y: mixer(u)"),
        ["SSIR017 |mixer| a component contains itself: mixer -> mixer"],
    ),
    "mutual": (
        graph("y: b(u)", "  b:\n    input: {u: [model]}\n    graph: {y: mixer(u)}\n    output: y\n"),
        ["SSIR017 |mixer| a component contains itself: mixer -> b -> mixer"],
    ),
    "tie": (
        graph("a: linear(u, n)\ny: linear(u, model, tie=a)"),
        ["SSIR023 |a| the tied weight is [n:3, model:4], but [model:4, model_:4] is needed"],
    ),
    "tie no weight": (
        graph("a: tanh(u)\ny: linear(u, model, tie=a)"),
        ["SSIR023 |a| there is no weight to tie to here"],
    ),
    "share mismatch": (
        graph(
            "a: f(u, share=w)\ny: a + sum(h(u, share=w), over=n)",
            '  f:\n    input: {u: [model]}\n    graph: {y: "linear(u, model)"}\n    output: y\n  h:\n    input: {u: [model]}\n    graph: {y: "linear(u, n)"}\n    output: y\n',
        ),
        ["SSIR023 |linear(u, n)| calls that share `w` give `w.y.weight` different axes"],
    ),
    "share over a stack": (
        graph(
            "a: f(u, share=w)\ny: a + f(u, share=w)",
            '  layer:\n    input: {u: [model]}\n    graph: {y: "linear(u, model)"}\n    output: y\n  f:\n    input: {u: [model]}\n    graph:\n      y: {stack: [layer], times: 2, input: u}\n    output: y\n',
        ),
        ["SSIR023 |y| calls that share `w` have a stack in them, whose parameters they do not share"],
    ),
    "indices of nothing": (
        graph("y: u * sum(arange(past), over=past)"),
        ["SSIR014 |arange(past)| `past` is unbounded, and nothing here remembers or reads along it"],
    ),
    "slots of two kinds": (
        graph("y: mean(context(u, past) + window(u, past), over=past)"),
        ["SSIR014 |context(u, past)| `past` holds the steps so far elsewhere, and here the whole sequence"],
    ),
    "context of slots": (
        graph("y: sum(context(window(u, n), past), over=[past, n])"),
        ["SSIR014 |window(u, n)| slots of `n` may be absent, so it cannot be kept"],
    ),
    "looked up by a fraction": (
        graph("y: u + embed(position / 2, vocab, model)"),
        ["SSIR019 |position / 2| only tokens, `position` and other whole numbers can be looked up"],
    ),
    "selected by a fraction": (
        graph("y: u * select(param([n]), n, position * 0.5)"),
        ["SSIR019 |position * 0.5| the index is not a whole number"],
    ),
    "neg size": (
        graph("y: u").replace("n: 3", "n: -3"),
        ["SSIR018 |-3| `n` is -3, and a size lies between 1 and 2147483648"],
    ),
    "zero size": (
        graph("y: u").replace("n: 3", "n: 0"),
        ["SSIR018 |0| `n` is 0, and a size lies between 1 and 2147483648"],
    ),
    "div size": (
        graph("y: u").replace("n: 3", "n: model / 3"),
        ["SSIR015 |model / 3| `n` is 1.33333, and a size is a whole number"],
    ),
    "dim forward": (
        graph("y: u").replace("n: 3", "n: 2 * m2, m2: 4"),
        ["SSIR011 |m2| no dim or constant is called `m2`"],
    ),
    "dim self": (
        graph("y: u").replace("n: 3", "n: 2 * n"),
        ["SSIR011 |n| no dim or constant is called `n`"],
    ),
    "dim unknown": (
        graph("y: u").replace("n: 3", "n: 2 * modle"),
        ["SSIR011 |modle| no dim or constant is called `modle`"],
    ),
    "dim div0": (
        graph("y: u").replace("n: 3", "n: model / (head - head)"),
        ["SSIR018 |model / (head - head)| division by zero"],
    ),
    "dim float": (
        graph("y: u").replace("n: 3", "n: 3.5"),
        ["SSIR005 |3.5| expected a whole number or text, found the number 3.5"],
    ),
    "dim bool": (
        graph("y: u").replace("n: 3", "n: true"),
        ["SSIR005 |true| expected a whole number or text, found the boolean true"],
    ),
    "unknown axis": (
        graph("y: sum(u, over=modl)"),
        ["SSIR011 |modl| no dim is called `modl`"],
    ),
    "node as axis": (
        graph("a: u\ny: sum(u, over=a)"),
        ["SSIR014 |a| `a` is a value, and an axis is named by a dim"],
    ),
    "axis missing": (
        graph("y: sum(u, over=head)"),
        ["SSIR014 |head| there is no axis `head` here: the value has [model:4]"],
    ),
    "where cond": (
        graph("y: where(u, u, 0)"),
        ["SSIR019 |u| the condition is not a comparison"],
    ),
    "bool value": (
        graph("y: true"),
        ["SSIR019 |true| `true` and `false` are only arguments, not values"],
    ),
    "list value": (
        graph("y: [u, u]"),
        ["SSIR005 |[u, u]| expected text, a number, true or false or a mapping, found a list"],
    ),
    "compare": (
        graph("y: 1 < u < 2"),
        ["SSIR010 |<| comparisons do not chain"],
    ),
    "ternary": (
        graph("y: u if u > 0 else 0"),
        ["SSIR010 |if| `if` is not an operator here"],
    ),
    "attr": (
        graph("y: u.T"),
        ["SSIR010 |.| there are no attributes"],
    ),
    "matmul": (
        graph("y: u @ u"),
        ["SSIR010 |@| `@` is not an operator"],
    ),
    "str": (
        graph("y: tanh('u')"),
        ["SSIR010 |'u'| there are no strings in an expression"],
    ),
    "unbalanced": (
        graph("y: tanh(u"),
        ["SSIR010 |(| `(` is never closed"],
    ),
    "flow comma": (
        graph("y: {state: [model], A: 0.5, input: where(u > 0, u, 0)}"),
        ["SSIR001 |where(u > 0| a comma ends this value here: `where(u > 0`"],
    ),
    "dup node": (
        graph("y: u\ny: u"),
        ["SSIR002 |y| the key `y` is given twice; first on line 8"],
    ),
    "dup target": (
        graph("a, y: f(u)\ny: u", "  f:\n    input: {u: [model]}\n    graph: {y: u, z: 2 * u}\n    output: [y, z]\n"),
        ["SSIR024 |y| `y` is a node already"],
    ),
    "target count": (
        graph("a, b, y: f(u)", "  f:\n    input: {u: [model]}\n    graph: {y: u, z: 2 * u}\n    output: [y, z]\n"),
        ["SSIR013 |a, b, y| there are 3 names for 2 values"],
    ),
    "names of expr": (
        graph("a, y: tanh(u)"),
        ["SSIR013 |a, y| there are 2 names for 1 value"],
    ),
    "names of state": (
        graph("a, y: {state: [model], A: 0.5, input: u}"),
        ["SSIR013 |a, y| there are 2 names for 1 value"],
    ),
    "anchor": (
        graph("y: &a u"),
        ["SSIR003 |&a u| anchors are not allowed"],
    ),
    "merge": (
        graph("y: {<<: u}"),
        ["SSIR003 |<<| merge keys are not allowed"],
    ),
    "unknown key state": (
        graph("y: {state: [model], a: 0.5, input: u}"),
        ["SSIR006 |a| unknown key `a`"],
    ),
    "read": (
        graph("y: {state: [model], A: 0.5, input: u, read: befor}"),
        ["SSIR005 |befor| expected 'after' or 'before', found the text 'befor'"],
    ),
    "state axes dup": (
        graph("y: {state: [model, model], A: 0.5, input: u}"),
        ["SSIR014 |model| the state has the axis `model` twice"],
    ),
    "input axes dup": (
        graph("y: u").replace("[model]}", "[model, model]}"),
        ["SSIR014 |model| the input has the axis `model` twice"],
    ),
    "state lacks": (
        graph("y: {state: [n], A: 0.5, input: u}"),
        ["SSIR014 |u| the input has an axis `model` that the state lacks: the state is [n]"],
    ),
    "A axis": (
        graph("y: {state: [model], A: 'param([n])', input: u}"),
        ["SSIR014 |'param([n])'| A has an axis `n` that the state lacks: the state is [model]"],
    ),
    "B axis": (
        graph("y: {state: [model], A: 0.5, B: 'param([n])', input: u}"),
        ["SSIR014 |'param([n])'| B has an axis `n` that neither the state nor the input has"],
    ),
    "missing output": (
        graph("x: u"),
        ["SSIR011 |y| nothing here is called `y`"],
    ),
    "no main": (
        graph("y: u").replace("main: mixer", "main: miser"),
        ["SSIR020 |miser| `t` has no component `miser`"],
    ),
    "empty graph": (
        graph("y: u").replace("      y: u", "      {}"),
        ["SSIR011 |y| nothing here is called `y`"],
    ),
    "input shadow": (
        graph("u: 2 * u\ny: u"),
        ["SSIR024 |u| `u` is an input already"],
    ),
    "comp missing input": (
        graph("y: f()", "  f:\n    input: {u: [model]}\n    graph: {y: u}\n    output: y\n"),
        ["SSIR013 |f| `f` lacks its input `u`"],
    ),
    "comp extra": (
        graph("y: f(u, u)", "  f:\n    input: {u: [model]}\n    graph: {y: u}\n    output: y\n"),
        ["SSIR013 |u| `f` takes 1 input"],
    ),
    "comp dim": (
        graph("y: f(u, windw=3)", "  f:\n    input: {u: [model]}\n    graph: {y: u}\n    output: y\n"),
        ["SSIR013 |windw| `f` has no input or dim `windw`"],
    ),
    "comp axes": (
        graph("y: f(split(u, [head, key]))", "  f:\n    input: {u: [model]}\n    graph: {y: u}\n    output: y\n"),
        ["SSIR014 |split(u, [head, key])| the input `u` of `f` has the axes [model], and is given [head, key]"],
    ),
    "comp rest": (
        graph("y: f(u)", "  f:\n    input: {u: [..., key]}\n    graph: {y: u}\n    output: y\n"),
        ["SSIR014 |u| the input `u` of `f` has the axes [..., key], and is given [model]"],
    ),
    "token": (
        graph("y: embed(u, vocab, model)"),
        ["SSIR019 |u| only tokens, `position` and other whole numbers can be looked up"],
    ),
    "token arith": (
        graph("y: u * 2").replace("u: [model]", "u: token"),
        ["SSIR019 |u| a token is only looked up"],
    ),
    "token passed": (
        graph("y: f(u)", '  f:\n    input: {u: token}\n    graph: {y: "embed(u, vocab, model)"}\n    output: y\n'),
        ["SSIR019 |u| the input `u` of `f` is a token"],
    ),
    "import missing": (
        "imports: {a: nowhere.mixer}\n" + graph("y: a(u)"),
        ["SSIR020 |nowhere.mixer| no spec is called `nowhere`; `ssir list` shows them"],
    ),
    "import missing comp": (
        "imports: {a: mamba.mixxer}\n" + graph("y: a(u)"),
        ["SSIR020 |mamba.mixxer| `mamba` has no component `mixxer`"],
    ),
    "import path": (
        "imports: {a: ./zz.yaml:x}\n" + graph("y: a(u)"),
        ["SSIR020 |./zz.yaml:x| `./zz.yaml:x` names no component of a spec"],
    ),
    "import clash": (
        "imports: {mixer: mamba.mixer}\n" + graph("y: u"),
        ["SSIR024 |mixer| `mixer` is imported and a component"],
    ),
    "import dims": (
        "imports: {a: mamba.mixer}\n" + graph("y: a(u, statee=3)"),
        ["SSIR013 |statee| `mixer` has no input or dim `statee`"],
    ),
    "init": (
        graph("y: u * param([model], init=normall(0.1))"),
        ["SSIR012 |normall| `normall` is no initialiser"],
    ),
    "init arg": (
        graph("y: u * param([model], init=uniform(1))"),
        ["SSIR013 |uniform(1)| `uniform` takes 2 arguments here, not 1"],
    ),
    "init word": (
        graph("y: u * param([model], init=zeroz)"),
        ["SSIR012 |zeroz| `zeroz` is no initialiser"],
    ),
    "param number": (
        graph("y: u * param(4)"),
        ["SSIR014 |4| the axes of a parameter are named"],
    ),
    "param unbounded": (
        graph("y: u * param([past])"),
        ["SSIR018 |[past]| a parameter needs a finite axis, and `past` is unbounded"],
    ),
    "linear unbounded": (
        graph("y: linear(window(u, past), model)"),
        ["SSIR014 |window(u, past)| a learned map needs a finite axis, and `past` is unbounded"],
    ),
    "unbounded num": (
        graph("y: u * past"),
        ["SSIR018 |past| `past` is unbounded: it has no size to reckon with"],
    ),
    "shift in expr": (
        graph("y: {state: [model], A: 'shift(n)', input: u}"),
        ["SSIR014 |'shift(n)'| A has an axis `n` that the state lacks: the state is [model]"],
    ),
    "shift noaxis": (
        graph("y: {state: [n, model], A: 'shift(head)', input: u}"),
        ["SSIR014 |'shift(head)'| A has an axis `head` that the state lacks: the state is [n, model]"],
    ),
    "outer axes": (
        graph("y: {state: [model], A: '1 - outer(u, param([n]), over=model)', input: u}"),
        ["SSIR014 |param([n])| there is no axis `model` here: the value has [n:3]"],
    ),
    "dense": (
        graph("y: {state: [model], A: 'dense(param([model]), over=model)', input: u}"),
        ["SSIR014 |param([model])| there is no axis `model_` here: the value has [model:4]"],
    ),
    "rotate half": (
        graph("y: rotate(u, param([n]), over=model)"),
        ["SSIR014 |param([n])| the angle needs one axis of its own, half as long as `model` or shorter: its axes: n:3"],
    ),
    "rotate op": (
        graph("y: {state: [model], A: 'rotate(param([n]), over=model)', input: u}"),
        ["SSIR014 |param([n])| the angle needs one axis half as long as `model`; its axes: n:3"],
    ),
    "pairs": (
        graph("y: rotate(u, param([head]), over=model, pairs=halfs)"),
        ["SSIR013 |halfs| pairs is `interleaved` or `halves`, not `halfs`"],
    ),
    "context": (
        graph("y: mean(context(u, n), over=n)"),
        ["SSIR014 |n| `n` has a size, but a whole sequence has none beforehand"],
    ),
    "delay 0": (
        graph("y: delay(u, steps=0)"),
        ["SSIR018 |0| a delay takes at least one step, not 0"],
    ),
    "delay frac": (
        graph("y: delay(u, steps=1.5)"),
        ["SSIR018 |1.5| `steps` is a whole number, not 1.5"],
    ),
    "delay unknown": (
        graph("y: delay(y)"),
        ["SSIR014 |y| the axes of this cannot be inferred: it depends on nothing but itself"],
    ),
    "hold 0": (
        graph("y: hold(u, every=0)"),
        ["SSIR018 |0| a value is held for at least one step, not 0"],
    ),
    "array": (
        graph("y: u * sum(array([1, 2], [n]), over=n)"),
        ["SSIR015 |[1, 2]| there are 2 values, but `n` is 3"],
    ),
    "pack": (
        graph("y: sum(pack([u, u], n), over=n)"),
        ["SSIR015 |n| there are 2 values, but `n` is 3"],
    ),
    "concat": (
        graph("y: sum(concat([u, u], n), over=n)"),
        ["SSIR015 |n| the parts make 8, but `n` is 3"],
    ),
    "slice": (
        graph("y: u * sum(slice(u, model, stop=9), over=model)"),
        ["SSIR015 |slice(u, model, stop=9)| 0 to 9 does not lie in `model`, which is 4"],
    ),
    "slice out": (
        graph("y: u * sum(slice(u, model, stop=2, out=n), over=n)"),
        ["SSIR015 |n| 0 to 2 has 2 entries, but `n` is 3"],
    ),
    "slice out of the middle": (
        graph("y: u * sum(slice(u, model, 1, 3, out=n), over=n)"),
        ["SSIR015 |n| 1 to 3 has 2 entries, but `n` is 3"],
    ),
    "select": (
        graph("y: u + select(u, model, u)"),
        ["SSIR019 |u| the index is not a whole number"],
    ),
    "select2": (
        graph("y: u + select(u, model, 7)"),
        ["SSIR015 |7| `model` is 4, and has no entry 7"],
    ),
    "rename": (
        graph("y: rename(u, head=key)"),
        ["SSIR014 |key| there is no axis `head` here: the value has [model:4]"],
    ),
    "rename2": (
        graph("y: rename(u, model=n)"),
        ["SSIR015 |n| `model` is 4, but `n` is 3"],
    ),
    "merge axes": (
        graph("y: merge(split(u,[head,key]), [head,key], n)"),
        ["SSIR015 |n| `n` is 3, but head * key is 2 * 2 = 4"],
    ),
    "eye": (
        graph("y: u * sum(eye([n]), over=n)"),
        ["SSIR015 |[n]| an identity needs two axes of one size"],
    ),
    "discretize noA": (
        graph("y: {state: [model], input: u, discretize: {method: zoh, dt: 0.1}}"),
        ["SSIR007 |y| a continuous-time state needs A"],
    ),
    "discretize method": (
        graph("y: {state: [model], A: -1, input: u, discretize: {method: zo, dt: 0.1}}"),
        ["SSIR012 |zo| no method is called `zo`"],
    ),
    "discretize by what is no method": (
        graph("y: {state: [model], A: -1, input: u, discretize: {method: sub, dt: 0.1}}", SIZED),
        ["SSIR013 |sub| `sub` is no method of sampling"],
    ),
    "discretize an operator by a component": (
        graph(
            "y: {state: [n], A: 'dense(eye([n, n_]), over=n)', input: 'mean(u, over=model)', discretize: {method: own, dt: 0.1}}",
            OWN.replace("dt * B", "dt * A"),
        ),
        ["SSIR019 |own| this B is an operator, and a value is needed"],
    ),
    "discretize shift": (
        graph("y: {state: [n, model], A: shift(n), input: u, discretize: {method: zoh, dt: 0.1}}"),
        ["SSIR019 |shift(n)| only a diagonal or a dense operator has an exponential"],
    ),
    "constants": (
        "constants: {c: 1 / 0}\n" + graph("y: u * c"),
        ["SSIR018 |1 / 0| division by zero"],
    ),
    "constant unknown": (
        "constants: {c: 2 * d}\n" + graph("y: u * c"),
        ["SSIR011 |d| no dim or constant is called `d`"],
    ),
    "dim const": (
        "constants: {n: 1}\n" + graph("y: u * n"),
        ["SSIR024 |n| `n` is a dim and a constant"],
    ),
    "group_norm": (
        graph("y: group_norm(u, over=head)"),
        ["SSIR014 |head| there is no axis `head` here: the value has [model:4]"],
    ),
    "nested over": (
        graph("y: sum(u, over=[model, model])"),
        ["SSIR014 |model| the axis `model` is named twice"],
    ),
    "linear dup out": (
        graph("y: sum(linear(u, [n, n]), over=n)"),
        ["SSIR014 |n| the axis `n` is named twice"],
    ),
    "linear keep": (
        graph("y: linear(split(u,[head,key]), head, over=key)"),
        ["SSIR014 |head| the value keeps an axis `head`, so it cannot be made again"],
    ),
    "solve": (
        graph("y: solve(u, u, model)"),
        ["SSIR014 |model| there is no axis `model_` here: the value has [model:4]"],
    ),
    "many": (
        graph("a: sigmod(u)\nb: u * gaet\nc: tanh(a)\nd: split(u, [head, n])\ny: a + b + c + d"),
        [
            "SSIR012 |sigmod| there is no function or component `sigmod`",
            "SSIR011 |gaet| nothing here is called `gaet`",
            "SSIR015 |[head, n]| `model` is 4, but head * n is 2 * 3 = 6",
        ],
    ),
    "two comps": (
        graph("y: u + w", "  f:\n    input: {u: [model]}\n    graph: {y: u + w2}\n    output: y\n"),
        ["SSIR011 |w| nothing here is called `w`", "SSIR011 |w2| nothing here is called `w2`"],
    ),
    "max_plus": (
        graph("y: {state: [model], A: 0.5, input: u, algebra: maxplus}"),
        ["SSIR005 |maxplus| expected 'plus_times' or 'max_plus', found the text 'maxplus'"],
    ),
    "name bad": (
        graph("y: u").replace("name: t", "name: 3d model"),
        [
            "SSIR005 |3d model| expected a name: letters, digits and _, at most 64, the first no digit, found the text '3d model'"
        ],
    ),
    "top unknown": (
        "dimss: {}\n" + graph("y: u"),
        ["SSIR006 |dimss| unknown key `dimss`"],
    ),
    "complex": (
        graph("y: maximum(complex(u, u), 0)"),
        ["SSIR019 |maximum(complex(u, u), 0)| `maximum` is not defined for complex numbers"],
    ),
    "complex out norm": (
        graph("y: softmax(complex(u, u), over=model)"),
        ["SSIR019 |softmax(complex(u, u), over=model)| `softmax` is not defined for complex numbers"],
    ),
    "size dict": (
        graph("y: {state: {a: 3}, A: 0.5, input: u}"),
        ["SSIR005 |{a: 3}| expected a list or text, found a mapping"],
    ),
    "null": (
        graph("y:"),
        ["SSIR005 || expected text, a number, true or false or a mapping, found nothing"],
    ),
    "ytrue": (
        graph("y: yes"),
        ["SSIR011 |yes| nothing here is called `yes`"],
    ),
    "unit": (
        graph("y: 2u"),
        ["SSIR010 |u| `u` does not belong to a number"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_fault_has_its_code_its_place_and_its_words(case: str) -> None:
    text, expected = WRONG[case]
    found = faults(text)
    assert [f"{fault.code} |{underlined(fault)}| {fault.message}" for fault in found] == expected
    for fault in found:
        assert fault.help, "every fault says how to mend it"
        assert not fault.message.endswith(".") and not fault.help.endswith(".")
        assert not fault.message[0].isupper() or fault.message[:2] in ("A ", "B ")


def test_the_whole_of_a_message() -> None:
    (fault,) = faults(graph("gate: sigmoid(u)\ny: u * gaet"))
    assert fault.render() == textwrap.dedent(
        """\
        t.yaml:9:14: error[SSIR011]: nothing here is called `gaet`
         9 |       y: u * gaet
           |              ^^^^
           = help: the nearest is `gate`"""
    )


def test_a_cycle_is_printed_once_from_its_first_node() -> None:
    (fault,) = faults(graph("z: tanh(b)\nb: c + u\nc: z * 2\ny: c"))
    assert fault.message == "a cycle without memory: z -> b -> c -> z"
    assert fault.help == "read one of them as it was a step before: delay(c)"


def test_what_follows_from_a_fault_is_not_a_fault() -> None:
    found = faults(graph("a: sigmod(u)\nb: tanh(a)\nc: delay(b) + a\ny: c * b"))
    assert [fault.code for fault in found] == ["SSIR012"]


def test_faults_of_a_component_that_is_called_twice_are_told_once() -> None:
    more = "  f:\n    input: {u: [model]}\n    graph: {y: u + w}\n    output: y\n"
    assert len(faults(graph("a: f(u)\ny: f(a)", more))) == 1


def test_faults_of_dims_are_gathered_and_hide_no_syntax_error() -> None:
    text = graph("y: u +").replace("n: 3", "n: 2 * nn, m: n + 1, k: model / 3")
    assert [fault.code for fault in faults(text)] == ["SSIR011", "SSIR015", "SSIR010"]


def test_the_parts_of_a_state_are_looked_at_one_by_one() -> None:
    found = faults(graph("y: {state: [modle], A: sigmod(u), B: w, input: u}"))
    assert [underlined(fault) for fault in found] == ["modle", "sigmod", "w"]


def test_an_error_in_an_imported_file_points_into_that_file(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(graph("y: u + w").replace("name: t", "name: other"))
    (tmp_path / "mine.yaml").write_text(
        graph("y: f(u)").replace("components:", "imports: {f: other.mixer}\ncomponents:")
    )
    with pytest.raises(SpecError, match=r"other.yaml:8:14: error\[SSIR011\]"):
        _ = load(str(tmp_path / "mine.yaml")).graph


def test_specs_that_import_each_other_in_a_ring_are_refused(tmp_path: Path) -> None:
    for mine, other in (("a", "b"), ("b", "a")):
        text = graph("y: f(u)").replace("components:", f"imports: {{f: {other}.mixer}}\ncomponents:")
        (tmp_path / f"{mine}.yaml").write_text(text)
    with pytest.raises(SpecError, match="a component contains itself: mixer -> mixer -> mixer"):
        _ = load(str(tmp_path / "a.yaml")).graph


def test_an_import_never_reads_a_path(tmp_path: Path) -> None:
    (tmp_path / "secret.yaml").write_text("password: hunter2")
    for target in (f"{tmp_path}/secret", "../secret.x", f"{tmp_path}/secret.yaml:x", "/etc/passwd"):
        text = graph("y: f(u)").replace("components:", f"imports: {{f: '{target}'}}\ncomponents:")
        (fault,) = faults(text)
        assert fault.code == "SSIR020" and "hunter2" not in fault.render()


def test_a_component_may_be_borrowed_with_constants_of_its_own() -> None:
    more = "  f:\n    input: {u: [model]}\n    graph: {y: u * rate}\n    output: y\n"
    spec = loads("constants: {rate: 2, twice: 2 * rate}\n" + graph("y: f(u, rate=5) * rate", more))
    values = {node.attrs["value"] for node in spec.graph if node.op == "const"}
    assert values == {2.0, 5.0}


def test_constants_are_computed_anew_from_those_that_are_set() -> None:
    spec = loads("constants: {rate: 2, twice: 2 * rate}\n" + graph("y: u * twice"), rate=5)
    assert [node.attrs["value"] for node in spec.graph if node.op == "const"] == [10.0]


def test_only_a_register_remembers_along_an_unbounded_axis() -> None:
    for y in ("{state: [past, model], A: 0.9, input: u}", "sum(delay(window(u, past)), over=past)"):
        (fault,) = faults(graph(f"y: {y}"))
        assert fault.code == "SSIR018" and "only a register along it" in fault.message
    assert loads(graph("y: sum(window(u, past), over=past)")).graph


# Size is no danger.


def test_a_component_without_an_input_is_no_layer_and_no_model() -> None:
    more = '  f:\n    input: {}\n    graph: {y: "param([model])"}\n    output: y\n'
    (fault,) = faults(graph("y: {stack: [f], times: 2, input: u}", more))
    assert fault.message == "the layer `f` has no input"
    check(loads(graph("y: u * f()", more)))
    (fault,) = faults(graph("y: u * f()", more).replace("main: mixer", "main: f"))
    assert fault.code == "SSIR007"


def test_huge_dims_cost_nothing() -> None:
    text = graph(
        """
        w: linear(u, n)
        q: sum(w + arange(n) + sum(eye([n, n_]), over=n_), over=n)
        c: {state: [n, model], A: shift(n), input: u, C: "param([n, model])"}
        d: delay(u, steps=2147483648)
        y: c + d + q
        """
    ).replace("n: 3", "n: 2147483648")
    check(loads(text))


def test_a_chain_of_hundreds_of_nodes_is_a_graph() -> None:
    chain = "\n".join(f"x{i}: x{i + 1} + 1" for i in range(400))
    check(loads(graph(f"{chain}\nx400: u\ny: x0")))


def test_a_sum_of_hundreds_of_terms_is_a_graph() -> None:
    check(loads(graph("y: " + " + ".join(["u"] * 250))))
    check(loads(graph("y: " + "-" * 30 + "u")))


def test_what_doubles_at_every_step_is_stopped() -> None:
    calls = "".join(
        f"  f{i}:\n    input: {{u: [model]}}\n    graph: {{y: f{i + 1}(f{i + 1}(u))}}\n    output: y\n"
        for i in range(25)
    )
    last = "  f25:\n    input: {u: [model]}\n    graph: {y: tanh(u)}\n    output: y\n"
    assert {fault.code for fault in faults(graph("y: f0(u)", calls + last))} == {"SSIR004"}


def test_stacks_of_stacks_are_counted_together() -> None:
    inner = "  g:\n    input: {u: [model]}\n    graph: {y: {stack: [h], times: 200, input: u}}\n    output: y\n"
    last = "  h:\n    input: {u: [model]}\n    graph: {y: tanh(u)}\n    output: y\n"
    text = graph("y: {stack: [g], times: 200, input: u}", inner + last)
    (fault,) = faults(text)
    assert fault.code == "SSIR004" and underlined(fault) == "200"
    check(loads(text.replace("200", "20")))


def test_squares_of_squares_are_bounded_once_each() -> None:
    chain = "\n".join(f"x{i}: x{i + 1} * x{i + 1}" for i in range(60))
    check(loads(graph(f"{chain}\nx60: sigmoid(u)\ny: {{state: [model], A: x0, input: u}}")))


def test_complex_memories_are_not_kept_as_data() -> None:
    (fault,) = faults(graph('y: {state: [model], A: "complex(u, u)", input: u, dtype: data}'))
    assert fault.code == "SSIR018" and "complex" in fault.message


@pytest.mark.parametrize("own", ["g(u)", "linear(u, model)", "{stack: [g], times: 2, input: u}"])
@pytest.mark.parametrize("order", ["q + r", "r + q"])
def test_what_calls_share_is_not_called_like_a_node_with_parameters(own: str, order: str) -> None:
    more = "  g:\n    input: {u: [model]}\n    graph: {y: 'linear(u, model)'}\n    output: y\n"
    more += "  f:\n    input: {u: [model]}\n    graph: {y: 'g(u, share=q)'}\n    output: y\n"
    for user in ("f(u)", "{stack: [f], times: 2, input: u}"):
        text = graph(f"q: {own}\nr: {user}\ny: {order}", more)
        (fault,) = faults(text)
        assert fault.code == "SSIR024" and "`q" in fault.message
        check(loads(text.replace("q: ", "own: ").replace(order, order.replace("q", "own"))))
