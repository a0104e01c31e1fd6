"""The expression language: text to a small syntax tree, and back.

    comparison   sum [("<" | "<=" | ">" | ">=" | "==" | "!=") sum]         at most one
    sum          product (("+" | "-") product)*
    product      negation (("*" | "/" | "%") negation)*
    negation     "-" negation | power
    power        primary ["**" negation]                                   right-associative
    primary      number | "true" | "false" | name | call | "(" comparison ")" | "[" [comparison ("," comparison)*] "]"
    call         name "(" [argument ("," argument)*] ")"                   argument: [name "="] comparison

Nothing else parses, and nothing here is ever given to Python to run. Names get their meaning elsewhere; length, number
of nodes and depth of nesting are bounded, so that whoever walks the tree may recurse.
"""

import math
import re
import unicodedata
from dataclasses import dataclass, replace
from typing import NoReturn, TypeAlias

from ssir.errors import SSIRError
from ssir.spec.elsewhere import meant

MAX_LENGTH = 4096
MAX_NODES = 512
MAX_DEPTH = 32
MAX_NAME = 64
LARGEST_INT = 2**53


@dataclass(frozen=True)
class Number:
    value: int | float
    start: int
    end: int


@dataclass(frozen=True)
class Bool:
    value: bool
    start: int
    end: int


@dataclass(frozen=True)
class Name:
    id: str
    start: int
    end: int


@dataclass(frozen=True)
class Unary:
    op: str
    operand: "Expr"
    start: int
    end: int


@dataclass(frozen=True)
class Binary:
    op: str
    left: "Expr"
    right: "Expr"
    start: int
    end: int


@dataclass(frozen=True)
class Compare:
    op: str
    left: "Expr"
    right: "Expr"
    start: int
    end: int


@dataclass(frozen=True)
class Call:
    """A call; each keyword argument carries the offsets of its name."""

    function: str
    args: tuple["Expr", ...]
    kwargs: tuple[tuple[str, "Expr", int, int], ...]
    function_start: int
    function_end: int
    start: int
    end: int


@dataclass(frozen=True)
class List:
    items: tuple["Expr", ...]
    start: int
    end: int


Expr: TypeAlias = Number | Bool | Name | Unary | Binary | Compare | Call | List


class ExprError(SSIRError):
    """The text is no expression; offsets count characters of that text."""

    def __init__(self, message: str, start: int, end: int, help: str | None = None) -> None:
        super().__init__(message, start, end, help)
        self.message = message
        self.start = start
        self.end = end
        self.help = help

    def __str__(self) -> str:
        return self.message


def parse(text: str) -> Expr:
    """The tree of an expression; raises ExprError with the place of the fault."""
    if len(text) > MAX_LENGTH:
        raise ExprError(
            f"an expression of {len(text)} characters; at most {MAX_LENGTH} are allowed",
            0,
            len(text),
            "give parts of it names of their own",
        )
    return _Parser(text).whole()


def unparse(expr: Expr) -> str:
    """The expression as text, with no more parentheses than it needs."""
    match expr:
        case Number(value):
            return repr(value)
        case Bool(value):
            return "true" if value else "false"
        case Name(id):
            return id
        case Unary(op, operand):
            return op + _wrapped(operand, _NEGATION)
        case Compare(op, left, right):
            return f"{_wrapped(left, _COMPARISON + 1)} {op} {_wrapped(right, _COMPARISON + 1)}"
        case Binary("**", left, right):
            return f"{_wrapped(left, _POWER + 1)} ** {_wrapped(right, _NEGATION)}"
        case Binary(op, left, right):
            return f"{_wrapped(left, _BINDING[op])} {op} {_wrapped(right, _BINDING[op] + 1)}"
        case Call(function, args, kwargs):
            arguments = [unparse(arg) for arg in args] + [f"{key}={unparse(value)}" for key, value, *_ in kwargs]
            return f"{function}({', '.join(arguments)})"
        case List(items):
            return f"[{', '.join(map(unparse, items))}]"


def names(expr: Expr) -> set[str]:
    """The names that an expression reads; those that it calls are not among them."""
    found: set[str] = set()
    todo = [expr]
    while todo:
        match todo.pop():
            case Name(id):
                found.add(id)
            case Unary(_, operand):
                todo.append(operand)
            case Binary(_, left, right) | Compare(_, left, right):
                todo += (left, right)
            case Call(_, args, kwargs):
                todo += (*args, *(value for _, value, *_ in kwargs))
            case List(items):
                todo += items
    return found


