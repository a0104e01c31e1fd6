"""The expression language: what parses, how tightly it binds, and what everything else is told."""

import ast
import random
import re
import time
from dataclasses import replace
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssir.spec.expr import (
    MAX_LENGTH,
    Binary,
    Bool,
    Call,
    Compare,
    Expr,
    ExprError,
    List,
    Name,
    Number,
    Unary,
    parse,
    unparse,
)

CORPUS = [
    "linear(u, inner)",
    "silu(conv + param([inner], init=zeros, name=conv_bias))",
    "exp(dt * -exp(param([inner, state], init=log_arange, decay=false)))",
    "(1 - outer(beta * k, k, over=key)) * w",
    "where(position % 4 == 0, x, delay(x, steps=2))",
    "array([[0, 1], [-k, 0]], [n, n_])",
    "2 ** -x ** 0.5 / 1e-5",
]


def bare(expr: Expr) -> Expr:
    """The same tree with all offsets zero."""
    match expr:
        case Unary(op, operand):
            return Unary(op, bare(operand), 0, 0)
        case Binary(op, left, right):
            return Binary(op, bare(left), bare(right), 0, 0)
        case Compare(op, left, right):
            return Compare(op, bare(left), bare(right), 0, 0)
        case Call(function, args, kwargs):
            named = tuple((key, bare(value), 0, 0) for key, value, *_ in kwargs)
            return Call(function, tuple(map(bare, args)), named, 0, 0, 0, 0)
        case List(items):
            return List(tuple(map(bare, items)), 0, 0)
        case _:
            return replace(expr, start=0, end=0)


def children(expr: Expr) -> tuple[Expr, ...]:
    match expr:
        case Unary(_, operand):
            return (operand,)
        case Binary(_, left, right) | Compare(_, left, right):
            return (left, right)
        case Call(_, args, kwargs):
            return (*args, *(value for _, value, *_ in kwargs))
        case List(items):
            return items
        case _:
            return ()


names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True).filter(lambda name: name not in ("true", "false"))
leaves: st.SearchStrategy[Expr] = st.one_of(
    st.builds(
        Number, st.integers(0, 2**53) | st.floats(0, allow_nan=False, allow_infinity=False), st.just(0), st.just(0)
    ),
    st.builds(Bool, st.booleans(), st.just(0), st.just(0)),
    st.builds(Name, names, st.just(0), st.just(0)),
)


def branches(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    zero = st.just(0)
    named = st.dictionaries(names, inner, max_size=2).map(lambda d: tuple((k, v, 0, 0) for k, v in d.items()))
    several = st.lists(inner, max_size=3).map(tuple)
    return st.one_of(
        st.builds(Unary, st.just("-"), inner, zero, zero),
        st.builds(Binary, st.sampled_from(["+", "-", "*", "/", "%", "**"]), inner, inner, zero, zero),
        st.builds(Compare, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), inner, inner, zero, zero),
        st.builds(Call, names, several, named, zero, zero, zero, zero),
        st.builds(List, several, zero, zero),
    )


expressions = st.recursive(leaves, branches, max_leaves=15)


@given(expressions)
@settings(max_examples=300)
def test_unparse_then_parse_gives_the_same_tree(expr: Expr) -> None:
    assert bare(parse(unparse(expr))) == expr


@given(expressions)
def test_offsets_cut_out_the_text_of_every_part(expr: Expr) -> None:
    text = unparse(expr)
    todo = [parse(text)]
    while todo:
        part = todo.pop()
        assert bare(parse(text[part.start : part.end])) == bare(part)
        if isinstance(part, Call):
            assert text[part.function_start : part.function_end] == part.function
            assert all(text[start:end] == key for key, _, start, end in part.kwargs)
        todo += children(part)


def as_python(node: ast.expr) -> Expr:
    """Python's own tree of an arithmetic expression, as ours: an oracle for precedence."""
    signs = {
        ast.Add: "+",
        ast.Sub: "-",
        ast.Mult: "*",
        ast.Div: "/",
        ast.Mod: "%",
        ast.Pow: "**",
        ast.Lt: "<",
        ast.GtE: ">=",
    }
    match node:
        case ast.BinOp(left, op, right):
            return Binary(signs[type(op)], as_python(left), as_python(right), 0, 0)
        case ast.UnaryOp(ast.USub(), operand):
            return Unary("-", as_python(operand), 0, 0)
        case ast.Compare(left, [op], [right]):
            return Compare(signs[type(op)], as_python(left), as_python(right), 0, 0)
        case ast.Name(id):
            return Name(id, 0, 0)
    raise AssertionError(ast.dump(node))


