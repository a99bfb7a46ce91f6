"""Graphs that compute in float16, bfloat16 or float64 -> the same in float32, which is what kernels compute in.

Constants stay as they are stored. Casts between float types become casts to float32, which later passes drop: so the
patterns that exporters write around norms and softmax look the same for every type.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np

from .infer import infer
from .ir import Graph, Node, Value
from .ops.dtypes import from_onnx

log = logging.getLogger(__name__)

OTHER = frozenset({"float16", "bfloat16", "float64"})
_FLOAT = 1  # ONNX's number of float32
_TYPES = ("to", "dtype", "output_dtype", "softmax_precision")  # attributes that name an element type


def in_single_precision(graph: Graph) -> Graph:
    """The shaped graph in float32, and in `narrow` what type each output has in the file."""
    found = sorted({v.dtype for n in graph.nodes for v in n.outputs} & OTHER)
    if not found:
        return graph
    log.info("%s: values of type %s are computed in float32", graph.name, " and ".join(found))
    values: dict[Value, Value] = {}

    def single(value: Value) -> Value:
        if value.dtype not in OTHER:
            return value
        if value not in values:
            constant = value.constant
            if isinstance(constant, np.ndarray) and value.dtype == "float64":
                constant = constant.astype(np.float32)
            values[value] = Value(value.name, "float32", value.shape, constant)
        return values[value]

    nodes = [
        replace(
            node,
            inputs=[None if v is None else single(v) for v in node.inputs],
            outputs=[single(v) for v in node.outputs],
            attributes=_single(node),
        )
        for node in graph.nodes
    ]
    narrow = {v.name: v.dtype for v in graph.outputs if v.dtype in OTHER}
    inputs, outputs = [single(v) for v in graph.inputs], [single(v) for v in graph.outputs]
    return infer(replace(graph, inputs=inputs, nodes=nodes, outputs=outputs, narrow=narrow))


def _single(node: Node) -> dict[str, Any]:
    """The node's attributes, with float32 for other float types."""
    result = dict(node.attributes)
    for name in _TYPES:
        kind = result.get(name)
        if isinstance(kind, int) and kind > 0 and from_onnx(kind) in OTHER:
            result[name] = _FLOAT
    fill = result.get("value")
    if isinstance(fill, np.ndarray) and str(fill.dtype) in OTHER:
        result["value"] = fill.astype(np.float32)
    return result


def holds_narrow_matrices(graph: Graph) -> bool:
    """Whether the graph is a model of such a type: it has matrices of it."""
    return any(v.dtype in OTHER and v.constant is not None and len(v.dims) >= 2 for v in graph.values())
