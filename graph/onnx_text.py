"""Texts of an ONNX file: protobuf hands out those that are not UTF-8 as bytes, which nothing after it expects."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from .errors import GraphError

MAX_KIND = 128  # characters of an operator's name
MAX_DEPTH = 32  # graphs within graphs


def check_text(proto: onnx.ModelProto, path: object) -> None:
    """Raise GraphError where a name, an operator or a path in the model is not UTF-8, or graphs are nested too deep."""
    try:
        _all_text(entry.domain for entry in proto.opset_import)
        _all_text(text for entry in proto.metadata_props for text in (entry.key, entry.value))
        _graph(proto.graph, 0)
        for function in proto.functions:
            _all_text((function.name, function.domain, function.overload, *function.input, *function.output))
            _all_text((*function.attribute, *(entry.domain for entry in function.opset_import)))
            _all_text(attribute.name for attribute in function.attribute_proto)
            for node in function.node:
                _node(node, 0)
    except _NotTextError as error:
        raise GraphError(f"{path} is damaged: {error.args[0]!r} is not UTF-8") from None


class _NotTextError(Exception):
    pass


def _all_text(texts: Iterable[object]) -> None:
    for text in texts:
        if not isinstance(text, str):
            raise _NotTextError(text[:50] if isinstance(text, bytes) else text)


def _graph(graph: onnx.GraphProto, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise GraphError(f"graphs are nested more than {MAX_DEPTH} deep")
    _all_text([graph.name])
    for tensor in graph.initializer:
        _tensor(tensor)
    for sparse in graph.sparse_initializer:
        _tensor(sparse.values)
    for info in (*graph.input, *graph.output, *graph.value_info):
        _all_text([info.name])
        _all_text(d.dim_param for d in info.type.tensor_type.shape.dim)
    for node in graph.node:
        _node(node, depth)


def _node(node: onnx.NodeProto, depth: int) -> None:
    _all_text((node.name, node.op_type, node.domain, node.overload))
    for kind in (node.op_type, node.domain):
        if not kind.isprintable() or len(kind) > MAX_KIND:
            raise GraphError(f"a node has the operator {kind[:50]!r} of the domain {node.domain[:50]!r}")
    _all_text(node.input)
    _all_text(node.output)
    for attribute in node.attribute:
        _all_text((attribute.name, attribute.ref_attr_name))
        if attribute.HasField("t"):
            _tensor(attribute.t)
        for tensor in attribute.tensors:
            _tensor(tensor)
        for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
            _graph(inner, depth + 1)


def _tensor(tensor: onnx.TensorProto) -> None:
    _all_text([tensor.name])
    _all_text(text for entry in tensor.external_data for text in (entry.key, entry.value))
