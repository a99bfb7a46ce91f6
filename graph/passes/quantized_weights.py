"""DequantizeLinear (+ Add of a minimum) (+ Reshape) (+ Cast) over constants -> one affine weight [N, K], in the file.

Accepted: 4- and 8-bit codes [N, G, g] scaled in blocks along the last axis, or [N, K] in blocks along K or per row. A
Cast to another float type is passed over: the weight is more exact without.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.ops.dtypes import FLOATS, unpack4
from tlite_vk.graph.shape import ints
from tlite_vk.graph.weights import AffineWeight, QuantizedRows

from .base import Pass, RejectedError, Rewriter, require

Array = npt.NDArray[Any]
_CODES = {"uint4": (4, False), "int4": (4, True), "uint8": (8, False), "int8": (8, True)}


@dataclass(frozen=True)
class _Layout:
    """How codes and parameters lie: N rows of G groups, and the shape that a parameter [N, G] has in the file."""

    rows: int
    groups: int
    columns: int
    parameter_shape: tuple[int, ...]


class QuantizedWeights(Pass):
    name: ClassVar[str] = "quantized-weights"

    def rewrite(self, rewriter: Rewriter) -> None:
        for node in rewriter.nodes:
            if node.op == "DequantizeLinear" and node.domain == "" and node.input(0).constant is not None:
                try:
                    self._fold(rewriter, node)
                except RejectedError as why:
                    rewriter.reject(node, str(why))

    def _fold(self, rewriter: Rewriter, node: Node) -> None:
        layout = _layout(node)
        minimum, end = _minimum(rewriter, node, layout)
        end = _narrowed(rewriter, _flattened(rewriter, end, layout))
        if end in rewriter.outputs:
            raise RejectedError("the dequantized weight is a graph output")
        weight = AffineWeight((_rows(node, layout, minimum),))
        value = Value(end.name, end.dtype, (layout.rows, layout.columns), weight)
        rewriter.alias(end, value)
        rewriter.matched(node, f"{weight.bits} bits in groups of {weight.group}, [{layout.rows}, {layout.columns}]")


def _layout(node: Node) -> _Layout:
    codes, scale = node.input(0), node.input(1)
    require(codes.dtype in _CODES, f"codes of type {codes.dtype}")
    require(isinstance(scale.constant, np.ndarray), "its scale is not a constant")
    shape, s = ints(codes.dims), ints(scale.dims)
    axis, block = node.attributes.get("axis", 1) % max(len(shape), 1), node.attributes.get("block_size", 0)
    if len(shape) == 3 and axis == 2 and block == shape[2] and s == (shape[0], shape[1], 1):
        layout = _Layout(shape[0], shape[1], shape[1] * shape[2], s)
    elif len(shape) == 2 and axis == 1 and block and shape[1] % block == 0 and s == (shape[0], shape[1] // block):
        layout = _Layout(shape[0], s[1], shape[1], s)
    elif len(shape) == 2 and axis == 0 and not block and s == (shape[0],):
        layout = _Layout(shape[0], 1, shape[1], (shape[0], 1))
    else:
        raise RejectedError(f"codes {list(shape)} with scales {list(s)} along axis {axis} are not rows of groups")
    require(layout.columns % 2 == 0, "an odd number of columns")
    return layout


def _rows(node: Node, layout: _Layout, minimum: Array | None) -> QuantizedRows:
    codes = node.input(0)
    bits, signed = _CODES[codes.dtype]
    raw = np.asarray(codes.array()).reshape(-1)
    matrix = raw.reshape(layout.rows, layout.columns * bits // 8)
    scale, zeros = node.input(1).array().reshape(layout.rows, layout.groups), _zeros(node, layout)
    if zeros.size <= 1:
        return QuantizedRows(matrix, scale, minimum, bits, signed, int(zeros.sum()))
    wide = scale.astype(np.float32)  # step * zero needs more bits than a half has
    offset = -wide * zeros if minimum is None else minimum.astype(np.float32) - wide * zeros
    return QuantizedRows(matrix, wide, offset.astype(np.float32), bits, signed)


def _zeros(node: Node, layout: _Layout) -> Array:
    """The zero points: empty, one number for the whole matrix, or float32 [N, G]."""
    zero = node.optional(2)
    if zero is None:
        return np.zeros(0, np.int64)
    require(isinstance(zero.constant, np.ndarray), "its zero point is not a constant")
    array = zero.array()
    if zero.dtype in ("uint4", "int4"):
        array = unpack4(array, int(np.prod(ints(zero.dims), dtype=np.int64)), zero.dtype == "int4")
    require(array.size > 0, "its zero point is empty")
    if int(array.min()) == int(array.max()):
        return array.reshape(-1)[:1].astype(np.int64)
    require(array.size == layout.rows * layout.groups, "its zero points do not fit its scales")
    return array.reshape(layout.rows, layout.groups).astype(np.float32)


def _only_user(rewriter: Rewriter, value: Value, accept: Callable[[Node], bool]) -> Node | None:
    if not rewriter.used_once(value):
        return None
    user = rewriter.users(value)[0]
    return user if user.domain == "" and accept(user) else None


def _minimum(rewriter: Rewriter, node: Node, layout: _Layout) -> tuple[Array | None, Value]:
    """The minimum per group that an Add puts on top, as [N, G] of the scale's type, and the value that results."""
    out = node.output
    add = _only_user(rewriter, out, lambda n: n.op == "Add")
    if add is None:
        return None, out
    other = add.input(1) if add.input(0) is out else add.input(0)
    cast = rewriter.maker(other, "Cast")
    source = other if cast is None else cast.input(0)
    if not isinstance(source.constant, np.ndarray) or source.shape != layout.parameter_shape:
        return None, out  # some other addition
    minimum, kind = source.constant.reshape(layout.rows, layout.groups), node.input(1).array().dtype
    if minimum.dtype != kind:
        narrow = minimum.astype(kind)
        require(
            np.array_equal(narrow.astype(minimum.dtype), minimum),
            f"its minimum is not exact in {kind}, its scale's type",
        )
        minimum = narrow
    return minimum, add.output


def _flattened(rewriter: Rewriter, value: Value, layout: _Layout) -> Value:
    """The value as a matrix: itself, or what a Reshape to [N, K] makes of it."""
    target = (layout.rows, layout.columns)
    if value.shape == target:
        return value
    reshape = _only_user(rewriter, value, lambda n: n.op == "Reshape" and n.output.shape == target)
    if reshape is None:
        raise RejectedError(f"the groups are not reshaped to {list(target)}")
    return reshape.output


def _narrowed(rewriter: Rewriter, value: Value) -> Value:
    """What a Cast to another float type makes of the value, where one alone reads it; else the value."""
    cast = _only_user(rewriter, value, lambda n: n.op == "Cast" and n.output.dtype in FLOATS)
    return value if cast is None else cast.output
