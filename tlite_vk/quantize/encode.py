"""Blocks of rows in each format: the bytes to store, and the values that they stand for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tlite_vk.convert.quantized_nodes import Level, QuantizedLayout
from tlite_vk.convert.weight_forms import pack_nibbles
from tlite_vk.errors import ModelError
from tlite_vk.graph.budget import check

from . import fit
from .choice import Choice, Format, Method, Options

BLOCK: Final = 1 << 20  # weights at a time; temporaries take some 40 bytes each

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Block:
    """Rows [first, first + n) of a weight: stored parts by name, and the float32 values [n, K] they stand for."""

    first: int
    parts: dict[str, Array]
    weights: npt.NDArray[np.float32]
    values: npt.NDArray[np.float32]


def layout_of(choice: Choice, rows: int, columns: int, symmetric: bool) -> QuantizedLayout:
    """How a quantized format lies in the file; not for fp16."""
    level = {Format.INT8: Level.INT8, Format.INT4: Level.UINT4}.get(choice.format)
    affine = choice.format is Format.E0M4 and not symmetric
    if level is None:
        level = Level.UINT4 if affine else Level.INT4
    zero = choice.format is Format.INT4
    return QuantizedLayout(level, rows, columns, choice.group, half=True, affine=affine, zero=zero)


def blocks(name: str, matrix: Array, choice: Choice, options: Options) -> Iterator[Block]:
    """A weight [N, K] in its format, some rows at a time; an even number of rows, but for the last block.

    Raises ModelError for weights that are not finite, or too large for fp16 steps.
    """
    step = max(2, BLOCK // matrix.shape[1] // 2 * 2)
    check(40 * step * matrix.shape[1], f"the weight {name!r}")
    for first in range(0, matrix.shape[0], step):
        rows = np.ascontiguousarray(matrix[first : first + step]).astype(np.float32)
        largest = float(np.abs(rows).max(initial=0.0))
        if not largest <= float(np.finfo(np.float16).max):
            what = "beyond the range of fp16" if np.isfinite(largest) else "not finite"
            raise ModelError(f"the weight {name!r} holds values that are {what}; leave it out with --keep {name!r}")
        yield _half(first, rows) if choice.format is Format.FP16 else _grouped(first, rows, choice, options)


def _half(first: int, rows: npt.NDArray[np.float32]) -> Block:
    stored = rows.astype(np.float16)
    return Block(first, {"stored": stored}, rows, stored.astype(np.float32))


def _grouped(first: int, rows: npt.NDArray[np.float32], choice: Choice, options: Options) -> Block:
    found = _fit(rows.reshape(-1, choice.group), choice.format, options)
    codes = found.codes.reshape(rows.shape)
    parts: dict[str, Array] = {"levels": codes if choice.format is Format.INT8 else pack_nibbles(codes)}
    parts["scale"] = found.step
    if found.minimum is not None:
        parts["min"] = found.minimum
    if found.zero is not None:
        parts["zero"] = pack_nibbles(np.append(found.zero, np.zeros(len(found.zero) % 2, np.int8)))
    return Block(first, parts, rows, found.values().reshape(rows.shape))


def _fit(groups: npt.NDArray[np.float32], kind: Format, options: Options) -> fit.Fit:
    best = options.method == Method.LEAST_SQUARES
    if kind is Format.INT8:
        return fit.symmetric(groups, 8, least_squares=best)
    if kind is Format.INT4:
        return fit.zero_point(groups, least_squares=best)
    if options.symmetric:
        return fit.symmetric(groups, 4, least_squares=best)
    return fit.affine(groups, least_squares=best, hold_zero=options.hold_zero)
