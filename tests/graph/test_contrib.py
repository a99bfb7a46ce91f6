"""Operators of com.microsoft in standard ones: against onnxruntime, which runs them itself, and what is refused."""

from typing import Any

import numpy as np
import onnx
import pytest
from support.builder_llama import BuilderLlama, build_builder_llama, step_inputs
from support.contrib_attention import grouped
from support.contrib_cases import all_cases, n_bits, simple
from support.onnx_models import CONTRIB, Array, Case, OnnxModel, run_onnxruntime

from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.evaluate import evaluate
from tlite_vk.graph.infer import infer
from tlite_vk.graph.onnx_load import from_proto
from tlite_vk.graph.weights import AffineWeight
from tlite_vk.packing import packing_of


@pytest.mark.parametrize("case", all_cases(), ids=lambda c: c.name)
def test_the_oracles_give_what_onnxruntime_gives(case: Case) -> None:
    graph = infer(from_proto(case.model))
    assert not any(n.domain for n in graph.nodes)
    expected, got = run_onnxruntime(case.model, case.inputs), evaluate(graph, case.inputs)
    assert list(got) == list(expected)
    for name, array in expected.items():
        a, b = case.valid(name, got[name]), case.valid(name, array)
        assert a.dtype == b.dtype and a.shape == b.shape, name
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-6 * max(1.0, float(np.abs(b).max())), err_msg=name)


def refused(case: Case, **attributes: Any) -> str:
    """The message for the case's node with other attributes."""
    node = case.model.graph.node[0]
    kept = [a for a in node.attribute if a.name not in attributes]
    del node.attribute[:]
    node.attribute.extend([*kept, *(onnx.helper.make_attribute(k, v) for k, v in attributes.items())])
    return refusal(case.model)


def refusal(model: onnx.ModelProto) -> str:
    with pytest.raises(GraphError) as caught:
        infer(from_proto(model))
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"smooth_softmax": 1}, "smooth_softmax=1 is not supported"),
        ({"k_quant_type": "PER_TENSOR"}, "k_quant_type=PER_TENSOR is not supported"),
        ({"kv_cache_bit_width": 8}, "kv_cache_bit_width=8 is not supported"),
        ({"sliding_window_cache": 1}, "sliding_window_cache=1 is not supported"),
        ({"from_the_future": 1}, "attribute 'from_the_future' is not supported"),
    ],
)
def test_variants_of_grouped_query_attention_are_refused_by_name(attributes: dict[str, Any], text: str) -> None:
    message = refused(grouped("x", 1, 3, 2), **attributes)
    assert text in message and "GroupQueryAttention_3" in message


def test_a_buffer_that_past_and_present_share_is_refused() -> None:
    case = grouped("x", 1, 3, 2)
    for output in case.model.graph.output[1:]:
        output.type.tensor_type.elem_type = 1
        output.type.tensor_type.shape.CopyFrom(case.model.graph.input[3].type.tensor_type.shape)
    assert refusal(case.model) == (
        f"{where(case)}: past and present share a buffer of P slots, which is not supported; "
        "export the model with a past that grows"
    )
    for output in case.model.graph.output[1:]:
        output.type.tensor_type.shape.dim[2].dim_param = "S"
    infer(from_proto(case.model))


def test_inputs_and_outputs_that_nothing_supports_are_refused_by_name() -> None:
    case = grouped("x", 1, 3, 2)
    node = case.model.graph.node[0]
    node.input.extend(["", "", "q"])
    assert refusal(case.model) == f"{where(case)}: its input 'head_sink' is not supported"
    node.input[11] = ""
    node.input.extend(["", "", "", "", "lengths"])
    assert refusal(case.model) == f"{where(case)}: its input 'query_seqlens' is not supported"
    case = simple("x", "SkipLayerNormalization", [(2, 3, 10)] * 2 + [(10,)])
    case.model.graph.node[0].output.append("mean")
    infer(from_proto(case.model))  # nothing reads it
    case.model.graph.output.append(onnx.ValueInfoProto(name="mean"))
    assert refusal(case.model) == f"{where(case)}: its output 1 ('mean') is not supported"


