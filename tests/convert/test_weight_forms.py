"""Every weight type against the gguf package's own dequantization, bit for bit."""

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind

from tlite_vk.convert.gguf_types import TYPES
from tlite_vk.convert.quantized_nodes import Level
from tlite_vk.convert.weight_forms import QUANT_FORMS, pack_nibbles


def blocks_of(kind: Kind, count: int) -> np.ndarray:
    """Random blocks with every bit in use, except that fp16 numbers are finite: uint8 [count, block_bytes]."""
    rng = np.random.default_rng(3)
    blocks = rng.integers(0, 256, (count, gguf.GGML_QUANT_SIZES[kind][1]), np.uint8)
    halves = {Kind.Q6_K: (208,), Kind.Q4_0: (0,), Kind.Q5_0: (0,), Kind.Q8_0: (0,)}.get(kind, (0, 2))
    for at in halves:
        numbers = (rng.standard_normal(count) * 10.0 ** rng.uniform(-6, 2, count)).astype("<f2")
        blocks[:, at : at + 2] = numbers.view(np.uint8).reshape(-1, 2)
    return blocks


@pytest.mark.parametrize("name", QUANT_FORMS)
def test_equals_ggml_bit_for_bit(name: str) -> None:
    form, kind = QUANT_FORMS[name], Kind[name]
    blocks = blocks_of(kind, 257)
    levels, scale, minimum = form.split(blocks)
    value = scale.astype(np.float32)[:, :, None] * levels.astype(np.float32)
    if minimum is not None:
        value = value + minimum.astype(np.float32)[:, :, None]
    assert (minimum is not None) == form.affine
    assert scale.dtype == (np.float16 if form.half else np.float32)
    assert levels.shape[-1] == form.group
    expected = gguf.quants.dequantize(blocks, kind).reshape(value.shape)
    assert expected.dtype == np.float32
    np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("name", QUANT_FORMS)
def test_levels_fit_their_storage(name: str) -> None:
    form = QUANT_FORMS[name]
    levels, _, _ = form.split(blocks_of(Kind[name], 257))
    low, high = {Level.UINT4: (0, 15), Level.INT4: (-8, 7), Level.INT8: (-128, 127)}[form.level]
    assert low <= levels.min() and levels.max() <= high


def test_nibbles_are_packed_low_first() -> None:
    assert pack_nibbles(np.array([[1, 2, 15, 0]], np.uint8)).tolist() == [[0x21, 0x0F]]
    assert pack_nibbles(np.array([-8, 7], np.int8)).tolist() == [0x78]


def test_type_table_agrees_with_the_gguf_package() -> None:
    for number, kind in TYPES.items():
        assert Kind(number).name == kind.name
        assert gguf.GGML_QUANT_SIZES[Kind(number)] == (kind.block, kind.block_bytes)
