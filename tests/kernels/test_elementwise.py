"""Elementwise operators against numpy: the whole range of floats, special values, integers, broadcasting."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.graphs import Builder
from support.kernels import check

from tlite_vk.device import Device
from tlite_vk.session import Session

Array = npt.NDArray[Any]

SPECIAL = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    2.5,
    -2.5,
    math.inf,
    -math.inf,
    math.nan,
    1e-7,
    88.7,
    -88.7,
    -103.0,
    709.0,
    65536.0,
)
NEAR = np.concatenate([np.linspace(-4, 4, 1001), np.linspace(-100, 100, 501)])
FAR = np.concatenate([np.logspace(-30, 30, 501), -np.logspace(-30, 30, 501), np.linspace(-140000, 140000, 501)])
VALUES = np.concatenate([NEAR, FAR, np.asarray(SPECIAL)]).astype(np.float32)
TINY = 1.2e-38  # numbers below may be flushed to zero

erf = np.vectorize(math.erf, otypes=[np.float64])
FUNCTIONS: dict[str, Callable[[Array], Any]] = {
    "Abs": np.abs,
    "Acos": np.arccos,
    "Acosh": np.arccosh,
    "Asin": np.arcsin,
    "Asinh": np.arcsinh,
    "Atan": np.arctan,
    "Atanh": np.arctanh,
    "Ceil": np.ceil,
    "Cosh": np.cosh,
    "Elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "Erf": erf,
    "Exp": np.exp,
    "Floor": np.floor,
    "Log": np.log,
    "Neg": np.negative,
    "Reciprocal": lambda x: 1 / x,
    "Relu": lambda x: np.where(x < 0, 0, x),
    "Round": np.rint,
    "Sigmoid": lambda x: np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x)))),
    "Sign": np.sign,
    "Sinh": np.sinh,
    "Softplus": lambda x: np.logaddexp(x, 0),
    "Sqrt": np.sqrt,
    "Tanh": np.tanh,
}


def run_unary(device: Device, op: str, x: Array) -> Array:
    builder = Builder()
    graph = builder.graph(builder.node(op, builder.input("x", x.size), name="y"))
    return Session(graph, device).run({"x": x})["y"].astype(np.float64)


@pytest.mark.parametrize("op", FUNCTIONS)
def test_functions_are_right_to_a_few_units_in_the_last_place(any_device: Device, op: str) -> None:
    got = run_unary(any_device, op, VALUES)
    with np.errstate(all="ignore"):
        expected = FUNCTIONS[op](VALUES.astype(np.float64)).astype(np.float32).astype(np.float64)
    normal = np.isfinite(expected) & (np.abs(expected) > TINY)
    np.testing.assert_allclose(got[normal], expected[normal], rtol=8e-7, atol=2 * TINY)
    np.testing.assert_array_equal(got[~np.isfinite(expected)], expected[~np.isfinite(expected)])
    assert np.abs(got[np.abs(expected) <= TINY]).max(initial=0) <= TINY


@pytest.mark.parametrize("op", ["Sin", "Cos", "Tan"])
def test_angles_are_reduced_exactly_however_large(any_device: Device, op: str) -> None:
    x = np.concatenate([VALUES[np.isfinite(VALUES)], np.logspace(4, 38, 501).astype(np.float32)])
    got, expected = run_unary(any_device, op, x), getattr(np, op.lower())(x.astype(np.float64))
    np.testing.assert_allclose(got, expected, rtol=1e-4 if op == "Tan" else 4e-7, atol=4e-7)
    assert np.isnan(run_unary(any_device, op, np.array([math.inf, -math.inf, math.nan], np.float32))).all()


def pair(op: str, a: Array, b: Array, device: Device, **attributes: Any) -> Array:
    builder = Builder()
    x, y = (builder.input(n, *v.shape, dtype=str(v.dtype)) for n, v in (("a", a), ("b", b)))
    graph = builder.graph(builder.node(op, x, y, name="y", **attributes))
    return Session(graph, device).run({"a": a, "b": b})["y"]


def grid(values: Any, dtype: str) -> tuple[Array, Array]:
    a, b = np.meshgrid(np.asarray(values).astype(dtype), np.asarray(values).astype(dtype))
    return a.reshape(-1), b.reshape(-1)


def test_division_follows_ieee(any_device: Device) -> None:
    a, b = grid([0.0, -0.0, 1.0, -3.0, math.inf, -math.inf, math.nan, 1e30, 1e-30], "float32")
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(pair("Div", a, b, any_device), a / b, rtol=3e-7)  # Vulkan allows 2.5 units


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_extremes_keep_nan(any_device: Device, op: str) -> None:
    a, b = grid([0.0, 1.0, -3.0, math.inf, -math.inf, math.nan], "float32")
    np.testing.assert_array_equal(pair(op, a, b, any_device), (np.maximum if op == "Max" else np.minimum)(a, b))


def test_float_remainders_are_exact(any_device: Device) -> None:
    a, b = grid([1e30, 7.5, -7.5, 0.3, -1e-20, 5.0, 3.0, 123456789.0, math.inf, 0.0], "float32")
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(pair("Mod", a, b, any_device, fmod=1), np.fmod(a, b))
        got, expected = pair("Mod", a, b, any_device, fmod=0), np.mod(a, b)
    usual = np.isfinite(b) & np.isfinite(a)
    np.testing.assert_array_equal(got[usual], expected[usual])


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint8", "uint16", "uint32"])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
def test_integers_wrap(any_device: Device, op: str, dtype: str) -> None:
    info = np.iinfo(dtype)
    a, b = grid([info.min, info.min + 1, 0, 1, 3, info.max // 2, info.max - 1, info.max], dtype)
    with np.errstate(over="ignore"):
        expected = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}[op](a, b)
    np.testing.assert_array_equal(pair(op, a, b, any_device), expected)


@pytest.mark.parametrize("dtype", ["int32", "int8", "uint32", "uint8"])
def test_integer_division_and_remainders(any_device: Device, dtype: str) -> None:
    values = [1, 2, 3, 7, 100] if dtype.startswith("u") else [-7, -3, -1, 1, 2, 5, 100]
    a, b = grid(values, dtype)
    np.testing.assert_array_equal(pair("Div", a, b, any_device), np.trunc(a / b).astype(dtype))
    np.testing.assert_array_equal(pair("Mod", a, b, any_device), np.mod(a, b))
    np.testing.assert_array_equal(pair("Mod", a, b, any_device, fmod=1), np.fmod(a, b))


def test_powers(any_device: Device) -> None:
    a, b = grid([0.0, 1.0, -1.0, 2.0, -2.0, 0.5, 1.0001, 3.7, 10.0, -3.0, 0.333, 12.5], "float32")
    with np.errstate(all="ignore"):
        expected = np.power(a.astype(np.float64), b.astype(np.float64)).astype(np.float32)
    got = pair("Pow", a, b, any_device)
    np.testing.assert_allclose(got, expected, rtol=2e-5)
    x, n = (np.array(v, np.int32) for v in ([-3, 2, 7, 0, -1, 1, -1], [3, 10, 0, 5, -3, -9, 4]))
    np.testing.assert_array_equal(pair("Pow", x, n, any_device), [-27, 1024, 1, 0, -1, 1, 1])


ROUNDED = np.array([0, 1, -1, 1.0005, 65519, 65520, 1e-8, 6e-8, 3.1e-5, math.inf, math.nan, 0.1, -2049.5], np.float32)


@pytest.mark.parametrize(("dtype", "number"), [("float16", 10), ("bfloat16", 16)])
def test_narrow_floats_are_rounded_to_even(any_device: Device, dtype: str, number: int) -> None:
    builder = Builder()
    narrow = builder.node("Cast", builder.input("x", ROUNDED.size), to=number)
    graph = builder.graph(builder.node("Cast", narrow, name="y", to=1))
    check(any_device, graph, inputs={"x": ROUNDED}, tolerance=0.0, dispatches=1)


@pytest.mark.parametrize("source", ["float32", "int32", "int8", "uint8", "bool", "int64"])
@pytest.mark.parametrize("target", [1, 2, 3, 5, 6, 7, 9, 12])
def test_casts(any_device: Device, source: str, target: int) -> None:
    builder = Builder()
    graph = builder.graph(builder.node("Cast", builder.input("x", 6, dtype=source), name="y", to=target))
    values = np.array([0, 1, 100, 2, 77, 1] if source != "float32" else [0.0, 1.5, 100.9, 2.2, -0.5, 77.7])
    check(any_device, graph, inputs={"x": values.astype(source)})


@pytest.mark.parametrize(
    "shapes", [((3, 1, 5), (4, 1)), ((), (2, 3)), ((1,), (1, 1, 7)), ((257,), (3, 257)), ((2, 1), (1, 127))]
)
def test_broadcasting(device: Device, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    builder = Builder()
    a, b = (builder.input(n, *s) for n, s in zip("ab", shapes, strict=True))
    check(device, builder.graph(builder.node("Sub", a, b)), dispatches=1)
    check(device, builder.graph(builder.node("Where", builder.node("Less", a, b), a, b)), dispatches=1)


def test_broadcasting_over_symbolic_lengths(device: Device) -> None:
    builder = Builder()
    a, b, c = builder.input("a", "B", 3, "T", "S"), builder.input("b", "B", 1, 1, "S"), builder.input("c", "T", 1)
    graph = builder.graph(builder.node("Add", builder.node("Mul", a, b), c))
    cases = [{"B": 1, "T": 1, "S": 1}, {"B": 2, "T": 127, "S": 3}, {"B": 3, "T": 5, "S": 64}]
    check(device, graph, cases, dispatches=1)


def test_more_elements_than_workgroups_along_one_axis(device: Device) -> None:
    """64 * 32,768 elements fill the first axis of the grid; the rest needs the second."""
    builder = Builder()
    graph = builder.graph(builder.node("Neg", builder.input("x", "N", dtype="int32"), name="y"))
    session, x = Session(graph, device), np.arange(64 * 32768 + 1000, dtype=np.int32)
    np.testing.assert_array_equal(session.run({"x": x})["y"], -x)


@pytest.mark.parametrize(
    ("source", "target"), [("float32", 6), ("int32", 1), ("uint32", 1), ("int8", 2), ("int32", 12)]
)
def test_bits_of_another_type(any_device: Device, source: str, target: int) -> None:
    values = np.array([0, 1, 100, 2, 77, 3]).astype(source)
    values = values * np.float32(-1.37) if source == "float32" else values
    builder = Builder(26)
    graph = builder.graph(builder.node("BitCast", builder.input("x", 6, dtype=source), to=target))
    check(any_device, graph, inputs={"x": values} if target != 1 else {"x": (values + 2**30).astype(source)})