def test_norms_of_heads_inside_of_the_attention_are_those_before_it() -> None:
    """The same seed gives both models the same weights; onnxruntime runs the first on its CPU, but not the second."""
    results = []
    for where in ("nodes", "attention"):
        config = BuilderLlama(head_norms=where, bits=0, layers=1)
        model = build_builder_llama(config)
        graph = infer(from_proto(model))
        results.append(evaluate(graph, step_inputs(model, config, 3, 4, [7])))
    for name, array in results[0].items():
        np.testing.assert_array_equal(results[1][name], array, err_msg=name)


def where(case: Case) -> str:
    node = case.model.graph.node[0]
    return f"com.microsoft.{node.op_type} node {node.name!r}"


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"bits": 2}, "bits=2 is not supported, only 4 and 8"),
        ({"weight_prepacked": 1}, "weight_prepacked=1 is not supported"),
        ({"N": 13}, "its weight has 1536 bytes, not 1664"),
        ({"block_size": 64}, "it has 96 scales, not 12 x 4"),
    ],
)
def test_quantized_weights_that_do_not_fit_are_refused(attributes: dict[str, int], text: str) -> None:
    case = n_bits("x", 4, 32)
    assert refused(case, **attributes) == f"{where(case)}: {text}"


def test_a_quantized_weight_must_be_a_constant() -> None:
    case = n_bits("x", 4, 32)
    codes = case.model.graph.initializer[0]
    case.model.graph.input.append(onnx.helper.make_tensor_value_info(codes.name, codes.data_type, codes.dims))
    del case.model.graph.initializer[0]
    assert refusal(case.model) == f"{where(case)}: its weight ('c_1') must be a constant"


@pytest.mark.parametrize(
    ("order", "text"), [(np.arange(256) // 32, ""), (np.arange(256)[::-1] // 32, "columns in another order (g_idx)")]
)
def test_groups_in_order_are_taken(order: Array, text: str) -> None:
    case = n_bits("x", 4, 32, "packed")
    case.model.graph.initializer.append(onnx.numpy_helper.from_array(order.astype(np.int32), "order"))
    case.model.graph.node[0].input.append("order")
    assert not text or refusal(case.model) == f"{where(case)}: {text}"
    if not text:
        infer(from_proto(case.model))


def test_operators_that_are_not_known_are_refused_by_name() -> None:
    m = OnnxModel()
    x = m.input("x", np.float32, 2, 8)
    model = m.proto(m.node("DecoderMaskedMultiHeadAttention", x, domain=CONTRIB, name="attend"))
    expected = "operator com.microsoft.DecoderMaskedMultiHeadAttention is not supported (node 'attend')"
    assert refusal(model) == expected


@pytest.mark.parametrize(
    ("bits", "zero", "dtype", "form"),
    [
        (4, "", np.float32, "e0m4_f32"),
        (4, "", np.float16, "e0m4_symmetric"),
        (4, "packed", np.float32, "e0m4_f32"),
        (4, "packed", np.float16, "e0m4_f32"),
        (4, "same", np.float16, "e0m4_f32"),
        (8, "", np.float32, "int8_f32"),
        (8, "", np.float16, "int8"),
    ],
)
def test_weights_stay_in_their_codes(bits: int, zero: str, dtype: Any, form: str) -> None:
    case = n_bits("x", bits, 32, zero, dtype=dtype)
    graph = infer(from_proto(case.model))
    constants = [v.constant for n in graph.nodes for v in n.inputs if v is not None]
    (weight,) = [c for c in constants if isinstance(c, AffineWeight)]
    assert packing_of(weight).format.name == form
    codes = onnx.numpy_helper.to_array(case.model.graph.initializer[0])
    np.testing.assert_array_equal(weight.parts[0].codes, codes.reshape(12, -1))
