"""The ONNX file to quantize: its graph, and its tensors as views of the file, checked before they are used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import AttributeProto, TensorProto, numpy_helper

from tlite_vk.errors import ModelError
from tlite_vk.graph.budget import take
from tlite_vk.graph.external import ExternalFiles, tensor_bytes
from tlite_vk.graph.local_functions import inline_functions
from tlite_vk.graph.onnx_text import check_text
from tlite_vk.graph.ops.dtypes import bits, from_onnx, numpy_dtype

from .opset import raise_opset, subgraphs

MAX_FILE = 2**31 - 1  # what protobuf can hold
MAX_ELEMENTS = 2**40


class Source:
    """A model whose weights stay in their files. `proto` may be edited; tensors are looked up by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.proto = raise_opset(inline_functions(_read(path), path), path)
        self._files = ExternalFiles(path)
        _hoist_constants(self.proto.graph)
        self.tensors: dict[str, TensorProto] = {t.name: t for t in self.proto.graph.initializer}

    def raw(self, tensor: TensorProto) -> npt.NDArray[np.uint8]:
        """The bytes of a tensor, flat. Raises ModelError or GraphError where they do not fit its type and shape."""
        name, dtype = tensor.name, from_onnx(tensor.data_type)
        count = 1
        for d in tensor.dims:
            count *= d
            if d < 0 or count > MAX_ELEMENTS:
                raise ModelError(f"{self.path}: tensor {name!r} claims the shape {list(tensor.dims)}")
        found = tensor_bytes(tensor, self._files)
        if found is None:
            found = np.frombuffer(_listed(tensor, self.path), np.uint8)
        need = -(-count * bits(dtype) // 8)
        if found.size != need:
            raise ModelError(f"{self.path}: tensor {name!r} has {found.size} bytes of data, its shape needs {need}")
        return found

    def array(self, name: str) -> npt.NDArray[Any]:
        """An initializer of a float type as an array of its shape; nothing is read yet. Errors as `raw`."""
        tensor = self.tensors[name]
        return self.raw(tensor).view(numpy_dtype(from_onnx(tensor.data_type))).reshape(tuple(tensor.dims))

    def files(self) -> set[Path]:
        """The model and the files of its tensors, resolved."""
        beside = {
            entry.value for t in _all_tensors(self.proto.graph) for entry in t.external_data if entry.key == "location"
        }
        return {self.path.resolve(), *((self.path.parent / name).resolve() for name in beside)}

    def embed_attributes(self) -> None:
        """Put external tensors within nodes into the model itself: the new data file holds initializers only."""
        weights = {id(t) for t in self.proto.graph.initializer}
        for tensor in _all_tensors(self.proto.graph):
            if id(tensor) not in weights and tensor.data_location == TensorProto.EXTERNAL:
                embed(tensor, self.raw(tensor).tobytes())


def embed(tensor: TensorProto, data: bytes) -> None:
    """Make `data` the content of a tensor, kept in the model."""
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    for field in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
        tensor.ClearField(field)
    tensor.raw_data = data


def _read(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise ModelError(f"no such file: {path}" if not path.exists() else f"{path} is not a file")
    if path.stat().st_size > MAX_FILE:
        raise ModelError(f"{path} is larger than a protobuf can be (2 GiB); save the model with external data")
    take(2 * path.stat().st_size, str(path))  # as it is, and parsed
    try:
        proto = onnx.load_model(path, load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise ModelError(f"{path} is not an ONNX file, or it is truncated") from error
    check_text(proto, path)
    if not proto.graph.node:
        raise ModelError(f"{path} is not an ONNX file (it holds no graph)")
    return proto


def _listed(tensor: TensorProto, path: Path) -> bytes:
    """The bytes of a tensor whose elements are in the protobuf's typed lists."""
    try:
        whole = numpy_helper.to_array(tensor)
        return numpy_helper.from_array(whole).raw_data
    except (ValueError, TypeError, RuntimeError) as error:
        raise ModelError(f"{path}: tensor {tensor.name!r} cannot be read ({error})") from error


def _hoist_constants(graph: onnx.GraphProto) -> None:
    """Make matrices that Constant nodes hold initializers: the same thing to every runtime."""
    nodes = [n for n in graph.node if not _is_matrix_constant(n)]
    for node in graph.node:
        if _is_matrix_constant(node):
            tensor = TensorProto()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
    if len(nodes) != len(graph.node):
        del graph.node[:]
        graph.node.extend(nodes)


def _is_matrix_constant(node: onnx.NodeProto) -> bool:
    if node.op_type != "Constant" or len(node.attribute) != 1 or node.attribute[0].name != "value":
        return False
    tensor = node.attribute[0].t
    return len(tensor.dims) == 2 and min(tensor.dims) > 1 and tensor.data_type in FLOAT_TYPES


FLOAT_TYPES = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}


def _all_tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors
        for inner in subgraphs(node):
            yield from _all_tensors(inner)
