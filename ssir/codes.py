"""The catalogue of error codes: what each means, an example that has it, and the example mended.

`ssir explain CODE` and the documentation print it; the tests make sure that each example really has its code.
"""

import re
import textwrap
from dataclasses import dataclass

_FILE = "@"

_GRAPH = """\
ssir: 1
name: example
dims: {vocab: 8, model: 4, state: 2, past: unbounded}
components:
  mixer:
    input: {u: [model]}
    graph:
      @
    output: y
main: mixer
"""

_COMPONENTS = """\
ssir: 1
name: example
dims: {vocab: 8, model: 4}
components:
  @
main: mixer
"""

_DIMS = """\
ssir: 1
name: example
dims:
  @
components:
  mixer:
    input: {u: [model]}
    graph:
      y: linear(linear(u, inner), model)
    output: y
main: mixer
"""

_COMMAND = ""


@dataclass(frozen=True)
class Code:
    """One kind of error.

    The examples are what matters of a file, of which `wrong_file` and `right_file` are the whole; where an example is a
    command, these are empty.
    """

    title: str
    explanation: str
    wrong: str = ""
    right: str = ""
    frame: str = _FILE

    @property
    def wrong_file(self) -> str:
        return self._whole(self.wrong)

    @property
    def right_file(self) -> str:
        return self._whole(self.right)

    def _whole(self, example: str) -> str:
        return re.sub("^( *)@", lambda found: textwrap.indent(example, found[1]), self.frame, flags=re.MULTILINE)


