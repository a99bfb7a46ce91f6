"""The stable text form of a graph: one line per value that comes in, per node, per output. For golden tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from .ir import Graph, Node, Value
from .shape import format_shape, lower_bound, symbols
from .weights import AffineWeight, DenseWeight


def dump(graph: Graph) -> str:
    """The graph as text; equal graphs give equal text in every run."""
    lengths = sorted({s for v in graph.values() for d in v.shape or () for s in symbols(d)}, key=lambda s: str(s.name))
    lines = [f"graph {graph.name}"]
    lines += [f"  symbol {s.name} >= {lower_bound(s)}" for s in lengths]
    lines += [f"  in  {v}" for v in graph.inputs]
    lines += [f"  {format_node(n)}" for n in graph.nodes]
    lines += [f"  out {v}" for v in graph.outputs]
    return "\n".join(lines) + "\n"


def format_node(node: Node) -> str:
    """`name, name = domain.Op(inputs; attribute=value) : dtype[shape]`."""
    kind = f"{node.domain}.{node.op}" if node.domain else node.op
    inputs = ", ".join("_" if v is None else _operand(v) for v in node.inputs)
    attributes = "".join(f"; {k}={_attribute(v)}" for k, v in sorted(node.attributes.items()))
    types = ", ".join(f"{v.dtype}{format_shape(v.shape)}" for v in node.outputs)
    return f"{', '.join(v.name for v in node.outputs)} = {kind}({inputs}{attributes}) : {types}"


def _operand(value: Value) -> str:
    constant = value.constant
    if isinstance(constant, AffineWeight):
        parts = f" in {len(constant.parts)} parts" if len(constant.parts) > 1 else ""
        kind = "symmetric" if constant.symmetric else "affine"
        return f"{value.name}<{kind} {constant.bits} bits, groups of {constant.group}, {_extent(value)}{parts}>"
    if isinstance(constant, DenseWeight):
        return f"{value.name}<{constant.dtype} {_extent(value)} in {len(constant.parts)} parts>"
    if constant is not None:
        if constant.size <= 8 and constant.dtype.kind in "iub":
            return f"{value.name}<{constant.tolist()}>"
        return f"{value.name}<{constant.dtype} {_extent(value)}>"
    if value.content is not None:
        return f"{value.name}<[{', '.join(str(d) for d in value.content.reshape(-1).tolist())}]>"
    return value.name


def _extent(value: Value) -> str:
    return "x".join(str(d) for d in value.dims) or "scalar"


def _attribute(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.tolist() if value.size <= 8 else list(value.shape)}"
    return str(value)
