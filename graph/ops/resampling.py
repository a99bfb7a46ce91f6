"""Resize and Upsample: each output element is a weighted sum of input elements, axis by axis.

The taps of an axis (which input positions, with which weights) depend on the sizes alone, so the oracle and the kernel
share one table per axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.shape import Shape

from .registry import Array, Tensor, operator
from .rules import axes_of, known, require

TRANSFORMS = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
    "tf_crop_and_resize",
)


MAX_RESIZED = 1 << 24
"""Elements of a resized axis: each has its positions and weights in a table."""


@dataclass(frozen=True)
class Axis:
    """One resized axis: extents, the scale between them, the region of tf_crop_and_resize (start, end)."""

    axis: int
    before: int
    after: int
    scale: float
    region: tuple[float, float]


@dataclass(frozen=True)
class Taps:
    """positions, weights: [after, taps]. outside: which outputs lie outside of the region, [after]."""

    axis: int
    positions: Array
    weights: Array
    outside: Array


def _sources(a: Axis, transform: str) -> Array:
    """The position in the input of each output element, fractions included."""
    if a.after > MAX_RESIZED:
        raise GraphError(f"axis {a.axis} would grow to {a.after} elements; up to {MAX_RESIZED} are supported")
    x = np.arange(a.after, dtype=np.float64)
    whole = a.scale * a.before  # the size that the scale asks for, before it was rounded
    if transform == "align_corners":
        return x * (a.before - 1) / (whole - 1) if whole != 1 else np.zeros_like(x)
    if transform == "asymmetric":
        return x / a.scale
    if transform == "tf_half_pixel_for_nn":
        return (x + 0.5) / a.scale
    if transform == "tf_crop_and_resize":
        start, end = a.region
        if a.after == 1:
            return np.full_like(x, 0.5 * (start + end) * (a.before - 1))
        return start * (a.before - 1) + x * (end - start) * (a.before - 1) / (a.after - 1)
    half = (x + 0.5) / a.scale - 0.5
    if transform == "pytorch_half_pixel":
        return half if a.after > 1 else np.zeros_like(x)
    if transform == "half_pixel_symmetric":
        return half + a.before / 2 * (1 - a.after / whole)
    return half


def _nearest(x: Array, mode: str) -> Array:
    if mode in ("round_prefer_floor", ""):
        return np.ceil(x - 0.5)
    if mode == "round_prefer_ceil":
        return np.floor(x + 0.5)
    require(mode in ("floor", "ceil"), f"nearest_mode {mode!r} is not supported")
    return np.floor(x) if mode == "floor" else np.ceil(x)


def _cubic(t: Array, a: float) -> Array:
    """Keys' kernel, which reaches to 2."""
    t = np.abs(t)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


def taps_of(
    a: Axis,
    *,
    mode: str,
    transform: str,
    nearest_mode: str,
    cubic_coeff_a: float,
    antialias: int,
    exclude_outside: int,
) -> Taps:
    """The taps of one axis. Wide kernels where the axis shrinks and antialias is set."""
    x = _sources(a, transform)
    outside = (x < 0) | (x > a.before - 1) if transform == "tf_crop_and_resize" else np.zeros(a.after, np.bool_)
    if mode == "nearest":
        positions = np.clip(_nearest(x, nearest_mode), 0, a.before - 1)[:, None]
        return Taps(a.axis, positions.astype(np.int64), np.ones((a.after, 1)), outside)
    shrink = min(a.scale, 1.0) if antialias else 1.0
    reach = 1 if mode == "linear" else 2
    first = math.floor(-reach / shrink) + 1
    offsets = np.arange(first, 2 - first)
    base = np.floor(x)
    distance = (offsets[None, :] - (x - base)[:, None]) * shrink
    weights = np.clip(1 - np.abs(distance), 0, 1) if mode == "linear" else _cubic(distance, cubic_coeff_a)
    positions = base[:, None] + offsets[None, :]
    if exclude_outside:
        weights = np.where((positions < 0) | (positions >= a.before), 0.0, weights)
    if exclude_outside or shrink < 1:
        weights = weights / weights.sum(1, keepdims=True)
    return Taps(a.axis, np.clip(positions, 0, a.before - 1).astype(np.int64), weights, outside)


def resized_axes(
    shape: Shape,
    *,
    roi: Array | None = None,
    scales: Array | None = None,
    sizes: Array | None = None,
    axes: Sequence[int] | None = None,
    policy: str = "stretch",
) -> list[Axis]:
    """The axes that change, from scales or from sizes."""
    where = axes_of(axes, len(shape)) if axes is not None else list(range(len(shape)))
    given = scales if scales is not None and scales.size else sizes
    require(given is not None and given.size == len(where), "its scales or sizes do not fit its axes")
    assert given is not None
    before = [shape[i] for i in where]
    if not all(isinstance(d, int) for d in before):
        raise GraphError("an extent to be resized depends on a symbolic dimension")
    old = [int(d) for d in before if isinstance(d, int)]
    if given is scales:
        factors = [float(s) for s in given]
        after = [math.floor(d * s) for d, s in zip(old, factors, strict=True)]
    else:
        after, factors = _by_sizes(old, [int(s) for s in given], policy)
    require(min([*factors, 1.0]) > 0 and min([*after, 0]) >= 0, "a scale or size is not positive")
    regions = [(0.0, 1.0)] * len(where)
    if roi is not None and roi.size == 2 * len(where):
        regions = [(float(roi[i]), float(roi[len(where) + i])) for i in range(len(where))]
    return [Axis(*item) for item in zip(where, old, after, factors, regions, strict=True)]


