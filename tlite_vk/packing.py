"""Weights in the layouts that the shaders read (shaders/lib/weights.glsl): chunks of one row, rows side by side.

`pack` writes codes and scales of a row block into caller-given arrays, a few rows at a time, so that a memory-mapped
weight never has to fit in memory twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import ModelError
from .graph.weights import AffineWeight, DenseWeight, QuantizedRows

Array = npt.NDArray[Any]
Weight = AffineWeight | DenseWeight | Array
_ROWS_AT_ONCE = 512


@dataclass(frozen=True)
class Format:
    """A packed format. chunk: weights per chunk; chunk_bytes: 16 or 32; scale_bytes: per group and row, 0 for none."""

    name: str
    chunk: int
    chunk_bytes: int
    scale_bytes: int


FORMATS = {
    f.name: f
    for f in (
        Format("e0m4_affine", 32, 16, 4),
        Format("e0m4_symmetric", 32, 16, 2),
        Format("int8", 16, 16, 2),
        Format("int8_f32", 16, 16, 4),
        Format("e0m4_f32", 32, 16, 8),
        Format("float16", 8, 16, 0),
        Format("float32", 8, 32, 0),
    )
}


@dataclass(frozen=True)
class Packing:
    """How one weight [rows, columns] is laid out: format, and the weights that share a scale."""

    format: Format
    rows: int
    columns: int
    group: int

    @property
    def chunks(self) -> int:
        return self.columns // self.format.chunk

    @property
    def groups(self) -> int:
        return self.columns // self.group

    @property
    def chunks_per_group(self) -> int:
        return self.group // self.format.chunk

    def code_bytes(self, rows: int) -> int:
        return self.chunks * rows * self.format.chunk_bytes

    def scale_bytes(self, rows: int) -> int:
        return -(-self.groups * rows * self.format.scale_bytes // 4) * 4 if self.format.scale_bytes else 4


def packing_of(weight: Weight) -> Packing:
    """The packing of a weight [N, K]. Raises ModelError where K does not divide into chunks and groups."""
    if isinstance(weight, AffineWeight):
        name = _affine_format(weight.parts[0])
        group = weight.group
    else:
        if weight.dtype not in (np.float16, np.float32) and weight.dtype.name != "bfloat16":
            raise ModelError(f"a weight of type {weight.dtype} has no packed format")
        name = "float16" if weight.dtype == np.float16 else "float32"
        group = int(weight.shape[1])
    rows, columns = int(weight.shape[0]), int(weight.shape[1])
    form = FORMATS[name]
    if columns % form.chunk or group % form.chunk:
        raise ModelError(
            f"a weight [{rows}, {columns}] in groups of {group} does not divide into chunks of {form.chunk}"
        )
    return Packing(form, rows, columns, group)


def _affine_format(rows: QuantizedRows) -> str:
    half = rows.scale.dtype == np.float16
    if rows.bits == 8:
        if rows.minimum is not None or rows.zero != (0 if rows.signed else 128):
            raise ModelError("8-bit weights with an offset have no packed format yet")
        return "int8" if half else "int8_f32"
    center = rows.zero + 8 if rows.signed else rows.zero
    if half and rows.minimum is None and center == 8:
        return "e0m4_symmetric"
    if half and center == 0:
        return "e0m4_affine"
    return "e0m4_f32"


def pack(
    weight: Weight, packing: Packing, ranges: list[tuple[int, int]], codes: Array | None, scales: Array | None
) -> None:
    """Write rows `ranges` of `weight`, one after another, into `codes` uint32 and `scales` uint8, flat; None skips.

    codes holds packing.code_bytes(rows) bytes, scales packing.scale_bytes(rows).
    """
    rows = sum(stop - start for start, stop in ranges)
    words = packing.format.chunk_bytes // 4
    code_view = None if codes is None else codes.reshape(packing.chunks, rows, words)
    scale_view = None if scales is None else _scale_view(packing, rows, scales)
    at = 0
    for start, stop in ranges:
        for first in range(start, stop, _ROWS_AT_ONCE):
            last = min(first + _ROWS_AT_ONCE, stop)
            for part, low, high in _slices(weight, first, last):
                if code_view is not None:
                    block = _codes(part, low, high, packing).reshape(high - low, packing.chunks, words)
                    code_view[:, at : at + high - low] = block.transpose(1, 0, 2)
                if scale_view is not None and isinstance(part, QuantizedRows):
                    scale_view[:, at : at + high - low] = _scales(part, low, high, packing)
                at += high - low


def _slices(weight: Weight, first: int, last: int) -> list[tuple[QuantizedRows | Array, int, int]]:
    parts: tuple[QuantizedRows | Array, ...] = (weight,) if isinstance(weight, np.ndarray) else weight.parts
    found: list[tuple[QuantizedRows | Array, int, int]] = []
    base = 0
    for part in parts:
        rows = part.rows if isinstance(part, QuantizedRows) else int(part.shape[0])
        low, high = max(first, base), min(last, base + rows)
        if low < high:
            found.append((part, low - base, high - base))
        base += rows
    return found


def _codes(part: QuantizedRows | Array, low: int, high: int, packing: Packing) -> Array:
    """uint32 [high - low, chunks * words] in the order of the file's rows."""
    if not isinstance(part, QuantizedRows):
        rows = part[low:high].astype(np.float32) if part.dtype.name == "bfloat16" else part[low:high]
        return np.ascontiguousarray(rows).view(np.uint32)
    raw = np.ascontiguousarray(part.codes[low:high])
    words = raw.view(np.uint32)
    if part.bits == 8:
        return words if part.signed else words ^ np.uint32(0x80808080)  # code - 128 in two's complement
    if part.signed:  # two's complement nibbles to 0..15
        words = words ^ np.uint32(0x88888888)
    packed: Array = _squeeze(words) | (_squeeze(words >> np.uint32(4)) << np.uint32(16))
    return packed


def _squeeze(words: Array) -> Array:
    """The low nibbles of four bytes, side by side in the low half of each word."""
    x = words & np.uint32(0x0F0F0F0F)
    x = (x | (x >> np.uint32(4))) & np.uint32(0x00FF00FF)
    return (x | (x >> np.uint32(8))) & np.uint32(0x0000FFFF)


def _scale_view(packing: Packing, rows: int, scales: Array) -> Array | None:
    size = packing.format.scale_bytes
    if not size:
        return None
    return scales[: packing.groups * rows * size].reshape(packing.groups, rows, size)


def _scales(part: QuantizedRows, low: int, high: int, packing: Packing) -> Array:
    """uint8 [groups, high - low, scale_bytes]."""
    step = np.asarray(part.scale[low:high])
    minimum = None if part.minimum is None else np.asarray(part.minimum[low:high])
    name = packing.format.name
    if name == "e0m4_f32":
        zero = np.float32(part.zero + 8 if part.signed else part.zero)
        step = step.astype(np.float32)
        offset = -zero * step + (0 if minimum is None else minimum.astype(np.float32))
        columns = np.stack([step, offset.astype(np.float32)], axis=-1)
    elif name == "e0m4_affine":
        columns = np.stack([step, np.zeros_like(step) if minimum is None else minimum], axis=-1)
    else:
        columns = step[..., None]
    columns = np.ascontiguousarray(columns.transpose(1, 0, 2))
    return columns.view(np.uint8).reshape(columns.shape[0], columns.shape[1], -1)
