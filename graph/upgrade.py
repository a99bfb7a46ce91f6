"""Older forms of operators to the newest one, so that rules, passes and kernels know a single form.

What became an input (axes, split, pads, bounds) is moved from the attributes to constants; operators that another one
replaces exactly (Dropout at inference, Upsample) are rewritten. Each rewriter is registered by operator name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from .errors import GraphError
from .ir import Graph, Node, Value, constant
from .ops.registry import MISFITS

Rewriter = Callable[["_Upgrade", Node], Node]


class _Upgrade:
    def __init__(self, version: int):
        self.version = version

    def moved(self, node: Node, *names: str, defaults: dict[str, Any] | None = None) -> Node:
        """The node with attributes turned into inputs, in order, from the first missing input on."""
        attributes, inputs = dict(node.attributes), list(node.inputs)
        for name in names:
            value = attributes.pop(name, (defaults or {}).get(name))
            inputs.append(None if value is None else constant(f"{node.name}.{name}", np.asarray(value)))
        while inputs and inputs[-1] is None:
            inputs.pop()
        return replace(node, attributes=attributes, inputs=inputs)


_REWRITERS: dict[str, Rewriter] = {}


def _for(*names: str) -> Callable[[Rewriter], Rewriter]:
    def register(function: Rewriter) -> Rewriter:
        for name in names:
            _REWRITERS[name] = function
        return function

    return register


def upgrade(graph: Graph) -> Graph:
    """The graph with every node in its newest form. Raises GraphError for one that has no such form."""
    state = _Upgrade(graph.opset.get("", 1))
    return replace(graph, nodes=[_upgraded(state, node) for node in graph.nodes])


def _upgraded(state: _Upgrade, node: Node) -> Node:
    if node.domain != "" or node.op not in _REWRITERS:
        return node
    try:
        return _REWRITERS[node.op](state, node)
    except MISFITS as error:
        raise GraphError(f"{node}: its inputs or attributes are not those of {node.op} ({error})") from error


@_for(
    "Squeeze",
    "Unsqueeze",
    "ReduceSum",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceL1",
    "ReduceL2",
    "ReduceSumSquare",
    "ReduceLogSum",
    "ReduceLogSumExp",
)
def _axes(state: _Upgrade, node: Node) -> Node:
    return state.moved(node, "axes") if "axes" in node.attributes else node


@_for("Split")
def _split(state: _Upgrade, node: Node) -> Node:
    return state.moved(node, "split") if "split" in node.attributes else node


@_for("Slice")
def _slice(state: _Upgrade, node: Node) -> Node:
    if "starts" not in node.attributes:
        return node
    return state.moved(node, "starts", "ends", "axes")


@_for("Pad")
def _pad(state: _Upgrade, node: Node) -> Node:
    if "pads" not in node.attributes:
        return node
    new = state.moved(node, "pads")
    value = np.asarray(new.attributes.pop("value", 0.0), np.float32)
    return replace(new, inputs=[*new.inputs, constant(f"{node.name}.value", value)])


@_for("Clip")
def _clip(state: _Upgrade, node: Node) -> Node:
    if state.version >= 11:
        return node
    low, high = node.attributes.get("min"), node.attributes.get("max")
    inputs: list[Value | None] = [node.inputs[0]]
    for name, bound in (("min", low), ("max", high)):
        inputs.append(None if bound is None else constant(f"{node.name}.{name}", np.asarray(bound, np.float32)))
    return replace(node, inputs=inputs, attributes={})


@_for("TopK")
def _top_k(state: _Upgrade, node: Node) -> Node:
    return state.moved(node, "k") if "k" in node.attributes else node


@_for("Dropout")
def _dropout(state: _Upgrade, node: Node) -> Node:
    training = node.optional(2)
    if len(node.outputs) > 1 or (training is not None and (training.constant is None or bool(training.array().any()))):
        return node  # with its mask, or in training mode
    return replace(node, op="Identity", inputs=node.inputs[:1], attributes={})


@_for("BatchNormalization")
def _batch_normalization(state: _Upgrade, node: Node) -> Node:
    attributes = {k: v for k, v in node.attributes.items() if k not in ("spatial", "is_test")}
    return replace(node, attributes=attributes)


@_for("Softmax", "LogSoftmax", "Hardmax")
def _softmax(state: _Upgrade, node: Node) -> Node:
    if state.version >= 13:
        return node
    # Before opset 13 the input was flattened to a matrix at `axis` (default 1): the same thing for the last axis only.
    return replace(node, attributes={**node.attributes, "axis": node.attributes.get("axis", 1), "flattened": 1})
