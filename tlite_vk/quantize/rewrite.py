"""The new graph: each quantized initializer becomes the nodes that compute the same value, under the same name.

Nothing else changes: readers, inputs, outputs and metadata stay. All large tensors move to one new data file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from tlite_vk.convert.onnx_writer import OnnxWriter, Piece
from tlite_vk.convert.quantized_nodes import add_quantized
from tlite_vk.graph.ops.dtypes import FLOATS, ONNX_NUMBERS

from .choice import Choice, Format, Options
from .encode import Block, blocks, layout_of
from .report import ErrorSum, TensorReport
from .source import Source, embed
from .uses import Weight

INLINE_BYTES = 1024  # tensors up to this size stay within the model
INLINE_INTEGERS = 1 << 16  # shapes and the like: readers infer shapes from them, and may not look into other files
_CHUNK = 8 << 20  # bytes copied at a time
_TYPES = {name: number for number, name in ONNX_NUMBERS.items()}


class Rewrite:
    """Replaces weights of `source` and lays all large tensors out in the data file of `writer`.

    The reports are complete once the writer has written its data.
    """

    def __init__(self, source: Source, options: Options, data_name: str) -> None:
        self.source, self.options = source, options
        graph = source.proto.graph
        self._taken = {name for n in graph.node for name in (*n.input, *n.output, n.name)}
        self._taken |= {t.name for t in graph.initializer} | {v.name for v in (*graph.input, *graph.output)}
        self.writer = OnnxWriter(data_name, self._taken)
        self.replaced: dict[str, Weight] = {}
        self.errors: list[Callable[[], TensorReport]] = []

    def replace(self, weight: Weight, choice: Choice) -> None:
        """Store a weight in another format."""
        base = self._base(weight.label)
        if choice.format is Format.FP16:
            self._as_half(weight, choice, base)
        else:
            self._as_groups(weight, choice, base)
        self.replaced[weight.name] = weight

    def _base(self, label: str) -> str:
        """A prefix for the names of new values that collides with nothing."""
        while any(name.startswith(f"{label}.") for name in self._taken):
            label += "_q"
        return label

    def _as_groups(self, weight: Weight, choice: Choice, base: str) -> None:
        layout = layout_of(choice, weight.rows, weight.columns, self.options.symmetric)
        kind = _result_type(weight)
        direct = weight.axis == 1 and kind == "float32"
        value = add_quantized(self.writer, base, layout, weight.label if direct else f"{base}.rows")
        if kind != "float32":
            last = weight.label if weight.axis == 1 else f"{base}.narrow"
            value = self.writer.node("Cast", [value], last, to=_TYPES[kind])
        if weight.axis == 0:
            self.writer.node("Transpose", [value], weight.label, perm=[1, 0])
        groups = layout.groups
        row_bytes = {"levels": layout.level_row, "scale": layout.scale_row, "min": layout.scale_row}

        def at(part: str, first: int) -> int:
            return first * groups // 2 if part == "zero" else first * row_bytes[part]

        self._fill(weight, choice, base, at, layout.nbytes)

    def _as_half(self, weight: Weight, choice: Choice, base: str) -> None:
        """The weight as [N, K] like the others, in halves."""
        size = 2 * weight.rows * weight.columns
        stored = self.writer.reserve(f"{base}.stored", TensorProto.FLOAT16, (weight.rows, weight.columns), size)
        if weight.axis == 0:
            stored = self.writer.node("Transpose", [stored], f"{base}.transposed", perm=[1, 0])
        self.writer.node("Cast", [stored], weight.label, to=_TYPES[_result_type(weight)])
        self._fill(weight, choice, base, lambda part, first: 2 * first * weight.columns, size)

    def _fill(self, weight: Weight, choice: Choice, base: str, at: Callable[[str, int], int], size: int) -> None:
        errors = ErrorSum()

        def pieces() -> Iterator[Piece]:
            stored = self.source.array(weight.name)
            matrix = stored if weight.axis == 1 else stored.T
            block: Block
            for block in blocks(weight.label, matrix, choice, self.options):
                errors.add(block.weights, block.values)
                for part, data in block.parts.items():
                    yield Piece(f"{base}.{part}", at(part, block.first), data)

        self.writer.fill(pieces)
        self.errors.append(partial(self._report, weight, choice, errors, size))

    def _report(self, weight: Weight, choice: Choice, errors: ErrorSum, size: int) -> TensorReport:
        symmetric = " symmetric" if choice.format is Format.E0M4 and self.options.symmetric else ""
        return TensorReport(
            name=weight.label,
            readers=tuple(weight.readers),
            role=weight.role.value,
            shape=(weight.rows, weight.columns),
            format=choice.format.value + symmetric,
            group=choice.group,
            squared_error=errors.squared_error,
            squared_weights=errors.squared_weights,
            max_error=errors.max_error,
            bytes_before=self.source.raw(self.source.tensors[weight.name]).size,
            bytes_after=size,
        )

    def finish(self) -> onnx.ModelProto:
        """The model without its data. Call it once, before the writer writes."""
        proto, graph = self.source.proto, self.source.proto.graph
        self.source.embed_attributes()
        kept = [self._stored(t) for t in graph.initializer if t.name not in self.replaced]
        casts = {id(c) for w in self.replaced.values() for c in w.casts}
        renamed = {c.output[0]: w.label for w in self.replaced.values() for c in w.casts}
        nodes = [n for n in graph.node if id(n) not in casts]
        for node in nodes:
            for index, name in enumerate(node.input):
                node.input[index] = renamed.get(name, name)
        added, initializers = self.writer.parts
        inputs = [v for v in graph.input if v.name not in self.replaced]
        _set(graph.node, [*added, *nodes])
        _set(graph.initializer, [*kept, *(t for t in initializers if t.name not in {k.name for k in kept})])
        _set(graph.input, inputs)
        _set(graph.value_info, [v for v in graph.value_info if v.name not in self.replaced])
        return proto

    def _stored(self, tensor: TensorProto) -> TensorProto:
        """An initializer that stays: in the model if it is small, else in the new data file."""
        if tensor.data_type == TensorProto.STRING:
            return tensor
        raw = self.source.raw(tensor)
        is_float = ONNX_NUMBERS[tensor.data_type] in FLOATS
        if raw.size <= (INLINE_BYTES if is_float else INLINE_INTEGERS):
            if tensor.data_location == TensorProto.EXTERNAL:
                embed(tensor, raw.tobytes())
            return tensor
        name = self.writer.reserve(tensor.name, tensor.data_type, tuple(tensor.dims), raw.size)
        self.writer.fill(lambda: _copied(name, raw))
        return self.writer.parts[1][-1]


def _copied(name: str, raw: npt.NDArray[np.uint8]) -> Iterator[Piece]:
    for at in range(0, raw.size, _CHUNK):
        yield Piece(name, at, raw[at : at + _CHUNK])


def _result_type(weight: Weight) -> str:
    """The element type that the readers of a weight expect."""
    return "float32" if weight.casts else weight.dtype


def _set(field: Any, items: list[Any]) -> None:
    copies = []
    for item in items:
        copy = type(item)()
        copy.CopyFrom(item)
        copies.append(copy)
    del field[:]
    field.extend(copies)
