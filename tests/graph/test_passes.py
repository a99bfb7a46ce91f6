"""Every pass on a small graph: what it must match, and near misses that it must leave alone and say why."""

from typing import Any

import numpy as np
import pytest
from support.graphs import Array, Builder, apply, assert_same_results, ops, random_inputs
from support.llama import Llama, build_llama

from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.evaluate import evaluate
from tlite_vk.graph.ir import Graph, Node, Value
from tlite_vk.graph.ops.registry import Step
from tlite_vk.graph.passes.activation import Activation
from tlite_vk.graph.passes.base import Pass, Report, Rewriter, run_pass
from tlite_vk.graph.passes.common_subexpressions import CommonSubexpressions
from tlite_vk.graph.passes.decomposed_rms_norm import DecomposedRmsNorm
from tlite_vk.graph.passes.embedding import Embedding
from tlite_vk.graph.passes.fold_constants import FoldConstants
from tlite_vk.graph.passes.gated import Gated
from tlite_vk.graph.passes.generation_inputs import GenerationInputs
from tlite_vk.graph.passes.identities import Identities
from tlite_vk.graph.passes.last_row import LastRow
from tlite_vk.graph.passes.linear import Linear
from tlite_vk.graph.passes.norm_into_linear import NormIntoLinear
from tlite_vk.graph.passes.quantized_weights import QuantizedWeights
from tlite_vk.graph.passes.residual import Residual
from tlite_vk.graph.passes.ring_attention import RingAttention
from tlite_vk.graph.passes.rms_norm import RmsNorm
from tlite_vk.graph.pipeline import CLEAN, FUSE
from tlite_vk.graph.weights import AffineWeight

LENGTHS = {"B": 2, "T": 3}
RNG = np.random.default_rng(11)


