"""How each GGUF weight type is written in ONNX: arrays per row, and the value they stand for.

A *form* turns the raw blocks of some rows into one array per part (levels, scale, minimum), rows first, so that a
tensor of any size can be converted a few rows at a time. All forms are exact: `scale * level (+ minimum)`, evaluated in
fp32 as ONNX prescribes, gives bit for bit the value of ggml's own dequantization. The products of scale and level need
at most 24 bits of mantissa, so only the final addition rounds, once in both.

Source of the block layouts: ggml-common.h and ggml-quants.c.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tlite_vk.convert.quantized_nodes import Level

Bytes = npt.NDArray[np.uint8]
Levels = npt.NDArray[np.uint8] | npt.NDArray[np.int8]
Factors = npt.NDArray[np.float16] | npt.NDArray[np.float32]
Split = tuple[Levels, Factors, Factors | None]


_LOW, _FOUR = np.uint8(15), np.uint8(4)


@dataclass(frozen=True)
class QuantForm:
    """`w = scale * level (+ minimum)` over groups of `group` weights along a row.

    `split` takes blocks uint8 [n, block_bytes] and returns (levels, scale, minimum): levels as 8-bit integers
    [n, g, group] before packing, scale and minimum [n, g], where g groups make up one block; minimum is None in a
    symmetric form.
    """

    level: Level
    group: int
    half: bool  # scale and minimum are fp16 (as stored in the file); else fp32 (products of two stored numbers)
    affine: bool
    split: Callable[[Bytes], Split]

    def values(self, blocks: Bytes) -> npt.NDArray[np.float32]:
        """The weights of some blocks in float32, flat: exactly what the file stands for."""
        levels, scale, minimum = self.split(blocks)
        scaled = levels.astype(np.float32) * scale.astype(np.float32)[..., None]
        return (scaled if minimum is None else scaled + minimum.astype(np.float32)[..., None]).reshape(-1)


def pack_nibbles(levels: Levels) -> Bytes:
    """[..., 2k] levels -> [..., k] bytes as ONNX stores 4-bit types: the even element in the low nibble."""
    nibbles = levels.view(np.uint8)
    return (nibbles[..., 0::2] & _LOW) | ((nibbles[..., 1::2] & _LOW) << _FOUR)


def _half(blocks: Bytes, at: int) -> npt.NDArray[np.float16]:
    """The fp16 number at byte `at` of each block: [n, 1]."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2")


def _nibbles(blocks: Bytes) -> Bytes:
    """[n, 16] bytes -> [n, 1, 32] levels: GGUF keeps elements 0..15 in the low nibbles, 16..31 in the high ones."""
    return np.concatenate([blocks & _LOW, blocks >> _FOUR], axis=1)[:, None, :]


def _fifth_bits(blocks: Bytes) -> Bytes:
    """[n, 4] bytes, 32 bits little endian -> [n, 1, 32] with 16 where the bit is set."""
    return (np.unpackbits(blocks, axis=1, bitorder="little") * np.uint8(16))[:, None, :]


def _q4_0(b: Bytes) -> Split:
    return _nibbles(b[:, 2:]).astype(np.int8) - 8, _half(b, 0), None


def _q4_1(b: Bytes) -> Split:
    return _nibbles(b[:, 4:]), _half(b, 0), _half(b, 2)


def _q5_0(b: Bytes) -> Split:
    return (_nibbles(b[:, 6:]) | _fifth_bits(b[:, 2:6])).astype(np.int8) - 16, _half(b, 0), None


def _q5_1(b: Bytes) -> Split:
    return _nibbles(b[:, 8:]) | _fifth_bits(b[:, 4:8]), _half(b, 0), _half(b, 2)


def _q8_0(b: Bytes) -> Split:
    return b[:, None, 2:].view(np.int8), _half(b, 0), None


def _k_scales(b: Bytes) -> tuple[Factors, Factors]:
    """Scale and minimum of the 8 groups of a Q4_K or Q5_K block, fp32 [n, 8]: 6-bit factors times an fp16 pair."""
    low, middle, high = b[:, 4:8], b[:, 8:12], b[:, 12:16]
    scale = np.concatenate([low & 63, (high & 15) | (low >> 6 << 4)], axis=1)
    minimum = np.concatenate([middle & 63, (high >> 4) | (middle >> 6 << 4)], axis=1)
    d, d_min = _half(b, 0).astype(np.float32), _half(b, 2).astype(np.float32)
    return d * scale.astype(np.float32), -(d_min * minimum.astype(np.float32))


def _k_nibbles(b: Bytes) -> Bytes:
    """[n, 128] bytes -> [n, 8, 32]: 32 bytes hold two groups, one in the low and one in the high nibbles."""
    q = b.reshape(-1, 4, 1, 32)
    return np.concatenate([q & _LOW, q >> _FOUR], axis=2).reshape(-1, 8, 32)


def _q4_k(b: Bytes) -> Split:
    scale, minimum = _k_scales(b)
    return _k_nibbles(b[:, 16:]), scale, minimum


def _q5_k(b: Bytes) -> Split:
    scale, minimum = _k_scales(b)
    fifth = (b[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None]) & 1
    return _k_nibbles(b[:, 48:]) | (fifth << 4), scale, minimum


def _q6_k(b: Bytes) -> Split:
    low = b[:, :128].reshape(-1, 2, 1, 64)
    low = np.concatenate([low & _LOW, low >> _FOUR], axis=2).reshape(-1, 2, 4, 32)
    high = b[:, 128:192].reshape(-1, 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8)[:, None] & 3
    levels = (low | high << 4).astype(np.int8) - 32
    scale = _half(b, 208).astype(np.float32) * np.ascontiguousarray(b[:, 192:208]).view(np.int8).astype(np.float32)
    return levels.reshape(-1, 16, 16), scale, None


QUANT_FORMS: dict[str, QuantForm] = {
    "Q4_0": QuantForm(Level.INT4, 32, half=True, affine=False, split=_q4_0),
    "Q4_1": QuantForm(Level.UINT4, 32, half=True, affine=True, split=_q4_1),
    "Q5_0": QuantForm(Level.INT8, 32, half=True, affine=False, split=_q5_0),
    "Q5_1": QuantForm(Level.INT8, 32, half=True, affine=True, split=_q5_1),
    "Q8_0": QuantForm(Level.INT8, 32, half=True, affine=False, split=_q8_0),
    "Q4_K": QuantForm(Level.UINT4, 32, half=False, affine=True, split=_q4_k),
    "Q5_K": QuantForm(Level.INT8, 32, half=False, affine=True, split=_q5_k),
    "Q6_K": QuantForm(Level.INT8, 16, half=False, affine=False, split=_q6_k),
}

DENSE_FORMS = ("F32", "F16", "BF16")
"""Types stored as they are; F16 and BF16 are cast to fp32 in the graph."""