@given(
    st.lists(st.sampled_from(["+", "-", "*", "/", "%", "**", "- -", "** -", "* -", "+ (a", "* (b", ") +"]), max_size=12)
)
def test_precedence_is_pythons(operators: list[str]) -> None:
    text = "a"
    for operator in operators:
        text += f" {operator} " + ("+ " if operator.endswith(("(a", "(b")) else "") + "c"
    text = text.replace("+ c", "* c")
    try:
        expected = as_python(ast.parse(text, mode="eval").body)
    except SyntaxError:
        with pytest.raises(ExprError):
            parse(text)
    else:
        assert bare(parse(text)) == expected


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("-a**-b**c", "-a ** -b ** c"),
        ("(-a)**b", "(-a) ** b"),
        ("a-(b-c)-d", "a - (b - c) - d"),
        ("((a*b))/c", "a * b / c"),
        ("a<(b+c)", "a < b + c"),
        ("(a<b)*c", "(a < b) * c"),
        ("f( a,b ,k = [ ] )", "f(a, b, k=[])"),
        ("f(lambda=1, with=x)", "f(lambda=1, with=x)"),
        ("1.50 + 1e-5 + 007", "1.5 + 1e-05 + 7"),
        ("a\n  + b", "a + b"),
    ],
)
def test_text_has_one_canonical_form(text: str, canonical: str) -> None:
    assert unparse(parse(text)) == canonical


def test_numbers_keep_their_kind() -> None:
    assert [type(parse(text)) for text in ("1", "1.0", "true", "x")] == [Number, Number, Bool, Name]
    assert bare(parse("1")) == Number(1, 0, 0) and isinstance(parse("1"), Number)
    one, real = parse("1"), parse("1.")
    assert isinstance(one, Number) and isinstance(one.value, int)
    assert isinstance(real, Number) and isinstance(real.value, float)


@pytest.mark.parametrize(
    ("text", "fault", "says"),
    [
        ("", "", "nothing"),
        ("a and b", "and", "where"),
        ("not a", "not", "where"),
        ("a if b else c", "if", "where"),
        ("lambda x: x", "lambda", "component"),
        ("a = b", "=", "equality is =="),
        ("f(a+1=2)", "=", "equality is =="),
        ("a.b", ".", "no attributes"),
        ("a[0]", "[", "no subscripts"),
        ("'a'", "'a'", "no strings"),
        ('f"{a}"', '"{a}"', "no strings"),
        ("a // b", "//", "floor(a / b)"),
        ("a @ b", "@", "dot(a, b, over=axis)"),
        ("a ^ b", "^", "a ** b"),
        ("a := 1", ":=", "key of its own"),
        ("{a}", "{", "lists are written"),
        ("a # b", "#", "no comments"),
        ("(a + b", "(", "never closed"),
        ("f(a, [b", "[", "never closed"),
        ("a + b)", ")", "closes nothing"),
        ("f(a]", "]", "does not close `(`"),
        ("f(a,)", ",", "nothing follows"),
        ("f(,a)", ",", "nothing stands before"),
        ("a, b", ",", "a list is written [a, b]"),
        ("a < b < c", "<", "do not chain"),
        ("a b", "b", "an operator is expected between `a` and `b`"),
        ("2x", "x", "to multiply, write *"),
        ("1_000", "_000", "decimal"),
        ("0x10", "x10", "decimal"),
        ("2j", "j", "complex(re, im)"),
        ("f(x)(y)", "(", "only a name can be called"),
        ("true(x)", "true", "cannot be called"),
        ("a +", "+", "the expression ends"),
        ("* a", "*", "a value is expected before `*`"),
        ("f(k=1, k=2)", "k", "given twice"),
        ("f(k=1, a)", "a", "put it before `k=`"),
        ("a × b", "×", "write *"),
        ("a ≤ b", "≤", "write <="),
        ("x²", "²", "superscript two"),
        ("ｓｉｎ(x)", "ｓ", "write s"),
        ("pаram(x)", "а", "cyrillic small letter a"),
        ("1e999", "1e999", "too large"),
        (str(2**53 + 1), str(2**53 + 1), "2**53"),
    ],
)
def test_a_fault_is_pointed_at_and_its_mending_told(text: str, fault: str, says: str) -> None:
    with pytest.raises(ExprError) as caught:
        parse(text)
    error = caught.value
    assert text[error.start : error.end] == fault
    assert says in f"{error.message} {error.help}"
    assert error.message[0] == "`" or not error.message[0].isupper()