def matrix(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def check(b: Builder, outputs: list[Value], rules: list[Pass], expected: list[str]) -> tuple[Graph, Report]:
    """The passes leave these operators and the same results."""
    graph = b.graph(*outputs)
    after, report = apply(graph, *rules)
    assert ops(after) == expected
    assert_same_results(graph, after, LENGTHS)
    return after, report


def rejected(b: Builder, outputs: list[Value], rule: Pass, why: str, before: list[Pass] | None = None) -> None:
    """The pass leaves the graph alone and says why."""
    graph, _ = apply(b.graph(*outputs), *(before or []))
    after, report = apply(graph, rule)
    assert ops(after) == ops(graph)
    assert any(why in f.detail for f in report.rejections()), [str(f) for f in report.findings]


# --- identities ------------------------------------------------------------------------------------------------------


def identity_chain(b: Builder, x: Value) -> Value:
    x = b.node("Identity", x)
    x = b.node("Cast", x, to=1)
    x = b.node("Reshape", x, b.constant(np.array([0, 0, 4])))
    x = b.node("Transpose", x, perm=[0, 1, 2])
    x = b.node("Expand", x, b.constant(np.array([1, 1, 4])))
    x = b.node("Slice", x, b.constant(np.array([0])), b.constant(np.array([2**31])), b.constant(np.array([2])))
    return b.node("Concat", x, axis=0)


def test_identities_go_away() -> None:
    b = Builder()
    check(b, [b.node("Relu", identity_chain(b, b.input("x", "B", "T", 4)))], [Identities()], ["Relu"])


def test_what_changes_something_stays() -> None:
    b = Builder()
    x = b.input("x", "B", "T", 4)
    backwards = [b.constant(np.array([v])) for v in (-1, -(2**31) - 5, 2, -1)]
    kept = [
        b.node("Cast", x, to=10),
        b.node("Reshape", x, b.constant(np.array([0, -1]))),
        b.node("Transpose", x),
        b.node("Slice", x, *backwards),
        b.node("Expand", x, b.constant(np.array([2, 1, 1, 1]))),
    ]
    check(b, [b.node("Neg", v) for v in kept], [Identities()], [n.op for n in b.nodes])


def test_an_identity_that_is_an_output_keeps_its_name() -> None:
    b = Builder()
    y = b.node("Identity", b.input("x", "B", 4), name="y")
    after, report = apply(b.graph(y), Identities())
    assert [v.name for v in after.outputs] == ["y"]
    assert "graph output" in report.rejections()[0].detail


# --- common subexpressions -------------------------------------------------------------------------------------------


def test_equal_nodes_become_one() -> None:
    b = Builder()
    x = b.input("x", "B", "T", 4)
    y = b.node("Add", b.node("Exp", x), b.node("Exp", x))
    check(b, [y], [CommonSubexpressions()], ["Exp", "Add"])


def test_equal_nodes_with_other_attributes_or_inputs_stay() -> None:
    b = Builder()
    x = b.input("x", "B", "T", 4)
    parts = [b.node("Softmax", x, axis=1), b.node("Softmax", x, axis=2), b.node("Softmax", b.node("Exp", x), axis=2)]
    check(b, [b.node("Sum", *parts)], [CommonSubexpressions()], ["Softmax", "Softmax", "Exp", "Softmax", "Sum"])


def test_equal_graph_outputs_stay_two() -> None:
    b = Builder()
    x = b.input("x", "B", "T", 4)
    rejected(b, [b.node("Exp", x), b.node("Exp", x)], CommonSubexpressions(), "graph output")


# --- constants -------------------------------------------------------------------------------------------------------


def test_constants_are_folded() -> None:
    b = Builder()
    x = b.input("x", "B", "T", 4)
    c = b.node("Mul", b.node("Exp", b.constant(matrix(4, 4))), b.constant(np.float32(2)))
    total = b.node("ReduceSum", c, b.constant(np.array([0])), keepdims=0)
    check(b, [b.node("Add", x, total)], [FoldConstants()], ["Add"])


def test_views_of_a_weight_share_its_memory() -> None:
    b = Builder()
    stored = matrix(6, 4).astype(np.float16)
    w = b.node("Transpose", b.node("Cast", b.constant(stored), to=1), perm=[1, 0])
    after, _ = check(b, [b.node("MatMul", b.input("x", "B", "T", 4), w)], [FoldConstants()], ["MatMul"])
    folded = after.nodes[0].input(1)
    assert folded.dtype == "float32" and folded.array().dtype == np.float16 and np.shares_memory(folded.array(), stored)


def test_large_results_are_left_to_the_device() -> None:
    b = Builder()
    big = b.node("Exp", b.constant(np.broadcast_to(np.float32(1), (4096, 2048))))
    rejected(b, [b.node("MatMul", b.input("x", "B", 4096), big)], FoldConstants(), "bytes")


# --- quantized weights -----------------------------------------------------------------------------------------------


def quantized(b: Builder, *, bits: int = 4, add: bool = True, zero: Array | None = None, axis: int = 2, block: int = 8,
              minimum_shape: tuple[int, ...] = (6, 2, 1), minimum_dtype: str = "float16") -> Value:  # fmt: skip
    """A [6, 16] weight in groups of 8, as the converter writes it, with one thing changed."""
    codes = RNG.integers(0, 16, (6, 2, 8))
    q = b.packed(codes, "uint4") if bits == 4 else b.constant(codes.astype(np.int8))
    scale = b.constant(RNG.random((6, 2, 1)).astype(np.float16))
    zero_value = None if zero is None else b.packed(zero, "uint4")
    w = b.node("DequantizeLinear", q, scale, zero_value, axis=axis, block_size=block, output_dtype=1)
    if add:
        minimum = b.constant(RNG.normal(size=minimum_shape).astype(minimum_dtype))
        w = b.node("Add", w, b.node("Cast", minimum, to=1) if minimum_dtype != "float32" else minimum)
    return b.node("Reshape", w, b.constant(np.array([6, 16])))


def times(b: Builder, w: Value) -> Value:
    return b.node("MatMul", b.input("x", "B", "T", 16), b.node("Transpose", w, perm=[1, 0]))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("add", [True, False])
def test_quantized_patterns_become_one_weight(bits: int, add: bool) -> None:
    b = Builder()
    graph = b.graph(times(b, quantized(b, bits=bits, add=add)))
    after, _ = apply(graph, QuantizedWeights(), Linear())
    assert ops(after) == ["tlite.Linear"]
    weight = after.nodes[0].input(1).constant
    assert isinstance(weight, AffineWeight)
    assert (weight.shape, weight.bits, weight.group, weight.symmetric) == ((6, 16), bits, 8, not add)
    assert np.shares_memory(weight.parts[0].codes, graph.nodes[0].input(0).array())
    assert_same_results(graph, after, LENGTHS)


def test_one_zero_point_for_all_is_kept_as_a_number() -> None:
    b = Builder()
    graph = b.graph(times(b, quantized(b, add=False, zero=np.full((6, 2, 1), 8))))
    after, _ = apply(graph, QuantizedWeights(), Linear())
    weight = after.nodes[0].input(1).constant
    assert isinstance(weight, AffineWeight) and weight.parts[0].zero == 8
    assert_same_results(graph, after, LENGTHS)


@pytest.mark.parametrize("add", [True, False])
def test_zero_points_that_differ_become_minimums(add: bool) -> None:
    b = Builder()
    graph = b.graph(times(b, quantized(b, add=add, zero=np.arange(12).reshape(6, 2, 1))))
    after, _ = apply(graph, QuantizedWeights(), Linear())
    weight = after.nodes[0].input(1).constant
    assert isinstance(weight, AffineWeight) and weight.parts[0].minimum is not None
    assert weight.parts[0].zero == 0
    assert weight.parts[0].scale.dtype == weight.parts[0].minimum.dtype == np.float32
    assert_same_results(graph, after, LENGTHS)


def test_a_cast_of_a_quantized_weight_is_passed_over() -> None:
    b = Builder()
    w = b.node("Cast", quantized(b), to=10)
    x = b.input("x", "B", "T", 16, dtype="float16")
    graph = b.graph(b.node("MatMul", x, b.node("Transpose", w, perm=[1, 0])))
    after, _ = apply(graph, QuantizedWeights(), Linear())
    assert ops(after) == ["tlite.Linear"]
    assert after.nodes[0].input(1).dtype == after.outputs[0].dtype == "float16"
    assert isinstance(after.nodes[0].input(1).constant, AffineWeight)
    assert_same_results(graph, after, LENGTHS, tolerance=4e-3)


def test_an_exact_wide_minimum_is_stored_as_narrow_as_the_scale() -> None:
    b = Builder()
    codes, scale = b.packed(RNG.integers(0, 16, (6, 2, 8)), "uint4"), b.constant(np.ones((6, 2, 1), np.float16))
    w = b.node("DequantizeLinear", codes, scale, axis=2, block_size=8, output_dtype=1)
    w = b.node("Add", b.constant(np.full((6, 2, 1), -1.5, np.float32)), w)
    graph = b.graph(times(b, b.node("Reshape", w, b.constant(np.array([6, 16])))))
    after, _ = apply(graph, QuantizedWeights(), Linear())
    weight = after.nodes[0].input(1).constant
    assert isinstance(weight, AffineWeight) and weight.parts[0].minimum is not None
    assert weight.parts[0].minimum.dtype == np.float16
    assert_same_results(graph, after, LENGTHS)


@pytest.mark.parametrize("per_row", [True, False])
def test_matrices_without_group_axis(per_row: bool) -> None:
    b = Builder()
    q = b.constant(RNG.integers(-128, 128, (6, 16)).astype(np.int8))
    shape = (6,) if per_row else (6, 4)
    scale = b.constant(RNG.random(shape).astype(np.float32))
    options: dict[str, Any] = {"axis": 0} if per_row else {"axis": 1, "block_size": 4}
    graph = b.graph(times(b, b.node("DequantizeLinear", q, scale, **options)))
    after, _ = apply(graph, QuantizedWeights(), Linear())
    weight = after.nodes[0].input(1).constant
    assert isinstance(weight, AffineWeight) and weight.group == (16 if per_row else 4)
    assert_same_results(graph, after, LENGTHS)


def test_near_misses_of_quantized_weights() -> None:
    b = Builder()
    rejected(b, [times(b, quantized(b, minimum_dtype="float32"))], QuantizedWeights(), "not exact in float16")
    b = Builder()
    rejected(b, [times(b, quantized(b, minimum_shape=(6, 1, 1)))], QuantizedWeights(), "not reshaped")
    b = Builder()
    x = b.input("s", 6, 2, 1, dtype="float16")
    w = b.node("DequantizeLinear", b.packed(np.zeros((6, 2, 8)), "uint4"), x, axis=2, block_size=8, output_dtype=1)
    rejected(b, [times(b, b.node("Reshape", w, b.constant(np.array([6, 16]))))], QuantizedWeights(), "not a constant")
    b = Builder()
    q = b.constant(RNG.integers(0, 9, (16, 6)).astype(np.int8))
    w = b.node("DequantizeLinear", q, b.constant(np.ones(6, np.float32)), axis=1)
    rejected(b, [b.node("MatMul", b.input("x", "B", "T", 16), w)], QuantizedWeights(), "not rows of groups")
    b = Builder()
    rejected(b, [quantized(b)], QuantizedWeights(), "graph output")


def test_a_group_that_something_else_reads_stays() -> None:
    b = Builder()
    w = quantized(b)
    grouped = b.nodes[-2].output
    rejected(b, [times(b, w), b.node("Relu", grouped)], QuantizedWeights(), "not reshaped")


# --- linear, embedding, norms ----------------------------------------------------------------------------------------


def test_products_by_constants_become_linear() -> None:
    b = Builder()
    x = b.input("x", "B", "T", 8)
    y = b.node("Add", b.node("MatMul", x, b.constant(matrix(8, 4))), b.constant(matrix(4)))
    z = b.node("Add", b.constant(matrix(6)), b.node("MatMul", y, b.constant(matrix(4, 6))))
    after, _ = check(b, [z], [Linear()], ["tlite.Linear"] * 2)
    assert all(n.optional(2) is not None for n in after.nodes)


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_becomes_linear(transposed: int) -> None:
    b = Builder()
    w = matrix(4, 8) if transposed else matrix(8, 4)
    y = b.node("Gemm", b.input("x", "T", 8), b.constant(w), b.constant(matrix(4)), transB=transposed)
    check(b, [y], [Linear()], ["tlite.Linear"])


def test_a_bias_of_the_wrong_shape_stays_an_add() -> None:
    b = Builder()
    x = b.input("x", "B", 3, 8)
    product = b.node("MatMul", x, b.constant(matrix(8, 4)))
    check(b, [b.node("Add", product, b.constant(matrix(3, 1)))], [Linear()], ["tlite.Linear", "Add"])


def test_a_product_that_is_also_read_bare_keeps_its_add() -> None:
    b = Builder()
    product = b.node("MatMul", b.input("x", "B", "T", 8), b.constant(matrix(8, 4)))
    biased = b.node("Add", product, b.constant(matrix(4)))
    check(b, [biased, b.node("Relu", product)], [Linear()], ["tlite.Linear", "Add", "Relu"])


def test_products_of_two_activations_stay() -> None:
    b = Builder()
    check(b, [b.node("MatMul", b.input("x", "B", "T", 8), b.input("w", 8, 4))], [Linear()], ["MatMul"])


def test_near_misses_of_linear() -> None:
    b = Builder()
    rejected(b, [b.node("Gemm", b.input("x", "T", 8), b.constant(matrix(8, 4)), alpha=0.5)], Linear(), "alpha")
    b = Builder()
    bias = b.constant(matrix(1))
    rejected(b, [b.node("Gemm", b.input("x", "T", 8), b.constant(matrix(8, 4)), bias)], Linear(), "bias")
    b = Builder()
    rejected(b, [b.node("MatMul", b.input("x", "B", "T", 8), b.constant(matrix(2, 8, 4)))], Linear(), "rank 3")
    b = Builder()
    rejected(b, [b.node("MatMul", b.input("x", 8), b.constant(matrix(8, 4)))], Linear(), "vector")
    b = Builder()
    columns = b.node("MatMul", b.input("x", "B", "T", 6), quantized(b))
    rejected(b, [columns], Linear(), "groups must run along K", [QuantizedWeights()])


def test_rows_of_a_matrix_become_an_embedding() -> None:
    b = Builder()
    ids = b.input("ids", "B", "T", dtype="int64")
    check(b, [b.node("Gather", b.constant(matrix(9, 4)), ids, axis=0)], [Embedding()], ["tlite.Embedding"])


@pytest.mark.parametrize(
    ("table", "axis"), [(matrix(9, 4), 1), (matrix(9, 2, 4), 0), (RNG.integers(0, 9, (9, 4)), 0), (matrix(9), 0)]
)
def test_other_gathers_are_no_embedding(table: Array, axis: int) -> None:
    b = Builder()
    ids = b.input("ids", "B", "T", dtype="int64")
    rejected(b, [b.node("Gather", b.constant(table), ids, axis=axis)], Embedding(), "does not pick rows")


def test_rms_norm() -> None:
    b = Builder()
    y = b.node("RMSNormalization", b.input("x", "B", "T", 8), b.constant(matrix(8)), epsilon=1e-3)
    after, _ = check(b, [y], [RmsNorm()], ["tlite.RMSNorm"])
    assert after.nodes[0].attributes == {"epsilon": 1e-3}


def test_near_misses_of_rms_norm() -> None:
    b = Builder()
    rejected(
        b, [b.node("RMSNormalization", b.input("x", 3, 8), b.constant(matrix(3, 8)), axis=0)], RmsNorm(), "last axis"
    )
    b = Builder()
    rejected(b, [b.node("RMSNormalization", b.input("x", "B", 8), b.input("s", 8))], RmsNorm(), "not one constant")
    b = Builder()
    rejected(
        b, [b.node("RMSNormalization", b.input("x", "B", 8), b.constant(matrix(1)))], RmsNorm(), "not one constant"
    )


def decomposed(b: Builder, square: str = "Pow", inverse: str = "Reciprocal", axis: int = -1, **other: Value) -> Value:
    x = b.input("x", "B", "T", 8)
    of = other.get("of", x)
    squared = b.node("Mul", of, of) if square == "Mul" else b.node("Pow", of, b.constant(np.float32(2)))
    mean = b.node("ReduceMean", squared, b.constant(np.array([axis])), keepdims=1)
    root = b.node("Sqrt", b.node("Add", other.get("epsilon", b.constant(np.float32(1e-3))), mean))
    if inverse == "Div":
        normed = b.node("Div", x, root)
    else:
        one = b.constant(np.float32(1))
        normed = b.node("Mul", b.node("Reciprocal", root) if inverse == "Reciprocal" else b.node("Div", one, root), x)
    return b.node("Mul", other.get("scale", b.constant(matrix(8))), normed)


@pytest.mark.parametrize("square", ["Pow", "Mul"])
@pytest.mark.parametrize("inverse", ["Reciprocal", "one over", "Div"])
def test_a_norm_that_is_written_out(square: str, inverse: str) -> None:
    b = Builder()
    after, _ = check(b, [decomposed(b, square, inverse)], [DecomposedRmsNorm()], ["RMSNormalization"])
    assert after.nodes[0].attributes == {"axis": -1, "epsilon": pytest.approx(1e-3)}


def test_near_misses_of_a_norm_that_is_written_out() -> None:
    b = Builder()
    rejected(b, [decomposed(b, axis=1)], DecomposedRmsNorm(), "not over the last axis")
    b = Builder()
    z = b.input("z", "B", "T", 8)
    rejected(b, [decomposed(b, of=z)], DecomposedRmsNorm(), "square of what is normalized")
    b = Builder()
    rejected(b, [decomposed(b, scale=b.constant(matrix(3, 8)))], DecomposedRmsNorm(), "scale is not one constant")
    b = Builder()
    varying = b.input("e", "B", "T", 1)
    rejected(b, [decomposed(b, epsilon=varying)], DecomposedRmsNorm(), "not the mean plus a constant")
    b = Builder()
    x = b.input("y", "B", "T", 8)
    plain = b.node("Mul", b.node("Div", x, b.node("Sqrt", b.node("Exp", x))), b.constant(matrix(8)))
    rejected(b, [plain], DecomposedRmsNorm(), "nothing is added")


# --- gate and up -----------------------------------------------------------------------------------------------------


def project(b: Builder, x: Value, n: int = 6) -> Value:
    return b.node("MatMul", x, b.constant(matrix(8, n)))


@pytest.mark.parametrize("kind", ["silu", "swish", "none", "tanh"])
@pytest.mark.parametrize("swapped", [False, True])
def test_gated_activations(kind: str, swapped: bool) -> None:
    b = Builder()
    x = b.input("x", "B", "T", 8)
    up = project(b, x)
    gate = project(b, x)
    if kind == "silu":
        activated = b.node("Mul", b.node("Sigmoid", gate), gate)
    else:
        activated = b.node("Swish", gate) if kind == "swish" else b.node("Gelu", gate, approximate=kind)
    y = b.node("Mul", *((up, activated) if swapped else (activated, up)))
    after, _ = check(b, [y], [Linear(), Gated()], ["tlite.Linear"])
    expected = {"silu": "swiglu", "swish": "swiglu", "none": "geglu", "tanh": "geglu_tanh"}[kind]
    assert after.nodes[0].attributes == {"activation": expected}


def gated(b: Builder, gate: Value, up: Value) -> Value:
    return b.node("Mul", b.node("Swish", gate), up)


def test_near_misses_of_gated_activations() -> None:
    b = Builder()
    gate, up = project(b, b.input("x", "B", "T", 8)), project(b, b.input("z", "B", "T", 8))
    rejected(b, [gated(b, gate, up)], Gated(), "different inputs", [Linear()])
    b = Builder()
    x = b.input("x", "B", "T", 8)
    gate, up = project(b, x), project(b, x)
    rejected(b, [gated(b, gate, up), b.node("Relu", up)], Gated(), "used elsewhere", [Linear()])
    b = Builder()
    x = b.input("x", "B", "T", 8)
    gate, up = project(b, x), project(b, x)
    rejected(b, [gated(b, gate, up), b.node("Relu", gate)], Gated(), "gate is used elsewhere", [Linear()])
    b = Builder()
    x = b.input("x", "B", "T", 8)
    biased = b.node("Add", project(b, x), b.constant(matrix(6)))
    rejected(b, [gated(b, biased, project(b, x))], Gated(), "only some of the projections have a bias", [Linear()])
    b = Builder()
    x = b.input("x", "B", "T", 8)
    narrow = b.node("MatMul", x, b.node("Cast", b.constant(matrix(8, 6).astype(np.float16)), to=1))
    rejected(b, [gated(b, project(b, x), narrow)], Gated(), "different", [FoldConstants(), Linear()])


def test_a_sigmoid_of_something_else_is_no_gate() -> None:
    b = Builder()
    x = b.input("x", "B", "T", 8)
    gate, other, up = project(b, x), project(b, x), project(b, x)
    y = b.node("Mul", b.node("Mul", gate, b.node("Sigmoid", other)), up)
    check(b, [y], [Linear(), Gated()], ["tlite.Linear"] * 3 + ["Sigmoid", "Mul", "Mul"])


def test_a_swish_with_another_slope_is_no_gate() -> None:
    b = Builder()
    x = b.input("x", "B", "T", 8)
    y = b.node("Mul", b.node("Swish", project(b, x), alpha=2.0), project(b, x))
    check(b, [y], [Linear(), Gated()], ["tlite.Linear", "Swish", "tlite.Linear", "Mul"])


# --- activation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["relu", "silu", "swish", "gelu", "gelu_tanh"])
def test_an_activation_goes_into_its_projection(kind: str) -> None:
    b = Builder()
    y = project(b, b.input("x", "B", "T", 8))
    if kind == "silu":
        y = b.node("Mul", y, b.node("Sigmoid", y))
    elif kind in ("relu", "swish"):
        y = b.node(kind.capitalize(), y)
    else:
        y = b.node("Gelu", y, approximate="tanh" if kind == "gelu_tanh" else "none")
    after, _ = check(b, [b.node("Neg", y)], [Linear(), Activation()], ["tlite.Linear", "Neg"])
    assert after.nodes[0].attributes == {"activation": "silu" if kind == "swish" else kind}


def test_near_misses_of_activation() -> None:
    b = Builder()
    y = project(b, b.input("x", "B", "T", 8))
    rejected(b, [b.node("Relu", y), b.node("Neg", y)], Activation(), "used elsewhere", [Linear()])
    b = Builder()
    y = b.node("Add", project(b, b.input("x", "B", "T", 8)), b.input("r", "B", "T", 6))
    rejected(b, [b.node("Relu", y)], Activation(), "or a residual", [Linear(), Residual()])
    b = Builder()
    y = b.node("Relu", b.node("Relu", project(b, b.input("x", "B", "T", 8))))
    after, report = apply(b.graph(y), Linear(), Activation())
    assert ops(after) == ["tlite.Linear", "Relu"] and "already has" in report.rejections()[0].detail


# --- residual, norm into linear, last row ----------------------------------------------------------------------------


@pytest.mark.parametrize("swapped", [False, True])
def test_a_residual_goes_into_its_projection(swapped: bool) -> None:
    b = Builder()
    x = b.input("x", "B", "T", 8)
    y = project(b, b.node("Relu", x), 8)
    check(b, [b.node("Add", *((x, y) if swapped else (y, x)))], [Linear(), Residual()], ["Relu", "tlite.Linear"])


def test_of_two_projections_one_takes_the_other() -> None:
    b = Builder()
    x = b.input("x", "B", "T", 8)
    y = b.node("Add", project(b, x), project(b, b.node("Relu", x)))
    after, _ = check(b, [y], [Linear(), Residual()], ["tlite.Linear", "Relu", "tlite.Linear"])
    assert after.nodes[2].optional(3) is after.nodes[0].output


def test_near_misses_of_residual() -> None:
    b = Builder()
    x = b.input("x", "B", "T", 8)
    rejected(b, [b.node("Add", project(b, x), b.input("r", 6))], Residual(), "another shape", [Linear()])
    b = Builder()
    y = project(b, b.input("x", "B", "T", 8), 8)
    rejected(b, [b.node("Add", y, y)], Residual(), "used elsewhere", [Linear()])
    b = Builder()
    y = project(b, b.input("x", "B", "T", 8))
    rejected(
        b, [b.node("Add", y, b.input("r", "B", "T", 6)), b.node("Relu", y)], Residual(), "used elsewhere", [Linear()]
    )


def normed(b: Builder, rows: int | str) -> tuple[Value, Value]:
    x = b.input("x", "B", rows, 8)
    return x, b.node("RMSNormalization", x, b.constant(matrix(8)))


NORMS: list[Pass] = [Linear(), RmsNorm(), NormIntoLinear()]


def test_single_rows_are_normalized_by_their_projections() -> None:
    b = Builder()
    _, h = normed(b, 1)
    check(b, [project(b, h), project(b, h)], NORMS, ["tlite.Linear"] * 2)


def test_near_misses_of_norm_into_linear() -> None:
    b = Builder()
    _, h = normed(b, "T")
    rejected(b, [project(b, h)], NORMS[2], "normalizes T rows", NORMS[:2])
    b = Builder()
    _, h = normed(b, 1)
    rejected(b, [project(b, h), b.node("Relu", h)], NORMS[2], "other than a projection", NORMS[:2])
    b = Builder()
    _, h = normed(b, 1)
    rejected(b, [b.node("Add", project(b, h, 8), h)], NORMS[2], "reads it twice", [*NORMS[:2], Residual()])
    b = Builder()
    _, h = normed(b, 1)
    rejected(b, [project(b, h), h], NORMS[2], "other than a projection", NORMS[:2])


def test_the_last_row_alone_goes_through_the_head() -> None:
    b = Builder()
    _, h = normed(b, "T")
    graph = b.graph(b.node("MatMul", h, b.constant(matrix(8, 20)), name="logits"))
    after, _ = apply(graph, Linear(), RmsNorm(), LastRow())
    assert ops(after) == ["tlite.LastRow", "tlite.RMSNorm", "tlite.Linear"]
    assert str(after.outputs[0]) == "logits: float32[B, 1, 20]"


def test_a_soft_cap_behind_the_head_works_on_the_last_row_too() -> None:
    b = Builder()
    x, h = normed(b, "T")
    logits = b.node("MatMul", h, b.constant(matrix(8, 20)))
    cap = b.constant(np.float32(30))
    capped = b.node("Mul", b.node("Tanh", b.node("Div", logits, cap)), cap, name="logits")
    graph = b.graph(capped)
    after, _ = apply(graph, Linear(), RmsNorm(), LastRow())
    assert ops(after) == ["tlite.LastRow", "tlite.RMSNorm", "tlite.Linear", "Div", "Tanh", "Mul"]
    inputs = {x.name: matrix(2, 3, 8)}
    expected = evaluate(graph, inputs)["logits"][:, 1:2]
    np.testing.assert_allclose(evaluate(after, inputs, Step(rows=2))["logits"], expected, atol=1e-5)


def test_a_norm_that_something_else_reads_stays_before_the_last_row() -> None:
    b = Builder()
    _, h = normed(b, "T")
    logits = b.node("MatMul", h, b.constant(matrix(8, 20)), name="logits")
    after, _ = apply(b.graph(logits, b.node("Relu", h)), Linear(), RmsNorm(), LastRow())
    assert ops(after) == ["tlite.RMSNorm", "Relu", "tlite.LastRow", "tlite.Linear"]


def test_all_that_works_row_by_row_works_on_the_last_row_alone() -> None:
    """A residual block behind something that mixes rows: both of its inputs are cut."""
    b = Builder()
    x = b.input("x", "B", "T", 8)
    mixed = b.node("CumSum", x, b.constant(np.array(1)), name="mixed")
    stream = b.node("Add", x, project(b, mixed, 8))
    inner = b.node("Mul", b.node("Gelu", project(b, stream, 8)), b.constant(matrix(8)))
    logits = b.node("MatMul", b.node("Add", stream, inner), b.constant(matrix(8, 20)), name="logits")
    graph, _ = apply(b.graph(logits), Linear(), Residual())
    after, _ = apply(graph, LastRow())
    assert ops(after)[:3] == ["CumSum", "tlite.LastRow", "tlite.LastRow"]
    assert all(n.output.dims[1] == 1 for n in after.nodes[1:])
    inputs = random_inputs(graph, LENGTHS)
    whole, last = evaluate(graph, inputs), evaluate(after, inputs, Step(0, 2))
    np.testing.assert_allclose(last["logits"], whole["logits"][:, 1:2], rtol=1e-5, atol=1e-5)


def test_what_mixes_rows_or_broadcasts_over_them_is_not_cut() -> None:
    b = Builder()
    x = b.input("x", "B", "T", 8)
    per_row = b.node("Add", x, b.input("one_row", 1, 1, 8))
    logits = b.node("MatMul", b.node("Softmax", per_row, axis=1), b.constant(matrix(8, 20)), name="logits")
    after, _ = apply(b.graph(logits), Linear(), LastRow())
    assert ops(after) == ["Add", "Softmax", "tlite.LastRow", "tlite.Linear"]


def test_near_misses_of_last_row() -> None:
    b = Builder()
    _, h = normed(b, 1)
    rejected(b, [project(b, h)], LastRow(), "one row already", [Linear(), RmsNorm()])
    b = Builder()
    y = project(b, normed(b, "T")[1])
    rejected(b, [y, b.node("Relu", y)], LastRow(), "something reads it", [Linear(), RmsNorm()])


def test_inputs_and_outputs_that_generation_does_not_need_are_dropped() -> None:
    graph, _ = apply(build_llama(Llama(layers=1)), *CLEAN, *FUSE, RingAttention())
    unused, extra = Value("unused", "int64", (1,)), Value("extra", "float32", (1,))
    graph.inputs.append(unused)
    graph.nodes.append(Node("Sqrt", [graph.nodes[0].output], [extra], name="extra"))
    graph.outputs.append(extra)
    after, report = apply(graph, GenerationInputs())
    assert [v.name for v in after.inputs] == ["input_ids", "past_key_values.0.key", "past_key_values.0.value"]
    assert [v.name for v in after.outputs] == ["logits", "present.0.key", "present.0.value"]
    dropped = {f.node for f in report.findings}
    assert dropped == {"unused", "extra", "position_ids", "write_indices", "nonpad_kv_seqlen"}


# --- the machinery ---------------------------------------------------------------------------------------------------


class Broken(Pass):
    name = "broken"

    def rewrite(self, rewriter: Rewriter) -> None:
        node = rewriter.nodes[0]
        rewriter.replace(node, Node("Relu", [Value("nowhere")], node.outputs, name="r"))


def test_a_pass_that_breaks_the_graph_is_caught() -> None:
    b = Builder()
    graph = b.graph(b.node("Exp", b.input("x", "B")))
    with pytest.raises(GraphError, match=r"pass broken made a bad graph: .*'nowhere' is not defined"):
        run_pass(Broken(), graph, Report())


def test_a_report_counts_and_explains() -> None:
    b = Builder()
    x = b.input("x", "B", "T", 8)
    y = b.node("Gemm", b.input("m", "T", 8), b.constant(matrix(8, 4)), alpha=0.5, name="odd")
    _, report = apply(b.graph(project(b, x), y), Linear())
    assert report.counts() == {"linear": (1, 1)}
    assert str(report) == "linear: 1 matched, 1 rejected\n  linear: odd: alpha, beta or transA is not the default"
