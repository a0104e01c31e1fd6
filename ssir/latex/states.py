"""A state as its update and its readout: h at t from h at t − 1, and y; a shift register as a sum over what came so many steps ago.

A coefficient that is short stands in them as it is; else it has an equation of its own before them.
"""

from __future__ import annotations

from dataclasses import replace

from ssir.analysis.facts import Facts, facts
from ssir.draw import maths
from ssir.draw.maths import Apply, Decorated, Inner, Maths, Number, Quotient, Series, Sign, Sum
from ssir.ir.graph import Node, Type
from ssir.latex import typeset
from ssir.latex.arithmetic import IDENTITY, applied, between, less, over, plus, times
from ssir.latex.expressions import Expression, value
from ssir.latex.scope import NOW, Equation, Scope, Where
from ssir.latex.weights import coefficient
from ssir.spec import expr as syntax
from ssir.spec.calls import Path
from ssir.spec.schema import Discretize, State

_SHORT, _SHORT_DECAY = 110.0, 70.0
_BARRED = {"A": "Ā", "B": "B̄"}
_ONE = Number(1)


def equations(scope: Scope, key: str, body: State) -> list[Equation]:
    """Those of a state of a component."""
    return _State(scope, key, body).equations()


def role(scope: Scope, key: str, letter: str) -> Maths:
    """A coefficient of a state as the spec says it."""
    text = Expression(scope, ("components", scope.name, "graph", key, letter))
    acts = letter == "A" and text.is_operator(text.tree)
    return text.operator(text.tree, scope.here) if acts else text.maths(scope.here)


