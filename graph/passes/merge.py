"""Stack the weights of Linear nodes that read the same input: a helper of the gate/up and QKV passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.ops.fused import GATED
from tlite_vk.graph.weights import AffineWeight, DenseWeight, QuantizedRows

from .base import Rewriter


def cannot_stack(nodes: Sequence[Node]) -> str:
    """Why these Linear nodes cannot share one product, or "" where they can."""
    first = nodes[0]
    for node in nodes:
        if node.input(0) is not first.input(0):
            return "the projections read different inputs"
        if (
            node.attributes.get("activation", "") in GATED
            or node.optional(3) is not None
            or node.optional(4) is not None
        ):
            return "a projection already has something fused into it"
        if node.attributes.get("activation", "") != first.attributes.get("activation", ""):
            return "the projections have different activations"
        if (node.optional(2) is None) != (first.optional(2) is None):
            return "only some of the projections have a bias"
        if type(node.input(1).constant) is not type(first.input(1).constant):
            return "the weights have different formats"
    try:
        _stack([n.input(1) for n in nodes])
    except GraphError as error:
        return str(error)
    return ""


def _stack(weights: Sequence[Value]) -> AffineWeight | DenseWeight:
    constants = [w.constant for w in weights]
    affine = [c for c in constants if isinstance(c, AffineWeight)]
    if affine:
        return AffineWeight(tuple(part for c in affine for part in c.parts))
    blocks: list[npt.NDArray[Any]] = []
    for c in constants:
        blocks += list(c.parts) if isinstance(c, DenseWeight) else [np.asarray(c)]
    return DenseWeight(tuple(blocks))


def stacked(rewriter: Rewriter, nodes: Sequence[Node]) -> tuple[Value, Value | None]:
    """The weight [sum N, K] with the rows in the nodes' order, and the bias where they have one."""
    constant = _stack([n.input(1) for n in nodes])
    names = [n.input(1).name for n in nodes]
    weight = Value(rewriter.fresh("|".join(names)), nodes[0].input(1).dtype, constant.shape, constant)
    biases = [n.optional(2) for n in nodes]
    if biases[0] is None:
        return weight, None
    arrays = [np.asarray(b.array()) for b in biases if b is not None]
    joined = np.concatenate(arrays)
    return weight, Value(
        rewriter.fresh("|".join(b.name for b in biases if b is not None)), biases[0].dtype, joined.shape, joined
    )


def some_rows(rewriter: Rewriter, weight: Value, ranges: Sequence[tuple[int, int]]) -> Value:
    """The rows [first, last) of a weight [N, K], one range after the other, where they are in the file."""
    constant = weight.constant
    blocks = constant.parts if isinstance(constant, AffineWeight | DenseWeight) else (np.asarray(constant),)
    parts: list[Any] = []
    for first, last in ranges:
        base = 0
        for block in blocks:
            rows = block.rows if isinstance(block, QuantizedRows) else int(block.shape[0])
            low, high = max(first, base) - base, min(last, base + rows) - base
            if low < high:
                parts.append(block.slice(low, high) if isinstance(block, QuantizedRows) else block[low:high])
            base += rows
    made = AffineWeight(tuple(parts)) if isinstance(constant, AffineWeight) else DenseWeight(tuple(parts))
    return Value(rewriter.fresh(f"{weight.name}.heads"), weight.dtype, made.shape, made)
