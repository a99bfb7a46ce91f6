"""Quantized weights as the graph carries them: an affine code per group, still in the file's memory map.

`w[n, k] = scale[n, g] * q[n, k] + minimum[n, g]` with `g = k // group`. Nothing here is unpacked until a session
uploads it, row block by row block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import GraphError


@dataclass(frozen=True, eq=False)
class QuantizedRows:
    """Rows of one quantized matrix [N, K].

    codes: uint8 [N, K/2] for 4 bits (element 2i in the low nibble, as ONNX packs UINT4), int8 or uint8 [N, K] for 8.
    scale: float16 or float32 [N, K/group].
    minimum: same dtype or None; added after scaling.
    zero: integer subtracted from every code before scaling (8 for a symmetric 4-bit code stored unsigned).
    """

    codes: npt.NDArray[Any]
    scale: npt.NDArray[Any]
    minimum: npt.NDArray[Any] | None
    bits: int
    signed: bool = False
    zero: int = 0

    @property
    def rows(self) -> int:
        return int(self.codes.shape[0])

    @property
    def columns(self) -> int:
        return int(self.codes.shape[1]) * (8 // self.bits)

    @property
    def group(self) -> int:
        return self.columns // int(self.scale.shape[1])

    def slice(self, start: int, stop: int) -> QuantizedRows:
        """Rows [start, stop), without copying."""
        minimum = None if self.minimum is None else self.minimum[start:stop]
        return replace(self, codes=self.codes[start:stop], scale=self.scale[start:stop], minimum=minimum)

    def unpack(self, start: int, stop: int) -> npt.NDArray[np.int16]:
        """Codes of rows [start, stop) minus `zero`, int16 [stop - start, K]."""
        raw = np.asarray(self.codes[start:stop])
        if self.bits == 8:
            return raw.astype(np.int16) - np.int16(self.zero)
        pairs = np.empty((*raw.shape, 2), np.int16)
        raw = raw.view(np.uint8)
        pairs[..., 0], pairs[..., 1] = raw & 15, raw >> 4
        codes = pairs.reshape(raw.shape[0], -1)
        if self.signed:
            codes = (codes ^ 8) - 8
        return codes - np.int16(self.zero)


@dataclass(frozen=True, eq=False)
class AffineWeight:
    """A matrix [N, K] made of one or more row blocks of the same format (merged projections)."""

    parts: tuple[QuantizedRows, ...]

    def __post_init__(self) -> None:
        kinds = {(p.columns, p.bits, p.group, p.scale.dtype, p.minimum is None, p.signed, p.zero) for p in self.parts}
        if len(kinds) != 1:
            raise GraphError(f"row blocks of different formats cannot form one weight: {sorted(map(str, kinds))}")

    @property
    def shape(self) -> tuple[int, int]:
        return sum(p.rows for p in self.parts), self.parts[0].columns

    @property
    def bits(self) -> int:
        return self.parts[0].bits

    @property
    def group(self) -> int:
        return self.parts[0].group

    @property
    def symmetric(self) -> bool:
        return self.parts[0].minimum is None

    def row_blocks(self, rows: int) -> Iterator[tuple[int, QuantizedRows, int, int]]:
        """(first row in the whole, part, start, stop) in blocks of at most `rows` rows."""
        base = 0
        for part in self.parts:
            for start in range(0, part.rows, rows):
                yield base + start, part, start, min(start + rows, part.rows)
            base += part.rows

    def dequantize(self) -> npt.NDArray[np.float32]:
        """The whole matrix in float32 [N, K]; for oracles and small models."""
        out = np.empty(self.shape, np.float32)
        for first, part, start, stop in self.row_blocks(1024):
            codes = part.unpack(start, stop).astype(np.float32)
            grouped = codes.reshape(stop - start, -1, part.group)
            value = grouped * part.scale[start:stop].astype(np.float32)[..., None]
            if part.minimum is not None:
                value = value + part.minimum[start:stop].astype(np.float32)[..., None]
            out[first : first + stop - start] = value.reshape(stop - start, -1)
        return out


@dataclass(frozen=True, eq=False)
class DenseWeight:
    """A float matrix [N, K] made of row blocks that stay where they are in the file (merged dense projections)."""

    parts: tuple[npt.NDArray[Any], ...]

    def __post_init__(self) -> None:
        if len({(p.shape[1], p.dtype) for p in self.parts}) != 1:
            raise GraphError("row blocks of different types or columns cannot form one weight")

    @property
    def shape(self) -> tuple[int, int]:
        return sum(int(p.shape[0]) for p in self.parts), int(self.parts[0].shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.parts[0].dtype

    def row_blocks(self, rows: int) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """(first row in the whole, block) in blocks of at most `rows` rows."""
        base = 0
        for part in self.parts:
            for start in range(0, part.shape[0], rows):
                yield base + start, part[start : start + rows]
            base += int(part.shape[0])

    def dequantize(self) -> npt.NDArray[np.float32]:
        """The whole matrix in float32 [N, K]; for oracles and small models."""
        return np.concatenate([p.astype(np.float32) for p in self.parts])
