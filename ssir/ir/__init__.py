"""The typed, immutable graph that everything is derived from."""

from ssir.ir.graph import Axis as Axis
from ssir.ir.graph import Dependence as Dependence
from ssir.ir.graph import Graph as Graph
from ssir.ir.graph import Node as Node
from ssir.ir.graph import Type as Type
from ssir.ir.graph import attrs as attrs
