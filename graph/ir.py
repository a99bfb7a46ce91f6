"""The intermediate representation: values, nodes, a graph. Small, checked, easy to print.

A graph is in single-assignment form: every value has at most one producer, and `nodes` is in topological order.
Passes build a new node list; `Graph.verify` holds the invariants before and after each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import GraphError
from .shape import Shape, format_shape
from .weights import AffineWeight, DenseWeight

DTYPES = (
    "float32",
    "float16",
    "bfloat16",
    "float64",
    "int64",
    "int32",
    "uint8",
    "int8",
    "bool",
    "uint4",
    "int4",
    "int16",
    "uint16",
    "uint32",
    "uint64",
    "string",
    "unknown",
)
Constant = npt.NDArray[Any] | AffineWeight | DenseWeight


@dataclass(eq=False, slots=True)
class Value:
    """One tensor: a graph input, a constant, or a node's output. Compared by identity."""

    name: str
    dtype: str = "unknown"
    shape: Shape | None = None
    constant: Constant | None = None  # may be memory-mapped; never modified in place
    content: npt.NDArray[Any] | None = None  # elements known as expressions (dtype object), of shape arithmetic

    @property
    def known(self) -> bool:
        """True where no node has to compute the value: a constant, or expressions over the graph's symbols."""
        return self.constant is not None or self.content is not None

    @property
    def dims(self) -> Shape:
        """The shape, which must have been inferred."""
        if self.shape is None:
            raise GraphError(f"value {self.name!r} has no shape yet")
        return self.shape

    def array(self) -> npt.NDArray[Any]:
        """The constant as an array. Raises GraphError where the value is not a plain constant."""
        if not isinstance(self.constant, np.ndarray):
            raise GraphError(f"value {self.name!r} is not a plain constant")
        return self.constant

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}{format_shape(self.shape)}"


@dataclass(eq=False, slots=True)
class Node:
    """One operator. An absent optional input is None. Fused operators live in the domain "tlite"."""

    op: str
    inputs: list[Value | None]
    outputs: list[Value]
    attributes: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    domain: str = ""

    def input(self, index: int) -> Value:
        """Input `index`, which must be there."""
        value = self.optional(index)
        if value is None:
            raise GraphError(f"{self}: input {index} is missing")
        return value

    def optional(self, index: int) -> Value | None:
        return self.inputs[index] if index < len(self.inputs) else None

    @property
    def output(self) -> Value:
        return self.outputs[0]

    def __str__(self) -> str:
        kind = f"{self.domain}.{self.op}" if self.domain else self.op
        return f"{kind} node {self.name!r}"


@dataclass(eq=False)
class Graph:
    """A model: inputs, nodes in topological order, outputs. `opset` maps a domain to its version, `narrow` outputs by
    name to the type they have in the file, where the graph computes them in float32 instead."""

    name: str
    inputs: list[Value]
    nodes: list[Node]
    outputs: list[Value]
    opset: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    narrow: dict[str, str] = field(default_factory=dict)

    def producers(self) -> dict[Value, Node]:
        return {out: node for node in self.nodes for out in node.outputs}

    def consumers(self) -> dict[Value, list[Node]]:
        """For each value the nodes that read it, one entry per use."""
        users: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in node.inputs:
                if value is not None:
                    users.setdefault(value, []).append(node)
        return users

    def values(self) -> Iterator[Value]:
        seen: set[Value] = set()
        for value in [
            *self.inputs,
            *(v for n in self.nodes for v in [*n.inputs, *n.outputs] if v is not None),
            *self.outputs,
        ]:
            if value not in seen:
                seen.add(value)
                yield value

    def find_input(self, name: str) -> Value:
        for value in self.inputs:
            if value.name == name:
                return value
        raise GraphError(f"the model has no input {name!r}; it has {', '.join(v.name for v in self.inputs)}")

    def verify(self) -> None:
        """Raise GraphError unless every value is defined before it is used, once, and no two values share a name."""
        defined: set[Value] = set(self.inputs)
        names: dict[str, Value] = {}
        for node in self.nodes:
            for value in node.inputs:
                if value is not None and not value.known and value not in defined:
                    raise GraphError(f"{node}: input {value.name!r} is not defined before it is used")
            for value in node.outputs:
                if value in defined or value.constant is not None:
                    raise GraphError(f"{node}: output {value.name!r} is defined twice")
                defined.add(value)
        for value in self.values():
            if names.setdefault(value.name, value) is not value:
                raise GraphError(f"two values are named {value.name!r}")
        for value in self.outputs:
            if value not in defined and not value.known:
                raise GraphError(f"graph output {value.name!r} is never computed")


def rewire(graph: Graph, replacements: Mapping[Value, Value]) -> Graph:
    """The graph with every use of a key replaced by its value, chains included; nodes that change are new nodes."""
    if not replacements:
        return graph

    def final(value: Value) -> Value:
        while value in replacements:
            value = replacements[value]
        return value

    nodes = [
        replace(node, inputs=[None if v is None else final(v) for v in node.inputs])
        if any(v in replacements for v in node.inputs if v is not None)
        else node
        for node in graph.nodes
    ]
    return replace(graph, nodes=nodes, outputs=[final(v) for v in graph.outputs])


def constant(name: str, array: npt.NDArray[Any]) -> Value:
    return Value(name, str(array.dtype), tuple(int(d) for d in array.shape), array)


def toposort(nodes: Sequence[Node], available: Iterable[Value]) -> list[Node]:
    """The nodes in an order in which every input comes first. Raises GraphError naming a node on a cycle."""
    ready: set[Value] = set(available)
    made_by = {out: node for node in nodes for out in node.outputs}
    order: list[Node] = []
    state: dict[int, int] = {}  # 1: on the path, 2: done
    for root in nodes:
        stack: list[tuple[Node, int]] = [(root, 0)]
        while stack:
            node, position = stack.pop()
            if position == 0:
                if state.get(id(node)) == 2:
                    continue
                state[id(node)] = 1
            pending = None
            for i in range(position, len(node.inputs)):
                value = node.inputs[i]
                if value is None or value in ready or value.known or value not in made_by:
                    continue
                maker = made_by[value]
                if state.get(id(maker)) == 1:
                    raise GraphError(f"{maker}: the graph has a cycle through {value.name!r}")
                if state.get(id(maker)) != 2:
                    pending = (maker, i)
                    break
            if pending is not None:
                stack += [(node, pending[1] + 1), (pending[0], 0)]
                continue
            state[id(node)] = 2
            order.append(node)
    return order
