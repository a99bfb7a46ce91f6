"""Elementwise operators: unary functions, activations, broadcasting arithmetic, comparisons, Cast, Where, Clip."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from ..errors import GraphError
from ..shape import (Dim, add, at_least, different, equal, exact_div, floor_div, is_non_negative, maximum, minimum,
                     modulo, multiply)
from .dtypes import FLOATS, INTEGERS, from_onnx, numpy_dtype
from .registry import Array, Tensor, operator
from .rules import broadcast, require, same, same_dtype


def per_element(function: Callable[..., Any], count: int = 1) -> Callable[..., Array]:
    """The function over arrays of dtype object, broadcasting."""
    vectorized = np.frompyfunc(function, count, 1)
    return lambda *arrays: np.asarray(vectorized(*arrays), dtype=object)


# --- unary -----------------------------------------------------------------------------------------------------------

_erf = np.vectorize(math.erf, otypes=[np.float64])


def erf(x: Array) -> Array:
    return np.asarray(_erf(x.astype(np.float64)), np.float64).astype(x.dtype).reshape(x.shape)


def sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1 / (1 + e), e / (1 + e)), x.dtype)


def gelu_erf(x: Array) -> Array:
    return np.asarray(0.5 * x * (1 + erf(x / math.sqrt(2))), x.dtype)


def gelu_tanh(x: Array) -> Array:
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))), x.dtype)


_UNARY: dict[str, Callable[[Array], Array]] = {
    "Abs": np.abs, "Acos": np.arccos, "Acosh": np.arccosh, "Asin": np.arcsin, "Asinh": np.arcsinh, "Atan": np.arctan,
    "Atanh": np.arctanh, "Ceil": np.ceil, "Cos": np.cos, "Cosh": np.cosh, "Erf": erf, "Exp": np.exp, "Floor": np.floor,
    "Log": np.log, "Neg": np.negative, "Reciprocal": lambda x: np.asarray(1 / x, x.dtype),
    "Relu": lambda x: np.maximum(x, x.dtype.type(0)), "Round": np.rint, "Sigmoid": sigmoid, "Sign": np.sign, "Sin": np.sin,
    "Sinh": np.sinh, "Softplus": lambda x: np.logaddexp(x, x.dtype.type(0)), "Softsign": lambda x: x / (1 + np.abs(x)),
    "Sqrt": np.sqrt, "Tan": np.tan, "Tanh": np.tanh, "BitwiseNot": np.invert,
    "Mish": lambda x: np.asarray(x * np.tanh(np.logaddexp(x, 0)), x.dtype),
    "HardSwish": lambda x: np.asarray(x * np.clip(x / 6 + 0.5, 0, 1), x.dtype),
}


def _make_unary(name: str, function: Callable[[Array], Array]) -> None:
    def oracle(x: Array) -> Array:
        return function(x)

    entry = operator(name, rule=same)(oracle)
    if name == "Neg":
        entry.symbolic = per_element(lambda a: multiply(-1, a))


for _name, _function in _UNARY.items():
    _make_unary(_name, _function)


@operator("Identity", rule=same, symbolic=True)
def identity(x: Array) -> Array:
    return x


@operator("Not", rule=same, symbolic=True)
def logical_not(x: Array) -> Array:
    return np.asarray(np.logical_not(x), x.dtype)


@operator("Elu", rule=same)
def elu(x: Array, *, alpha: float = 1.0) -> Array:
    return np.asarray(np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))), x.dtype)


@operator("Celu", rule=same)
def celu(x: Array, *, alpha: float = 1.0) -> Array:
    return np.asarray(np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(np.minimum(x, 0) / alpha)), x.dtype)


@operator("Selu", rule=same)
def selu(x: Array, *, alpha: float = 1.6732632, gamma: float = 1.0507010) -> Array:
    return np.asarray(gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))), x.dtype)


@operator("LeakyRelu", rule=same)
def leaky_relu(x: Array, *, alpha: float = 0.01) -> Array:
    return np.asarray(np.where(x >= 0, x, alpha * x), x.dtype)


@operator("ThresholdedRelu", rule=same)
def thresholded_relu(x: Array, *, alpha: float = 1.0) -> Array:
    return np.asarray(np.where(x > alpha, x, 0), x.dtype)


@operator("HardSigmoid", rule=same)
def hard_sigmoid(x: Array, *, alpha: float = 0.2, beta: float = 0.5) -> Array:
    return np.asarray(np.clip(alpha * x + beta, 0, 1), x.dtype)


@operator("Shrink", rule=same)
def shrink(x: Array, *, bias: float = 0.0, lambd: float = 0.5) -> Array:
    return np.asarray(np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0)), x.dtype)


@operator("Swish", since=24, rule=same)
def swish(x: Array, *, alpha: float = 1.0) -> Array:
    return np.asarray(x * sigmoid(np.asarray(alpha * x, x.dtype)), x.dtype)


@operator("Gelu", since=20, rule=same)
def gelu(x: Array, *, approximate: str = "none") -> Array:
    require(approximate in ("none", "tanh"), f"approximate={approximate!r} is not supported")
    return gelu_tanh(x) if approximate == "tanh" else gelu_erf(x)


@operator("Clip", rule=same)
def clip(x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    result = x if low is None else np.maximum(x, low)
    return np.asarray(result if high is None else np.minimum(result, high), x.dtype)


@operator("IsNaN")
def is_nan(x: Array) -> Array:
    return np.isnan(x)


@operator("IsInf")
def is_inf(x: Array, *, detect_negative: int = 1, detect_positive: int = 1) -> Array:
    return np.isinf(x) & (((x > 0) & bool(detect_positive)) | ((x < 0) & bool(detect_negative)))


def _bool_like(x: Tensor, **_attributes: Any) -> Tensor:
    return Tensor("bool", x.shape)


is_nan.rule(_bool_like)
is_inf.rule(_bool_like)

# --- broadcasting ----------------------------------------------------------------------------------------------------


def _arithmetic(*inputs: Tensor, **_attributes: Any) -> Tensor:
    return Tensor(same_dtype(*inputs), broadcast(*(t.shape for t in inputs)))


def _comparison(a: Tensor, b: Tensor) -> Tensor:
    same_dtype(a, b)
    return Tensor("bool", broadcast(a.shape, b.shape))


def _divide(a: Array, b: Array) -> Array:
    if a.dtype.kind == "f" or a.dtype.name == "bfloat16":
        return np.asarray(a / b, a.dtype)
    quotient = np.abs(a) // np.abs(b)  # ONNX truncates toward zero
    return np.asarray(np.where((a < 0) != (b < 0), -quotient, quotient), a.dtype)


def _divide_dims(a: Dim, b: Dim) -> Dim:
    exact = exact_div(a, b)
    if exact is not None:
        return exact
    if not (is_non_negative(a) and at_least(b, 1)):
        raise GraphError(f"cannot tell how {a} / {b} is rounded")
    return floor_div(a, b)


def _decide(yes: Callable[[Dim, Dim], bool], no: Callable[[Dim, Dim], bool]) -> Callable[..., Array]:
    def compare(a: Dim, b: Dim) -> bool:
        if yes(a, b):
            return True
        if no(a, b):
            return False
        raise GraphError(f"cannot compare {a} and {b} for every length")

    return per_element(compare, 2)


def _less(a: Dim, b: Dim) -> bool:
    return at_least(b, add(a, 1))


def _at_most(a: Dim, b: Dim) -> bool:
    return at_least(b, a)


_BINARY: dict[str, tuple[Callable[[Array, Array], Array], Any, Callable[..., Array] | None]] = {
    "Add": (np.add, _arithmetic, per_element(add, 2)),
    "Sub": (np.subtract, _arithmetic, per_element(lambda a, b: add(a, multiply(-1, b)), 2)),
    "Mul": (np.multiply, _arithmetic, per_element(multiply, 2)),
    "Div": (_divide, _arithmetic, per_element(_divide_dims, 2)),
    "And": (np.logical_and, _arithmetic, per_element(lambda a, b: bool(a and b), 2)),
    "Or": (np.logical_or, _arithmetic, per_element(lambda a, b: bool(a or b), 2)),
    "Xor": (np.logical_xor, _arithmetic, None),
    "BitwiseAnd": (np.bitwise_and, _arithmetic, None),
    "BitwiseOr": (np.bitwise_or, _arithmetic, None),
    "BitwiseXor": (np.bitwise_xor, _arithmetic, None),
    "Equal": (np.equal, _comparison, _decide(equal, different)),
    "Less": (np.less, _comparison, _decide(_less, lambda a, b: at_least(a, b))),
    "LessOrEqual": (np.less_equal, _comparison, _decide(_at_most, lambda a, b: _less(b, a))),
    "Greater": (np.greater, _comparison, _decide(lambda a, b: _less(b, a), _at_most)),
    "GreaterOrEqual": (np.greater_equal, _comparison, _decide(at_least, _less)),
    "PRelu": (lambda x, slope: np.where(x >= 0, x, x * slope), _arithmetic, None),
}


def _make_binary(name: str, function: Callable[[Array, Array], Array], rule: Any, symbolic: Any) -> None:
    def oracle(a: Array, b: Array) -> Array:
        return function(a, b)

    operator(name, rule=rule)(oracle).symbolic = symbolic


for _name, (_binary, _rule, _symbolic) in _BINARY.items():
    _make_binary(_name, _binary, _rule, _symbolic)


@operator("Pow")
def power(a: Array, b: Array) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray(np.power(a.astype(np.float64), b.astype(np.float64)) if b.dtype.kind == "f" and a.dtype.kind != "f"
                          else np.power(a, b)).astype(a.dtype)


@power.rule
def _(a: Tensor, b: Tensor) -> Tensor:
    return Tensor(a.dtype, broadcast(a.shape, b.shape))


@operator("Mod", rule=_arithmetic)
def mod(a: Array, b: Array, *, fmod: int = 0) -> Array:
    return np.asarray(np.fmod(a, b) if fmod else np.mod(a, b), a.dtype)


@mod.symbolic_rule
def _(a: Array, b: Array, *, fmod: int = 0) -> Array:
    return per_element(modulo, 2)(a, b)


@operator("BitShift", rule=_arithmetic)
def bit_shift(a: Array, b: Array, *, direction: str) -> Array:
    return np.asarray(np.left_shift(a, b) if direction == "LEFT" else np.right_shift(a, b), a.dtype)


def _variadic(name: str, combine: Callable[[Array, Array], Array], dims: Callable[[Dim, Dim], Dim] | None) -> None:
    def oracle(*inputs: Array) -> Array:
        return reduce(combine, inputs)

    entry = operator(name, rule=_arithmetic)(oracle)
    if dims is not None:
        step = per_element(dims, 2)
        entry.symbolic = lambda *inputs: reduce(step, inputs)


_variadic("Max", np.maximum, maximum)
_variadic("Min", np.minimum, minimum)
_variadic("Sum", np.add, add)


@operator("Mean", rule=_arithmetic)
def mean(*inputs: Array) -> Array:
    return np.asarray(reduce(np.add, inputs) / inputs[0].dtype.type(len(inputs)), inputs[0].dtype)


@operator("Where", symbolic=True)
def where(condition: Array, a: Array, b: Array) -> Array:
    return np.where(condition.astype(np.bool_), a, b)


@where.rule
def _(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    require(condition.dtype == "bool", f"its condition is {condition.dtype}, not bool")
    return Tensor(same_dtype(a, b), broadcast(condition.shape, a.shape, b.shape))


# --- types -----------------------------------------------------------------------------------------------------------


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


