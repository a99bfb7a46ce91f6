"""Quantized and dense weights made of row blocks."""

import numpy as np
import pytest

from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.weights import AffineWeight, DenseWeight, QuantizedRows


def rows(
    count: int, group: int = 4, bits: int = 4, *, minimum: bool = True, signed: bool = False, zero: int = 0
) -> QuantizedRows:
    rng = np.random.default_rng(count)
    codes = rng.integers(0, 256, (count, 16 * bits // 8)).astype(np.int8 if bits == 8 and signed else np.uint8)
    scale = rng.normal(size=(count, 16 // group)).astype(np.float16)
    return QuantizedRows(codes, scale, scale - 1 if minimum else None, bits, signed, zero)


def plain(part: QuantizedRows) -> np.ndarray:
    """The definition, element by element."""
    out = np.empty((part.rows, part.columns), np.float32)
    for n in range(part.rows):
        for k in range(part.columns):
            if part.bits == 4:
                code = (int(part.codes[n, k // 2]) >> (4 * (k % 2))) & 15
                code = code - 16 if part.signed and code > 7 else code
            else:
                code = int(part.codes[n, k])
            g = k // part.group
            low = np.float32(0) if part.minimum is None else np.float32(part.minimum[n, g])
            out[n, k] = np.float32(part.scale[n, g]) * np.float32(code - part.zero) + low
    return out


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("minimum", "zero"), [(True, 0), (False, 8)])
def test_dequantize_follows_the_definition(bits: int, signed: bool, minimum: bool, zero: int) -> None:
    part = rows(3, bits=bits, signed=signed, minimum=minimum, zero=zero)
    np.testing.assert_array_equal(AffineWeight((part,)).dequantize(), plain(part))


def test_blocks_of_several_parts_cover_all_rows_once() -> None:
    weight = AffineWeight((rows(3), rows(5)))
    assert weight.shape == (8, 16) and weight.group == 4 and not weight.symmetric
    blocks = [(first, stop - start) for first, _, start, stop in weight.row_blocks(2)]
    assert blocks == [(0, 2), (2, 1), (3, 2), (5, 2), (7, 1)]
    np.testing.assert_array_equal(weight.dequantize(), np.concatenate([plain(rows(3)), plain(rows(5))]))


@pytest.mark.parametrize("other", [rows(2, group=8), rows(2, bits=8), rows(2, minimum=False), rows(2, zero=8)])
def test_parts_of_different_formats_do_not_mix(other: QuantizedRows) -> None:
    with pytest.raises(GraphError, match="different formats"):
        AffineWeight((rows(2), other))


def test_dense_blocks_stay_where_they_are() -> None:
    a, b = np.arange(6, dtype=np.float16).reshape(3, 2), np.ones((2, 2), np.float16)
    weight = DenseWeight((a, b))
    assert weight.shape == (5, 2) and weight.dtype == np.float16
    assert [(first, block.shape[0]) for first, block in weight.row_blocks(2)] == [(0, 2), (2, 1), (3, 2)]
    assert all(np.shares_memory(block, a) or np.shares_memory(block, b) for _, block in weight.row_blocks(2))
    np.testing.assert_array_equal(weight.dequantize(), np.concatenate([a, b]))


def test_dense_blocks_of_different_types_do_not_mix() -> None:
    with pytest.raises(GraphError, match="different types or columns"):
        DenseWeight((np.ones((2, 2), np.float16), np.ones((2, 2), np.float32)))
