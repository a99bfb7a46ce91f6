"""Pools other than the maximum and the mean: LpPool, GlobalLpPool, and LRN over neighbouring channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tlite_vk.graph.shape import ints

from .convolution import Sizes, _geometry, _windows
from .registry import Array, Tensor, operator
from .rules import require, same


@operator("LpPool")
def lp_pool(
    x: Array,
    *,
    kernel_shape: Sequence[int],
    p: int = 2,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sizes = None,
    pads: Sizes = None,
    strides: Sizes = None,
) -> Array:
    sizes, padding, step, spread = _geometry(x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    windows = _windows(np.abs(x) ** p, kernel_shape, ints(sizes), padding, step, spread, 0.0)
    return np.asarray(windows.sum(tuple(range(-len(kernel_shape), 0))) ** (1 / p), x.dtype)


@lp_pool.rule
def _(
    x: Tensor,
    *,
    kernel_shape: Sequence[int],
    p: int = 2,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sizes = None,
    pads: Sizes = None,
    strides: Sizes = None,
) -> Tensor:
    require(x.rank >= 3 and p >= 1, f"an input of rank {x.rank}, p = {p}")
    sizes = _geometry(x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)[0]
    return Tensor(x.dtype, (*x.shape[:2], *sizes))


@operator("GlobalLpPool", rule=lambda x, *, p=2: Tensor(x.dtype, (*x.shape[:2], *[1] * (x.rank - 2))))
def global_lp_pool(x: Array, *, p: int = 2) -> Array:
    total = np.sum(np.abs(x) ** p, tuple(range(2, x.ndim)), keepdims=True)
    return np.asarray(total ** (1 / p), x.dtype)


@operator("LRN", rule=same)
def lrn(x: Array, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> Array:
    """x / (bias + alpha / size * sum of the squares of the nearest `size` channels) ** beta."""
    before = (size - 1) // 2
    widths = [(0, 0), (before, size - 1 - before), *[(0, 0)] * (x.ndim - 2)]
    squares = np.lib.stride_tricks.sliding_window_view(np.pad(x * x, widths), size, 1).sum(-1)
    return np.asarray(x / (bias + alpha / size * squares) ** beta, x.dtype)
