"""Kinds of arguments that plain Python types cannot tell apart."""

from typing import Any, NewType

from ssir.ir.graph import Node

Symbol = NewType("Symbol", str)
Init = NewType("Init", str)
Nested = NewType("Nested", list[Any])
Operator = NewType("Operator", Node)  # a value, or an operator
Later = NewType("Later", Node)  # a value that may be computed from the result: it is remembered, not used now