def called(expr: Expr) -> set[str]:
    """The names that an expression calls."""
    found: set[str] = set()
    todo = [expr]
    while todo:
        match todo.pop():
            case Unary(_, operand):
                todo.append(operand)
            case Binary(_, left, right) | Compare(_, left, right):
                todo += (left, right)
            case Call(function, args, kwargs):
                found.add(function)
                todo += (*args, *(value for _, value, *_ in kwargs))
            case List(items):
                todo += items
    return found


_COMPARISON, _SUM, _PRODUCT, _NEGATION, _POWER, _PRIMARY = range(1, 7)

_BINDING = {
    **dict.fromkeys(("<", "<=", ">", ">=", "==", "!="), _COMPARISON),
    **dict.fromkeys(("+", "-"), _SUM),
    **dict.fromkeys(("*", "/", "%"), _PRODUCT),
    "**": _POWER,
}
OPERATIONS = dict(
    zip("+ - * / ** % < <= > >= == !=".split(), "add sub mul div pow mod lt le gt ge eq ne".split(), strict=True)
)
"""The operation of the IR that each sign is."""


def _wrapped(expr: Expr, floor: int) -> str:
    match expr:
        case Compare() | Binary():
            strength = _BINDING[expr.op]
        case Unary():
            strength = _NEGATION
        case _:
            strength = _PRIMARY
    return unparse(expr) if strength >= floor else f"({unparse(expr)})"


