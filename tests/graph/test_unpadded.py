"""Sequences of different lengths over one cache become one sequence without padding, or the reason is given."""

from typing import Any

import numpy as np
import onnx
import pytest
from support.builder_llama import BuilderLlama, build_builder_llama
from support.contrib_attention import grouped
from support.graphs import apply, ops
from support.onnx_models import Case

from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.evaluate import evaluate
from tlite_vk.graph.infer import infer
from tlite_vk.graph.onnx_load import from_proto
from tlite_vk.graph.passes.unpadded import Unpadded
from tlite_vk.graph.pipeline import optimize

ONE_LAYER = BuilderLlama(layers=1, bits=0, table="floats")


@pytest.mark.parametrize(
    "case",
    [grouped("prompt", 1, 5, 0), grouped("chunk", 2, 1, 6), grouped("window", 1, 3, 6, local_window_size=2)],
    ids=lambda c: c.name,
)
def test_unpadded_sequences_give_the_same(case: Case) -> None:
    before = infer(from_proto(case.model))
    after, _ = apply(before, Unpadded())
    assert "TensorScatter" not in ops(after) and "Max" not in ops(after)
    expected, got = evaluate(before, case.inputs), evaluate(after, case.inputs)
    for name, array in expected.items():
        np.testing.assert_array_equal(got[name], array, err_msg=name)


def edited(model: onnx.ModelProto, op: str, **changes: Any) -> onnx.ModelProto:
    """The model with inputs of its first node of this operator replaced: input_0="name"."""
    node = next(n for n in model.graph.node if n.op_type == op)
    for key, name in changes.items():
        node.input[int(key.removeprefix("input_"))] = name
    return model


def refusal(model: onnx.ModelProto) -> str:
    with pytest.raises(GraphError) as caught:
        optimize(from_proto(model), generate=True)
    return str(caught.value)


def test_lengths_that_are_not_counted_are_refused() -> None:
    model = build_builder_llama(ONE_LAYER)
    ids = onnx.helper.make_node("Identity", ["input_ids"], ["twice"])
    model.graph.node.insert(0, ids)
    assert "its write index is" in refusal(edited(model, "ReduceSum", input_0="twice"))


def test_a_past_that_is_computed_is_refused() -> None:
    model = build_builder_llama(ONE_LAYER)
    model.graph.node.insert(0, onnx.helper.make_node("Neg", ["past_key_values.0.key"], ["negative"]))
    text = refusal(edited(model, "GroupQueryAttention", input_3="negative"))
    assert (
        text == "this model cannot generate with a cache (layer.0.attention: the past of its keys is not a graph input)"
    )


def test_a_present_that_something_reads_is_refused() -> None:
    model = build_builder_llama(ONE_LAYER)
    model.graph.node.append(onnx.helper.make_node("Neg", ["present.0.value"], ["negative"]))
    model.graph.output.append(onnx.ValueInfoProto(name="negative"))
    assert "its cached values are read elsewhere too" in refusal(model)


def test_other_caches_are_left_alone() -> None:
    case = grouped("x", 1, 3, 2)
    graph, report = apply(infer(from_proto(case.model)), Unpadded(), Unpadded())
    assert ops(graph).count("Attention") == 1
    assert [f.matched for f in report.findings] == [True]
