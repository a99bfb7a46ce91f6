"""Convolution and pooling against the numpy oracles: strides, dilations, padding, groups, one to three axes."""

from typing import Any

import numpy as np
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


@pytest.mark.parametrize("p", [1, 2, 3])
def test_lp_pools(device: Device, p: int) -> None:
    b = Builder()
    x = b.input("x", 2, 3, 9, 7)
    check(device, b.graph(b.node("LpPool", x, kernel_shape=[3, 2], pads=[1, 0, 1, 1], p=p)), tolerance=4e-6)
    check(device, b.graph(b.node("GlobalLpPool", x, p=p)), tolerance=4e-6)


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_local_response_normalization(device: Device, size: int) -> None:
    b = Builder()
    node = b.node("LRN", b.input("x", 2, 6, 3, 4), size=size, alpha=0.3, beta=0.6, bias=1.5)
    check(device, b.graph(node), tolerance=4e-6)


TRANSPOSED: list[dict[str, Any]] = [
    {},
    {"strides": [2, 3], "output_padding": [1, 1]},
    {"pads": [1, 0, 2, 1], "dilations": [2, 1]},
    {"strides": [3, 2], "output_shape": [13, 9]},
    {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    {"auto_pad": "SAME_LOWER", "strides": [1, 2]},
]


@pytest.mark.parametrize("options", TRANSPOSED)
@pytest.mark.parametrize("group", [1, 2])
def test_transposed(any_device: Device, options: dict[str, Any], group: int) -> None:
    b = Builder()
    x, w = b.input("x", 2, 4, 5, 3), b.input("w", 4, 3, 3, 2)
    node = b.node("ConvTranspose", x, w, b.input("b", 3 * group), group=group, **options)
    check(any_device, b.graph(node), tolerance=4e-6)


@pytest.mark.parametrize("options", [{}, {"strides": [2, 1], "pads": [1, 1, 1, 1]}, {"dilations": [1, 2]}])
def test_columns_to_image(device: Device, options: dict[str, Any]) -> None:
    blocks = {"strides": 15, "dilations": 6}.get(next(iter(options), ""), 12)
    b = Builder()
    sizes = [b.constant(np.array(v)) for v in ([5, 4], [3, 2] if "dilations" in options else [2, 2])]
    rows = 3 * (6 if "dilations" in options else 4)
    check(device, b.graph(b.node("Col2Im", b.input("x", 2, rows, blocks), *sizes, **options)), tolerance=4e-6)


def test_global_pools(device: Device) -> None:
    b = Builder()
    x = b.input("x", "B", 3, 9, 11)
    graph = b.graph(b.node("GlobalAveragePool", x), b.node("GlobalMaxPool", x))
    check(device, graph, [{"B": 1}, {"B": 2}], tolerance=4e-6)
