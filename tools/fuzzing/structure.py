"""Inputs that are well formed on the outside: hypothesis draws them, from random bytes when a fuzzer drives it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from tlite_vk.graph import shape
from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.infer import infer
from tlite_vk.graph.onnx_load import from_proto
from tlite_vk.graph.pipeline import optimize
from tlite_vk.graph.shape import Dim

NUMBERS = st.one_of(st.integers(-4, 8), st.sampled_from([-(2**63), -(2**31), 64, 2**31, 2**40, 2**62, 2**63 - 1]))
FLOATS = st.one_of(st.sampled_from([0.0, 1.0, -1.0, 1e-38, 1e38, float("inf"), float("nan")]), st.floats(width=32))
DIMS = st.one_of(
    st.integers(0, 5), st.sampled_from(["a", "b", "a+1", "2*b", "a//2", "Max(a,b)"]), NUMBERS.filter(lambda n: n >= 0)
)
TYPES = [
    TensorProto.FLOAT,
    TensorProto.INT64,
    TensorProto.INT32,
    TensorProto.BOOL,
    TensorProto.FLOAT16,
    TensorProto.UINT8,
]
SCHEMAS = sorted(
    {(s.domain, s.name) for s in onnx.defs.get_all_schemas() if s.domain in ("", "com.microsoft")}
    | {
        ("com.microsoft", n)
        for n in ("GroupQueryAttention", "RotaryEmbedding", "MatMulNBits", "SkipLayerNormalization")
    }
)
VALUES = ("x", "y", "c0", "c1", "c2", "n0", "n1", "n2", "")


def _attribute(draw: st.DrawFn, name: str, kind: int) -> onnx.AttributeProto | None:
    kinds = AttributeProto
    if kind == kinds.INT:
        return helper.make_attribute(name, draw(NUMBERS))
    if kind == kinds.INTS:
        return helper.make_attribute(name, draw(st.lists(NUMBERS, max_size=6)), attr_type=kinds.INTS)
    if kind == kinds.FLOAT:
        return helper.make_attribute(name, draw(FLOATS))
    if kind == kinds.FLOATS:
        return helper.make_attribute(name, draw(st.lists(FLOATS, max_size=4)), attr_type=kinds.FLOATS)
    if kind == kinds.STRING:
        return helper.make_attribute(name, draw(st.sampled_from(["", "linear", "constant", "ij,jk->ik", "SAME_UPPER"])))
    if kind == kinds.TENSOR:
        return helper.make_attribute(name, draw(tensors("")))
    return None


@st.composite
def tensors(draw: st.DrawFn, name: str) -> onnx.TensorProto:
    """A constant; sometimes its shape and its data do not fit."""
    kind = draw(st.sampled_from(["ints", "floats", "wrong"]))
    if kind == "ints":
        values: Any = np.array(draw(st.lists(NUMBERS, max_size=5)), np.int64)
        return numpy_helper.from_array(values[0] if len(values) == 1 and draw(st.booleans()) else values, name)
    if kind == "floats":
        dims = draw(st.lists(st.integers(0, 4), max_size=4))
        return numpy_helper.from_array(np.full(dims, draw(FLOATS), np.float32), name)
    proto = TensorProto(name=name, data_type=draw(st.integers(0, 24)), raw_data=draw(st.binary(max_size=32)))
    proto.dims.extend(draw(st.lists(NUMBERS, max_size=4)))
    return proto


@st.composite
def _nodes(draw: st.DrawFn, output: str) -> onnx.NodeProto:
    domain, op = draw(st.sampled_from(SCHEMAS))
    node = helper.make_node(op, draw(st.lists(st.sampled_from(VALUES), max_size=5)), [output], domain=domain)
    try:
        known = onnx.defs.get_schema(op, domain=domain).attributes
    except onnx.defs.SchemaError:
        return node
    for name in draw(st.lists(st.sampled_from(sorted(known)), max_size=4, unique=True)) if known else ():
        kind: Any = known[name].type
        attribute = _attribute(draw, name, int(kind))
        if attribute is not None:
            node.attribute.append(attribute)
    return node


@st.composite
def models(draw: st.DrawFn) -> onnx.ModelProto:
    """Three nodes of any standard operator over two inputs and three constants."""
    inputs = [
        helper.make_tensor_value_info(name, draw(st.sampled_from(TYPES)), draw(st.lists(DIMS, max_size=5)))
        for name in ("x", "y")
    ]
    constants = [draw(tensors(f"c{i}")) for i in range(3)]
    nodes = [draw(_nodes(f"n{i}")) for i in range(3)]
    outputs = [helper.make_tensor_value_info(f"n{i}", TensorProto.FLOAT, None) for i in range(3)]
    graph = helper.make_graph(nodes, "drawn", inputs, outputs, constants)
    opset = [helper.make_opsetid("", draw(st.integers(1, 24))), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opset)


def check_model(model: onnx.ModelProto, generate: bool = False) -> None:
    """Shapes and passes over a model: a graph or a GraphError."""
    try:
        graph = from_proto(model)
        infer(graph)
        optimize(graph, generate=generate)
    except GraphError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000, str(error)


QUIET = settings(
    database=None,
    deadline=None,
    max_examples=60,
    suppress_health_check=list(HealthCheck),  # pyright: ignore[reportArgumentType]
    derandomize=True,
)


@QUIET
@given(models(), st.booleans())
def draw_graphs(model: onnx.ModelProto, generate: bool) -> None:
    check_model(model, generate)


def graphs(data: bytes, folder: Path) -> None:
    """Graphs of three nodes of any operator, drawn from the bytes."""
    draw_graphs.hypothesis.fuzz_one_input(data)  # type: ignore[attr-defined]


def check_claims(a: Dim, b: Dim) -> None:
    """What is proved of two dimensions holds at some lengths. Raises AssertionError where it does not."""
    try:
        larger, same, other = shape.at_least(a, b), shape.equal(a, b), shape.different(a, b)
        names = sorted({s.name for d in (a, b) for s in shape.symbols(d)})
    except GraphError:
        return
    for step in (1, 2, 3, 7, 64):
        lengths = {name: 1 + step * i for i, name in enumerate(names)}
        try:
            left, right = shape.evaluate(a, lengths), shape.evaluate(b, lengths)
        except GraphError:
            continue
        assert not larger or left >= right, f"{a} >= {b} does not hold at {lengths}"
        assert not same or left == right, f"{a} == {b} does not hold at {lengths}"
        assert not other or left != right, f"{a} != {b} does not hold at {lengths}"
