"""Resize, Upsample and GridSample against the numpy oracles."""

from typing import Any

import numpy as np
import pytest
from support.graphs import Builder
from support.kernels import check

from tlite_vk.device import Device
from tlite_vk.graph.ops.resampling import TRANSFORMS


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_resize(device: Device, mode: str, transform: str) -> None:
    for sizes in ((7, 3), (10, 4), (1, 9)):
        b = Builder()
        roi = b.constant(np.array([0.1, -0.2, 0.8, 1.1], np.float32)) if transform.startswith("tf_crop") else None
        options: dict[str, Any] = {
            "coordinate_transformation_mode": transform,
            "axes": [2, 3],
            "extrapolation_value": 7.0,
        }
        node = b.node("Resize", b.input("x", 2, 3, 5, 4), roi, None, b.constant(np.array(sizes)), mode=mode, **options)
        check(device, b.graph(node))


@pytest.mark.parametrize("options", [{"antialias": 1}, {"exclude_outside": 1}, {"cubic_coeff_a": -0.5}])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_resize_options(device: Device, mode: str, options: dict[str, Any]) -> None:
    b = Builder()
    scales = b.constant(np.array([1, 1, 0.4, 1.7], np.float32))
    check(device, b.graph(b.node("Resize", b.input("x", 1, 2, 11, 7), None, scales, mode=mode, **options)))


def test_three_axes_and_what_feeds_them(any_device: Device) -> None:
    b = Builder()
    x = b.node("Mul", b.input("x", 1, 1, 4, 5, 6), b.input("y", 1, 1, 4, 1, 6))
    node = b.node("Resize", x, None, None, b.constant(np.array([1, 1, 7, 3, 9])), mode="linear")
    check(any_device, b.graph(node))


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("corners", [0, 1])
def test_grid_sample(any_device: Device, mode: str, padding: str, corners: int) -> None:
    b = Builder()
    x, grid = b.input("x", 2, 3, 5, 4), b.input("g", 2, 6, 7, 2)
    node = b.node("GridSample", x, grid, mode=mode, padding_mode=padding, align_corners=corners)
    check(any_device, b.graph(node), tolerance=2e-5)


def test_grid_sample_of_volumes(device: Device) -> None:
    b = Builder()
    node = b.node("GridSample", b.input("x", 1, 2, 3, 4, 5), b.input("g", 1, 2, 3, 4, 3), mode="linear")
    check(device, b.graph(node), tolerance=2e-5)
