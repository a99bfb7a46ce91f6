"""Build an ONNX model whose weights are streamed into one external data file.

The graph is built first, and only *reserves* room for each weight; `write_data` then fills the file piece by piece. No
weight is ever held in memory as a whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 24
IR_VERSION = 11  # has every type used here (4-bit ones since 10)
ALIGNMENT = 4096  # bytes; ONNX asks for page alignment so that a reader may memory-map each tensor

Attribute = int | float | str | Sequence[int]
Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Piece:
    """Consecutive bytes of one stored tensor: `data` goes `at` bytes after the tensor's first byte."""

    name: str
    at: int
    data: Array


class OnnxWriter:
    """Collects nodes, inputs, outputs and reserved weights of one graph of the default operator set.

    `taken`: names that shape constants must not use, where the nodes go into a graph that exists.
    """

    def __init__(self, data_name: str, taken: Collection[str] = ()) -> None:
        self._taken = taken
        self._data_name = data_name  # file name that the model refers to, relative to itself
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._offsets: dict[str, int] = {}
        self._fills: list[Callable[[], Iterator[Piece]]] = []
        self._constants: dict[tuple[int, ...], str] = {}
        self.data_bytes = 0  # size of the data file
        self.stored_bytes = 0  # the same without the gaps between tensors

    def input(self, name: str, dtype: int, dims: Sequence[int | str]) -> str:
        """Declare a graph input; a string dimension is symbolic."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, list(dims)))
        return name

    def output(self, name: str, dtype: int, dims: Sequence[int | str]) -> None:
        """Declare a graph output that some node produces under this name."""
        self._outputs.append(helper.make_tensor_value_info(name, dtype, list(dims)))

    def node(self, op: str, inputs: Sequence[str], output: str, **attributes: Attribute) -> str:
        """Append a node with one output; the node takes the output's name. Returns that name."""
        node = helper.make_node(op, list(inputs), [output], name=output)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self._nodes.append(node)
        return output

    def int64(self, values: Sequence[int]) -> str:
        """A small int64 vector kept inside the model; equal vectors share one initializer."""
        key = tuple(values)
        if key not in self._constants:
            name = "shape." + "x".join(str(v) for v in values)
            while name in self._taken:
                name += "_"
            self._constants[key] = name
            self._initializers.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return self._constants[key]

    def reserve(self, name: str, dtype: int, dims: Sequence[int], nbytes: int) -> str:
        """Reserve `nbytes` in the data file for an initializer; its pieces come from a function given to `fill`."""
        offset = -(-self.data_bytes // ALIGNMENT) * ALIGNMENT
        self.data_bytes = offset + nbytes
        self.stored_bytes += nbytes
        self._offsets[name] = offset
        tensor = TensorProto(name=name, data_type=dtype, dims=dims, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", self._data_name), ("offset", offset), ("length", nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        self._initializers.append(tensor)
        return name

    def fill(self, pieces: Callable[[], Iterator[Piece]]) -> None:
        """Register the producer of reserved tensors; it is called once, by `write_data`, in order of registration."""
        self._fills.append(pieces)

    def write_data(self, path: Path, progress: Callable[[int], None]) -> None:
        """Write the data file; `progress` is told the bytes written by each piece. Raises OSError (a full disk)."""
        with path.open("wb") as file:
            if hasattr(os, "posix_fallocate") and self.data_bytes:
                os.posix_fallocate(file.fileno(), 0, self.data_bytes)  # a full disk shows now, not after minutes
            for fill in self._fills:
                for piece in fill():
                    file.seek(self._offsets[piece.name] + piece.at)
                    file.write(np.ascontiguousarray(piece.data).data)
                    progress(piece.data.nbytes)
            file.flush()
            os.fsync(file.fileno())

    @property
    def parts(self) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        """The nodes and the initializers so far, for a graph that exists."""
        return self._nodes, self._initializers

    def model(self, graph_name: str, version: str, metadata: Mapping[str, str]) -> onnx.ModelProto:
        """The finished model, without its weights; `metadata` goes into metadata_props."""
        graph = helper.make_graph(self._nodes, graph_name, self._inputs, self._outputs, self._initializers)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="tlite-vk",
            producer_version=version,
        )
        helper.set_model_props(model, dict(metadata))
        return model
