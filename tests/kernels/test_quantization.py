"""DequantizeLinear and QuantizeLinear against the numpy oracles, and 4-bit constants that no projection takes."""

from typing import Any

import numpy as np
import pytest
from support.graphs import Builder
from support.kernels import check

from tlite_vk.device import Device


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("form", ["tensor", "axis", "blocks"])
def test_round_trip(device: Device, dtype: str, form: str) -> None:
    shape = {"tensor": (), "axis": (6,), "blocks": (5, 3)}[form]
    rng = np.random.default_rng(4)
    b = Builder()
    scale = b.constant(rng.uniform(0.01, 0.1, shape).astype(np.float32))
    zero = b.constant(rng.integers(0, 20, shape).astype(dtype))
    options: dict[str, Any] = {"axis": 1} | ({"block_size": 2} if form == "blocks" else {})
    levels = b.node("QuantizeLinear", b.input("x", 5, 6), scale, zero, **options)
    check(device, b.graph(levels, b.node("DequantizeLinear", levels, scale, zero, **options)))


def test_ties_go_to_even_and_ends_are_kept(device: Device) -> None:
    x = np.array([0.5, 1.5, -0.5, 2.5, 1e9, -1e9, 127.4, -128.6], np.float32)
    b = Builder()
    node = b.node("QuantizeLinear", b.input("x", x.size), b.constant(np.float32(1)), b.constant(np.int8(0)), name="y")
    got = check(device, b.graph(node), inputs={"x": x})
    assert got["y"].tolist() == [0, 2, 0, 2, 127, -128, 127, -128]


@pytest.mark.parametrize("dtype", ["uint4", "int4"])
def test_packed_constants(device: Device, dtype: str) -> None:
    rng = np.random.default_rng(5)
    low = 0 if dtype == "uint4" else -8
    b = Builder()
    codes = b.packed(rng.integers(low, low + 16, (3, 8)), dtype)
    scale = b.constant(rng.uniform(0.1, 1, (3, 2)).astype(np.float32))
    weight = b.node("DequantizeLinear", codes, scale, axis=1, block_size=4)
    check(device, b.graph(b.node("Mul", b.input("x", 3, 8), weight)))