CODES: dict[str, Code] = {
    "SSIR001": Code(
        "not YAML",
        "The text breaks the rules of YAML, or holds characters that cannot be seen. The most frequent cause: "
        "between braces or brackets a comma ends a value, so an expression with a comma needs quotes there, or a "
        "line of its own.",
        "y: {state: [model], A: 0.9, input: where(u > 0, u, 0)}",
        'y: {state: [model], A: 0.9, input: "where(u > 0, u, 0)"}',
        _GRAPH,
    ),
    "SSIR002": Code(
        "the same key twice",
        "A mapping holds each key once. YAML readers silently keep the last; here it is an error.",
        "y: u\ny: 2 * u",
        "x: u\ny: 2 * x",
        _GRAPH,
    ),
    "SSIR003": Code(
        "an anchor, alias, tag, merge key or directive",
        "These make a YAML file mean something other than it shows, and are no part of the language. A value that "
        "starts with *, &, ! or % wants quotes.",
        "x: &gate sigmoid(u)\ny: *gate",
        "gate: sigmoid(u)\ny: gate",
        _GRAPH,
    ),
    "SSIR004": Code(
        "a limit exceeded",
        "Files, values, names, numbers and nesting are bounded, so that no file can exhaust the machine that reads "
        "it. A whole number may not exceed 2**53, and a real number has to be finite.",
        "y: {state: [model], A: 0.9, input: u, D: 1e999}",
        "y: {state: [model], A: 0.9, input: u, D: 1e9}",
        _GRAPH,
    ),
    "SSIR005": Code(
        "a value of the wrong kind in the file",
        "A key takes text, a number, a list or a mapping, and found another. Only true and false are booleans; y, "
        "n, on, off, yes and no are text.",
        "y: {state: {size: model}, A: 0.9, input: u}",
        "y: {state: [model], A: 0.9, input: u}",
        _GRAPH,
    ),
    "SSIR006": Code(
        "an unknown key",
        "The place has no key of this name. The keys of a state are state, A, B, input, C, D, read, initial, "
        "algebra, dtype and discretize; those of a stack are stack, times, input, with and carry.",
        "y: {state: [model], a: 0.9, input: u}",
        "y: {state: [model], A: 0.9, input: u}",
        _GRAPH,
    ),
    "SSIR007": Code(
        "a missing key",
        "A key that has no default is not there.",
        "mixer:\n  input: {u: [model]}\n  graph:\n    y: 2 * u",
        "mixer:\n  input: {u: [model]}\n  graph:\n    y: 2 * u\n  output: y",
        _COMPONENTS,
    ),
    "SSIR010": Code(
        "not an expression",
        "Expressions are numbers, names, + - * / ** %, one comparison, calls f(a, key=b) and lists [a, b]. There "
        "are no attributes, subscripts, strings, loops, or words as operators; a choice is made with "
        "where(condition, a, b).",
        "y: u if u > 0 else 0",
        "y: where(u > 0, u, 0)",
        _GRAPH,
    ),
    "SSIR011": Code(
        "an unknown name",
        "A name is a node of the same graph, an input, a constant, a dim, or one of position, start and layer.",
        "gate: sigmoid(u)\ny: u * gaet",
        "gate: sigmoid(u)\ny: u * gate",
        _GRAPH,
    ),
    "SSIR012": Code(
        "an unknown function",
        "A called name is a component of this file, an imported component, or an operation of the core or of a "
        "plugin. `ssir plugins` shows which plugins are there.",
        "y: sigmod(u)",
        "y: sigmoid(u)",
        _GRAPH,
    ),
    "SSIR013": Code(
        "wrong arguments",
        "A call has too few or too many arguments, one that the function does not know, or one of the wrong sort.",
        "y: linear(u, model, biass=true)",
        "y: linear(u, model, bias=true)",
        _GRAPH,
    ),
    "SSIR014": Code(
        "wrong axes",
        "An operation names an axis that its argument lacks, or a value has axes that do not fit. Values broadcast "
        "by the names of their axes, never by position.",
        "y: u * sum(u, over=state)",
        "y: u * sum(u, over=model)",
        _GRAPH,
    ),
    "SSIR015": Code(
        "sizes disagree",
        "Axes that have to be of one size are not, an axis does not divide into the parts asked for, or a division of "
        "dims leaves a rest: where that is meant, use floor or ceil.",
        "model: 5\ninner: model / 2",
        "model: 5\ninner: ceil(model / 2)",
        _DIMS,
    ),
    "SSIR016": Code(
        "a cycle without memory",
        "A value depends on itself within one time step. A cycle is meant to pass through a memory: delay(x), or a "
        "state with `read: before`.",
        "y: tanh(u + y)",
        "y: tanh(u + delay(y))",
        _GRAPH,
    ),
    "SSIR017": Code(
        "a component that contains itself",
        "A component calls itself, directly or through others, so that its graph would have no end. To repeat a "
        "component, use a stack.",
        "mixer:\n  input: {u: [model]}\n  graph: {y: mixer(2 * u)}\n  output: y",
        "mixer:\n  input: {u: [model]}\n  graph: {y: tanh(2 * u)}\n  output: y",
        _COMPONENTS,
    ),
    "SSIR018": Code(
        "not a size",
        "The size of an axis, and a number of layers or of steps, is a whole number of at least 1.",
        "model: 4\ninner: model - 4",
        "model: 4\ninner: 2 * model - 4",
        _DIMS,
    ),
    "SSIR019": Code(
        "a value of the wrong kind in an expression",
        "An operator (shift, outer, dense, rotate) stands only in A; a comparison only in where; a token is only "
        "looked up; a list and true or false are only arguments.",
        "y: where(u, u, 0)",
        "y: where(u > 0, u, 0)",
        _GRAPH,
    ),
    "SSIR020": Code(
        "an unknown spec or component",
        "`main`, a stack, an import or the command line names a spec or a component that does not exist, or a file "
        "that cannot be read.",
        "mixer:\n"
        "  input: {u: [model]}\n"
        "  graph:\n"
        "    y: {stack: [blok], times: 2, input: u}\n"
        "  output: y\n"
        "block:\n"
        "  input: {u: [model]}\n"
        "  graph: {y: tanh(u)}\n"
        "  output: y",
        "mixer:\n"
        "  input: {u: [model]}\n"
        "  graph:\n"
        "    y: {stack: [block], times: 2, input: u}\n"
        "  output: y\n"
        "block:\n"
        "  input: {u: [model]}\n"
        "  graph: {y: tanh(u)}\n"
        "  output: y",
        _COMPONENTS,
    ),
    "SSIR021": Code(
        "an unknown dim",
        "A dim is set that the spec does not have. Dims are set in a call of an imported component, in Python by "
        "keyword, or with --set; `ssir show NAME` lists them.",
        "ssir plan my.yaml --set modle=64",
        "ssir plan my.yaml --set model=64",
        _COMMAND,
    ),
    "SSIR022": Code(
        "no step form",
        "The graph reads the future, through `context` or `reverse`, so it can be run over whole sequences only. For decoding, "
        "read the past with `window`.",
        "y: mean(context(u, past), over=past)",
        "y: mean(window(u, past), over=past)",
        _GRAPH,
    ),
    "SSIR023": Code(
        "weights that cannot be shared",
        "`tie=` and `share=` make weights one, so their axes have to be the same, and what they name has to have a "
        "weight.",
        "y: linear(u, model, tie=u)",
        "x: linear(u, model)\ny: linear(x, model, tie=x)",
        _GRAPH,
    ),
    "SSIR024": Code(
        "a clash of names",
        "Two things have one name where each needs its own: a node and an input, a dim and a constant, two "
        "parameters, or what two plugins bring.",
        "u: 2 * u\ny: u",
        "x: 2 * u\ny: x",
        _GRAPH,
    ),
    "SSIR040": Code(
        "something that nothing reads",
        "A warning: a node, a dim or a constant stands in the file and decides nothing. Most often it was meant to be read, "
        "and its name was left out. The spec is good all the same.",
        "gate: sigmoid(linear(u, model))\ny: linear(u, model)",
        "gate: sigmoid(linear(u, model))\ny: linear(u, model) * gate",
        _GRAPH,
    ),
    "SSIR041": Code(
        "a readout that sums nothing",
        "A warning: C contracts the axes of the state that the input lacks. An input that was multiplied out beforehand "
        "has them all, so that C only weighs what is kept, and what reads it is larger than it was meant to be.",
        's: {state: [model, state], A: 0.5, input: "u * linear(u, state)", C: "linear(u, state)"}\ny: sum(s, over=state)',
        's: {state: [model, state], A: 0.5, B: "linear(u, state)", input: u, C: "linear(u, state)"}\ny: s',
        _GRAPH,
    ),
    "SSIR030": Code(
        "a plugin failed",
        "A plugin could not be imported or registered. It breaks nothing else: `ssir plugins` shows why it failed, "
        "and the operations that are missing are those it would have brought.",
    ),
}
