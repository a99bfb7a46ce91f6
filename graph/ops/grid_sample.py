"""GridSample: the input at positions that a grid gives in [-1, 1] along each spatial axis."""

from __future__ import annotations

from itertools import product

import numpy as np

from .registry import Array, Tensor, operator
from .rules import require, require_equal


def _padded(x: Array, size: int, padding: str, corners: int) -> Array:
    """Positions moved into the tensor: to its border, or mirrored there."""
    if padding == "zeros":
        return x
    if padding == "reflection":
        low, span = (0.0, size - 1.0) if corners else (-0.5, float(size))
        turn = np.mod(x - low, max(2 * span, 1.0))
        x = np.minimum(turn, 2 * span - turn) + low
    return np.clip(x, 0, size - 1)


def _taps(x: Array, size: int, mode: str, padding: str, corners: int) -> list[tuple[Array, Array]]:
    """(position, weight) of each tap along an axis; a tap in the padding of zeros has weight 0."""
    exact = x if mode == "cubic" else _padded(x, size, padding, corners)
    if mode == "nearest":
        taps = [(np.rint(exact), np.ones_like(exact))]
    else:
        base = np.floor(exact)
        offsets = (0, 1) if mode == "linear" else (-1, 0, 1, 2)
        taps = [(base + k, _weight(np.abs(exact - base - k), mode)) for k in offsets]
    if mode == "cubic":
        taps = [(np.rint(_padded(p, size, padding, corners)), w) for p, w in taps]
    return [(np.clip(p, 0, size - 1).astype(np.int64), np.where((p >= 0) & (p < size), w, 0)) for p, w in taps]


def _weight(t: Array, mode: str) -> Array:
    """Of a tap at a distance: linear, or Keys' cubic kernel with a = -0.75."""
    if mode == "linear":
        return np.asarray(1 - t)
    near, far = (1.25 * t - 2.25) * t * t + 1, ((-0.75 * t + 3.75) * t - 6) * t + 3
    return np.where(t <= 1, near, np.where(t < 2, far, 0))


@operator("GridSample", since=16)
def grid_sample(
    x: Array, grid: Array, *, mode: str = "linear", padding_mode: str = "zeros", align_corners: int = 0
) -> Array:
    """x [B, C, spatial...], grid [B, out..., axes]; the first of the grid's numbers is for the last axis."""
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    every = []
    for i, size in enumerate(x.shape[2:]):
        g = grid[..., x.ndim - 3 - i].astype(np.float64)
        exact = (g + 1) / 2 * (size - 1) if align_corners else ((g + 1) * size - 1) / 2
        every.append(_taps(exact, size, mode, padding_mode, align_corners))
    batch = np.arange(x.shape[0]).reshape(-1, *[1] * (x.ndim - 2))
    total = np.zeros((x.shape[0], *grid.shape[1:-1], x.shape[1]), np.float64)
    for taps in product(*every):
        picked = x.transpose(0, *range(2, x.ndim), 1)[(batch, *(p for p, _ in taps))]
        total += picked * np.prod([w for _, w in taps], 0)[..., None]
    return np.moveaxis(total, -1, 1).astype(x.dtype)


@grid_sample.rule
def _(x: Tensor, grid: Tensor, *, mode: str = "linear", padding_mode: str = "zeros", align_corners: int = 0) -> Tensor:
    require(x.rank >= 3 and grid.rank == x.rank, f"an input of rank {x.rank} with a grid of rank {grid.rank}")
    require(mode in ("linear", "nearest", "cubic", "bilinear", "bicubic"), f"mode {mode!r} is not supported")
    require(padding_mode in ("zeros", "border", "reflection"), f"padding_mode {padding_mode!r} is not supported")
    require_equal(grid.shape[-1], x.rank - 2, "the grid does not fit the rank")
    require_equal(grid.shape[0], x.shape[0], "the grid does not fit the batch")
    return Tensor(x.dtype, (*x.shape[:2], *grid.shape[1:-1]))
