"""Shapes, dtypes and shape arithmetic over symbolic lengths; refusals that name the node."""

from typing import Any

import numpy as np
import pytest
from support.graphs import Builder, random_inputs

from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.evaluate import constant_array, evaluate
from tlite_vk.graph.infer import check_shapes, infer
from tlite_vk.graph.ir import Graph, Value
from tlite_vk.graph.shape import format_shape, symbol

LENGTHS = {"B": 2, "T": 5, "N": 3, "P": 4}


def int_vector(b: Builder, *values: int) -> Value:
    return b.constant(np.array(values, np.int64))


def test_the_papers_own_example() -> None:
    """A Reshape of [1, N, 4096] to [1, -1, 32, 128] gives [1, N, 32, 128]."""
    b = Builder()
    graph = b.graph(b.node("Reshape", b.input("x", 1, "N", 4096), int_vector(b, 1, -1, 32, 128)))
    assert format_shape(graph.outputs[0].shape) == "[1, N, 32, 128]"


@pytest.mark.parametrize(
    ("target", "shape"),
    [
        ([0, 0, -1], "[B, T, 12]"),
        ([0, -1], "[B, 12*T]"),
        ([-1, 12], "[B*T, 12]"),
        ([0, 0, 3, 4], "[B, T, 3, 4]"),
        ([-1], "[12*B*T]"),
        ([0, -1, 2, 6], "[B, T, 2, 6]"),
    ],
)
def test_reshape_with_zeros_and_a_free_dimension(target: list[int], shape: str) -> None:
    b = Builder()
    graph = b.graph(b.node("Reshape", b.input("x", "B", "T", 12), int_vector(b, *target)))
    assert format_shape(graph.outputs[0].shape) == shape


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ([0, 0, 13], "number of elements"),
        ([-1, -1], "more than one -1"),
        ([0, -1, 5], "cannot be split"),
        ([7, -1], "split"),
    ],
)
def test_a_reshape_that_cannot_be_names_the_node(target: list[int], complaint: str) -> None:
    b = Builder()
    y = b.node("Reshape", b.input("x", "B", "T", 12), int_vector(b, *target), name="fold")
    with pytest.raises(GraphError, match=f"Reshape node 'fold': .*{complaint}"):
        b.graph(y)


def dynamic_shape(b: Builder, x: Value) -> Value:
    """Shape, Gather, Unsqueeze, Concat: what exporters write for view(b, t, -1, 4)."""
    shape = b.node("Shape", x)
    parts = [
        b.node("Unsqueeze", b.node("Gather", shape, b.constant(np.int64(i)), axis=0), int_vector(b, 0)) for i in (0, 1)
    ]
    return b.node("Concat", *parts, int_vector(b, -1), int_vector(b, 4), axis=0)


def test_shape_arithmetic_disappears() -> None:
    b = Builder()
    x = b.input("x", "B", "T", 12)
    graph = b.graph(b.node("Reshape", x, dynamic_shape(b, x)))
    assert [n.op for n in graph.nodes] == ["Reshape"]
    assert format_shape(graph.outputs[0].shape) == "[B, T, 3, 4]"
    content = graph.nodes[0].input(1).content
    assert content is not None and content.tolist() == [symbol("B"), symbol("T"), -1, 4]


def test_arithmetic_on_lengths_is_carried() -> None:
    b = Builder()
    x = b.input("x", "B", "T", 12)
    t = b.node("Gather", b.node("Shape", x), b.constant(np.int64(1)), axis=0)
    twice = b.node("Mul", b.node("Add", t, b.constant(np.int64(3))), b.constant(np.int64(2)))
    half = b.node("Div", twice, b.constant(np.int64(2)))
    rest = b.node("Mod", twice, b.constant(np.int64(2)))
    as_int = b.node("Cast", b.node("Cast", half, to=6), to=7)
    size = b.node("Unsqueeze", b.node("Add", as_int, rest), int_vector(b, 0))
    graph = b.graph(b.node("Expand", b.constant(np.ones((1,), np.float32)), size))
    assert format_shape(graph.outputs[0].shape) == "[T + 3]"


def test_where_and_equal_resolve_the_expand_pattern() -> None:
    """Exporters write Where(shape == -1, ones, shape); a length is never -1."""
    b = Builder()
    x = b.input("x", "B", 1, 12)
    shape = b.node("Shape", b.input("like", "B", "T", 12))
    target = b.node("Where", b.node("Equal", shape, int_vector(b, -1, -1, -1)), int_vector(b, 1, 1, 1), shape)
    graph = b.graph(b.node("Expand", x, target))
    assert format_shape(graph.outputs[0].shape) == "[B, T, 12]"


def test_range_slice_and_concat_lengths() -> None:
    b = Builder()
    past = b.input("past", "B", symbol("P", 0), 4)
    new = b.input("new", "B", "T", 4)
    both = b.node("Concat", past, new, axis=1)
    total = b.node("Gather", b.node("Shape", both), b.constant(np.int64(1)), axis=0)
    start = b.node("Gather", b.node("Shape", past), b.constant(np.int64(1)), axis=0)
    steps = b.node("Range", start, total, b.constant(np.int64(1)))
    tail = b.node("Slice", both, b.node("Unsqueeze", start, int_vector(b, 0)), int_vector(b, 2**62), int_vector(b, 1))
    graph = b.graph(both, steps, tail)
    assert [format_shape(v.shape) for v in graph.outputs] == ["[B, P + T, 4]", "[T]", "[B, T, 4]"]


