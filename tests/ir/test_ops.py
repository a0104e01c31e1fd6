"""What the table says of an operation holds for its meaning."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssir.ir import Axis, Node, Type, attrs
from ssir.ir.op import TypeFault
from ssir.ir.ops import TABLE, operation
from ssir.ir.ops.elementwise import OPS
from ssir.reference.ops import Step, evaluate

BOUNDED = [op.name for op in OPS if callable(op.bounds) or op.bounds is not None]
COMPUTED = [op.name for op in OPS if op.number is not None]
ENDS = st.sampled_from([-math.inf, -800.0, -3.0, -1.0, -0.25, 0.0, 0.5, 1.0, 2.0, 7.5, 900.0, math.inf])


def meant(name: str, operands: list[torch.Tensor], **said: object) -> torch.Tensor:
    """The reference, of operands [batch]."""
    op, none = operation(name), torch.zeros(1, dtype=torch.long)
    types = [Type(dtype="bool") if one == "condition" else Type() for one in op.operands]
    node = Node("y", name, tuple(op.operands), attrs(**said), Type())
    return evaluate(node, operands, types, Step(none, 0, torch.float64, torch.zeros(1, 0, dtype=torch.bool)))


@pytest.mark.parametrize("name", BOUNDED)
@given(data=st.data())
def test_values_lie_where_the_table_says(name: str, data: st.DataObject) -> None:
    op = operation(name)
    ends = [sorted((data.draw(ENDS), data.draw(ENDS))) for _ in op.operands]
    spans = [(low, high) for low, high in ends]
    said = {"low": data.draw(st.sampled_from([None, -1.0])), "high": 2.0}
    said = said if op.attributes else {}
    inside = [(max(low, -1e3), min(high, 1e3)) for low, high in spans]
    if any(low > high for low, high in inside):
        return
    points = [torch.linspace(low, high, 9, dtype=torch.float64) for low, high in inside]
    operands = [one.flatten() for one in torch.meshgrid(*points, indexing="ij")]
    if op.operands[0] == "condition":
        operands[0] = operands[0] > 0
    low, high = op.interval(said, spans)
    y = meant(name, operands, **said)
    y = y[~y.isnan()]
    assert bool(
        (
            (y >= low - 1e-9 * abs(low if math.isfinite(low) else 0))
            & (y <= high + 1e-9 * abs(high if math.isfinite(high) else 0))
        ).all()
    ), (spans, low, high)


@pytest.mark.parametrize("name", COMPUTED)
@given(data=st.data())
def test_numbers_are_computed_as_tensors_are(name: str, data: st.DataObject) -> None:
    op = operation(name)
    assert op.number is not None
    given = [data.draw(st.sampled_from([-2.5, -1, 0, 0.5, 1, 2, 3.25])) for _ in op.operands]
    try:
        found = op.number(*given)
    except (ValueError, ZeroDivisionError, OverflowError):
        return
    wanted = meant(name, [torch.tensor([float(one)], dtype=torch.float64) for one in given])
    if isinstance(found, complex):
        assert wanted.isnan().all()
    else:
        assert found == pytest.approx(float(wanted))


@pytest.mark.parametrize("name", [op.name for op in OPS if op.whole != "never"])
@given(data=st.data())
def test_whole_numbers_stay_whole_where_the_table_says(name: str, data: st.DataObject) -> None:
    op = operation(name)
    numbers = st.integers(-9, 9) if op.whole == "kept" else st.floats(-9, 9)
    given = [torch.tensor([float(data.draw(numbers))], dtype=torch.float64) for _ in op.operands]
    if op.operands[0] == "condition":
        given[0] = given[0] > 0
    y = meant(name, given, **({"low": -2, "high": None} if op.attributes else {}))
    assert y.isnan().all() or y.frac().abs().max() == 0


def test_operations_say_what_they_take() -> None:
    assert all(
        name == op.name and (op.declared or op.operands or op.attributes or op.name in ("position", "start", "layer"))
        for name, op in TABLE.items()
    )
    two = Type((Axis("n", 2),))
    for types, words in (
        ((two, Type((Axis("n", 3),))), "axis `n` has size"),
        ((two, Type(dtype="complex")), "not defined for complex"),
    ):
        with pytest.raises(TypeFault, match=words):
            operation("maximum").result(types, {})
