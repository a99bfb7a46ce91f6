"""Repeating, padding and block rearrangement: Tile, Pad, DepthToSpace, SpaceToDepth."""

from __future__ import annotations

from typing import Any

import numpy as np

from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.shape import add, exact_div, multiply

from .registry import Array, Tensor, operator
from .rules import axes_of, known_dims, known_ints, require


@operator("Tile", symbolic=True)
def tile(x: Array, repeats: Array) -> Array:
    return np.tile(x, [int(r) for r in repeats])


@tile.rule
def _(x: Tensor, repeats: Tensor) -> Tensor:
    counts = known_dims(repeats, "its repeats")
    require(len(counts) == x.rank, f"{len(counts)} repeats for rank {x.rank}")
    return Tensor(x.dtype, tuple(multiply(d, r) for d, r in zip(x.shape, counts, strict=True)))


@operator("Pad")
def pad(
    x: Array, pads: Array, value: Array | None = None, axes: Array | None = None, *, mode: str = "constant"
) -> Array:
    where = axes.tolist() if axes is not None else list(range(x.ndim))
    amounts, half = pads.tolist(), len(pads) // 2
    widths = [(0, 0)] * x.ndim
    crop = [slice(None)] * x.ndim
    for i, a in enumerate(where):
        before, after = amounts[i], amounts[half + i]
        widths[a] = (max(before, 0), max(after, 0))
        crop[a] = slice(max(-before, 0), x.shape[a] - max(-after, 0))
    extra: dict[str, Any] = {"constant_values": 0 if value is None else value.item()} if mode == "constant" else {}
    return np.asarray(np.pad(x[tuple(crop)], widths, mode, **extra))  # type: ignore[call-overload]


@pad.rule
def _(
    x: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None, *, mode: str = "constant"
) -> Tensor:
    require(mode in ("constant", "reflect", "edge", "wrap"), f"mode {mode!r} is not supported")
    amounts = known_dims(pads, "its padding")
    where = axes_of(known_ints(axes, "its axes") if axes is not None else range(x.rank), x.rank)
    require(len(amounts) == 2 * len(where), f"{len(amounts)} amounts for {len(where)} axes")
    shape = list(x.shape)
    for i, a in enumerate(where):
        shape[a] = add(shape[a], add(amounts[i], amounts[len(where) + i]))
    return Tensor(x.dtype, tuple(shape))


@operator("DepthToSpace")
def depth_to_space(x: Array, *, blocksize: int, mode: str = "DCR") -> Array:
    b, c, h, w = x.shape
    n = c // blocksize**2
    if mode == "DCR":
        y = x.reshape(b, blocksize, blocksize, n, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        y = x.reshape(b, n, blocksize, blocksize, h, w).transpose(0, 1, 4, 2, 5, 3)
    return y.reshape(b, n, h * blocksize, w * blocksize)


@depth_to_space.rule
def _(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    b, c, h, w = x.shape
    channels = exact_div(c, blocksize**2)
    if channels is None:
        raise GraphError(f"{c} channels are not a multiple of {blocksize**2}")
    return Tensor(x.dtype, (b, channels, multiply(h, blocksize), multiply(w, blocksize)))


@operator("SpaceToDepth")
def space_to_depth(x: Array, *, blocksize: int) -> Array:
    b, c, h, w = x.shape
    y = x.reshape(b, c, h // blocksize, blocksize, w // blocksize, blocksize).transpose(0, 3, 5, 1, 2, 4)
    return y.reshape(b, c * blocksize**2, h // blocksize, w // blocksize)


@space_to_depth.rule
def _(x: Tensor, *, blocksize: int) -> Tensor:
    b, c, h, w = x.shape
    high, wide = exact_div(h, blocksize), exact_div(w, blocksize)
    if high is None or wide is None:
        raise GraphError(f"[{h}, {w}] is not a multiple of {blocksize}")
    return Tensor(x.dtype, (b, multiply(c, blocksize**2), high, wide))
