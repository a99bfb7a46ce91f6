"""Normalizations: RMSNormalization, LayerNormalization, LpNormalization and the batch-wise ones."""

from __future__ import annotations

import numpy as np

from tlite_vk.graph.shape import Shape, different

from .dtypes import FLOATS
from .registry import Array, Tensor, operator
from .rules import axis_of, broadcast, require, same, same_dtype


def rms_normalize(x: Array, scale: Array, axis: int, epsilon: float) -> Array:
    axes = tuple(range(axis % x.ndim, x.ndim))
    wide = x.astype(np.float32) if x.dtype.itemsize < 4 else x
    mean_square = np.mean(wide * wide, axes, keepdims=True)
    return np.asarray((wide / np.sqrt(mean_square + wide.dtype.type(epsilon))).astype(x.dtype) * scale, x.dtype)


@operator("RMSNormalization", since=23)
def rms_normalization(x: Array, scale: Array, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1) -> Array:
    return rms_normalize(x, scale, axis, epsilon)


@rms_normalization.rule
def _(x: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1) -> Tensor:
    require(stash_type == 1, f"stash_type {stash_type} is not supported")
    axis_of(axis, x.rank)
    require(x.dtype in FLOATS and scale.dtype in FLOATS, f"it normalizes floats, not {x.dtype} by {scale.dtype}")
    require(broadcast(x.shape, scale.shape) == x.shape, "its scale does not fit")
    return Tensor(x.dtype, x.shape)


@operator("LayerNormalization", since=17)
def layer_normalization(
    x: Array, scale: Array, bias: Array | None = None, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> tuple[Array, Array, Array]:
    axes = tuple(range(axis % x.ndim, x.ndim))
    wide = x.astype(np.float32) if x.dtype.itemsize < 4 else x
    mean = np.mean(wide, axes, keepdims=True)
    centred = wide - mean
    inverse = 1 / np.sqrt(np.mean(centred * centred, axes, keepdims=True) + wide.dtype.type(epsilon))
    y = (centred * inverse).astype(x.dtype) * scale
    return np.asarray(y if bias is None else y + bias, x.dtype), mean, inverse


@layer_normalization.rule
def _(
    x: Tensor, scale: Tensor, bias: Tensor | None = None, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    require(stash_type == 1, f"stash_type {stash_type} is not supported")
    a = axis_of(axis, x.rank)
    require(x.dtype in FLOATS, f"it normalizes floats, not {x.dtype}")
    require(broadcast(x.shape, scale.shape) == x.shape, "its scale does not fit")
    moments: Shape = x.shape[:a] + (1,) * (x.rank - a)
    return Tensor(same_dtype(x, scale, bias), x.shape), Tensor("float32", moments), Tensor("float32", moments)


@operator("LpNormalization", rule=same)
def lp_normalization(x: Array, *, axis: int = -1, p: int = 2) -> Array:
    norm = np.sum(np.abs(x), axis, keepdims=True) if p == 1 else np.sqrt(np.sum(x * x, axis, keepdims=True))
    return np.asarray(np.where(norm == 0, 0, x / np.where(norm == 0, 1, norm)), x.dtype)


def _per_channel(v: Array, rank: int) -> Array:
    return v.reshape(1, -1, *(1,) * (rank - 2))


def _by_channel(x: Tensor, *parameters: Tensor, **_attributes: object) -> Tensor:
    """x [B, C, ...]; each parameter [C]."""
    require(x.rank >= 2, "it needs channels")
    for t in parameters:
        fits = t.rank == 1 and not different(t.shape[0], x.shape[1])
        require(fits and {x.dtype, t.dtype} <= FLOATS, "its parameters must be floats, one per channel")
    return Tensor(x.dtype, x.shape)


@operator("BatchNormalization", since=15, rule=_by_channel)
def batch_normalization(
    x: Array,
    scale: Array,
    bias: Array,
    mean: Array,
    variance: Array,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
) -> Array:
    require(not training_mode, "training mode is not supported")
    m, v, s, b = (_per_channel(a, x.ndim) for a in (mean, variance, scale, bias))
    return np.asarray(s * (x - m) / np.sqrt(v + epsilon) + b, x.dtype)


@operator("InstanceNormalization", rule=_by_channel)
def instance_normalization(x: Array, scale: Array, bias: Array, *, epsilon: float = 1e-5) -> Array:
    axes = tuple(range(2, x.ndim))
    mean, variance = np.mean(x, axes, keepdims=True), np.var(x, axes, keepdims=True)
    return np.asarray(
        _per_channel(scale, x.ndim) * (x - mean) / np.sqrt(variance + epsilon) + _per_channel(bias, x.ndim), x.dtype
    )


@operator("GroupNormalization", since=21, rule=_by_channel)
def group_normalization(
    x: Array, scale: Array, bias: Array, *, num_groups: int, epsilon: float = 1e-5, stash_type: int = 1
) -> Array:
    grouped = x.astype(np.float32).reshape(x.shape[0], num_groups, -1)
    mean, variance = grouped.mean(-1, keepdims=True), grouped.var(-1, keepdims=True)
    y = ((grouped - mean) / np.sqrt(variance + epsilon)).reshape(x.shape)
    return np.asarray(y * _per_channel(scale, x.ndim) + _per_channel(bias, x.ndim), x.dtype)
