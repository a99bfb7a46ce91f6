"""Block-quantized weights: MatMulNBits and GatherBlockQuantized over affine weights that stay in the file.

A block of `block_size` weights along K shares a scale and a zero point: w = (code - zero) * scale. One zero point for
the whole matrix stays an integer; zero points that differ become a minimum per block, -zero * scale, which is exact in
float32 for float16 scales and rounded once for float32 ones. Blocks of 32 and more (16 for 8 bits) have a packed form
on the device; other weights are unpacked to floats there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.ops.dtypes import FLOATS, unpack4
from tlite_vk.graph.shape import ints
from tlite_vk.graph.weights import AffineWeight, QuantizedRows

from .body import Body, rewrites

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class _Blocks:
    """A matrix of `rows` rows, each of `count` blocks of `size` codes; `zero` is the zero point where none is given."""

    rows: int
    count: int
    size: int
    bits: int
    signed: bool
    zero: int

    @property
    def columns(self) -> int:
        return self.count * self.size


@rewrites("MatMulNBits", inputs=(3, 6), others=("weight_scale_2",))
def matmul_n_bits(body: Body, node: Node) -> None:
    """x [..., K] @ w.T (+ bias), w [N, K] given as codes uint8 [N, K / block_size, block_size * bits / 8]."""
    rows, columns = body.take("N"), body.take("K")
    blocks = _blocks(body, rows, -(-columns // body.take("block_size")))
    body.only("weight_prepacked", 0)
    body.left.pop("accuracy_level", None)  # how inexact the result may be
    x, bias = node.input(0), node.optional(5)
    _check_groups(body, node.optional(4), columns, blocks.size)
    weight = _weight(body, node.input(1), node.input(2), node.optional(3), blocks, x.dtype)
    if blocks.columns != columns:  # the last block is not full: its codes meet zeros
        x = body("Pad", x, body.ints(*[0] * (2 * body.rank(x) - 1), blocks.columns - columns))
    y = (body if bias is not None else body.end)("MatMul", x, body("Transpose", weight, perm=[1, 0]))
    if bias is not None:
        body.end("Add", y, bias)


def _blocks(body: Body, rows: int, count: int) -> _Blocks:
    size, bits = body.take("block_size"), body.take("bits", 4)
    body.require(bits in (4, 8), f"bits={bits} is not supported, only 4 and 8")
    return _Blocks(rows, count, size, bits, signed=False, zero=1 << (bits - 1))


def _check_groups(body: Body, groups: Value | None, columns: int, size: int) -> None:
    """The deprecated g_idx may only say what block_size says."""
    if groups is not None:
        given = body.array(groups, "g_idx").reshape(-1)[:columns]
        body.require(np.array_equal(given, np.arange(columns) // size), "columns in another order (g_idx)")


@rewrites("GatherBlockQuantized", inputs=(3, 4))
def gather_block_quantized(body: Body, node: Node) -> None:
    """Rows of a quantized table at given indices. Codes uint8 [V, K * bits / 8], or int4 or uint4 [V, K]."""
    codes = node.input(0)
    body.require(codes.dtype in ("uint8", "uint4", "int4"), f"codes of type {codes.dtype} are not supported")
    body.require(body.rank(codes) == 2, f"its table has rank {body.rank(codes)}, not 2")
    body.only("gather_axis", 0, -2)
    body.only("quantize_axis", 1, -1)
    size, bits = body.take("block_size", 128), body.take("bits", 4)
    byte = codes.dtype == "uint8"
    body.require(bits in (4, 8) if byte else bits == 4, f"bits={bits} is not supported for {codes.dtype}")
    rows, width = ints(codes.dims)
    columns = width * 8 // bits if byte else width
    body.require(size > 0 and columns % size == 0, f"{columns} columns do not divide into blocks of {size}")
    blocks = _Blocks(rows, columns // size, size, bits, codes.dtype == "int4", 1 << (bits - 1) if byte else 0)
    scale = node.input(2)
    table = _weight(body, codes, scale, node.optional(3), blocks, scale.dtype)
    body.end("Gather", table, node.input(1), axis=0)


def _weight(body: Body, codes: Value, scale: Value, zeros: Value | None, blocks: _Blocks, dtype: str) -> Value:
    """The matrix [N, K] as a constant of type `dtype`."""
    raw, steps = body.array(codes, "weight"), body.array(scale, "scales")
    size = blocks.rows * blocks.columns * blocks.bits // 8
    body.require(raw.size == size, f"its weight has {raw.size} bytes, not {size}")
    body.require(
        steps.size == blocks.rows * blocks.count,
        f"it has {steps.size} scales, not {blocks.rows} x {blocks.count}",
    )
    steps = steps.reshape(blocks.rows, blocks.count)
    if steps.dtype not in (np.float16, np.float32):
        steps = steps.astype(np.float32)
    zero, minimum = blocks.zero, None
    if zeros is not None:
        points = _zero_points(body, zeros, blocks)
        if zeros.dtype not in FLOATS and int(points.min()) == int(points.max()):
            zero = int(points.flat[0])
        else:
            zero = 0
            steps, minimum = _with_minimum(steps, points)
    rows = QuantizedRows(raw.reshape(blocks.rows, -1), steps, minimum, blocks.bits, blocks.signed, zero)
    return body.weight(AffineWeight((rows,)), dtype)


def _zero_points(body: Body, zeros: Value, blocks: _Blocks) -> Array:
    """[N, blocks]: floats, or integers that are packed as the codes are, each row in whole bytes."""
    raw = body.array(zeros, "zero points")
    count = blocks.rows * blocks.count
    if zeros.dtype in ("uint4", "int4"):
        points = unpack4(raw, count, zeros.dtype == "int4")
    elif zeros.dtype == "uint8" and blocks.bits == 4:
        body.require(raw.size == blocks.rows * -(-blocks.count // 2), f"it has {raw.size} bytes of zero points")
        points = unpack4(raw, 2 * raw.size, False).reshape(blocks.rows, -1)[:, : blocks.count]
    else:
        points = raw
    body.require(points.size == count, f"it has {points.size} zero points, not {blocks.rows} x {blocks.count}")
    return points.reshape(blocks.rows, blocks.count)


def _with_minimum(steps: Array, points: Array) -> tuple[Array, Array]:
    """Scales and minimums -zero * scale of one type: float16 where that holds them all exactly."""
    minimum = -points.astype(np.float32) * steps.astype(np.float32)
    with np.errstate(over="ignore"):
        narrow = minimum.astype(steps.dtype)
    if np.array_equal(narrow.astype(np.float32), minimum):
        return steps, narrow
    return steps.astype(np.float32), minimum
