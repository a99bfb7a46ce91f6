"""Products of quantized values: MatMulInteger, ConvInteger, QLinearMatMul, QLinearConv."""

from __future__ import annotations

from typing import Any

import numpy as np

from tlite_vk.graph.shape import Shape

from .convolution import Sizes, conv
from .matmul import matmul_shape
from .registry import Array, Tensor, operator
from .rules import require

_BYTES = ("int8", "uint8")


def _spread(parameter: Array | None, axis: int, rank: int) -> Any:
    """A scale or zero point, one or one per line of an axis, as an array that broadcasts."""
    if parameter is None:
        return 0
    if parameter.ndim > 1 or parameter.size == 1:
        return parameter.reshape(()) if parameter.size == 1 else parameter
    return parameter.reshape([-1 if i == axis % rank else 1 for i in range(rank)])


def centred(x: Array, zero: Array | None, axis: int) -> Array:
    """Levels less their zero point, in int32."""
    return np.asarray(x.astype(np.int32) - np.asarray(_spread(zero, axis, x.ndim)).astype(np.int32))


def requantized(total: Array, factor: Any, zero: Array) -> Array:
    info = np.iinfo(zero.dtype)
    levels = np.rint(total * np.asarray(factor, np.float32)) + zero.astype(np.float32)
    return np.asarray(np.clip(levels, info.min, info.max), zero.dtype)


@operator("MatMulInteger", since=10)
def matmul_integer(a: Array, b: Array, a_zero: Array | None = None, b_zero: Array | None = None) -> Array:
    return np.asarray(np.matmul(centred(a, a_zero, -2), centred(b, b_zero, -1)))


@matmul_integer.rule
def _(a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None) -> Tensor:
    require(a.dtype in _BYTES and b.dtype in _BYTES, f"operands of type {a.dtype} and {b.dtype}")
    return Tensor("int32", matmul_shape(a.shape, b.shape))


@operator("QLinearMatMul", since=10)
def qlinear_matmul(
    a: Array, a_scale: Array, a_zero: Array, b: Array, b_scale: Array, b_zero: Array, y_scale: Array, y_zero: Array
) -> Array:
    total = np.matmul(centred(a, a_zero, -2), centred(b, b_zero, -1))
    factor = _spread(a_scale, -2, total.ndim) * _spread(b_scale, -1, total.ndim) / _spread(y_scale, -2, total.ndim)
    return requantized(total, factor, y_zero)


@qlinear_matmul.rule
def _(
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
) -> Tensor:
    require({a.dtype, b.dtype, y_zero.dtype} <= set(_BYTES), f"operands of type {a.dtype} and {b.dtype}")
    return Tensor(y_zero.dtype, matmul_shape(a.shape, b.shape))


def _conv_shape(x: Tensor, w: Tensor, attributes: dict[str, Any]) -> Shape:
    require(x.dtype in _BYTES and w.dtype in _BYTES, f"operands of type {x.dtype} and {w.dtype}")
    result = conv.infer([Tensor("float32", x.shape), Tensor("float32", w.shape)], attributes, 1)
    return result[0].shape


def _options(auto_pad: str, dilations: Sizes, group: int, kernel: Sizes, pads: Sizes, strides: Sizes) -> dict[str, Any]:
    return {
        "auto_pad": auto_pad,
        "dilations": dilations,
        "group": group,
        "kernel_shape": kernel,
        "pads": pads,
        "strides": strides,
    }


@operator("ConvInteger", since=10)
def conv_integer(
    x: Array,
    w: Array,
    x_zero: Array | None = None,
    w_zero: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sizes = None,
    group: int = 1,
    kernel_shape: Sizes = None,
    pads: Sizes = None,
    strides: Sizes = None,
) -> Array:
    options = _options(auto_pad, dilations, group, kernel_shape, pads, strides)
    return conv.run([centred(x, x_zero, 1), centred(w, w_zero, 0)], options)[0]


@conv_integer.rule
def _(
    x: Tensor,
    w: Tensor,
    x_zero: Tensor | None = None,
    w_zero: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sizes = None,
    group: int = 1,
    kernel_shape: Sizes = None,
    pads: Sizes = None,
    strides: Sizes = None,
) -> Tensor:
    return Tensor("int32", _conv_shape(x, w, _options(auto_pad, dilations, group, kernel_shape, pads, strides)))


@operator("QLinearConv", since=10)
def qlinear_conv(
    x: Array,
    x_scale: Array,
    x_zero: Array,
    w: Array,
    w_scale: Array,
    w_zero: Array,
    y_scale: Array,
    y_zero: Array,
    bias: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sizes = None,
    group: int = 1,
    kernel_shape: Sizes = None,
    pads: Sizes = None,
    strides: Sizes = None,
) -> Array:
    options = _options(auto_pad, dilations, group, kernel_shape, pads, strides)
    total = conv.run([centred(x, x_zero, 1), centred(w, w_zero, 0), bias], options)[0]
    return requantized(total, x_scale * _spread(w_scale, 1, total.ndim) / y_scale, y_zero)


@qlinear_conv.rule
def _(
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor,
    w: Tensor,
    w_scale: Tensor,
    w_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sizes = None,
    group: int = 1,
    kernel_shape: Sizes = None,
    pads: Sizes = None,
    strides: Sizes = None,
) -> Tensor:
    return Tensor(y_zero.dtype, _conv_shape(x, w, _options(auto_pad, dilations, group, kernel_shape, pads, strides)))
