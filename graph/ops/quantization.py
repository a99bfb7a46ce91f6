"""DequantizeLinear and QuantizeLinear: per tensor, per axis, and in blocks along an axis."""

from __future__ import annotations

import numpy as np

from .dtypes import FLOATS, from_onnx, numpy_dtype
from .registry import Array, Tensor, operator
from .rules import axis_of, require


def _spread(parameter: Array, shape: tuple[int, ...], axis: int, block: int) -> Array:
    """A scale or zero point as an array that broadcasts against the data."""
    if parameter.ndim == 0 or parameter.size == 1:
        return parameter.reshape(())
    axis %= len(shape)
    if parameter.ndim == 1:
        return parameter.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return np.take(np.repeat(parameter, block, axis), range(shape[axis]), axis)


@operator("DequantizeLinear", foldable=False)
def dequantize_linear(
    x: Array, scale: Array, zero: Array | None = None, *, axis: int = 1, block_size: int = 0, output_dtype: int = 0
) -> Array:
    kind = numpy_dtype(from_onnx(output_dtype)) if output_dtype else scale.dtype
    s = _spread(scale, x.shape, axis, block_size).astype(np.float32)
    z = 0 if zero is None else _spread(zero, x.shape, axis, block_size).astype(np.float32)
    return np.asarray((x.astype(np.float32) - z) * s).astype(kind)


@dequantize_linear.rule
def _(
    x: Tensor, scale: Tensor, zero: Tensor | None = None, *, axis: int = 1, block_size: int = 0, output_dtype: int = 0
) -> Tensor:
    _check_parameters(x, scale, axis, block_size)
    require(zero is None or zero.dtype == x.dtype, "its zero point has another element type than the data")
    return Tensor(from_onnx(output_dtype) if output_dtype else scale.dtype, x.shape)


def _check_parameters(x: Tensor, scale: Tensor, axis: int, block: int) -> None:
    require(scale.dtype in FLOATS, f"its scale is {scale.dtype}")
    if scale.rank == 0 or scale.shape == (1,):
        return
    a = axis_of(axis, x.rank)
    if scale.rank == 1:
        require(block == 0 and scale.shape[0] == x.shape[a], "its scale does not fit the axis")
        return
    require(block > 0 and scale.rank == x.rank, "a blocked scale needs block_size and the data's rank")
    for i, (d, s) in enumerate(zip(x.shape, scale.shape, strict=True)):
        require(s == (-(-d // block) if i == a and isinstance(d, int) else d), f"its scale does not fit along axis {i}")


_RANGES = {
    "uint8": (0, 255),
    "int8": (-128, 127),
    "uint16": (0, 65535),
    "int16": (-32768, 32767),
    "uint4": (0, 15),
    "int4": (-8, 7),
}


@operator("QuantizeLinear")
def quantize_linear(
    x: Array,
    scale: Array,
    zero: Array | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
) -> Array:
    name = from_onnx(output_dtype) if output_dtype else "uint8" if zero is None else str(zero.dtype)
    low, high = _RANGES[name]
    s = _spread(scale, x.shape, axis, block_size)
    z = 0 if zero is None else _spread(zero, x.shape, axis, block_size).astype(np.int32)
    return np.asarray(np.clip(np.rint(x / s).astype(np.int32) + z, low, high), numpy_dtype(name))


@quantize_linear.rule
def _(
    x: Tensor,
    scale: Tensor,
    zero: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
) -> Tensor:
    _check_parameters(x, scale, axis, block_size)
    name = from_onnx(output_dtype) if output_dtype else "uint8" if zero is None else zero.dtype
    require(name in _RANGES, f"quantizing to {name} is not supported")
    return Tensor(name, x.shape)
