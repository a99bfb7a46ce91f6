"""Elementwise operators of one tensor: functions and activations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tlite_vk.graph.shape import multiply

from .registry import Array, Tensor, operator
from .rules import per_element, require, same

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
    "Abs": np.abs,
    "Acos": np.arccos,
    "Acosh": np.arccosh,
    "Asin": np.arcsin,
    "Asinh": np.arcsinh,
    "Atan": np.arctan,
    "Atanh": np.arctanh,
    "Ceil": np.ceil,
    "Cos": np.cos,
    "Cosh": np.cosh,
    "Erf": erf,
    "Exp": np.exp,
    "Floor": np.floor,
    "Log": np.log,
    "Neg": np.negative,
    "Reciprocal": lambda x: np.asarray(1 / x, x.dtype),
    "Relu": lambda x: np.maximum(x, x.dtype.type(0)),
    "Round": np.rint,
    "Sigmoid": sigmoid,
    "Sign": np.sign,
    "Sin": np.sin,
    "Sinh": np.sinh,
    "Softplus": lambda x: np.logaddexp(x, x.dtype.type(0)),
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Sqrt": np.sqrt,
    "Tan": np.tan,
    "Tanh": np.tanh,
    "BitwiseNot": np.invert,
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


@operator("Dropout")
def dropout(
    x: Array, ratio: Array | None = None, training: Array | None = None, *, seed: int = 0
) -> tuple[Array, Array]:
    require(training is None or not bool(training.any()), "training mode is not supported")
    return x, np.ones(x.shape, np.bool_)


@dropout.rule
def _(
    x: Tensor, ratio: Tensor | None = None, training: Tensor | None = None, *, seed: int = 0
) -> tuple[Tensor, Tensor]:
    require(training is None or (training.data is not None and not training.data.any()), "it may be in training mode")
    return Tensor(x.dtype, x.shape), Tensor("bool", x.shape)
