"""ConvTranspose and Col2Im: every input element adds to a window of the output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.shape import Dim, exact_div, ints, multiply
from tlite_vk.graph.shape import product as dim_product

from .convolution import Sizes
from .registry import Array, Tensor, operator
from .rules import known_ints, require, require_equal, same_dtype


@dataclass(frozen=True)
class Placement:
    """Per spatial axis: input position i and kernel position k meet output i * stride + k * dilation - before."""

    sizes: tuple[int, ...]
    before: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]


def placement(
    spatial: Sequence[Dim],
    kernel: Sequence[int],
    *,
    strides: Sizes = None,
    dilations: Sizes = None,
    pads: Sizes = None,
    output_padding: Sizes = None,
    output_shape: Sizes = None,
    auto_pad: str = "NOTSET",
) -> Placement:
    """Output sizes and offsets. Raises GraphError where the extents are not known."""
    extents, rank = list(ints(spatial)), len(kernel)
    step, spread = list(strides or [1] * rank), list(dilations or [1] * rank)
    extra, flat = list(output_padding or [0] * rank), list(pads or [0] * (2 * rank))
    require(auto_pad in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER", ""), f"auto_pad {auto_pad!r} is not supported")
    require(
        len(flat) == 2 * rank and len(step) == len(spread) == len(extra) == rank, "its attributes do not fit the rank"
    )
    if auto_pad.startswith("SAME") and output_shape is None:
        output_shape = [n * s for n, s in zip(extents, step, strict=True)]
    sizes, before = [], []
    for i in range(rank):
        whole = step[i] * (extents[i] - 1) + extra[i] + (kernel[i] - 1) * spread[i] + 1
        if output_shape is None:
            first, last = (0, 0) if auto_pad == "VALID" else (flat[i], flat[rank + i])
            sizes.append(whole - first - last)
        else:
            total = whole - output_shape[-rank:][i]
            first = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
            sizes.append(output_shape[-rank:][i])
        before.append(first)
    require(min([*sizes, *step, *spread, 1]) > 0, "a size, stride or dilation is not positive")
    return Placement(tuple(sizes), tuple(before), tuple(step), tuple(spread))


def _scattered(windows: Array, p: Placement) -> Array:
    """windows [..., in..., kernel...] added into [..., sizes...]."""
    rank = len(p.sizes)
    lead, extents, kernel = windows.shape[: -2 * rank], windows.shape[-2 * rank : -rank], windows.shape[-rank:]
    out = np.zeros((*lead, *p.sizes), windows.dtype)
    for i, k in product(np.ndindex(*extents), np.ndindex(*kernel)):
        at = [i[a] * p.strides[a] + k[a] * p.dilations[a] - p.before[a] for a in range(rank)]
        if all(0 <= o < n for o, n in zip(at, p.sizes, strict=True)):
            out[(..., *at)] += windows[(..., *i, *k)]
    return out


@operator("ConvTranspose")
def conv_transpose(
    x: Array,
    w: Array,
    bias: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sizes = None,
    group: int = 1,
    kernel_shape: Sizes = None,
    output_padding: Sizes = None,
    output_shape: Sizes = None,
    pads: Sizes = None,
    strides: Sizes = None,
) -> Array:
    """x [B, C, in...], w [C, filters per group, kernel...]"""
    p = placement(
        x.shape[2:],
        w.shape[2:],
        strides=strides,
        dilations=dilations,
        pads=pads,
        output_padding=output_padding,
        output_shape=output_shape,
        auto_pad=auto_pad,
    )
    size = x.shape[1] // group
    parts = []
    for g in range(group):
        mine, weight = x[:, g * size : (g + 1) * size], w[g * size : (g + 1) * size]
        parts.append(_scattered(np.moveaxis(np.tensordot(mine, weight, (1, 0)), x.ndim - 1, 1), p))
    y = np.concatenate(parts, 1)
    return np.asarray(y if bias is None else y + bias.reshape(1, -1, *[1] * (x.ndim - 2)), x.dtype)


@conv_transpose.rule
def _(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sizes = None,
    group: int = 1,
    kernel_shape: Sizes = None,
    output_padding: Sizes = None,
    output_shape: Sizes = None,
    pads: Sizes = None,
    strides: Sizes = None,
) -> Tensor:
    require(x.rank >= 3 and w.rank == x.rank, f"an input of rank {x.rank} with a weight of rank {w.rank}")
    kernel = list(ints(w.shape[2:]))
    require(kernel_shape is None or list(kernel_shape) == kernel, "kernel_shape does not fit the weight")
    require_equal(x.shape[1], w.shape[0], "the channels do not fit the weight")
    require(exact_div(w.shape[0], group) is not None, f"{w.shape[0]} channels in {group} groups")
    p = placement(
        x.shape[2:],
        kernel,
        strides=strides,
        dilations=dilations,
        pads=pads,
        output_padding=output_padding,
        output_shape=output_shape,
        auto_pad=auto_pad,
    )
    return Tensor(same_dtype(x, w, bias), (x.shape[0], multiply(w.shape[1], group), *p.sizes))


def blocks_of(image: Sequence[int], block: Sequence[int], dilations: Sizes, pads: Sizes, strides: Sizes) -> Placement:
    """How Col2Im's blocks lie over the image, padding taken off."""
    rank = len(block)
    step, spread = tuple(strides or [1] * rank), tuple(dilations or [1] * rank)
    flat = list(pads or [0] * (2 * rank))
    require(len(image) == rank and len(flat) == 2 * rank, "its attributes do not fit the rank")
    return Placement(tuple(image), tuple(flat[:rank]), step, spread)


def block_counts(p: Placement, block: Sequence[int], pads: Sizes) -> list[int]:
    """Blocks per axis."""
    rank = len(block)
    flat = list(pads or [0] * (2 * rank))
    return [
        (p.sizes[i] + flat[i] + flat[rank + i] - p.dilations[i] * (block[i] - 1) - 1) // p.strides[i] + 1
        for i in range(rank)
    ]


@operator("Col2Im", since=18)
def col2im(
    x: Array, image: Array, block: Array, *, dilations: Sizes = None, pads: Sizes = None, strides: Sizes = None
) -> Array:
    """x [B, C * block elements, blocks] to [B, C, image...], where blocks overlap their sum."""
    kernel = [int(d) for d in block]
    p = blocks_of([int(d) for d in image], kernel, dilations, pads, strides)
    counts = block_counts(p, kernel, pads)
    windows = x.reshape(x.shape[0], -1, *kernel, *counts)
    rank = len(kernel)
    order = [0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank)]
    return _scattered(windows.transpose(order), p)


@col2im.rule
def _(
    x: Tensor, image: Tensor, block: Tensor, *, dilations: Sizes = None, pads: Sizes = None, strides: Sizes = None
) -> Tensor:
    require(x.rank == 3, f"an input of rank {x.rank}, not 3")
    sizes, kernel = known_ints(image, "its image shape"), known_ints(block, "its block shape")
    p = blocks_of(sizes, kernel, dilations, pads, strides)
    require_equal(x.shape[2], dim_product(block_counts(p, kernel, pads)), "the blocks do not fit the image")
    channels = exact_div(x.shape[1], dim_product(kernel))
    if channels is None:
        raise GraphError(f"{x.shape[1]} rows are not a multiple of the block")
    return Tensor(x.dtype, (x.shape[0], channels, *sizes))