def _by_sizes(old: list[int], sizes: list[int], policy: str) -> tuple[list[int], list[float]]:
    ratios = [s / d for s, d in zip(sizes, old, strict=True)]
    if policy == "stretch":
        return sizes, ratios
    require(policy in ("not_larger", "not_smaller"), f"keep_aspect_ratio_policy {policy!r} is not supported")
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    return [math.floor(scale * d + 0.5) for d in old], [scale] * len(old)


def apply_taps(x: Array, every: Sequence[Taps], fill: float) -> Array:
    """x with every axis of the taps resampled; `fill` outside of the region."""
    result, dtype = np.asarray(x, np.float64) if x.dtype.kind == "f" else x.astype(np.float64), x.dtype
    for taps in every:
        picked = np.take(result, taps.positions, taps.axis)  # the taps come after the axis
        weights = taps.weights.reshape(*taps.weights.shape, *[1] * (result.ndim - taps.axis - 1))
        result = (picked * weights).sum(taps.axis + 1)
    for taps in every:
        np.moveaxis(result, taps.axis, 0)[taps.outside] = fill
    return result.astype(dtype) if dtype.kind == "f" else np.rint(result).astype(dtype)


def every_taps(
    shape: Shape,
    roi: Array | None,
    scales: Array | None,
    sizes: Array | None,
    *,
    mode: str = "nearest",
    coordinate_transformation_mode: str = "half_pixel",
    nearest_mode: str = "round_prefer_floor",
    cubic_coeff_a: float = -0.75,
    antialias: int = 0,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    axes: Sequence[int] | None = None,
    keep_aspect_ratio_policy: str = "stretch",
) -> list[Taps]:
    """The taps of every axis that is not left as it is; the keywords are Resize's attributes."""
    require(mode in ("nearest", "linear", "cubic"), f"mode {mode!r} is not supported")
    require(coordinate_transformation_mode in TRANSFORMS, f"{coordinate_transformation_mode!r} is not supported")
    found = resized_axes(shape, roi=roi, scales=scales, sizes=sizes, axes=axes, policy=keep_aspect_ratio_policy)
    crop = coordinate_transformation_mode == "tf_crop_and_resize"
    return [
        taps_of(
            a,
            mode=mode,
            transform=coordinate_transformation_mode,
            nearest_mode=nearest_mode,
            cubic_coeff_a=cubic_coeff_a,
            antialias=antialias,
            exclude_outside=exclude_outside,
        )
        for a in found
        if crop or a.after != a.before or a.scale != 1
    ]


@operator("Resize", since=11)
def resize(
    x: Array,
    roi: Array | None = None,
    scales: Array | None = None,
    sizes: Array | None = None,
    *,
    mode: str = "nearest",
    coordinate_transformation_mode: str = "half_pixel",
    nearest_mode: str = "round_prefer_floor",
    cubic_coeff_a: float = -0.75,
    antialias: int = 0,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    axes: Sequence[int] | None = None,
    keep_aspect_ratio_policy: str = "stretch",
) -> Array:
    taps = every_taps(
        x.shape,
        roi,
        scales,
        sizes,
        mode=mode,
        coordinate_transformation_mode=coordinate_transformation_mode,
        nearest_mode=nearest_mode,
        cubic_coeff_a=cubic_coeff_a,
        antialias=antialias,
        exclude_outside=exclude_outside,
        axes=axes,
        keep_aspect_ratio_policy=keep_aspect_ratio_policy,
    )
    return apply_taps(x, taps, extrapolation_value)


@resize.rule
def _(
    x: Tensor,
    roi: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
    *,
    mode: str = "nearest",
    coordinate_transformation_mode: str = "half_pixel",
    nearest_mode: str = "round_prefer_floor",
    cubic_coeff_a: float = -0.75,
    antialias: int = 0,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    axes: Sequence[int] | None = None,
    keep_aspect_ratio_policy: str = "stretch",
) -> Tensor:
    data = {"roi": roi, "scales": scales, "sizes": sizes}
    given = {name: None if t is None else known(t, f"its {name}") for name, t in data.items()}
    shape = list(x.shape)
    for a in resized_axes(x.shape, **given, axes=axes, policy=keep_aspect_ratio_policy):
        shape[a.axis] = a.after
    return Tensor(x.dtype, tuple(shape))


@operator("Upsample", since=9)
def upsample(x: Array, scales: Array, *, mode: str = "nearest") -> Array:
    taps = every_taps(
        x.shape, None, scales, None, mode=mode, coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )
    return apply_taps(x, taps, 0.0)


@upsample.rule
def _(x: Tensor, scales: Tensor, *, mode: str = "nearest") -> Tensor:
    shape = list(x.shape)
    for a in resized_axes(x.shape, scales=known(scales, "its scales")):
        shape[a.axis] = a.after
    return Tensor(x.dtype, tuple(shape))
