"""Bring a model to the operator set that the written form needs, changing as little as possible."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import onnx
from onnx import AttributeProto, TensorProto, helper, version_converter

from tlite_vk.errors import ModelError

OPSET: Final = 23  # DequantizeLinear in blocks of 4 bits, with the type of its output
IR_VERSION: Final = 10  # 4-bit types
# Operators whose meaning, not only their types, changed with a signature that did not: (name, version of the change).
_CHANGED = {
    "Softmax": 13,
    "LogSoftmax": 13,
    "Hardmax": 13,
    "BatchNormalization": 14,
    "Split": 18,
    "AveragePool": 19,
    "Resize": 19,
    "GridSample": 20,
    "GroupNormalization": 21,
}


def raise_opset(proto: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """The model at OPSET or newer. Raises ModelError where a node cannot be brought there.

    Where every operator means the same in both sets, only the number changes; else onnx's own converter rewrites them.
    """
    entry = next((e for e in proto.opset_import if e.domain in ("", "ai.onnx")), None)
    if entry is None:
        raise ModelError(f"{path} names no version of the standard operators")
    proto.ir_version = max(proto.ir_version, IR_VERSION)
    if entry.version >= OPSET:
        return proto
    version = int(entry.version)
    changed = next((node for node in _nodes(proto.graph) if not _means_the_same(node, version)), None)
    if changed is None:
        entry.version = OPSET
        return proto
    try:
        return _converted(proto)
    except (RuntimeError, ValueError, version_converter.ConvertError) as error:
        name = changed.name or next((o for o in changed.output if o), "")
        raise ModelError(
            f"{path} cannot be brought from opset {version} to {OPSET} (at {changed.op_type} {name!r}); export it anew"
        ) from error


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that a node holds: branches, bodies of loops."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for inner in subgraphs(node):
            yield from _nodes(inner)


def _means_the_same(node: onnx.NodeProto, version: int) -> bool:
    if node.domain not in ("", "ai.onnx"):
        return True  # of a set with a version of its own
    if version < _CHANGED.get(node.op_type, 0):
        return False
    try:
        old = onnx.defs.get_schema(node.op_type, version, "")
        new = onnx.defs.get_schema(node.op_type, OPSET, "")
    except onnx.defs.SchemaError:
        return False
    return old.since_version == new.since_version or _extends(old, new, node)


def _extends(old: Any, new: Any, node: onnx.NodeProto) -> bool:
    """Whether the new form only adds types, inputs and attributes that need not be there."""
    names = [p.name for p in old.inputs]
    same_inputs = [p.name for p in new.inputs][: len(names)] == names
    optional = all(p.option == onnx.defs.OpSchema.FormalParameterOption.Optional for p in new.inputs[len(names) :])
    kept = all(a.name in new.attributes for a in node.attribute)
    return same_inputs and optional and kept and _same_defaults(old.attributes, new.attributes)


def _same_defaults(old: Any, new: Any) -> bool:
    """Whether attributes that a node leaves out mean the same, and new ones may be left out."""
    if any(a.required and name not in old for name, a in new.items()):
        return False
    shared = old.keys() & new.keys()
    return all(old[n].default_value.SerializeToString() == new[n].default_value.SerializeToString() for n in shared)


def _converted(proto: onnx.ModelProto) -> onnx.ModelProto:
    """By onnx's converter. Large tensors stand aside meanwhile, as inputs of the graph."""
    graph, inputs = proto.graph, [v.name for v in proto.graph.input]
    large = [t for t in graph.initializer if t.data_location == TensorProto.EXTERNAL or t.ByteSize() > 4096]
    skeleton = onnx.ModelProto()
    skeleton.CopyFrom(proto)
    names = {t.name for t in large}
    del skeleton.graph.initializer[:]
    skeleton.graph.initializer.extend(t for t in graph.initializer if t.name not in names)
    skeleton.graph.input.extend(
        helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in large if t.name not in inputs
    )
    converted = version_converter.convert_version(skeleton, OPSET)
    kept = [v for v in converted.graph.input if v.name in inputs]
    del converted.graph.input[:]
    converted.graph.input.extend(kept)
    converted.graph.initializer.extend(large)
    converted.ir_version = max(converted.ir_version, proto.ir_version)
    if not converted.metadata_props:
        converted.metadata_props.extend(proto.metadata_props)
    return converted
