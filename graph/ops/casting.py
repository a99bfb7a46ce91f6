"""Cast and CastLike."""

from __future__ import annotations

import numpy as np

from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.shape import Dim, different, equal

from .dtypes import INTEGERS, from_onnx, numpy_dtype
from .registry import Array, Tensor, operator
from .rules import per_element, require


def _convert(x: Array, dtype: str) -> Array:
    with np.errstate(all="ignore"):
        return x.astype(numpy_dtype(dtype))


@operator("Cast")
def cast(x: Array, *, to: int, saturate: int = 1, round_mode: str = "up") -> Array:
    return _convert(x, from_onnx(to))


@cast.rule
def _(x: Tensor, *, to: int, saturate: int = 1, round_mode: str = "up") -> Tensor:
    require("string" not in (x.dtype, from_onnx(to)), "strings cannot be converted")
    return Tensor(from_onnx(to), x.shape)


@cast.symbolic_rule
def _(x: Array, *, to: int, saturate: int = 1, round_mode: str = "up") -> Array:
    return _convert_dims(x, from_onnx(to))


def _convert_dims(x: Array, dtype: str) -> Array:
    if dtype == "bool":
        return per_element(lambda a: not equal(a, 0) and (different(a, 0) or _undecided(a)))(x)
    if dtype in INTEGERS:
        return x
    raise GraphError(f"an expression cannot be carried as {dtype}")


def _undecided(dim: Dim) -> bool:
    raise GraphError(f"cannot tell whether {dim} is zero")


@operator("CastLike")
def cast_like(x: Array, like: Array, *, saturate: int = 1, round_mode: str = "up") -> Array:
    return x.astype(like.dtype)


@cast_like.rule
def _(x: Tensor, like: Tensor, *, saturate: int = 1, round_mode: str = "up") -> Tensor:
    return Tensor(like.dtype, x.shape)
