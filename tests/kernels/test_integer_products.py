"""Products of quantized values against the numpy oracles: equal to the last level."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.graphs import Builder
from support.kernels import check

from tlite_vk.device import Device
from tlite_vk.graph.ir import Value

RNG = np.random.default_rng(9)


def levels(dtype: str, *shape: int) -> npt.NDArray[Any]:
    info = np.iinfo(dtype)
    return RNG.integers(info.min, info.max + 1, shape).astype(dtype)


def some(b: Builder, shape: tuple[int, ...], dtype: str) -> list[Value]:
    """A scale and a zero point."""
    return [b.constant(RNG.uniform(0.005, 0.02, shape).astype(np.float32)), b.constant(levels(dtype, *shape))]


@pytest.mark.parametrize("dtypes", [("int8", "int8"), ("uint8", "int8"), ("uint8", "uint8")])
@pytest.mark.parametrize("per_line", [False, True])
def test_matmul(any_device: Device, dtypes: tuple[str, str], per_line: bool) -> None:
    rows, columns = ((5,), (6,)) if per_line else ((), ())
    b = Builder()
    x, w = b.input("x", 5, 33, dtype=dtypes[0]), b.constant(levels(dtypes[1], 33, 6))
    given = {"x": levels(dtypes[0], 5, 33)}
    zeros = [b.constant(levels(d, *s)) for d, s in zip(dtypes, (rows, columns), strict=True)]
    check(any_device, b.graph(b.node("MatMulInteger", x, w, *zeros)), inputs=given)
    b = Builder()
    x, w = b.input("x", 5, 33, dtype=dtypes[0]), b.constant(levels(dtypes[1], 33, 6))
    out = [b.constant(np.float32(0.9)), b.constant(levels(dtypes[0]))]
    node = b.node("QLinearMatMul", x, *some(b, rows, dtypes[0]), w, *some(b, columns, dtypes[1]), *out)
    check(any_device, b.graph(node), inputs=given, dispatches=2)


@pytest.mark.parametrize("options", [{}, {"pads": [1, 1, 0, 2], "strides": [2, 1]}, {"group": 2}])
def test_convolution(any_device: Device, options: dict[str, Any]) -> None:
    group = options.get("group", 1)
    weight, given = levels("int8", 6, 4 // group, 3, 2), {"x": levels("uint8", 2, 4, 7, 5)}
    b = Builder()
    x = b.input("x", 2, 4, 7, 5, dtype="uint8")
    zero = b.constant(np.uint8(120))
    check(any_device, b.graph(b.node("ConvInteger", x, b.constant(weight), zero, **options)), inputs=given)
    b = Builder()
    x = b.input("x", 2, 4, 7, 5, dtype="uint8")
    scale = b.constant(RNG.uniform(0.005, 0.02, 6).astype(np.float32))
    ends = [b.constant(v) for v in (np.float32(0.5), np.uint8(100), RNG.integers(-999, 999, 6).astype(np.int32))]
    front = [b.constant(np.float32(0.02)), b.constant(np.uint8(120))]
    middle = [b.constant(weight), scale, b.constant(np.zeros(6, np.int8))]
    check(any_device, b.graph(b.node("QLinearConv", x, *front, *middle, *ends, **options)), inputs=given)
