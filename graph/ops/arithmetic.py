"""Broadcasting operators of several tensors: arithmetic, comparisons, logic, Where; also over expressions."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.shape import (
    Dim,
    add,
    at_least,
    different,
    equal,
    exact_div,
    floor_div,
    is_non_negative,
    maximum,
    minimum,
    modulo,
    multiply,
)

from .registry import Array, Tensor, operator
from .rules import broadcast, per_element, require, same_dtype


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
        return np.asarray(
            np.power(a.astype(np.float64), b.astype(np.float64))
            if b.dtype.kind == "f" and a.dtype.kind != "f"
            else np.power(a, b)
        ).astype(a.dtype)


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
