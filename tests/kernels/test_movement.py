"""Data movement against the numpy oracles: views, copies, elements that follow from their position."""

from typing import Any

import numpy as np
import pytest
from support.graphs import Builder
from support.kernels import check

from tlite_vk.device import Device
from tlite_vk.graph.shape import symbol

CASES = [{"T": 1}, {"T": 6}, {"T": 127}]


def ints(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, np.int64)


@pytest.mark.parametrize("perm", [[0, 1, 2], [2, 0, 1], [1, 2, 0], [2, 1, 0]])
def test_transpose(device: Device, perm: list[int]) -> None:
    b = Builder()
    check(device, b.graph(b.node("Transpose", b.input("x", 3, "T", 5), perm=perm)), CASES)


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"),
    [
        ([1, 0], [4, 2], [0, 1], [1, 1]),
        ([-3], [-1], [0], [1]),
        ([4], [0], [0], [-1]),
        ([-1], [-(2**31)], [0], [-2]),
        ([0, 1], [2**31 - 1, 2**63 - 1], [0, -1], [2, 3]),
        ([100], [200], [0], [1]),
    ],
)
def test_slice(device: Device, starts: list[int], ends: list[int], axes: list[int], steps: list[int]) -> None:
    b = Builder()
    bounds = [b.constant(ints(*v)) for v in (starts, ends, axes, steps)]
    check(device, b.graph(b.node("Slice", b.input("x", 5, 7), *bounds)))


@pytest.mark.parametrize(("start", "end"), [(0, 1), (-1, 2**31 - 1), (0, -1), (1, 2**31 - 1)])
def test_slice_of_a_symbolic_axis(device: Device, start: int, end: int) -> None:
    b = Builder()
    bounds = [b.constant(ints(v)) for v in (start, end, 1)]
    check(device, b.graph(b.node("Slice", b.input("x", 2, "T", 3), *bounds)), [{"T": 2}, {"T": 9}])


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concat_and_split(device: Device, axis: int) -> None:
    b = Builder()
    parts = b.nodes_of("Split", b.input("x", 6, 12, 3), outputs=3, axis=axis, num_outputs=3)
    check(device, b.graph(*parts, b.node("Concat", *reversed(parts), axis=axis)))


def test_concat_with_an_empty_past(device: Device) -> None:
    b = Builder()
    past = b.input("past", 2, symbol("P", 0), 4)
    graph = b.graph(b.node("Concat", past, b.input("new", 2, "T", 4), axis=1))
    check(device, graph, [{"P": 0, "T": 3}, {"P": 5, "T": 1}, {"P": 1, "T": 64}])


def test_concat_of_symbolic_parts(device: Device) -> None:
    b = Builder()
    x = b.input("x", "T", 3)
    check(device, b.graph(b.node("Concat", x, b.input("y", "S", 3), x, axis=0)), [{"T": 2, "S": 5}, {"T": 7, "S": 1}])
    b = Builder()
    x = b.input("x", "T", 3)
    many = [b.node("Exp", x) if i % 2 else x for i in range(9)]
    check(device, b.graph(b.node("Concat", *many, axis=1)), CASES)


def test_expand_and_tile(device: Device) -> None:
    b = Builder()
    x = b.input("x", 3, 1, 2)
    check(device, b.graph(b.node("Expand", x, b.constant(ints(2, 3, 5, 2)))))
    check(device, b.graph(b.node("Tile", x, b.constant(ints(2, 3, 4)))))


def test_expand_to_a_symbolic_length(device: Device) -> None:
    b = Builder()
    like = b.node("Shape", b.input("y", "T", 4))
    check(device, b.graph(b.node("Expand", b.input("x", 4), like)), CASES)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
@pytest.mark.parametrize("pads", [(1, 2, 0, 3), (0, 0, 0, 0), (2, 0, 2, 1), (-1, 1, 0, -2)])
def test_pad(device: Device, mode: str, pads: tuple[int, ...]) -> None:
    b = Builder()
    value = b.constant(np.float32(1.5)) if mode == "constant" else None
    check(device, b.graph(b.node("Pad", b.input("x", 4, 5), b.constant(ints(*pads)), value, mode=mode)))


def test_pad_of_some_axes(device: Device) -> None:
    b = Builder()
    graph = b.graph(b.node("Pad", b.input("x", "T", 3, 2), b.constant(ints(1, 2)), None, b.constant(ints(-1))))
    check(device, graph, CASES)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_and_space(device: Device, mode: str) -> None:
    b = Builder()
    deep = b.node("DepthToSpace", b.input("x", 2, 8, 3, 5), blocksize=2, mode=mode)
    check(device, b.graph(deep, b.node("SpaceToDepth", deep, blocksize=2)))


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("k", [-2, 0, 1, 9])
def test_trilu(device: Device, upper: int, k: int) -> None:
    b = Builder()
    graph = b.graph(b.node("Trilu", b.input("x", 2, "T", 5), b.constant(np.array(k)), upper=upper))
    check(device, graph, CASES)


def test_range_and_constant_of_shape(device: Device) -> None:
    b = Builder()
    x = b.input("x", "T", 3)
    length = b.node("Gather", b.node("Shape", x), b.constant(np.array(0)))
    steps = b.node("Range", b.constant(np.array(0)), length, b.constant(np.array(1)))
    ones = b.node("ConstantOfShape", b.node("Shape", x), value=np.array([1.5], np.float32))
    check(device, b.graph(steps, ones, b.node("Mul", b.node("Cast", steps, to=1), b.constant(np.float32(0.5)))), CASES)


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_one_hot(device: Device, axis: int) -> None:
    b = Builder()
    indices = b.constant(np.array([[0, 3, -1], [9, -4, 2]]))
    x = b.node("Add", indices, b.input("x", 1, 1, dtype="int64"))
    values = b.constant(np.array([-1.0, 2.0], np.float32))
    check(device, b.graph(b.node("OneHot", x, b.constant(np.array(4)), values, axis=axis)), highest=1)


def test_eye_like(device: Device) -> None:
    b = Builder()
    check(
        device,
        b.graph(b.node("EyeLike", b.input("x", "T", 5), k=1), b.node("EyeLike", b.input("y", 3, 3), dtype=9)),
        CASES,
    )


@pytest.mark.parametrize("time", [0, 1])
def test_reverse_sequence(device: Device, time: int) -> None:
    b = Builder()
    x, lengths = b.input("x", 5, 5, 3), b.input("n", 5, dtype="int64")
    graph = b.graph(b.node("ReverseSequence", x, lengths, time_axis=time, batch_axis=1 - time))
    check(device, graph, inputs={"n": np.array([0, 1, 3, 5, 2])})
