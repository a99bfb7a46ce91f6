"""Normalizations against the numpy oracles: short and long rows, any axis, odd sizes."""

import numpy as np
import pytest
from support.graphs import Builder
from support.kernels import check

from tlite_vk.device import Device

SIZES = [(3, 5), (1, 1), (2, 64), (4, 257), (65, 130)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bias", [False, True])
def test_layer_normalization(any_device: Device, size: tuple[int, int], bias: bool) -> None:
    b = Builder()
    x, scale = b.input("x", *size), b.input("s", size[1])
    outputs = b.nodes_of("LayerNormalization", x, scale, b.input("b", size[1]) if bias else None, outputs=3)
    tolerance = 4e-6 if size[1] > 1 else 1e-3  # of one element the variance is zero, its inverse root 316
    check(any_device, b.graph(*outputs), tolerance=tolerance)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_any_first_axis(device: Device, axis: int) -> None:
    b = Builder()
    x = b.input("x", 3, 4, 5)
    scale = b.input("s", *(3, 4, 5)[axis:])
    check(device, b.graph(b.node("LayerNormalization", x, scale, axis=axis, epsilon=1e-3)), tolerance=4e-6)
    check(device, b.graph(b.node("RMSNormalization", x, scale, axis=axis, epsilon=1e-3)), tolerance=4e-6)


@pytest.mark.parametrize("width", [1, 7, 64, 1000])
def test_rms_normalization_of_a_sum(device: Device, width: int) -> None:
    b = Builder()
    x = b.node("Add", b.input("x", "B", "T", width), b.input("y", "B", "T", width))
    graph = b.graph(b.node("RMSNormalization", x, b.input("s", width)))
    check(device, graph, [{"B": 1, "T": 1}, {"B": 2, "T": 33}], tolerance=4e-6, dispatches=1)


def test_large_offsets_do_not_cancel(device: Device) -> None:
    b = Builder()
    graph = b.graph(b.node("LayerNormalization", b.input("x", 3, 300), b.input("s", 300)))
    x = (1000 + np.random.default_rng(0).standard_normal((3, 300))).astype(np.float32)
    check(device, graph, inputs={"x": x}, tolerance=1e-4)


def test_of_images(device: Device) -> None:
    b = Builder()
    x, scale, bias = b.input("x", 2, 6, 5, 7), b.input("s", 6), b.input("b", 6)
    variance = b.node("Abs", b.input("v", 6))
    check(device, b.graph(b.node("InstanceNormalization", x, scale, bias)), tolerance=4e-6)
    check(device, b.graph(b.node("BatchNormalization", x, scale, bias, b.input("m", 6), variance)), tolerance=4e-6)
    b = Builder()
    x, scale, bias = b.input("x", 2, 6, 5, 7), b.input("s", 6), b.input("b", 6)
    check(device, b.graph(b.node("GroupNormalization", x, scale, bias, num_groups=3)), tolerance=4e-6)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("axis", [0, 1])
def test_lp_normalization(device: Device, p: int, axis: int) -> None:
    b = Builder()
    x = b.node("Mul", b.input("x", 5, 130), b.constant(np.arange(130, dtype=np.float32)))  # one column of zeros
    check(device, b.graph(b.node("LpNormalization", x, axis=axis, p=p)), tolerance=4e-6)
