"""Put GGUF tensors into an ONNX graph: initializers in their stored precision, and the nodes that dequantize them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from tlite_vk.convert.gguf_reader import GgufFile, Tensor
from tlite_vk.convert.onnx_writer import OnnxWriter, Piece
from tlite_vk.convert.quantized_nodes import Level, QuantizedLayout, add_quantized
from tlite_vk.convert.weight_forms import DENSE_FORMS, QUANT_FORMS, QuantForm, pack_nibbles
from tlite_vk.errors import ModelError

CHUNK_BYTES: Final = 4 << 20  # raw bytes converted at a time; temporaries take about ten times as much

_DENSE_TYPES = {"F32": TensorProto.FLOAT, "F16": TensorProto.FLOAT16, "BF16": TensorProto.BFLOAT16}

RowOrder = npt.NDArray[np.int64]
"""A permutation of a short run of rows, repeated over the whole matrix: new row i of a run is old row order[i]."""


class Weights:
    """Adds the tensors of one GGUF file to one ONNX graph, and remembers which were used.

    halves: matrices of 4 to 8 bits are written in fp16, rounded, instead of in their own codes.
    """

    def __init__(self, source: GgufFile, writer: OnnxWriter, *, halves: bool = False) -> None:
        self._source = source
        self._writer = writer
        self._as_halves = halves
        self.used: set[str] = set()

    def matrix(self, name: str, shape: tuple[int, int], order: RowOrder | None = None) -> str:
        """Add the [N, K] matrix `name`; returns the fp32 value [N, K] in the graph.

        `order` permutes each run of len(order) rows. Raises ModelError if the tensor is missing, has another shape, or
        a type that cannot be written exactly.
        """
        tensor = self._take(name, shape)
        form = QUANT_FORMS.get(tensor.type.name)
        if form is None:
            return self._dense(tensor, order)
        return self._halves(tensor, form, order) if self._as_halves else self._quantized(tensor, form, order)

    def vector(self, name: str, size: int, order: RowOrder | None = None) -> str:
        """Add the vector `name` [size]; returns its fp32 value. Raises as `matrix`."""
        tensor = self._take(name, (size,))
        if tensor.type.name not in DENSE_FORMS:
            raise self._unsupported(tensor)
        return self._dense(tensor, order)

    def has(self, name: str) -> bool:
        """Whether the file holds the tensor `name`."""
        return name in self._source.tensors

    def _take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        tensor = self._source.tensors.get(name)
        if tensor is None:
            raise ModelError(f"{self._source.path}: the tensor {name!r} is missing")
        if tensor.shape != shape:
            raise ModelError(f"{self._source.path}: tensor {name!r} has shape {tensor.shape}, its metadata say {shape}")
        self.used.add(name)
        return tensor

    def _unsupported(self, tensor: Tensor) -> ModelError:
        known = ", ".join([*DENSE_FORMS, *QUANT_FORMS] if len(tensor.shape) > 1 else DENSE_FORMS)
        what = f"tensor {tensor.name!r} has the unsupported type {tensor.type.name}"
        return ModelError(f"{self._source.path}: {what}; supported: {known}")

    # -- dense ------------------------------------------------------------------------------------------------------

    def _dense(self, tensor: Tensor, order: RowOrder | None) -> str:
        if tensor.type.name not in DENSE_FORMS:
            raise self._unsupported(tensor)
        writer, is_float = self._writer, tensor.type.name == "F32"
        stored = tensor.name if is_float else tensor.name + ".stored"
        writer.reserve(stored, _DENSE_TYPES[tensor.type.name], tensor.shape, tensor.nbytes)
        writer.fill(lambda: self._dense_pieces(tensor, stored, order))
        return stored if is_float else writer.node("Cast", [stored], tensor.name, to=TensorProto.FLOAT)

    def _dense_pieces(self, tensor: Tensor, stored: str, order: RowOrder | None) -> Iterator[Piece]:
        if len(tensor.shape) == 1:
            data = self._source.read_rows(tensor, 0, 1)
            if order is not None:
                runs = data.reshape(-1, len(order), tensor.type.block_bytes)
                data = runs[:, order]
            yield Piece(stored, 0, data)
            return
        for first, rows in self._row_chunks(tensor, order):
            yield Piece(stored, first * tensor.row_bytes, rows)

    # -- quantized --------------------------------------------------------------------------------------------------

    def _quantized(self, tensor: Tensor, form: QuantForm, order: RowOrder | None) -> str:
        n, k = tensor.shape
        layout = QuantizedLayout(form.level, n, k, form.group, form.half, form.affine)
        value = add_quantized(self._writer, tensor.name, layout)
        self._writer.fill(lambda: self._quantized_pieces(tensor, form, layout, order))
        return value

    def _quantized_pieces(
        self, tensor: Tensor, form: QuantForm, layout: QuantizedLayout, order: RowOrder | None
    ) -> Iterator[Piece]:
        for first, rows in self._row_chunks(tensor, order):
            levels, scale, minimum = form.split(rows.reshape(-1, tensor.type.block_bytes))
            packed = levels if form.level is Level.INT8 else pack_nibbles(levels)
            yield Piece(tensor.name + ".levels", first * layout.level_row, packed)
            yield Piece(tensor.name + ".scale", first * layout.scale_row, scale)
            if minimum is not None:
                yield Piece(tensor.name + ".min", first * layout.scale_row, minimum)

    def _halves(self, tensor: Tensor, form: QuantForm, order: RowOrder | None) -> str:
        """The matrix in fp16: each weight is the file's, rounded."""
        n, k = tensor.shape
        stored = self._writer.reserve(f"{tensor.name}.stored", TensorProto.FLOAT16, (n, k), 2 * n * k)

        def pieces() -> Iterator[Piece]:
            for first, rows in self._row_chunks(tensor, order):
                values = form.values(rows.reshape(-1, tensor.type.block_bytes))
                yield Piece(stored, 2 * k * first, values.astype(np.float16))

        self._writer.fill(pieces)
        return self._writer.node("Cast", [stored], tensor.name, to=TensorProto.FLOAT)

    def _row_chunks(self, tensor: Tensor, order: RowOrder | None) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        """(first row, raw bytes [rows, row_bytes]) a few MiB at a time, each a whole number of permuted runs."""
        run = 1 if order is None else len(order)
        step = max(1, CHUNK_BYTES // (tensor.row_bytes * run)) * run
        for first in range(0, tensor.rows, step):
            rows = self._source.read_rows(tensor, first, min(step, tensor.rows - first))
            if order is not None:
                rows = rows.reshape(-1, run, tensor.row_bytes)[:, order].reshape(rows.shape)
            yield first, rows
