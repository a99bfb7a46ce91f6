"""Reductions over axes, ArgMax and TopK, CumSum, Softmax."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np

from tlite_vk.graph.shape import Dim, add, maximum, minimum, multiply

from .registry import Array, Tensor, operator
from .rules import axes_of, axis_of, known_dims, known_ints, require, same

Reduce = Callable[[Array, tuple[int, ...] | None, bool], Array]


def _axes(x: Array, axes: Array | None, noop: int) -> tuple[int, ...] | None:
    if axes is None or axes.size == 0:
        return () if noop else None
    return tuple(int(a) for a in axes)


def _reduced(x: Tensor, axes: Tensor | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
    values = [] if axes is None else known_ints(axes, "its axes")
    drop = axes_of(values, x.rank) if values else [] if noop_with_empty_axes else list(range(x.rank))
    return Tensor(x.dtype, tuple(1 if i in drop else d for i, d in enumerate(x.shape) if keepdims or i not in drop))


def _mean(x: Array, a: tuple[int, ...] | None, k: bool) -> Array:
    total = np.sum(x, a, keepdims=k, dtype=x.dtype)
    count = x.size // max(total.size, 1)
    return np.asarray(total / count if x.dtype.kind == "f" else total // max(count, 1), x.dtype)


def _log_sum_exp(x: Array, a: tuple[int, ...] | None, k: bool) -> Array:
    high = np.max(x, a, keepdims=True, initial=-np.inf)
    shift = np.where(np.isfinite(high), high, 0)
    total = np.log(np.sum(np.exp(x - shift), a, keepdims=True)) + shift
    return np.asarray(total if k else np.sum(total, a), x.dtype)


def _extreme(function: Callable[..., Array], low: bool) -> Reduce:
    def run(x: Array, a: tuple[int, ...] | None, k: bool) -> Array:
        if x.dtype == np.bool_ or x.size:
            return np.asarray(function(x, a, keepdims=k) if x.size else (np.all if low else np.any)(x, a, keepdims=k))
        info = np.finfo(x.dtype) if x.dtype.kind == "f" else np.iinfo(x.dtype)
        start = (np.inf if low else -np.inf) if x.dtype.kind == "f" else (info.max if low else info.min)
        return np.asarray(function(x, a, keepdims=k, initial=start))

    return run


_REDUCE: dict[str, Reduce] = {
    "ReduceSum": lambda x, a, k: np.sum(x, a, keepdims=k, dtype=x.dtype),
    "ReduceMean": _mean,
    "ReduceProd": lambda x, a, k: np.prod(x, a, keepdims=k, dtype=x.dtype),
    "ReduceMax": _extreme(np.max, False),
    "ReduceMin": _extreme(np.min, True),
    "ReduceL1": lambda x, a, k: np.sum(np.abs(x), a, keepdims=k, dtype=x.dtype),
    "ReduceL2": lambda x, a, k: np.sqrt(np.sum(x * x, a, keepdims=k, dtype=x.dtype)).astype(x.dtype),
    "ReduceSumSquare": lambda x, a, k: np.sum(x * x, a, keepdims=k, dtype=x.dtype),
    "ReduceLogSum": lambda x, a, k: np.log(np.sum(x, a, keepdims=k, dtype=x.dtype)),
    "ReduceLogSumExp": _log_sum_exp,
}
_DIMS: dict[str, Callable[[Dim, Dim], Dim]] = {
    "ReduceSum": add,
    "ReduceProd": multiply,
    "ReduceMax": maximum,
    "ReduceMin": minimum,
}


def _make(name: str, function: Reduce) -> None:
    def oracle(x: Array, axes: Array | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Array:
        where = _axes(x, axes, noop_with_empty_axes)
        return x if where == () and x.ndim and name not in _ON_EMPTY else np.asarray(function(x, where, bool(keepdims)))

    entry = operator(name, rule=_reduced)(oracle)
    if name in _DIMS:
        combine = _DIMS[name]

        def symbolic(x: Array, axes: Array | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Array:
            require(
                x.ndim == 1 and not (noop_with_empty_axes and axes is None), "only a vector of expressions is reduced"
            )
            total = reduce(combine, x.tolist())
            return np.asarray([total] if keepdims else total, object)

        entry.symbolic = symbolic


_ON_EMPTY = frozenset({"ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"})  # act per element
for _name, _function in _REDUCE.items():
    _make(_name, _function)


def _arg(x: Array, axis: int, keepdims: int, last: int, pick: Callable[..., Array]) -> Array:
    result = x.shape[axis] - 1 - pick(np.flip(x, axis), axis) if last else pick(x, axis)
    return np.asarray(np.expand_dims(result, axis) if keepdims else result, np.int64)


def _arg_rule(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    a = axis_of(axis, x.rank)
    return Tensor("int64", tuple(1 if i == a else d for i, d in enumerate(x.shape) if keepdims or i != a))


@operator("ArgMax", rule=_arg_rule)
def arg_max(x: Array, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Array:
    return _arg(x, axis, keepdims, select_last_index, np.argmax)


@operator("ArgMin", rule=_arg_rule)
def arg_min(x: Array, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Array:
    return _arg(x, axis, keepdims, select_last_index, np.argmin)


@operator("TopK")
def top_k(x: Array, k: Array, *, axis: int = -1, largest: int = 1, sorted: int = 1) -> tuple[Array, Array]:
    order = np.argsort(np.flip(x, axis) if largest else x, axis=axis, kind="stable")
    if largest:  # descending, equal elements in their original order
        order = x.shape[axis] - 1 - np.flip(order, axis)
    picks = np.take(order, range(int(k.reshape(-1)[0])), axis)
    return np.take_along_axis(x, picks, axis), picks.astype(np.int64)


@top_k.rule
def _(x: Tensor, k: Tensor, *, axis: int = -1, largest: int = 1, sorted: int = 1) -> tuple[Tensor, Tensor]:
    a = axis_of(axis, x.rank)
    shape = (*x.shape[:a], known_dims(k, "its k")[0], *x.shape[a + 1 :])
    return Tensor(x.dtype, shape), Tensor("int64", shape)


@operator("CumSum")
def cum_sum(x: Array, axis: Array, *, exclusive: int = 0, reverse: int = 0) -> Array:
    a = int(axis.reshape(-1)[0])
    y = np.flip(x, a) if reverse else x
    total = np.cumsum(y, a, dtype=x.dtype)
    total = total - y if exclusive else total
    return np.asarray(np.flip(total, a) if reverse else total, x.dtype)


@cum_sum.rule
def _(x: Tensor, axis: Tensor, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    axis_of(known_ints(axis, "its axis")[0], x.rank)
    return Tensor(x.dtype, x.shape)


def softmax_array(x: Array, axis: int = -1) -> Array:
    """Softmax along an axis; a row of -inf alone becomes zeros."""
    high = np.max(x, axis, keepdims=True)
    e = np.exp(x - np.where(np.isneginf(high), 0, high))
    total = np.sum(e, axis, keepdims=True)
    return np.asarray(e / np.where(total == 0, 1, total), x.dtype)


def _along_axis(x: Tensor, *, axis: int = -1, flattened: int = 0) -> Tensor:
    axis_of(axis, x.rank)
    return same(x)


def _by_rows(along: Callable[[Array, int], Array], x: Array, axis: int, flattened: int) -> Array:
    """along(x, axis); with `flattened`, as before opset 13, over all axes from `axis` on as one."""
    if not flattened:
        return along(x, axis)
    rows = int(np.prod(x.shape[: axis_of(axis, x.ndim)]))
    return along(x.reshape(rows, -1), -1).reshape(x.shape)


@operator("Softmax", rule=_along_axis)
def softmax(x: Array, *, axis: int = -1, flattened: int = 0) -> Array:
    return _by_rows(softmax_array, x, axis, flattened)


@operator("LogSoftmax", rule=_along_axis)
def log_softmax(x: Array, *, axis: int = -1, flattened: int = 0) -> Array:
    def along(x: Array, axis: int) -> Array:
        shifted = x - np.max(x, axis, keepdims=True)
        return np.asarray(shifted - np.log(np.sum(np.exp(shifted), axis, keepdims=True)), x.dtype)

    return _by_rows(along, x, axis, flattened)


@operator("Hardmax", rule=_along_axis)
def hardmax(x: Array, *, axis: int = -1, flattened: int = 0) -> Array:
    def along(x: Array, axis: int) -> Array:
        first = np.expand_dims(np.argmax(x, axis), axis)
        out = np.zeros_like(x)
        np.put_along_axis(out, first, 1, axis)
        return out

    return _by_rows(along, x, axis, flattened)
