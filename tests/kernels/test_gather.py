"""Picking and writing elements by computed indices, against the numpy oracles."""

import numpy as np
import pytest
from support.graphs import Builder
from support.kernels import check

from tlite_vk.device import Device

CASES = [{"T": 1}, {"T": 6}, {"T": 127}]


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather(device: Device, axis: int) -> None:
    b = Builder()
    indices = b.input("i", "T", 2, dtype="int64")
    graph = b.graph(b.node("Gather", b.input("x", 5, 4, 6), indices, axis=axis))
    check(device, graph, CASES)
    check(device, graph, {"T": 2}, inputs={"i": np.array([[-1, 0], [-4, 3]])})


def test_gather_from_a_symbolic_axis(device: Device) -> None:
    b = Builder()
    graph = b.graph(b.node("Gather", b.input("x", "T", 3), b.constant(np.array([-1])), axis=0))
    check(device, graph, CASES)


@pytest.mark.parametrize(("axis", "shape"), [(0, (5, 4)), (1, (3, 6)), (-1, (3, 4))])
def test_gather_elements(device: Device, axis: int, shape: tuple[int, int]) -> None:
    b = Builder()
    graph = b.graph(b.node("GatherElements", b.input("x", *shape), b.input("i", 3, 4, dtype="int64"), axis=axis))
    check(device, graph, inputs={"i": np.array([[0, -1, 2, 3], [1, 1, -3, 0], [3, 2, 1, 0]])})


@pytest.mark.parametrize(("shape", "batch"), [((7, 2), 0), ((3, 7, 1), 1), ((3, 4, 2, 2), 2), ((5, 4), 0)])
def test_gather_nd(device: Device, shape: tuple[int, ...], batch: int) -> None:
    b = Builder()
    graph = b.graph(b.node("GatherND", b.input("x", 3, 4, 5, 6), b.input("i", *shape, dtype="int64"), batch_dims=batch))
    check(device, graph, highest=3)


@pytest.mark.parametrize("dtype", ["float32", "int32"])
@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scatter_elements(any_device: Device, reduction: str, dtype: str) -> None:
    b = Builder()
    x, updates = b.input("x", 7, 4, dtype=dtype), b.input("u", 3, 4, dtype=dtype)
    graph = b.graph(
        b.node("ScatterElements", x, b.input("i", 3, 4, dtype="int64"), updates, axis=0, reduction=reduction)
    )
    once = np.array([[0, -1, 2, 3], [1, 1, -3, 0], [3, 2, 1, -1]])
    often = np.array([[2, 1, 0, 0], [2, 1, -7, 3], [2, 5, 0, 3]])
    check(any_device, graph, inputs={"i": once if reduction == "none" else often})


@pytest.mark.parametrize("reduction", ["none", "add", "max"])
def test_scatter_nd(any_device: Device, reduction: str) -> None:
    b = Builder()
    node = b.node(
        "ScatterND", b.input("x", 5, 4), b.input("i", 3, 1, dtype="int64"), b.input("u", 3, 4), reduction=reduction
    )
    graph = b.graph(node)
    check(
        any_device,
        graph,
        inputs={"i": np.array([[0], [-1], [2]]) if reduction == "none" else np.array([[2], [2], [0]])},
    )


def test_many_updates_of_one_place(any_device: Device) -> None:
    b = Builder()
    graph = b.graph(
        b.node("ScatterND", b.input("x", 2), b.input("i", 1000, 1, dtype="int64"), b.input("u", 1000), reduction="add")
    )
    check(any_device, graph, inputs={"i": np.zeros((1000, 1), np.int64)}, tolerance=1e-5)


@pytest.mark.parametrize(
    ("mode", "axis", "first"), [("linear", -2, (0, 3)), ("circular", -2, (4, 1)), ("linear", 1, (1, 0))]
)
def test_tensor_scatter(device: Device, mode: str, axis: int, first: tuple[int, int]) -> None:
    b = Builder()
    shape = (2, 3, 5, 4) if axis == -2 else (2, 5, 12)
    new = tuple(2 if d == 5 else d for d in shape)
    start = b.input("w", 2, dtype="int64")
    graph = b.graph(b.node("TensorScatter", b.input("x", *shape), b.input("u", *new), start, axis=axis, mode=mode))
    check(device, graph, inputs={"w": np.array(first)})


def test_a_cache_of_symbolic_capacity(device: Device) -> None:
    b = Builder()
    graph = b.graph(
        b.node(
            "TensorScatter", b.input("x", 1, "C", 4), b.input("u", 1, "T", 4), b.input("w", 1, dtype="int64"), axis=1
        )
    )
    check(device, graph, [{"C": 9, "T": 3}, {"C": 64, "T": 1}], highest=5)
