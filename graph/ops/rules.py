"""Helpers that many shape rules share: broadcasting, axes, elements known at compile time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.shape import Dim, Shape, different, equal, format_shape

from .registry import Array, Tensor


def per_element(function: Callable[..., Any], count: int = 1) -> Callable[..., Array]:
    """The function over arrays of dtype object, broadcasting."""
    vectorized = np.frompyfunc(function, count, 1)
    return lambda *arrays: np.asarray(vectorized(*arrays), dtype=object)


def broadcast_dim(a: Dim, b: Dim) -> Dim:
    """The common extent of two dimensions. Two symbolic ones that are not provably 1 must be the same at run time."""
    if a == b or b == 1:
        return a
    if a == 1:
        return b
    if different(a, b) and isinstance(a, int) and isinstance(b, int):
        raise GraphError(f"dimensions {a} and {b} do not broadcast")
    return b if isinstance(b, int) else a


def broadcast(*shapes: Shape) -> Shape:
    """Numpy's broadcasting over symbolic shapes."""
    rank = max((len(s) for s in shapes), default=0)
    result: list[Dim] = [1] * rank
    for shape in shapes:
        for i, d in enumerate(shape, rank - len(shape)):
            try:
                result[i] = broadcast_dim(result[i], d)
            except GraphError:
                listed = " and ".join(format_shape(s) for s in shapes)
                raise GraphError(f"shapes {listed} do not broadcast") from None
    return tuple(result)


def same(x: Tensor, *_rest: Any, **_attributes: Any) -> Tensor:
    """Rule of operators whose output is like their first input."""
    return Tensor(x.dtype, x.shape)


def axis_of(axis: int, rank: int) -> int:
    if not -rank <= axis < max(rank, 1):
        raise GraphError(f"axis {axis} is outside of rank {rank}")
    return axis % max(rank, 1)


def axes_of(axes: Sequence[int], rank: int) -> list[int]:
    result = [axis_of(int(a), rank) for a in axes]
    if len(set(result)) != len(result):
        raise GraphError(f"axes {list(axes)} name one axis twice")
    return result


def known(tensor: Tensor | None, what: str) -> Array:
    """The elements of an input that must be known at compile time."""
    if tensor is None or tensor.data is None:
        raise GraphError(f"{what} is not known at compile time")
    return tensor.data


def known_dims(tensor: Tensor | None, what: str) -> list[Dim]:
    """The elements of an integer input as dimensions."""
    values = known(tensor, what).reshape(-1).tolist()
    require(all(not isinstance(d, float) or d.is_integer() for d in values), f"{what} is not an integer")
    return [int(d) if isinstance(d, float | bool) else d for d in values]


def known_ints(tensor: Tensor | None, what: str) -> list[int]:
    """The elements of an integer input, which must be plain numbers."""
    values = known_dims(tensor, what)
    if not all(isinstance(v, int) for v in values):
        raise GraphError(f"{what} depends on a symbolic dimension")
    return [int(v) for v in values]


def same_dtype(*tensors: Tensor | None) -> str:
    dtypes = {t.dtype for t in tensors if t is not None}
    if len(dtypes) != 1:
        raise GraphError(f"its inputs have different element types ({', '.join(sorted(dtypes))})")
    return dtypes.pop()


def require(condition: bool, message: str) -> None:
    if not condition:
        raise GraphError(message)


def require_equal(a: Dim, b: Dim, what: str) -> None:
    if not equal(a, b):
        raise GraphError(f"{what}: {a} is not {b}")