def test_a_slice_never_grows_a_length() -> None:
    b = Builder()
    x = b.input("x", "T")
    graph = b.graph(
        *(b.node("Slice", x, int_vector(b, s), int_vector(b, e)) for s, e in ((0, 1), (0, 9), (-3, 99), (2, -1)))
    )
    for length in (1, 2, 3, 8, 20):
        got = evaluate(graph, {"x": np.zeros(length, np.float32)})
        from tlite_vk.graph.shape import evaluate as number

        for value in graph.outputs:
            assert number(value.dims[0], {"T": length}) == got[value.name].shape[0]


def test_a_length_that_is_an_output_keeps_its_expression() -> None:
    b = Builder()
    x = b.input("x", "B", "T", 12)
    graph = b.graph(b.node("Size", x))
    assert graph.nodes == []
    assert evaluate(graph, random_inputs(graph, LENGTHS))[graph.outputs[0].name] == 2 * 5 * 12


def test_weights_are_never_folded() -> None:
    b = Builder()
    codes = b.packed(np.zeros((4, 2, 4), np.int8), "uint4")
    w = b.node(
        "DequantizeLinear", codes, b.constant(np.ones((4, 2, 1), np.float16)), axis=2, block_size=4, output_dtype=1
    )
    wide = b.node("Cast", b.constant(np.ones((4, 4), np.float16)), to=1)
    assert [n.op for n in b.graph(w, wide).nodes] == ["DequantizeLinear", "Cast"]


def test_bindings_replace_a_length_everywhere() -> None:
    b = Builder()
    x = b.input("x", "B", "T", 12)
    graph = b.graph(b.node("Reshape", x, dynamic_shape(b, x)))
    fixed = infer(graph, {symbol("T"): 1})
    assert format_shape(fixed.inputs[0].shape) == "[B, 1, 12]"
    assert format_shape(fixed.outputs[0].shape) == "[B, 1, 3, 4]"
    assert format_shape(graph.outputs[0].shape) == "[B, T, 3, 4]"
    content = fixed.nodes[0].input(1).content
    assert content is not None and content.tolist() == [symbol("B"), 1, -1, 4]


def test_content_evaluates_for_given_lengths() -> None:
    value = Value("n", "int64", (2,), content=np.array([symbol("T") * 2, 3], object))
    assert constant_array(value, {"T": 5}).tolist() == [10, 3]


def single(op: str, *inputs: tuple[str, tuple[Any, ...]], **attributes: Any) -> Graph:
    b = Builder()
    values = [b.input(f"i{n}", *shape, dtype=dtype) for n, (dtype, shape) in enumerate(inputs)]
    return b.graph(b.node(op, *values, name="it", **attributes))


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "complaint"),
    [
        ("Frobnicate", [("float32", (1,))], {}, r"operator Frobnicate is not supported \(node 'it'\)"),
        (
            "Add",
            [("float32", (2, 3)), ("float32", (2, 4))],
            {},
            r"Add node 'it': shapes \[2, 3\] and \[2, 4\] do not broadcast",
        ),
        ("Add", [("float32", (2,)), ("float16", (2,))], {}, "Add node 'it': its inputs have different element types"),
        ("MatMul", [("float32", ("T", 4)), ("float32", (5, 2))], {}, "MatMul node 'it': the inner dimensions differ"),
        ("Transpose", [("float32", (2, 3))], {"perm": [0, 0]}, "Transpose node 'it': perm"),
        ("Softmax", [("float32", (2, 3))], {"temperature": 1}, "Softmax node 'it': attribute 'temperature'"),
        (
            "Concat",
            [("float32", (2, 3)), ("float32", (3, 3))],
            {"axis": 1},
            "Concat node 'it': inputs differ along axis 0",
        ),
        ("Gather", [("float32", (2, 3)), ("float32", (1,))], {}, "Gather node 'it': its indices are float32"),
        ("Reshape", [("float32", (2, 3)), ("int64", (2,))], {}, "Reshape node 'it': the new shape is not known"),
        ("Relu", [], {}, "Relu node 'it': it takes 1 inputs, not 0"),
        ("Add", [("float32", (2,))] * 3, {}, "Add node 'it': it takes 2 inputs, not 3"),
        ("Range", [("int64", ())] * 3, {}, "Range node 'it': its start is not known"),
        ("Tile", [("float32", (2,)), ("int64", (1,))], {}, "Tile node 'it': its repeats is not known"),
    ],
)
def test_refusals_name_the_node(op: str, inputs: list[Any], attributes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(GraphError, match=complaint):
        single(op, *inputs, **attributes)


def test_an_operator_of_a_later_opset_says_so() -> None:
    b = Builder(opset=22)
    y = b.node("RMSNormalization", b.input("x", "T", 4), b.constant(np.ones(4, np.float32)), name="norm")
    with pytest.raises(GraphError, match="RMSNormalization is not supported before opset 23"):
        b.graph(y)


def test_hostile_extents_are_refused() -> None:
    b = Builder()
    shape = int_vector(b, 2**40, 2**40)
    with pytest.raises(GraphError, match="extent"):
        b.graph(b.node("Tile", b.input("x", 1, 2**39), int_vector(b, 1, 2**39)))
    b = Builder()
    graph = b.graph(b.node("ConstantOfShape", shape))  # is only described, never made
    assert graph.nodes[0].op == "ConstantOfShape"


def test_a_shape_that_a_pass_forgot_to_update_is_caught() -> None:
    b = Builder()
    graph = b.graph(b.node("Relu", b.input("x", "B", "T"), name="r"))
    check_shapes(graph)
    graph.outputs[0].shape = (symbol("B"), 1)
    with pytest.raises(GraphError, match=r"Relu node 'r': makes float32\[B, T\], not r: float32\[B, 1\]"):
        check_shapes(graph)


def test_a_graph_input_without_a_shape_is_refused() -> None:
    x = Value("x")
    with pytest.raises(GraphError, match="graph input 'x' has no shape"):
        infer(Graph("g", [x], [], [x]))
