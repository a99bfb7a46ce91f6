"""ONNX files to graphs. The only module that imports onnx.

External data is memory-mapped once per file and never read here; 4-bit tensors stay packed. Everything a file claims
(sizes, offsets, names, types) is checked before it is used, and a refusal is one line that names the culprit.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.inliner
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from . import ops  # noqa: F401  (registers the operators)
from .budget import take
from .contrib import refuse_shared_buffers
from .dimtext import parse_dim
from .errors import GraphError
from .external import ExternalFiles, tensor_bytes
from .ir import Graph, Node, Value, toposort
from .local_functions import INLINER_ERRORS, inline_functions
from .onnx_text import check_text
from .ops.dtypes import bits, from_onnx, numpy_dtype
from .ops.registry import find_operator
from .shape import MAX_DIM, MAX_RANK, Dim, Shape, symbol
from .upgrade import upgrade

MAX_FILE = 2**31 - 1  # what protobuf can hold
MAX_OPERANDS = 2048  # inputs and outputs of a node
MAX_EXPANSIONS = 4  # definitions made of operators that are themselves defined by others
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
# Inputs that may be empty along one axis, by structure: (operator, input index) -> axis; a past of no tokens.
_PAST_INPUTS = {
    **{("Attention", i): 2 for i in (4, 5)},
    **{("GroupQueryAttention", i): 2 for i in (3, 4)},
    **{("MultiHeadAttention", i): 2 for i in (6, 7)},
}


def load_model(path: str | Path) -> Graph:
    """The graph of an ONNX file: unshaped (run `infer`), nodes in topological order, operators in their newest form.

    Raises GraphError: no such file, not ONNX, truncated, external data outside the folder, a missing tensor, a cycle.
    """
    path = Path(path)
    return from_proto(_read(path), path)


def model_facts(path: str | Path) -> tuple[dict[str, str], list[str]]:
    """(the file's own notes about the model, the files beside it that hold its tensors). Raises GraphError."""
    proto = _read(Path(path))
    graphs, names = [proto.graph], set[str]()
    while graphs:
        graph = graphs.pop()
        attributes = [a for node in graph.node for a in node.attribute]
        graphs += [g for a in attributes for g in (*a.graphs, *([a.g] if a.HasField("g") else []))]
        tensors = [*graph.initializer, *(t for a in attributes for t in (*a.tensors, a.t))]
        names |= {e.value for t in tensors for e in t.external_data if e.key == "location"}
    return {entry.key: entry.value for entry in proto.metadata_props}, sorted(names)


def from_proto(proto: onnx.ModelProto, path: str | Path = "model.onnx") -> Graph:
    """The graph of a model in memory; `path` is where it would lie, for its external data and for messages."""
    path = Path(path)
    check_text(proto, path)
    if not proto.graph.node and not proto.graph.output:
        raise GraphError(f"{path} is not an ONNX file (it holds no graph)")
    newest = onnx.defs.onnx_opset_version()
    for entry in proto.opset_import:
        if entry.domain in ("", "ai.onnx") and entry.version > newest:
            raise GraphError(f"{path} uses opset {entry.version}; up to {newest} is supported")
    return _Loader(_expand(inline_functions(proto, path)), ExternalFiles(path)).graph()


def _read(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise GraphError(f"no such file: {path}" if not path.exists() else f"{path} is not a file")
    if path.stat().st_size > MAX_FILE:
        raise GraphError(f"{path} is larger than a protobuf can be (2 GiB); save the model with external data")
    take(2 * path.stat().st_size, str(path))  # as it is, and parsed
    try:
        proto = onnx.load_model(path, load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise GraphError(f"{path} is not an ONNX file, or it is truncated") from error
    except OSError as error:
        raise GraphError(f"{path} cannot be read: {error.strerror}") from error
    return proto


def _expand(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with operators that we do not define replaced by the standard's own definition, where it has one."""
    versions = {("" if e.domain == "ai.onnx" else e.domain): int(e.version) for e in proto.opset_import}
    for _ in range(MAX_EXPANSIONS):
        wanted = {_kind(node) for node in proto.graph.node if _is_defined_by_others(node, versions)}
        if not wanted:
            break
        for node in proto.graph.node:
            if _kind(node) in wanted:
                _write_defaults(node, versions)
        try:
            proto = onnx.inliner.inline_selected_functions(proto, sorted(wanted), inline_schema_functions=True)
        except INLINER_ERRORS:
            break  # the operator is refused by name later
    return proto


def _kind(node: onnx.NodeProto) -> tuple[str, str]:
    return ("" if node.domain == "ai.onnx" else node.domain, node.op_type)


def _schema(node: onnx.NodeProto, versions: dict[str, int]) -> Any:
    domain, op = _kind(node)
    try:
        return onnx.defs.get_schema(op, versions.get(domain, 1), domain)
    except onnx.defs.SchemaError:
        return None


def _is_defined_by_others(node: onnx.NodeProto, versions: dict[str, int]) -> bool:
    domain, op = _kind(node)
    schema = _schema(node, versions) if find_operator(op, domain) is None else None
    return schema is not None and (schema.has_function or schema.has_context_dependent_function)


def _write_defaults(node: onnx.NodeProto, versions: dict[str, int]) -> None:
    """Write out the attributes left to their defaults: inlining would lose those."""
    given = {a.name for a in node.attribute}
    for name, attribute in _schema(node, versions).attributes.items():
        if name not in given and attribute.default_value.name:
            node.attribute.append(attribute.default_value)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


class _Loader:
    def __init__(self, proto: onnx.ModelProto, files: ExternalFiles):
        self.proto = proto
        self.files = files
        self.values: dict[str, Value] = {}
        self.zero_names = self.empty_symbols()
        self.opset = {("" if e.domain == "ai.onnx" else e.domain): int(e.version) for e in proto.opset_import} or {
            "": 1
        }

    def graph(self) -> Graph:
        source = self.proto.graph
        if source.sparse_initializer:
            raise GraphError(f"sparse initializer {source.sparse_initializer[0].values.name!r} is not supported")
        for tensor in source.initializer:
            self.define(Value(tensor.name, *self.tensor(tensor)))
        inputs = [self.graph_input(info) for info in source.input if info.name not in self.values]
        for value in inputs:
            self.define(value)
        nodes = [self.node(i, n) for i, n in enumerate(source.node)]
        for node, proto in zip(nodes, source.node, strict=True):
            node.inputs = [self.find(name, f"{node}") if name else None for name in proto.input]
        outputs = [self.find(info.name, "the graph's outputs") for info in source.output]
        declared = {info.name: self.declared_shape(info) for info in source.output}
        for node in nodes:
            refuse_shared_buffers(node, declared)
        nodes = [n for n in nodes if not _took_constant(n)]
        graph = Graph(
            source.name,
            inputs,
            toposort(nodes, inputs),
            outputs,
            self.opset,
            {p.key: p.value for p in self.proto.metadata_props},
        )
        graph = upgrade(graph)
        graph.verify()
        return graph

    def define(self, value: Value, who: str = "") -> None:
        if value.name in self.values:
            raise GraphError(f"{who}{value.name!r} is defined twice")
        self.values[value.name] = value

    def find(self, name: str, reader: str) -> Value:
        if name not in self.values:
            raise GraphError(f"{reader}: {name!r} is neither an input, an initializer nor the output of a node")
        return self.values[name]

    # --- tensors -------------------------------------------------------------------------------------------------

    def tensor(self, proto: onnx.TensorProto) -> tuple[str, Shape, npt.NDArray[Any]]:
        """(dtype, shape, elements) of a TensorProto; 4-bit elements packed and flat, external ones mapped."""
        name = proto.name or "constant"
        try:
            dtype = from_onnx(proto.data_type)
        except GraphError as error:
            raise GraphError(f"tensor {name!r}: {error}") from None
        if len(proto.dims) > MAX_RANK:
            raise GraphError(f"tensor {name!r} has {len(proto.dims)} axes; up to {MAX_RANK} are supported")
        shape = tuple(int(d) for d in proto.dims)
        count = 1
        for d in shape:
            count *= d
            if not 0 <= d <= MAX_DIM or count > MAX_DIM:
                raise GraphError(f"tensor {name!r} claims the shape {list(shape)}")
        if dtype == "string":
            if len(proto.string_data) != count:
                raise GraphError(f"tensor {name!r} has {len(proto.string_data)} strings, {list(shape)} needs {count}")
            return dtype, shape, np.array([s.decode("utf-8", "replace") for s in proto.string_data], object).reshape(-1)
        raw = tensor_bytes(proto, self.files)
        size = -(-count * bits(dtype) // 8)
        if raw is None:
            return dtype, shape, self._listed(proto, name, dtype, count, shape)
        if raw.size != size:
            raise GraphError(f"tensor {name!r} has {raw.size} bytes of data, {dtype}{list(shape)} needs {size}")
        if dtype in ("uint4", "int4"):
            return dtype, shape, raw
        return dtype, shape, raw.view(numpy_dtype(dtype)).reshape(shape)

    def _listed(self, proto: onnx.TensorProto, name: str, dtype: str, count: int, shape: Shape) -> npt.NDArray[Any]:
        """Elements kept in the protobuf's typed lists."""
        try:
            array = np.asarray(onnx.numpy_helper.to_array(proto))
        except (ValueError, TypeError, RuntimeError) as error:
            raise GraphError(f"tensor {name!r} cannot be read ({_one_line(error)})") from error
        if array.size != count:
            raise GraphError(f"tensor {name!r} has {array.size} elements, {dtype}{list(shape)} needs {count}")
        if dtype in ("uint4", "int4"):
            codes = np.append(array.reshape(-1).astype(np.int8).view(np.uint8) & 15, np.zeros(count % 2, np.uint8))
            return np.asarray(codes[0::2] | codes[1::2] << 4, np.uint8)
        return np.asarray(array, numpy_dtype(dtype))

    # --- inputs --------------------------------------------------------------------------------------------------

    def empty_dimensions(self) -> set[tuple[str, int]]:
        """(input, axis) pairs that may be 0: a past that a node of the graph extends."""
        result: set[tuple[str, int]] = set()
        for node in self.proto.graph.node:
            for i, name in enumerate(node.input):
                if node.op_type == "Concat" and i == 0:  # one input alone: an exporter leaves that behind
                    result.add((name, next((int(a.i) for a in node.attribute if a.name == "axis"), 0)))
                elif (node.op_type, i) in _PAST_INPUTS:
                    result.add((name, _PAST_INPUTS[node.op_type, i]))
        return result

    def graph_input(self, info: onnx.ValueInfoProto) -> Value:
        if not info.type.HasField("tensor_type"):
            raise GraphError(f"graph input {info.name!r} is not a tensor")
        declared = info.type.tensor_type
        if not declared.HasField("shape"):
            raise GraphError(f"graph input {info.name!r} has no shape")
        if len(declared.shape.dim) > MAX_RANK:
            raise GraphError(
                f"graph input {info.name!r} has {len(declared.shape.dim)} axes; up to {MAX_RANK} are supported"
            )
        try:
            dtype = from_onnx(declared.elem_type)
        except GraphError as error:
            raise GraphError(f"graph input {info.name!r}: {error}") from None
        return Value(info.name, dtype, self.declared_shape(info))

    def declared_shape(self, info: onnx.ValueInfoProto) -> Shape:
        return tuple(self.dim(info.name, i, d) for i, d in enumerate(info.type.tensor_type.shape.dim))

    def empty_symbols(self) -> set[str]:
        """Names of dimensions that may be 0."""
        may_be_empty = self.empty_dimensions()
        names: set[str] = set()
        for info in self.proto.graph.input:
            dims = info.type.tensor_type.shape.dim
            for i, d in enumerate(dims):
                here = {(info.name, i), (info.name, i - len(dims))}
                if d.dim_param and here & may_be_empty and _NAME.fullmatch(d.dim_param):
                    names.add(d.dim_param)
        return names

    def dim(self, name: str, axis: int, proto: onnx.TensorShapeProto.Dimension) -> Dim:
        if proto.HasField("dim_value") and proto.dim_value >= 0:
            if proto.dim_value > MAX_DIM:
                raise GraphError(f"graph input {name!r} claims the extent {proto.dim_value}")
            return int(proto.dim_value)
        if proto.dim_param:
            return parse_dim(proto.dim_param, lambda text: symbol(text, 0 if text in self.zero_names else 1))
        return symbol(f"{name}.{axis}")  # unnamed: a symbol of its own

    # --- nodes ---------------------------------------------------------------------------------------------------

    def node(self, index: int, proto: onnx.NodeProto) -> Node:
        name = proto.name or next((o for o in proto.output if o), f"{proto.op_type}_{index}")
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        node = Node(proto.op_type, [], [], {}, name, domain)
        if len(proto.input) + len(proto.output) > MAX_OPERANDS:
            raise GraphError(f"{node} has more than {MAX_OPERANDS} inputs and outputs")
        self.check_types(node, proto)
        node.attributes = {a.name: self.attribute(node, a) for a in proto.attribute}
        for i, output in enumerate(proto.output):
            value = Value(output or f"{name}:{i}")
            self.define(value, f"{node}: ")
            node.outputs.append(value)
        if not node.outputs:
            raise GraphError(f"{node} has no outputs")
        return node

    def check_types(self, node: Node, proto: onnx.NodeProto) -> None:
        """Raise GraphError for an attribute of another type than the standard says, where it has the operator."""
        schema = _schema(proto, self.opset)
        for given in proto.attribute if schema is not None else ():
            known = schema.attributes.get(given.name)
            if known is not None and int(known.type) != given.type:
                kinds = onnx.AttributeProto.AttributeType
                wanted, found = (kinds.Name(int(kind)).lower() for kind in (known.type, given.type))
                raise GraphError(f"{node}: its attribute {given.name!r} must be of type {wanted}, not {found}")

    def attribute(self, node: Node, proto: onnx.AttributeProto) -> Any:
        kinds = onnx.AttributeProto
        if proto.type == kinds.INT:
            return int(proto.i)
        if proto.type == kinds.FLOAT:
            return float(proto.f)
        if proto.type == kinds.STRING:
            return proto.s.decode("utf-8", "replace")
        if proto.type == kinds.INTS:
            return [int(i) for i in proto.ints]
        if proto.type == kinds.FLOATS:
            return [float(f) for f in proto.floats]
        if proto.type == kinds.STRINGS:
            return [s.decode("utf-8", "replace") for s in proto.strings]
        if proto.type == kinds.TENSOR:
            return self.tensor(proto.t)[2]
        raise GraphError(
            f"operator {node.op} with a subgraph or another rare attribute ({proto.name!r}) is not supported "
            f"(node {node.name!r})"
        )


def _took_constant(node: Node) -> bool:
    """Turn the output of a Constant node into a constant."""
    if node.op != "Constant" or node.domain:
        return False
    _fill_constant(node)
    return True


def _fill_constant(node: Node) -> None:
    kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    (key, value), *others = node.attributes.items() or [("", None)]
    if others or key not in {"value", *kinds}:
        raise GraphError(f"{node}: a constant given as {key!r} is not supported")
    array = np.asarray(value) if key == "value" else np.asarray(value, kinds[key])
    out = node.output
    out.dtype, out.shape, out.constant = str(array.dtype), tuple(int(d) for d in array.shape), array
