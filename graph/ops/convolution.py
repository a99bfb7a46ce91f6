"""Convolution and pooling over any number of spatial axes. x: [B, C, spatial...]."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.shape import Dim, add, ceil_div, exact_div, floor_div, ints, multiply

from .registry import Array, Tensor, operator
from .rules import require, require_equal, same_dtype

Sizes = Sequence[int] | None  # one number per spatial axis (twice as many for pads); None: the default


def _geometry(
    spatial: Sequence[Dim],
    kernel: Sequence[int],
    strides: Sizes,
    dilations: Sizes,
    pads: Sizes,
    auto_pad: str,
    ceil_mode: int = 0,
) -> tuple[list[Dim], list[tuple[int, int]], list[int], list[int]]:
    """(output extents, padding before and after, strides, dilations) per spatial axis."""
    rank = len(spatial)
    step, spread = list(strides or [1] * rank), list(dilations or [1] * rank)
    flat = list(pads or [0] * (2 * rank))
    require(
        len(kernel) == len(step) == len(spread) == rank and len(flat) == 2 * rank, "its attributes do not fit the rank"
    )
    require(min([*kernel, *step, *spread]) > 0, "a kernel, stride or dilation is not positive")
    sizes: list[Dim] = []
    padding: list[tuple[int, int]] = []
    for i, extent in enumerate(spatial):
        reach = spread[i] * (kernel[i] - 1) + 1
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            if not isinstance(extent, int):
                raise GraphError(f"auto_pad {auto_pad} needs a spatial extent that is known")
            missing = max((-(-extent // step[i]) - 1) * step[i] + reach - extent, 0)
            small, large = missing // 2, missing - missing // 2
            padding.append((small, large) if auto_pad == "SAME_UPPER" else (large, small))
        else:
            require(auto_pad in ("NOTSET", "VALID", ""), f"auto_pad {auto_pad!r} is not supported")
            padding.append((0, 0) if auto_pad == "VALID" else (flat[i], flat[rank + i]))
        span = add(extent, sum(padding[i]) - reach)
        count = add(ceil_div(span, step[i]) if ceil_mode else floor_div(span, step[i]), 1)
        if (
            ceil_mode
            and isinstance(count, int)
            and isinstance(extent, int)
            and (count - 1) * step[i] >= extent + padding[i][0]
        ):
            count -= 1  # a window that would start in the padding after the data is left out
        sizes.append(count)
    return sizes, padding, step, spread


def _windows(
    x: Array,
    kernel: Sequence[int],
    sizes: Sequence[int],
    padding: list[tuple[int, int]],
    step: list[int],
    spread: list[int],
    fill: float,
) -> Array:
    """Every window of x [B, C, spatial...]: [B, C, out..., kernel...]."""
    widths = [(0, 0), (0, 0)]
    for i, (before, after) in enumerate(padding):
        needed = (sizes[i] - 1) * step[i] + spread[i] * (kernel[i] - 1) + 1
        widths.append((before, max(after, needed - x.shape[2 + i] - before)))
    padded = np.pad(x, widths, constant_values=np.asarray(fill, x.dtype).item())
    reach = [d * (k - 1) + 1 for d, k in zip(spread, kernel, strict=True)]
    axes = tuple(range(2, x.ndim))
    view = np.lib.stride_tricks.sliding_window_view(padded, reach, axes)
    starts = tuple(slice(0, (n - 1) * s + 1, s) for n, s in zip(sizes, step, strict=True))
    return np.asarray(view[(slice(None), slice(None), *starts, *(slice(None, None, d) for d in spread))])


@operator("Conv")
def conv(
    x: Array,
    w: Array,
    bias: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sizes = None,
    group: int = 1,
    kernel_shape: Sizes = None,
    pads: Sizes = None,
    strides: Sizes = None,
) -> Array:
    kernel = list(w.shape[2:])
    sizes, padding, step, spread = _geometry(x.shape[2:], kernel, strides, dilations, pads, auto_pad)
    numbers = ints(sizes)
    windows = _windows(x, kernel, numbers, padding, step, spread, 0.0)
    batch, channels, per_group = x.shape[0], w.shape[0] // group, x.shape[1] // group
    parts = []
    for g in range(group):
        patch = np.moveaxis(windows[:, g * per_group : (g + 1) * per_group], 1, 1 + len(kernel))
        rows = patch.reshape(batch, int(np.prod(numbers, dtype=np.int64)), -1)
        parts.append(rows @ w[g * channels : (g + 1) * channels].reshape(channels, -1).T)
    y = np.moveaxis(np.concatenate(parts, -1), -1, 1).reshape(batch, w.shape[0], *numbers)
    return np.asarray(y if bias is None else y + bias.reshape(1, -1, *[1] * len(kernel)), x.dtype)


@conv.rule
def _(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sizes = None,
    group: int = 1,
    kernel_shape: Sizes = None,
    pads: Sizes = None,
    strides: Sizes = None,
) -> Tensor:
    require(x.rank >= 3 and w.rank == x.rank, f"an input of rank {x.rank} with a weight of rank {w.rank}")
    kernel = list(ints(w.shape[2:]))
    require(kernel_shape is None or list(kernel_shape) == kernel, "kernel_shape does not fit the weight")
    require_equal(x.shape[1], multiply(w.shape[1], group), "the channels do not fit the weight")
    require(exact_div(w.shape[0], group) is not None, f"{w.shape[0]} filters in {group} groups")
    sizes = _geometry(x.shape[2:], kernel, strides, dilations, pads, auto_pad)[0]
    return Tensor(same_dtype(x, w, bias), (x.shape[0], w.shape[0], *sizes))


def _pool_rule(
    x: Tensor,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sizes = None,
    pads: Sizes = None,
    storage_order: int = 0,
    strides: Sizes = None,
) -> Tensor:
    require(x.rank >= 3, f"an input of rank {x.rank}")
    sizes = _geometry(x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)[0]
    return Tensor(x.dtype, (*x.shape[:2], *sizes))


@operator("MaxPool", rule=_pool_rule)
def max_pool(
    x: Array,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    storage_order: int = 0,
    dilations: Sizes = None,
    pads: Sizes = None,
    strides: Sizes = None,
) -> Array:
    sizes, padding, step, spread = _geometry(x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    lowest = -np.inf if x.dtype.kind == "f" else float(np.iinfo(x.dtype).min)
    windows = _windows(x, kernel_shape, ints(sizes), padding, step, spread, lowest)
    return np.asarray(windows.max(tuple(range(-len(kernel_shape), 0))), x.dtype)


@operator("AveragePool", rule=_pool_rule)
def average_pool(
    x: Array,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sizes = None,
    pads: Sizes = None,
    strides: Sizes = None,
) -> Array:
    sizes, padding, step, spread = _geometry(x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    inside = np.ones_like(x[:1, :1])
    if count_include_pad:  # padding counts, what a rounded-up window reaches beyond it does not
        inside = np.pad(inside, [(0, 0), (0, 0), *padding], constant_values=1)
        x = np.pad(x, [(0, 0), (0, 0), *padding])
        padding = [(0, 0)] * len(padding)
    axes = tuple(range(-len(kernel_shape), 0))
    total, count = (_windows(a, kernel_shape, ints(sizes), padding, step, spread, 0.0).sum(axes) for a in (x, inside))
    return np.asarray(total / count, x.dtype)


def _global(name: str, reduce: Callable[..., Any]) -> None:
    def oracle(x: Array) -> Array:
        return np.asarray(reduce(x, tuple(range(2, x.ndim)), keepdims=True), x.dtype)

    operator(name, rule=lambda x: Tensor(x.dtype, (*x.shape[:2], *[1] * (x.rank - 2))))(oracle)


_global("GlobalAveragePool", np.mean)
_global("GlobalMaxPool", np.max)