@dataclass(frozen=True)
class _Token:
    kind: str  # number, name, op, end
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)
      | (?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<foreign>//|<<|>>|<>|:=|->|=>|&&|\|\|)
      | (?P<op>\*\*|<=|>=|==|!=|[-+*/%<>=()\[\],])""",
    re.VERBOSE,
)

# What other languages have and this one has not: what it is, and what to write.
_FOREIGN = {
    "//": ("`//` is not an operator", "write floor(a / b)"),
    "@": ("`@` is not an operator", "write dot(a, b, over=axis), or linear(a, axis) for a learned map"),
    "^": ("`^` is not an operator", "a power is written a ** b"),
    "&": ("`&` is not an operator", "choose with where(condition, a, b)"),
    "|": ("`|` is not an operator", "choose with where(condition, a, b)"),
    "!": ("`!` is not an operator", "unequal is written !=; choose with where(condition, a, b)"),
    "~": ("`~` is not an operator", "choose with where(condition, a, b)"),
    "?": ("`?` is not an operator", "choose with where(condition, a, b)"),
    "&&": ("`&&` is not an operator", "choose with where(condition, a, b)"),
    "||": ("`||` is not an operator", "choose with where(condition, a, b)"),
    "<>": ("`<>` is not an operator", "unequal is written !="),
    ":=": ("names cannot be given inside an expression", "give the value a key of its own in the graph"),
    ":": ("`:` has no meaning in an expression", "parts of a value are taken with slice or select"),
    "{": ("there are no sets or mappings in an expression", "lists are written [a, b]"),
    "}": ("there are no sets or mappings in an expression", "lists are written [a, b]"),
    ";": ("an expression has no `;`", "give each value a key of its own in the graph"),
    "#": ("an expression has no comments", "put the comment on a line of its own, outside the value"),
    ".": ("there are no attributes", "every operation is called by its name: f(x)"),
}

# Words that are operators in Python, and ordinary names here.
_WORDS = {
    "and": "choose with where(a, where(b, x, y), y)",
    "or": "choose with where(a, x, where(b, x, y))",
    "not": "swap the last two arguments of where(condition, a, b)",
    "if": "write where(condition, a, b)",
    "else": "write where(condition, a, b)",
    "in": "compare with ==",
    "is": "compare with ==",
    "for": "there are no loops: name the axes that an operation works over, as in sum(a, over=axis)",
    "lambda": "there are no functions inside an expression: make a component",
    "await": "there are no statements in an expression",
    "yield": "there are no statements in an expression",
}

_NUMBER_HELP = "numbers are decimal, as 1000, 0.5 or 1e-5; to multiply, write *; complex numbers are complex(re, im)"

_LOOKALIKES = str.maketrans(
    {
        **dict.fromkeys("×⋅·∗", "*"),
        **dict.fromkeys("÷∕", "/"),
        **dict.fromkeys("−–—", "-"),
        "≤": "<=",
        "≥": ">=",
        "≠": "!=",
    }
)


def _tokens(text: str) -> tuple[list[_Token], ExprError | None]:
    """The tokens; where the text stops making sense, the last one is "bad", and the error goes with it."""
    tokens: list[_Token] = []
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        fault = _foreign(text, at) if found is None else _fault(found)
        if found is None or fault:
            return [*tokens, _Token("bad", "", at)], fault
        if found.lastgroup != "space":
            tokens.append(_Token(str(found.lastgroup), found.group(), at))
        at = found.end()
    tokens.append(_Token("end", "", len(text.rstrip(" \t\r\n"))))
    return tokens, None


def _fault(found: re.Match[str]) -> ExprError | None:
    start, end = found.span()
    if found.lastgroup == "foreign":
        message, help = _FOREIGN.get(found.group(), (f"`{found.group()}` is not an operator", None))
        return ExprError(message, start, end, help)
    if found.lastgroup == "name" and end - start > MAX_NAME:
        return ExprError(f"a name of {end - start} characters; at most {MAX_NAME} are allowed", start, end)
    if found.lastgroup == "number":
        if not math.isfinite(float(found.group())):
            return ExprError("a number too large to hold", start, end)
        if found.group().isdigit() and int(found.group()) > LARGEST_INT:
            help = "write it with an exponent, as 1e20, if a real number is meant"
            return ExprError("a whole number beyond 2**53", start, end, help)
    return None


def _foreign(text: str, at: int) -> ExprError:
    """What to say about a character that starts no token."""
    char = text[at]
    if char in _FOREIGN:
        message, help = _FOREIGN[char]
        if attribute := re.match(r"\.([A-Za-z_]\w*)", text[at:]):
            name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", attribute.group(1)).lower()
            help = meant(name) or f"every operation is called by its name: {name}(x)"
        return ExprError(message, at, at + 1, help)
    if char in "\"'`":
        end = text.find(char, at + 1) + 1 or len(text)
        return ExprError("there are no strings in an expression", at, end, "write names and numbers without quotes")
    if char.isascii():
        return ExprError(f"`{char}` has no meaning in an expression", at, at + 1)
    name = unicodedata.name(char, "a character without a name").lower()
    plain = unicodedata.normalize("NFKC", char.translate(_LOOKALIKES))
    # A superscript is no digit, though it normalizes to one.
    known = _TOKEN.fullmatch(plain) and unicodedata.category(char) != "No"
    help = f"write {plain}" if known else "names are made of a to z, A to Z, 0 to 9 and _"
    return ExprError(f"`{char}` (U+{ord(char):04X}, {name}) has no meaning in an expression", at, at + 1, help)


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens, self.fault = _tokens(text)
        self.at = 0
        self.nodes = 0
        self.depth = 0

    @property
    def token(self) -> _Token:
        token = self.tokens[self.at]
        if token.kind == "bad" and self.fault:
            raise self.fault
        return token

    def whole(self) -> Expr:
        if self.token.kind == "end":
            raise ExprError("an expression is expected, and there is nothing", 0, len(self.text))
        expr = self.expression(_COMPARISON)
        if self.token.text in (")", "]"):
            self.fail(f"`{self.token.text}` closes nothing", f"remove `{self.token.text}`")
        if self.token.kind != "end":
            self.misplaced()
        return expr

    def expression(self, floor: int) -> Expr:
        """An expression whose operators all bind at least as tightly as `floor`."""
        left = self.prefix()
        while (strength := _BINDING.get(self.token.text, 0)) >= floor:
            op = self.advance()
            right = self.nested(op, _NEGATION) if strength == _POWER else self.expression(strength + 1)
            self.count(op)
            if strength != _COMPARISON:
                left = Binary(op.text, left, right, left.start, right.end)
                continue
            left = Compare(op.text, left, right, left.start, right.end)
            if _BINDING.get(self.token.text) == _COMPARISON:
                self.fail("comparisons do not chain", "make two: where(a < b, where(b < c, x, y), y)")
        return left

    def nested(self, opener: _Token, floor: int) -> Expr:
        """An expression one level deeper."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            message = f"nested more than {MAX_DEPTH} deep"
            raise ExprError(message, opener.start, opener.end, "give parts of it names of their own")
        expr = self.expression(floor)
        self.depth -= 1
        return expr

    def prefix(self) -> Expr:
        token = self.token
        if token.text != "-":
            return self.primary()
        self.count(self.advance())
        operand = self.nested(token, _NEGATION)
        return Unary("-", operand, token.start, operand.end)

    def primary(self) -> Expr:
        token = self.token
        expr: Expr
        if token.text == "(":
            self.advance()
            expr = replace(self.nested(token, _COMPARISON), start=token.start, end=self.close(token, ")"))
        elif token.text == "[":
            self.count(self.advance())
            items: list[Expr] = []
            while self.another(token, "]", not items):
                items.append(self.nested(token, _COMPARISON))
            expr = List(tuple(items), token.start, self.close(token, "]"))
        elif token.kind == "number":
            self.count(self.advance())
            value = int(token.text) if token.text.isdigit() else float(token.text)
            expr = Number(value, token.start, token.end)
        elif token.kind == "name":
            self.count(self.advance())
            if self.token.text == "(":
                expr = self.call(token)
            elif token.text in ("true", "false"):
                expr = Bool(token.text == "true", token.start, token.end)
            else:
                expr = Name(token.text, token.start, token.end)
        else:
            self.lacking()
        if self.token.text == "(":
            self.fail("only a name can be called", "to multiply, write *")
        if self.token.text == "[":
            self.fail("there are no subscripts", "parts of a value are taken with slice or select")
        return expr

    def call(self, function: _Token) -> Call:
        opener = self.advance()
        if function.text in ("true", "false"):
            raise ExprError(f"`{function.text}` cannot be called", function.start, function.end)
        args: list[Expr] = []
        kwargs: dict[str, tuple[str, Expr, int, int]] = {}
        while self.another(opener, ")", not args and not kwargs):
            name = self.token
            if name.kind == "name" and self.tokens[self.at + 1].text == "=":
                if name.text in kwargs:
                    self.fail(f"`{name.text}` is given twice", "remove one of the two")
                self.at += 2
                kwargs[name.text] = (name.text, self.nested(opener, _COMPARISON), name.start, name.end)
                continue
            value = self.nested(opener, _COMPARISON)
            if kwargs:
                message = "an argument without a name follows one with a name"
                help = f"put it before `{next(iter(kwargs))}=`, or give it its name"
                raise ExprError(message, value.start, value.end, help)
            args.append(value)
        end = self.close(opener, ")")
        keywords = tuple(kwargs.values())
        return Call(function.text, tuple(args), keywords, function.start, function.end, function.start, end)

    def another(self, opener: _Token, closer: str, first: bool) -> bool:
        """Whether an item follows, in brackets; steps over the comma before it."""
        if first:
            return self.token.text != closer
        if self.token.text != ",":
            return False
        comma = self.advance()
        if self.token.kind == "end":
            self.unclosed(opener)
        if self.token.text in (",", ")", "]"):
            raise ExprError("nothing follows this `,`", comma.start, comma.end, "remove the comma")
        return True

    def close(self, opener: _Token, closer: str) -> int:
        if self.token.text == closer:
            return self.advance().end
        if self.token.kind == "end":
            self.unclosed(opener)
        if self.token.text in (")", "]"):
            self.fail(f"`{self.token.text}` does not close `{opener.text}`", f"write `{closer}`")
        self.misplaced()

    def advance(self) -> _Token:
        token = self.token
        self.at += 1
        return token

    def count(self, token: _Token) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            message = f"an expression of more than {MAX_NODES} parts"
            raise ExprError(message, token.start, token.end, "give parts of it names of their own")

    def fail(self, message: str, help: str | None = None) -> NoReturn:
        raise ExprError(message, self.token.start, self.token.end, help)

    def unclosed(self, opener: _Token) -> NoReturn:
        closer = ")" if opener.text == "(" else "]"
        raise ExprError(f"`{opener.text}` is never closed", opener.start, opener.end, f"add `{closer}`")

    def lacking(self) -> NoReturn:
        """There is no value where one has to be."""
        token = self.token
        if token.kind == "end":
            before = self.tokens[self.at - 1]
            if before.text in ("(", "["):
                self.unclosed(before)
            message = f"a value is expected after `{before.text}`, and the expression ends"
            raise ExprError(message, before.start, before.end)
        if token.text == "=":
            self.fail("a value is expected before `=`", "an argument is named as f(name=value); equality is ==")
        if token.text == ",":
            self.fail("nothing stands before this `,`", "remove the comma")
        self.fail(f"a value is expected before `{token.text}`")

    def misplaced(self) -> NoReturn:
        """Something other than an operator follows a complete value."""
        token, before = self.token, self.tokens[self.at - 1]
        if token.text == ",":
            self.fail("`,` is allowed only between arguments and between items of a list", "a list is written [a, b]")
        if token.text == "=":
            self.fail("`=` stands only after the name of an argument", "equality is ==")
        for word in (token, before):
            if word.text in _WORDS:
                raise ExprError(f"`{word.text}` is not an operator here", word.start, word.end, _WORDS[word.text])
        if before.kind == "number" and before.end == token.start:
            self.fail(f"`{token.text}` does not belong to a number", _NUMBER_HELP)
        self.fail(f"an operator is expected between `{before.text}` and `{token.text}`", "to multiply, write *")
