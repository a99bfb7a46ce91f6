"""Along an axis, and bit by bit: CumProd, ReverseSequence, the older Scatter, BitCast."""

from __future__ import annotations

import numpy as np

from .dtypes import bits, from_onnx, numpy_dtype
from .indexing import scatter_elements
from .registry import Array, Tensor, operator
from .rules import axis_of, known_ints, require, require_equal, same


@operator("CumProd", since=26)
def cum_prod(x: Array, axis: Array, *, exclusive: int = 0, reverse: int = 0) -> Array:
    a = int(axis.reshape(-1)[0])
    y = np.flip(x, a) if reverse else x
    if exclusive:
        y = np.concatenate((np.ones_like(np.take(y, [0], a)), np.delete(y, -1, a)), a)
    total = np.cumprod(y, a, dtype=x.dtype)
    return np.asarray(np.flip(total, a) if reverse else total, x.dtype)


@cum_prod.rule
def _(x: Tensor, axis: Tensor, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    axis_of(known_ints(axis, "its axis")[0], x.rank)
    return Tensor(x.dtype, x.shape)


@operator("ReverseSequence", since=10)
def reverse_sequence(x: Array, lengths: Array, *, batch_axis: int = 1, time_axis: int = 0) -> Array:
    out, source = (
        np.moveaxis(x.copy(), (batch_axis, time_axis), (0, 1)),
        np.moveaxis(x, (batch_axis, time_axis), (0, 1)),
    )
    for b, n in enumerate(lengths):
        out[b, :n] = source[b, :n][::-1]
    return np.moveaxis(out, (0, 1), (batch_axis, time_axis))


@reverse_sequence.rule
def _(x: Tensor, lengths: Tensor, *, batch_axis: int = 1, time_axis: int = 0) -> Tensor:
    require({batch_axis, time_axis} == {0, 1} and x.rank >= 2, "its axes are not the first two")
    require_equal(lengths.shape[0], x.shape[batch_axis], "lengths per batch")
    return Tensor(x.dtype, x.shape)


@operator("Scatter", rule=same)
def scatter(data: Array, indices: Array, updates: Array, *, axis: int = 0) -> Array:
    """What ScatterElements was called before opset 11."""
    return scatter_elements.run([data, indices, updates], {"axis": axis})[0]


@operator("BitCast", since=26)
def bit_cast(x: Array, *, to: int) -> Array:
    return np.ascontiguousarray(x).view(numpy_dtype(from_onnx(to))).reshape(x.shape)


@bit_cast.rule
def _(x: Tensor, *, to: int) -> Tensor:
    target = from_onnx(to)
    require(
        bits(x.dtype) == bits(target) and "string" not in (x.dtype, target), f"{x.dtype} has not the bits of {target}"
    )
    return Tensor(target, x.shape)
