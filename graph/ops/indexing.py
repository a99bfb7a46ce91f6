"""Picking and making elements: Gather and its kin, Shape, Size, Range, ConstantOfShape, Trilu, OneHot, scatter."""

from __future__ import annotations

import numpy as np

from tlite_vk.graph.shape import add, equal, exact_div, floor_div, is_non_negative, maximum, multiply, product

from .dtypes import INDICES, from_onnx, numpy_dtype
from .registry import Array, Tensor, operator
from .rules import axis_of, known_dims, known_ints, require, require_equal, same, same_dtype


@operator("Gather", symbolic=True)
def gather(data: Array, indices: Array, *, axis: int = 0) -> Array:
    return np.take(data, indices.astype(np.int64), axis)


@gather.rule
def _(data: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    require(indices.dtype in INDICES, f"its indices are {indices.dtype}, not integers")
    a = axis_of(axis, data.rank)
    return Tensor(data.dtype, data.shape[:a] + indices.shape + data.shape[a + 1 :])


@operator("GatherElements")
def gather_elements(data: Array, indices: Array, *, axis: int = 0) -> Array:
    extent = data.shape[axis]
    return np.take_along_axis(data, np.where(indices < 0, indices + extent, indices), axis)


@gather_elements.rule
def _(data: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    require(data.rank == indices.rank, f"data of rank {data.rank} with indices of rank {indices.rank}")
    axis_of(axis, data.rank)
    return Tensor(data.dtype, indices.shape)


@operator("GatherND")
def gather_nd(data: Array, indices: Array, *, batch_dims: int = 0) -> Array:
    batch = indices.shape[:batch_dims]
    flat = data.reshape(-1, *data.shape[batch_dims:])
    picks = indices.reshape(flat.shape[0], -1, indices.shape[-1])
    rows = [flat[(b, *np.moveaxis(picks[b], -1, 0))] for b in range(flat.shape[0])]
    inner = data.shape[batch_dims + indices.shape[-1] :]
    return np.asarray(rows, data.dtype).reshape(*batch, *indices.shape[batch_dims:-1], *inner)


@gather_nd.rule
def _(data: Tensor, indices: Tensor, *, batch_dims: int = 0) -> Tensor:
    depth = indices.shape[-1]
    require(isinstance(depth, int), "the depth of its indices is symbolic")
    assert isinstance(depth, int)
    require(batch_dims + depth <= data.rank, f"indices of depth {depth} into rank {data.rank}")
    return Tensor(data.dtype, indices.shape[:-1] + data.shape[batch_dims + depth :])


@operator("Shape")
def shape(x: Array, *, start: int = 0, end: int | None = None) -> Array:
    return np.asarray(x.shape[start:end], np.int64)


@shape.rule
def _(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    dims = x.shape[start:end]
    data = np.empty(len(dims), object)
    data[:] = dims
    return Tensor("int64", (len(dims),), data)


@operator("Size")
def size(x: Array) -> Array:
    return np.asarray(x.size, np.int64)


@size.rule
def _(x: Tensor) -> Tensor:
    return Tensor("int64", (), np.asarray(product(x.shape), object))


@operator("ConstantOfShape")
def constant_of_shape(shape: Array, *, value: Array | None = None) -> Array:
    fill = np.zeros(1, np.float32) if value is None else value
    return np.full([int(d) for d in shape], fill.reshape(-1)[0], fill.dtype)


@constant_of_shape.rule
def _(shape: Tensor, *, value: Array | None = None) -> Tensor:
    return Tensor("float32" if value is None else str(value.dtype), tuple(known_dims(shape, "its shape")))


@operator("Range")
def range_(start: Array, limit: Array, delta: Array) -> Array:
    count = max(int(np.ceil((limit.item() - start.item()) / delta.item())), 0)
    return np.asarray(start.item() + np.arange(count) * delta.item()).astype(start.dtype)


@range_.rule
def _(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    dtype = same_dtype(start, limit, delta)
    if dtype not in INDICES and all(t.data is not None for t in (start, limit, delta)):
        values = [float(t.data.reshape(-1)[0]) for t in (start, limit, delta) if t.data is not None]
        return Tensor(dtype, (max(int(np.ceil((values[1] - values[0]) / values[2])), 0),))
    low, high = known_dims(start, "its start")[0], known_dims(limit, "its limit")[0]
    step = known_ints(delta, "its step")[0]
    require(step != 0, "its step is 0")
    span = add(high, multiply(-1, low)) if step > 0 else add(low, multiply(-1, high))
    count = exact_div(span, abs(step))
    if count is None:
        count = floor_div(add(span, abs(step) - 1), abs(step))
    return Tensor(dtype, (count if is_non_negative(count) else maximum(count, 0),))


@operator("Trilu")
def trilu(x: Array, k: Array | None = None, *, upper: int = 1) -> Array:
    offset = 0 if k is None else int(k.item())
    return np.triu(x, offset) if upper else np.tril(x, offset)


@trilu.rule
def _(x: Tensor, k: Tensor | None = None, *, upper: int = 1) -> Tensor:
    require(x.rank >= 2, "it needs a matrix")
    return Tensor(x.dtype, x.shape)


@operator("OneHot")
def one_hot(indices: Array, depth: Array, values: Array, *, axis: int = -1) -> Array:
    n = int(depth.reshape(-1)[0])
    hot = np.expand_dims(np.mod(indices.astype(np.int64), n), axis if axis >= 0 else axis + indices.ndim + 1)
    grid = np.arange(n).reshape([-1 if i == (axis % (indices.ndim + 1)) else 1 for i in range(indices.ndim + 1)])
    inside = np.expand_dims((indices >= -n) & (indices < n), axis if axis >= 0 else axis + indices.ndim + 1)
    return np.asarray(np.where((hot == grid) & inside, values[1], values[0]), values.dtype)


@one_hot.rule
def _(indices: Tensor, depth: Tensor, values: Tensor, *, axis: int = -1) -> Tensor:
    a = axis_of(axis, indices.rank + 1)
    n = known_dims(depth, "its depth")[0]
    return Tensor(values.dtype, (*indices.shape[:a], n, *indices.shape[a:]))


@operator("EyeLike")
def eye_like(x: Array, *, dtype: int | None = None, k: int = 0) -> Array:
    kind = x.dtype if dtype is None else numpy_dtype(from_onnx(dtype))
    return np.eye(x.shape[0], x.shape[1], k, kind)


@eye_like.rule
def _(x: Tensor, *, dtype: int | None = None, k: int = 0) -> Tensor:
    require(x.rank == 2, "it needs a matrix")
    return Tensor(x.dtype if dtype is None else from_onnx(dtype), x.shape)


_COMBINE = {"none": None, "add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


@operator("ScatterElements", rule=same)
def scatter_elements(data: Array, indices: Array, updates: Array, *, axis: int = 0, reduction: str = "none") -> Array:
    out = data.copy()
    where: list[Array] = [np.asarray(i) for i in np.indices(indices.shape)]
    where[axis] = np.where(indices < 0, indices + data.shape[axis], indices)
    combine = _COMBINE[reduction]
    if combine is None:
        out[tuple(where)] = updates
    else:
        combine.at(out, tuple(where), updates)
    return out


@operator("ScatterND", rule=same)
def scatter_nd(data: Array, indices: Array, updates: Array, *, reduction: str = "none") -> Array:
    out = data.copy()
    where = tuple(np.moveaxis(indices, -1, 0))
    combine = _COMBINE[reduction]
    if combine is None:
        out[where] = updates
    else:
        combine.at(out, where, updates)
    return out


@operator("TensorScatter", since=24)
def tensor_scatter(
    past: Array, update: Array, write_indices: Array | None = None, *, axis: int = -2, mode: str = "linear"
) -> Array:
    """The cache with `update` written along `axis` from each batch's write index on; "circular" wraps at the end."""
    axis %= past.ndim
    out, rows = past.copy(), update.shape[axis]
    for b in range(past.shape[0]):
        first = 0 if write_indices is None else int(write_indices[b])
        slots = first + np.arange(rows)
        slots = slots % past.shape[axis] if mode == "circular" else slots
        np.moveaxis(out[b], axis - 1, 0)[slots] = np.moveaxis(update[b], axis - 1, 0)
    return out


@tensor_scatter.rule
def _(
    past: Tensor, update: Tensor, write_indices: Tensor | None = None, *, axis: int = -2, mode: str = "linear"
) -> Tensor:
    require(mode in ("linear", "circular"), f"mode {mode!r} is not supported")
    require(past.rank == update.rank, f"a cache of rank {past.rank} and an update of rank {update.rank}")
    a = axis_of(axis, past.rank)
    require(a != 0, "it cannot scatter along the batch")
    for i in range(past.rank):
        if i != a and i != 0:
            require(equal(past.shape[i], update.shape[i]), f"cache and update differ along axis {i}")
    if write_indices is not None:
        require_equal(write_indices.shape[0], past.shape[0], "write indices per batch")
    return Tensor(same_dtype(past, update), past.shape)
