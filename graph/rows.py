"""Whether the rows of a step are independent of each other but for attention: then a prompt may be cut anywhere."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from .ir import Graph, Node, Value
from .shape import Dim, Shape, Symbol, equal, equal_shapes, is_expression, product, symbols

_FUSED = frozenset({"Linear", "RMSNorm", "Embedding", "PositionEmbedding", "RingAttention", "RotaryAngles", "LastRow"})
_MOVES = frozenset({"Transpose", "Squeeze", "Unsqueeze", "Expand", "Identity"})
_SHAPED = frozenset({"Reshape", "Expand", "ConstantOfShape"})  # which take a shape
_ALONG_AXIS = frozenset({"Slice", "Split", "Concat", "Softmax", "LogSoftmax", "LayerNormalization", "RMSNormalization"})
_ELEMENTWISE = """
    Abs Acos Acosh Add And Asin Asinh Atan Atanh BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Celu Clip
    Cos Cosh Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish IsInf IsNaN LeakyRelu Less
    LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Sigmoid Sign Sin Sinh
    Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor
"""
_APART = frozenset(_ELEMENTWISE.split())
_REDUCES = ("Reduce", "ArgM", "LpNorm")


def mixes_rows(graph: Graph, tokens: Symbol) -> str:
    """What lets rows see each other, in words, or "" where nothing does. tokens: the symbol of their number."""
    for node in graph.nodes:
        why = "depends on the number of rows" if _counts_rows(node, tokens) else ""
        if any(tokens in symbols(d) for v in node.outputs for d in v.dims) or _reads_rows(node, tokens):
            why = why or _mixes(node, tokens)
        if why:
            return f"{node} {why}"
    return ""


def _counts_rows(node: Node, tokens: Symbol) -> bool:
    """Whether the node computes with the number of rows, other than to give a result its shape."""
    if node.op in _SHAPED and not node.domain:
        return False
    return any(tokens in symbols(d) for v in node.inputs if v is not None for d in content(v))


def _reads_rows(node: Node, tokens: Symbol) -> bool:
    return any(tokens in symbols(d) for v in node.inputs if v is not None and v.shape is not None for d in v.dims)


def _mixes(node: Node, tokens: Symbol) -> str:
    if node.domain == "tlite":
        return "" if node.op in _FUSED else "is not known to keep rows apart"
    if node.op in ("Reshape", "Flatten") and not node.domain:
        return "" if _keeps_rows(node.input(0).dims, node.output.dims, tokens) else "mixes rows and columns"
    if node.op in _MOVES:
        return ""
    if node.op in _ALONG_AXIS or node.op.startswith(_REDUCES):
        return "" if not _along(node, tokens) else "works across rows"
    if node.op == "Gather":
        return "" if tokens not in symbols(node.input(0).dims[node.attributes.get("axis", 0)]) else "picks among rows"
    if node.op == "MatMul":
        return (
            "" if tokens not in symbols(node.input(0).dims[-1]) and node.input(1).known else "multiplies rows by rows"
        )
    if node.op == "Pad":
        return "" if _pads_elsewhere(node, tokens) else "adds rows"
    apart = node.op in _APART and all(v is None or _fits(v.dims, node.output.dims) for v in node.inputs)
    return "" if apart else "is not known to keep rows apart"


def depends_on_lengths(graph: Graph, known: Collection[Symbol | None]) -> str:
    """What depends on another length than those that are known (a past's, say), in words, or ""."""
    for node in graph.nodes:
        for value in (*node.inputs, *node.outputs):
            if value is None or value.shape is None:
                continue
            others = {s for d in (*value.dims, *content(value)) for s in symbols(d)} - set(known)
            if others:
                return f"{node} depends on the length {min(s.name for s in others)}"
    return ""


def content(value: Value) -> list[Dim]:
    """Elements that are known as expressions."""
    if value.content is None:
        return []
    return [d for d in value.content.reshape(-1).tolist() if is_expression(d)]


def _keeps_rows(before: Shape, after: Shape, tokens: Symbol) -> bool:
    """Whether a reshape leaves each row's elements together: as many of them follow the axis of rows."""
    behind: list[Dim] = []
    for dims in (before, after):
        axes = [i for i, d in enumerate(dims) if tokens in symbols(d)]
        if len(axes) != 1:
            return False
        behind.append(product(dims[axes[0] + 1 :]))
    return equal(behind[0], behind[1])


def _fits(dims: tuple[Dim, ...], wide: tuple[Dim, ...]) -> bool:
    """An operand of an elementwise operator: its extents are those of the result, or 1."""
    lead = len(wide) - len(dims)
    return lead >= 0 and all(d == 1 or equal_shapes((d,), (w,)) for d, w in zip(dims, wide[lead:], strict=True))


def _pads_elsewhere(node: Node, tokens: Symbol) -> bool:
    """Whether elements are added along axes without rows only: of a weight whose last block is not full."""
    dims, pads = node.input(0).dims, node.input(1)
    if not isinstance(pads.constant, np.ndarray) or pads.constant.size != 2 * len(dims):
        return False
    before, after = pads.constant.reshape(2, -1).tolist()
    added = [b or a for b, a in zip(before, after, strict=True)]
    return not any(a and tokens in symbols(d) for a, d in zip(added, dims, strict=True))


def _along(node: Node, tokens: Symbol) -> bool:
    """Whether an axis that the operator works along is, or has in it, the rows."""
    x = node.input(0)
    if node.op == "Slice" or node.op.startswith("Reduce"):
        axes = node.optional(3 if node.op == "Slice" else 1)
        if axes is None or axes.constant is None:
            return True
        chosen = [int(a) for a in axes.array().reshape(-1)]
    else:
        default = {"Split": 0, "Concat": 0, "ArgMax": 0, "ArgMin": 0}.get(node.op, -1)
        axis = int(node.attributes.get("axis", default))
        last = node.op.endswith("Normalization") and axis >= 0
        chosen = list(range(axis, len(x.dims))) if last else [axis]
    return any(tokens in symbols(x.dims[a]) for a in chosen)
