"""Reductions against the numpy oracles: short rows in an invocation, long ones in a workgroup, any axes."""

from typing import Any

import numpy as np
import pytest
from support.graphs import Builder
from support.kernels import check

from tlite_vk.device import Device

OPS = ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp")
SIZES = ((3, 5), (1, 1), (4, 127), (257, 65), (2, 1000))


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("axis", [0, 1])
def test_over_rows_and_columns(any_device: Device, op: str, axis: int) -> None:
    for size in SIZES[:3] if op == "Prod" else SIZES:
        b = Builder()
        axes = b.constant(np.array([axis]))
        check(any_device, b.graph(b.node(f"Reduce{op}", b.input("x", *size), axes)), tolerance=4e-6)


@pytest.mark.parametrize("axes", [[0], [1, 2], [0, 2], [-1], [0, 1, 2, 3], []])
@pytest.mark.parametrize("keep", [0, 1])
def test_over_any_axes(device: Device, axes: list[int], keep: int) -> None:
    b = Builder()
    x = b.input("x", 3, "T", 4, 5)
    given = b.constant(np.array(axes, np.int64)) if axes else None
    check(device, b.graph(b.node("ReduceSum", x, given, keepdims=keep)), [{"T": 1}, {"T": 70}], tolerance=4e-6)


def test_no_axes_at_all(device: Device) -> None:
    b = Builder()
    x = b.input("x", 3, 4)
    check(device, b.graph(b.node("ReduceSumSquare", x, noop_with_empty_axes=1)))


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
def test_of_integers(device: Device, dtype: str) -> None:
    for op in ("Max", "Min") if dtype in ("bool", "uint8") else ("Sum", "Mean", "Max", "Min", "L1"):
        b = Builder()
        graph = b.graph(b.node(f"Reduce{op}", b.input("x", 7, 99, dtype=dtype), b.constant(np.array([1]))))
        check(device, graph, highest=2 if dtype == "bool" else 9)


def test_of_nothing(device: Device) -> None:
    for op in ("Sum", "Prod", "Max", "Min", "SumSquare"):
        b = Builder()
        check(device, b.graph(b.node(f"Reduce{op}", b.input("x", 3, 0), b.constant(np.array([1])))))


def test_nan_and_infinity_stay(device: Device) -> None:
    x = np.array([[1, np.nan, 3], [np.inf, -np.inf, 0], [-np.inf, -np.inf, -np.inf]], np.float32)
    for op in ("Sum", "Max", "Min", "LogSumExp"):
        b = Builder()
        check(device, b.graph(b.node(f"Reduce{op}", b.input("x", 3, 3), b.constant(np.array([1])))), inputs={"x": x})


def test_computes_what_it_reduces(device: Device) -> None:
    b = Builder()
    centred = b.node("Sub", b.input("x", "T", 200), b.input("m", "T", 1))
    graph = b.graph(b.node("ReduceMean", b.node("Mul", centred, centred), b.constant(np.array([-1]))))
    check(device, graph, [{"T": 1}, {"T": 9}], dispatches=1)


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("size", [5, 200])
def test_places_of_extremes(any_device: Device, op: str, last: int, size: int) -> None:
    rng = np.random.default_rng(size)
    for axis in (0, 1):
        b = Builder()
        node = b.node(op, b.input("x", size, size), axis=axis, keepdims=last, select_last_index=last)
        check(any_device, b.graph(node), inputs={"x": rng.integers(0, 5, (size, size)).astype(np.float32)})


@pytest.mark.parametrize(("exclusive", "reverse"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_running_sums(device: Device, exclusive: int, reverse: int) -> None:
    for axis in (0, 1):
        b = Builder()
        node = b.node("CumSum", b.input("x", 4, 33), b.constant(np.array(axis)), exclusive=exclusive, reverse=reverse)
        check(device, b.graph(node))
        b = Builder(26)
        node = b.node("CumProd", b.input("x", 4, 9), b.constant(np.array(axis)), exclusive=exclusive, reverse=reverse)
        check(device, b.graph(node))


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize(("size", "k", "axis"), [(7, 3, 1), (100, 100, 1), (33, 1, 0)])
def test_top_k(device: Device, largest: int, size: int, k: int, axis: int) -> None:
    rng = np.random.default_rng(k)
    b = Builder()
    outputs = b.nodes_of(
        "TopK", b.input("x", size, size), b.constant(np.array([k])), outputs=2, axis=axis, largest=largest
    )
    x: Any = rng.integers(0, 20, (size, size)).astype(np.float32)
    check(device, b.graph(*outputs), inputs={"x": x})


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
def test_softmax_family(any_device: Device, op: str) -> None:
    for axis in (0, 1, -1):
        b = Builder()
        x = b.node("Mul", b.input("x", 3, "T", 70), b.constant(np.float32(20)))
        # Of a single element the logarithm is 0 but for the rounding of 20 x, against which no tolerance is relative.
        least = 2 if op == "LogSoftmax" else 1
        check(any_device, b.graph(b.node(op, x, axis=axis)), [{"T": least}, {"T": 65}], tolerance=4e-6)


def test_softmax_of_large_numbers_and_masked_ones(device: Device) -> None:
    x = np.array([[1e4, 1e4 + 1, -1e4], [-np.inf, 0, -np.inf], [3e38, 0, -3e38]], np.float32)
    b = Builder()
    check(device, b.graph(b.node("Softmax", b.input("x", 3, 3))), inputs={"x": x})