ESCAPES = [
    "().__class__.__bases__[0].__subclasses__()",
    "__import__('os').system('true')",
    "[x for x in y]",
    "(lambda: 0)()",
    "f'{a}'",
    "(a := 1)",
    "a if a else b",
    "*a, b",
    "**a",
    "f(*a)",
    "f(**a)",
    "a; b",
    "a\\\nb",
    "...",
    "{1: 2}",
    "a[1:2]",
    "'%s' % a",
    "`ls`",
    "$(ls)",
    "${a}",
    "{{ a }}",
    "a -> b",
    "@a",
    "yield a",
    "await a",
    "0b1",
    "1__0",
    "\x00",
    "a\x00b",
    "\ufeffa",
    "\u202ea",
    "a\u200bb",
    "\ud800",
    "ℯ",
    "𝐱",
    "x" * 65,
]


@pytest.mark.parametrize("text", ESCAPES)
def test_nothing_of_pythons_trapdoors_parses(text: str) -> None:
    with pytest.raises(ExprError):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 10**5,
        "(" * 10**5 + ")" * 10**5,
        "(" * 2000 + "a" + ")" * 2000,
        "[" * 2000,
        "-" * 4000 + "a",
        "f(" * 1300,
        "a ** " * 800 + "a",
        "x" * 10**6,
        "9" * 4000,
        "1" + "+1" * 2000,
        "." * 4000,
        "[" + "1," * 2000 + "1]",
    ],
    ids=lambda text: text[:12],
)
def test_monsters_are_refused_without_being_worked_through(text: str) -> None:
    began = time.process_time()
    with pytest.raises(ExprError):
        parse(text)
    assert time.process_time() - began < 60


def test_a_tower_of_powers_is_only_a_tree() -> None:
    assert unparse(parse("9**9**9**9")) == "9 ** 9 ** 9 ** 9"


def test_the_limits_are_where_they_are_said_to_be() -> None:
    assert parse("(" * 32 + "a" + ")" * 32) and parse("x" * 64)
    assert parse("a" + "+a" * 255) and parse("a" + " " * (MAX_LENGTH - 1))
    for text in ("(" * 33 + "a" + ")" * 33, "x" * 65, "a" + "+a" * 256, "a" + " " * MAX_LENGTH):
        with pytest.raises(ExprError):
            parse(text)


def only_expr_errors(text: str) -> None:
    try:
        expr = parse(text)
    except ExprError as error:
        assert 0 <= error.start <= error.end <= len(text), text
        assert error.message
    else:
        assert bare(parse(unparse(expr))) == bare(expr)


@given(st.text(max_size=60))
def test_any_text_parses_or_is_an_expr_error(text: str) -> None:
    only_expr_errors(text)


def test_token_soup_parses_or_is_an_expr_error() -> None:
    draw = random.Random(11)
    tokens = list(
        chain(re.findall(r"\w+|\S", " ".join(CORPUS)), ["**", "<=", "==", "//", "and", "'", '"', "1e", "²", "#"])
    )
    for _ in range(20_000):
        only_expr_errors(draw.choice(["", " "]).join(draw.choices(tokens, k=draw.randint(1, 12))))


def test_mutated_expressions_parse_or_are_an_expr_error() -> None:
    draw = random.Random(12)
    letters = "abx_019.+-*/%<>=()[], \t\n'\"#@^é²\x00"
    for _ in range(10_000):
        text = list(draw.choice(CORPUS))
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(text))
            text[at : at + draw.randint(0, 2)] = draw.choice(letters)
        only_expr_errors("".join(text))