class _State:
    def __init__(self, scope: Scope, key: str, body: State) -> None:
        self.scope, self.key, self.body = scope, key, body
        node = scope.node(key)
        assert node is not None and node.op == "state"
        self.node: Node = node
        self.known: Facts = facts(scope.graph, node)
        # What a matrix acts on is a whole: along its axes nothing has an index.
        self.where = (
            scope.here
            if self.known.diagonal
            else scope.here.without(*node.type.names, *(axis.name for axis in self.known.axes))
        )
        self.found: list[Equation] = []

    def equations(self) -> list[Equation]:
        slots = self.known.slots
        if slots is not None and self.scope.is_register(self.key):
            self.where = self.scope.here
            self._register(slots.name, slots.size)
        else:
            self._system()
        return self.found

    # Roles.

    def _path(self, *role: str) -> Path:
        return ("components", self.scope.name, "graph", self.key, *role)

    def _type(self, role: str) -> Type | None:
        if getattr(self.body, role) is None:
            return None
        text = Expression(self.scope, self._path(role))
        return text.type(text.tree) or self.scope.type_at(text.path)

    def _of(self, role: str, where: Where, apart: bool = False) -> Maths:
        """A role as it is, if that is short and it need not stand ``apart``; else its letter, after an equation of its own."""
        text = Expression(self.scope, self._path(role))
        acts = role == "A" and text.is_operator(text.tree)
        tree = text.operator(text.tree, where) if acts else text.maths(where)
        self.found += [Equation(first, given) for first, given in text.begins]
        sign = self._sign(role, where)
        if role == "input" or tree == sign or (not apart and (acts or _is_plain(text.tree, tree))):
            return tree
        here = self.scope.here
        again = text.operator(text.tree, here) if acts else text.maths(here)
        self.found.append(Equation(self._sign(role, here), again))
        return sign

    def _sign(self, role: str, where: Where) -> Sign:
        kind = self._type(role)
        time = (where.when,) if self.scope.varies_at(self._path(role)) else ()
        whole = kind is None or kind.operator or (role == "A" and not self.known.diagonal)
        axes = kind.names if kind is not None and not whole else ()
        places = tuple(where.index[axis] for axis in axes if axis in where.index)
        return replace(coefficient(self.scope, self.key, role), at=(*time, *places))

    def _entering(self, where: Where) -> Maths:
        """B x, by what their axes have in common."""
        if self.body.B is None:
            alone = self._of("input", where) if self.body.input is not None else None
            if self.body.discretize is None:
                return alone or _ONE
            sampled = self._barred("B")
            return sampled if alone is None else times(sampled, "⊙" if self.known.diagonal else "", alone)
        b = self._barred("B") if self.body.discretize is not None else self._of("B", where)
        if self.body.input is None:
            return b
        x, kinds = self._of("input", where), (self._type("B"), self._type("input"))
        held = {axis.name for axis in self.known.axes}
        used_up = [
            axis
            for axis in (kinds[0].names if kinds[0] else ())
            if kinds[1] and axis in kinds[1].names and axis not in held
        ]
        return Inner(b, x, self.scope.axes(used_up)) if used_up else times(b, between(*kinds), x)

    def _fed(self, read: Maths) -> Maths:
        """What is read, and D x."""
        if self.body.D is None or self.body.input is None:
            return read
        d, x = self._of("D", self.where), self._of("input", self.where)
        return Sum((read, times(d, between(self._type("D"), self._type("input")), x)))

    # A register.

    def _register(self, slot: str, size: int | None) -> None:
        late = _ONE if self.body.read == "before" else Number(0)
        place = self.scope.letters[slot]
        entering = self._entering(self.where.earlier(late).earlier(place).without(slot))
        here = value(self.scope, self.key, self.where)
        if self.body.C is None:
            self.found.append(Equation(here, entering))
            return
        readout, kinds = self._of("C", self.where), (self._type("C"), self._type("input"))
        more = [axis.name for axis in self.known.contracted if axis.name != slot]
        if more:
            inside: Maths = Inner(readout, entering, self.scope.axes(more))
        else:
            alike = all(kind is not None for kind in kinds) and _apart(kinds[0], slot) == _apart(kinds[1], slot)
            inside = times(readout, "⊙" if alike and _apart(kinds[0], slot) else "", entering)
        stop = less(NOW, late) if size is None else less(Sign(self.scope.sign(slot)), _ONE)
        self.found.append(Equation(here, self._fed(Series("sum", place, Number(0), stop, inside))))

    # Any other state.

    def _system(self) -> None:
        body, axes = self.body, [axis.name for axis in self.known.axes]
        bare = body.C is None and body.D is None and body.read == "after"
        shown = Sign(self.scope.sign(self.key)) if bare else self.scope.memory(self.key)
        places = tuple(self.where.index[axis] for axis in axes if axis in self.where.index)
        now, last = (replace(shown, at=(when, *places)) for when in (NOW, less(NOW, _ONE)))
        if body.discretize is not None:
            self._discretized(body.discretize)
        self._then(now, self._updated(last))
        if body.initial is not None:
            first = replace(shown, at=(Number(-1), *places))
            self._then(first, Expression(self.scope, self._path("initial")).maths(self.where))
        if not bare:
            self._then(
                value(self.scope, self.key, self.where), self._fed(self._read(last if body.read == "before" else now))
            )

    def _then(self, left: Maths, right: Maths) -> None:
        self.found.append(Equation(left, right))

    def _updated(self, last: Maths) -> Maths:
        body = self.body
        if body.algebra == "max_plus":
            kept = (self._of("A", self.where), last) if body.A is not None else (last,)
            roles = [role for role, given in (("B", body.B), ("input", body.input)) if given is not None]
            return Apply("max", (plus(kept), plus(tuple(self._of(role, self.where) for role in roles) or (_ONE,))))
        state, entering = self._kept(last), self._entering(self.where)
        return plus((state, entering)) if state is not None else entering

    def _kept(self, last: Maths) -> Maths | None:
        """A h, without A where that is 1, nothing where it is 0."""
        kind = self.known.structure.kind
        if kind == "zero":
            return None
        if self.body.A is None or kind == "identity":
            return last
        a = self._barred("A") if self.body.discretize is not None else self._of("A", self.where)
        return times(a, "⊙" if kind == "diagonal" else "", last) if self.known.diagonal else applied(a, last)

    def _read(self, h: Maths) -> Maths:
        if self.body.C is None:
            return h
        c, gone = self._of("C", self.where), [axis.name for axis in self.known.contracted]
        return Inner(c, h, self.scope.axes(gone)) if gone else times(c, between(self._type("C"), self.node.type), h)

    # Sampled in time.

    def _barred(self, role: str) -> Sign:
        """A or B as it is once it is sampled."""
        paths = [path for path in (self._path("A"), self._path("B"), self._path("discretize", "dt")) if self._has(path)]
        time = (NOW,) if any(map(self.scope.varies_at, paths)) else ()
        return Sign(_BARRED[role], time, up=self.scope.whose(self.key, role))

    def _has(self, path: Path) -> bool:
        return self.scope.module.document.has(path)

    def _discretized(self, how: Discretize) -> None:
        text = Expression(self.scope, self._path("discretize", "dt"))
        dt, kind = text.maths(self.where), text.type(text.tree)
        a = self._of("A", self.where, apart=True)
        b = self._of("B", self.where, apart=True) if self.body.B is not None else None
        diagonal = self.known.diagonal
        one: Maths = _ONE if diagonal else IDENTITY
        scaled = "⊙" if diagonal and (kind is None or kind.axes) else ""
        step = times(dt, scaled, a)
        grown: Maths
        entering: Maths
        match how.method:
            case "euler":
                grown, entering = Sum((one, step)), dt
            case "bilinear":
                half = over(step, Number(2))
                top, below = Sum((one, half)), maths.difference(one, half)
                inverse = Decorated("inverse", below)
                grown = Quotient(top, below) if diagonal else applied(inverse, top)
                entering = Quotient(dt, below) if diagonal else applied(inverse, dt)
            case "zoh":
                grown = Apply("exp", (step,))
                change = maths.difference(grown, one)
                entering = Quotient(change, a) if diagonal else applied(Decorated("inverse", a), change)
            case own:
                for role in ("A", "B"):
                    self._then(self._barred(role), Apply(own, (a, b or _ONE, dt), Sign(role)))
                return
        self._then(self._barred("A"), grown)
        sign = "⊙" if diagonal and entering != dt else scaled
        self._then(self._barred("B"), entering if b is None else times(entering, sign, b))


def _apart(kind: Type | None, axis: str) -> set[str]:
    return set(kind.names if kind else ()) - {axis}


def _is_plain(tree: syntax.Expr, said: Maths) -> bool:
    """Whether a coefficient is written where it is used: names and numbers, and what is short and no map, and no decay."""
    used = syntax.called(tree)
    if isinstance(tree, syntax.Call) and tree.function == "softmax":
        return all(isinstance(arg, syntax.Name) for arg in tree.args)
    if used <= {"param", "buffer", "delay", "rename"}:
        return True
    return typeset.width(said) < (_SHORT_DECAY if "exp" in used else _SHORT) and "linear" not in used
