"""Convolution and pooling against the numpy oracles: strides, dilations, padding, groups, one to three axes."""

from typing import Any

import pytest
from support.graphs import Builder
from support.kernels import check

from tlite_vk.device import Device

OPTIONS: list[dict[str, Any]] = [
    {},
    {"strides": [2, 3]},
    {"pads": [1, 0, 2, 1]},
    {"dilations": [2, 1], "pads": [1, 1, 1, 1]},
    {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    {"auto_pad": "SAME_LOWER"},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("group", [1, 2])
def test_conv(any_device: Device, options: dict[str, Any], group: int) -> None:
    b = Builder()
    x, w = b.input("x", 2, 4, 9, 7), b.input("w", 6, 4 // group, 3, 2)
    check(any_device, b.graph(b.node("Conv", x, w, b.input("b", 6), group=group, **options)), tolerance=4e-6)


def test_patches(device: Device) -> None:
    b = Builder()
    graph = b.graph(b.node("Conv", b.input("x", "B", 3, 32, 32), b.input("w", 20, 3, 16, 16), strides=[16, 16]))
    check(device, graph, [{"B": 1}, {"B": 3}], tolerance=4e-6)


@pytest.mark.parametrize("rank", [1, 3])
def test_other_ranks(device: Device, rank: int) -> None:
    b = Builder()
    x, w = b.input("x", 1, 2, *[6] * rank), b.input("w", 3, 2, *[3] * rank)
    check(device, b.graph(b.node("Conv", x, w, pads=[1] * (2 * rank))), tolerance=4e-6)
    check(device, b.graph(b.node("MaxPool", x, kernel_shape=[2] * rank, strides=[2] * rank)))


@pytest.mark.parametrize("options", [*OPTIONS, {"ceil_mode": 1, "strides": [2, 2]}])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_pools(device: Device, options: dict[str, Any], op: str) -> None:
    more: list[dict[str, Any]] = [{}, {"count_include_pad": 1}] if op == "AveragePool" else [{}]
    for extra in more:
        b = Builder()
        x = b.input("x", 2, 3, 9, 7)
        check(device, b.graph(b.node(op, x, kernel_shape=[3, 2], **options, **extra)))


def test_global_pools(device: Device) -> None:
    b = Builder()
    x = b.input("x", "B", 3, 9, 11)
    graph = b.graph(b.node("GlobalAveragePool", x), b.node("GlobalMaxPool", x))
    check(device, graph, [{"B": 1}, {"B": 2}], tolerance=4e-6)
