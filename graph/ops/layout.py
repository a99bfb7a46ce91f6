"""Data movement: Reshape, Transpose, Concat, Split, Slice, Squeeze, Expand, Tile, Pad and their kin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.shape import (
    Dim,
    Shape,
    add,
    at_least,
    ceil_div,
    exact_div,
    is_non_negative,
    maximum,
    minimum,
    multiply,
    product,
)

from .registry import Array, Tensor, operator
from .rules import axes_of, axis_of, broadcast, known_dims, known_ints, require, require_equal, same_dtype

INT_MAX = 2**31 - 1


def reshape_dims(shape: Shape, target: Sequence[Dim], allowzero: int = 0) -> Shape:
    """The result of Reshape: 0 copies a dimension, one -1 takes what is left. Raises GraphError where sizes differ."""
    result: list[Dim] = []
    for i, d in enumerate(target):
        if d == 0 and not allowzero:
            require(i < len(shape), "a 0 in the new shape has no dimension to copy")
            d = shape[i]
        result.append(d)
    free = [i for i, d in enumerate(result) if d == -1]
    require(len(free) <= 1, "the new shape has more than one -1")
    total = product(shape)
    rest = product(d for d in result if d != -1)
    if free:
        left = 0 if total == 0 else None if rest == 0 else exact_div(total, rest)
        if left is None:
            raise GraphError(f"{total} elements cannot be split into groups of {rest}")
        result[free[0]] = left
    else:
        require_equal(total, rest, "the number of elements changes")
    return tuple(result)


@operator("Reshape", symbolic=True)
def reshape(x: Array, shape: Array, *, allowzero: int = 0) -> Array:
    target = [int(x.shape[i]) if d == 0 and not allowzero else int(d) for i, d in enumerate(shape.tolist())]
    return x.reshape(target)


@reshape.rule
def _(x: Tensor, shape: Tensor, *, allowzero: int = 0) -> Tensor:
    return Tensor(x.dtype, reshape_dims(x.shape, known_dims(shape, "the new shape"), allowzero))


@operator("Flatten", symbolic=True)
def flatten(x: Array, *, axis: int = 1) -> Array:
    axis = axis if axis >= 0 else axis + x.ndim
    return x.reshape(int(np.prod(x.shape[:axis], dtype=np.int64)), -1)


@flatten.rule
def _(x: Tensor, *, axis: int = 1) -> Tensor:
    require(-x.rank <= axis <= x.rank, f"axis {axis} is outside of rank {x.rank}")
    axis = axis if axis >= 0 else axis + x.rank
    return Tensor(x.dtype, (product(x.shape[:axis]), product(x.shape[axis:])))


@operator("Transpose", symbolic=True)
def transpose(x: Array, *, perm: Sequence[int] | None = None) -> Array:
    return np.transpose(x, perm)


@transpose.rule
def _(x: Tensor, *, perm: Sequence[int] | None = None) -> Tensor:
    order = list(perm) if perm is not None else list(range(x.rank))[::-1]
    require(sorted(order) == list(range(x.rank)), f"perm {order} does not fit rank {x.rank}")
    return Tensor(x.dtype, tuple(x.shape[i] for i in order))


@operator("Squeeze", symbolic=True)
def squeeze(x: Array, axes: Array | None = None) -> Array:
    return np.squeeze(x, None if axes is None else tuple(int(a) for a in axes.reshape(-1)))


@squeeze.rule
def _(x: Tensor, axes: Tensor | None = None) -> Tensor:
    if axes is None:
        require(all(isinstance(d, int) for d in x.shape), "without axes it needs a shape that is known")
        return Tensor(x.dtype, tuple(d for d in x.shape if d != 1))
    drop = axes_of(known_ints(axes, "its axes"), x.rank)
    for a in drop:
        require_equal(x.shape[a], 1, f"axis {a} cannot be squeezed")
    return Tensor(x.dtype, tuple(d for i, d in enumerate(x.shape) if i not in drop))


@operator("Unsqueeze", symbolic=True)
def unsqueeze(x: Array, axes: Array) -> Array:
    return np.expand_dims(x, tuple(int(a) for a in axes.reshape(-1)))


@unsqueeze.rule
def _(x: Tensor, axes: Tensor) -> Tensor:
    values = known_ints(axes, "its axes")
    rank = x.rank + len(values)
    new = axes_of(values, rank)
    rest = iter(x.shape)
    return Tensor(x.dtype, tuple(1 if i in new else next(rest) for i in range(rank)))


@operator("Concat", symbolic=True)
def concat(*inputs: Array, axis: int) -> Array:
    return np.concatenate(inputs, axis)


@concat.rule
def _(*inputs: Tensor, axis: int) -> Tensor:
    first = inputs[0]
    a = axis_of(axis, first.rank)
    total: Dim = 0
    for t in inputs:
        require(t.rank == first.rank, f"an input has rank {t.rank}, another rank {first.rank}")
        for i in range(t.rank):
            if i != a:
                require_equal(t.shape[i], first.shape[i], f"inputs differ along axis {i}")
        total = add(total, t.shape[a])
    return Tensor(same_dtype(*inputs), (*first.shape[:a], total, *first.shape[a + 1 :]))


@operator("Split", symbolic=True)
def split(
    x: Array, split: Array | None = None, *, axis: int = 0, num_outputs: int | None = None, outputs: int = 1
) -> list[Array]:
    if split is not None:
        return np.split(x, np.cumsum(split)[:-1], axis)
    step = -(-x.shape[axis] // outputs)
    return np.split(x, range(step, step * outputs, step), axis)


@split.rule
def _(
    x: Tensor, split: Tensor | None = None, *, axis: int = 0, num_outputs: int | None = None, outputs: int = 1
) -> tuple[Tensor, ...]:
    a = axis_of(axis, x.rank)
    whole = x.shape[a]
    if split is not None:
        sizes = known_dims(split, "its split")
    elif isinstance(whole, int):
        step = -(-whole // outputs)
        sizes = [max(0, min(step, whole - i * step)) for i in range(outputs)]
    else:
        part = exact_div(whole, outputs)
        if part is None:
            raise GraphError(f"{whole} cannot be split into {outputs} equal parts")
        sizes = [part] * outputs
    require(len(sizes) == outputs, f"{len(sizes)} parts for {outputs} outputs")
    total: Dim = 0
    for s in sizes:
        total = add(total, s)
    require_equal(total, whole, "the parts do not add up")
    return tuple(Tensor(x.dtype, (*x.shape[:a], s, *x.shape[a + 1 :])) for s in sizes)


def slice_extent(extent: Dim, start: Dim, stop: Dim, step: int) -> Dim:
    """The number of elements of `range(extent)[start:stop:step]`. Raises GraphError where a bound is unclear."""
    if isinstance(extent, int) and isinstance(start, int) and isinstance(stop, int):
        return len(range(*slice(start, None if step < 0 and stop < -extent else stop, step).indices(extent)))
    if step < 0:
        require(
            isinstance(start, int) and start in (-1, INT_MAX, 2**63 - 1) and isinstance(stop, int) and stop < -INT_MAX,
            f"a reversed slice [{start}:{stop}] of {extent} is not supported",
        )
        return ceil_div(extent, -step)
    low, high = _clamp(start, extent), _clamp(stop, extent)
    span = add(high, multiply(-1, low))
    return ceil_div(span if is_non_negative(span) else maximum(span, 0), step)


def _clamp(bound: Dim, extent: Dim) -> Dim:
    """A slice bound as a position in [0, extent]."""
    if isinstance(bound, int):
        if bound >= INT_MAX:
            return extent
        if bound < 0:
            return maximum(add(extent, bound), 0) if bound > -INT_MAX else 0
    elif not is_non_negative(bound):
        require(at_least(0, add(bound, 1)), f"cannot tell the sign of the bound {bound}")
        return maximum(add(extent, bound), 0)
    return minimum(bound, extent)


@operator("Slice", symbolic=True)
def slice_(x: Array, starts: Array, ends: Array, axes: Array | None = None, steps: Array | None = None) -> Array:
    return x[
        _indices(
            x.ndim,
            starts.tolist(),
            ends.tolist(),
            None if axes is None else axes.tolist(),
            None if steps is None else steps.tolist(),
            x.shape,
        )
    ]


def _indices(
    rank: int, starts: list[int], ends: list[int], axes: list[int] | None, steps: list[int] | None, shape: Sequence[int]
) -> tuple[slice, ...]:
    result = [slice(None)] * rank
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = (axes[i] if axes is not None else i) % rank
        step = steps[i] if steps is not None else 1
        result[axis] = slice(start, None if step < 0 and end < -shape[axis] else end, step)
    return tuple(result)


@slice_.rule
def _(x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None) -> Tensor:
    first, last = known_dims(starts, "its start"), known_dims(ends, "its end")
    where = axes_of(known_ints(axes, "its axes") if axes is not None else range(len(first)), x.rank)
    by = known_ints(steps, "its step") if steps is not None else [1] * len(first)
    require(len(first) == len(last) == len(where) == len(by), "starts, ends, axes and steps differ in length")
    require(0 not in by, "a step is 0")
    shape = list(x.shape)
    for a, start, stop, step in zip(where, first, last, by, strict=True):
        shape[a] = slice_extent(shape[a], start, stop, step)
    return Tensor(x.dtype, tuple(shape))


@operator("Expand", symbolic=True)
def expand(x: Array, shape: Array) -> Array:
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(int(d) for d in shape)))


@expand.rule
def _(x: Tensor, shape: Tensor) -> Tensor:
    return Tensor(x.dtype, broadcast(x.shape, tuple(known_dims(shape, "the new shape"))))
