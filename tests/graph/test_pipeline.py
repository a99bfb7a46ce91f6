"""All passes together over Llama graphs: how many nodes are left, and that they compute the same."""

import numpy as np
import pytest
from support.graphs import Builder, ops
from support.llama import Llama, build_llama, step_inputs

from tlite_vk.graph.dump import dump
from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.evaluate import evaluate
from tlite_vk.graph.infer import check_shapes
from tlite_vk.graph.ir import Graph
from tlite_vk.graph.ops.registry import Step
from tlite_vk.graph.pipeline import optimize
from tlite_vk.graph.roles import find_roles
from tlite_vk.graph.shape import symbol
from tlite_vk.graph.weights import AffineWeight, DenseWeight

CAPACITY = 16
FORMS = ["affine4", "symmetric4", "int8", "float16", "float32"]


def compare(config: Llama, tokens: int | None, count: int, position: int) -> None:
    """A step of the fused generation graph against the stateless one."""
    graph = build_llama(config)
    fused, _ = optimize(graph, generate=True, tokens=tokens)
    inputs = step_inputs(graph, config, count, position, CAPACITY)
    expected = evaluate(graph, inputs)
    got = evaluate(fused, {v.name: inputs[v.name] for v in fused.inputs}, Step(position, count))
    assert list(got) == list(expected)
    for name, array in expected.items():
        wanted = array[:, -1:] if name == "logits" else array
        assert got[name].shape == wanted.shape
        np.testing.assert_allclose(got[name], wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max(), err_msg=name)


@pytest.mark.parametrize("form", FORMS)
def test_a_decode_step_is_five_nodes_a_layer(form: str) -> None:
    fused, report = optimize(build_llama(Llama(layers=3, weights=form)), generate=True, tokens=1)
    layer = ["tlite.Linear", "tlite.RingAttention", "tlite.Linear", "tlite.Linear", "tlite.Linear"]
    assert ops(fused) == ["tlite.Embedding", *layer * 3, "tlite.Linear"]
    assert report.counts()["norm-into-linear"] == (7, 0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tokens", [None, 6])
def test_a_prefill_step_keeps_its_norms(form: str, tokens: int | None) -> None:
    fused, _ = optimize(build_llama(Llama(layers=2, weights=form)), generate=True, tokens=tokens)
    layer = ["RMSNorm", "Linear", "RingAttention", "Linear", "RMSNorm", "Linear", "Linear"]
    last = ["RMSNorm", "Linear", "RingAttention", "LastRow", "LastRow", "Linear", "Linear", "Linear"]
    assert ops(fused) == [f"tlite.{n}" for n in ["Embedding", *layer, *last, "Linear"]]
    for node in fused.nodes[-4:]:
        assert node.output.dims[1] == 1


def test_fusing_keeps_what_the_nodes_mean() -> None:
    fused, _ = optimize(build_llama(Llama(layers=1)), generate=True, tokens=1)
    qkv, attention, out, gated, down, head = fused.nodes[1:]
    assert qkv.input(1).shape == (64, 32) and qkv.optional(4) is not None and qkv.attributes["norm_epsilon"] == 1e-5
    assert [attention.attributes[k] for k in ("q_offset", "k_offset", "v_offset")] == [0, 32, 48]
    assert attention.attributes["rotary_dim"] == 8 and attention.attributes["window"] == 0
    assert out.optional(3) is fused.nodes[0].output and down.optional(3) is out.output
    assert gated.attributes["activation"] == "swiglu" and gated.input(1).shape == (128, 32)
    assert head.output.name == "logits"
    assert [v.name for v in fused.inputs] == ["input_ids", "past_key_values.0.key", "past_key_values.0.value"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("tokens", "count", "position"), [(1, 1, 0), (1, 1, 9), (1, 1, 37), (None, 7, 0), (7, 7, 5)])
def test_a_step_computes_what_the_stateless_graph_does(
    form: str, tokens: int | None, count: int, position: int
) -> None:
    compare(Llama(weights=form), tokens, count, position)


VARIANTS = [
    Llama(bias=True),
    Llama(bias=True, weights="float32"),
    Llama(activation="none"),
    Llama(activation="tanh"),
    Llama(activation="swish"),
    Llama(heads=4, kv_heads=4),
    Llama(heads=4, kv_heads=1),
    Llama(rotary=False),
    Llama(layers=1),
]


@pytest.mark.parametrize("config", VARIANTS, ids=str)
@pytest.mark.parametrize("tokens", [1, None])
def test_variants_compute_the_same(config: Llama, tokens: int | None) -> None:
    compare(config, tokens, 1 if tokens else 5, 3)


def test_padded_rows_write_nothing_and_do_not_matter() -> None:
    config = Llama()
    graph = build_llama(config)
    fused, _ = optimize(graph, generate=True, tokens=8)
    inputs = step_inputs(graph, config, 5, 2, CAPACITY)
    expected = evaluate(graph, inputs)
    padded = {**inputs, "input_ids": np.pad(inputs["input_ids"], ((0, 0), (0, 3)), constant_values=1)}
    got = evaluate(fused, {v.name: padded[v.name] for v in fused.inputs}, Step(2, 5))
    np.testing.assert_allclose(got["logits"], expected["logits"][:, -1:], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(got["present.1.value"], expected["present.1.value"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_the_stateless_graph_keeps_its_inputs_and_outputs(form: str) -> None:
    config = Llama(weights=form)
    graph = build_llama(config)
    fused, _ = optimize(graph, generate=False)
    assert [v.name for v in fused.inputs] == [v.name for v in graph.inputs]
    assert ops(fused).count("tlite.Linear") == 2 * 6 + 1 and "Attention" in ops(fused)
    inputs = step_inputs(graph, config, 4, 3, CAPACITY)
    expected, got = evaluate(graph, inputs), evaluate(fused, inputs)
    for name, array in expected.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-4, err_msg=name)


def test_weights_stay_what_they_are() -> None:
    kinds = {
        form: [type(n.input(1).constant) for n in optimize(build_llama(Llama(weights=form)), generate=True)[0].nodes
               if n.op == "Linear"]
        for form in FORMS
    }  # fmt: skip
    assert set(kinds["affine4"]) == set(kinds["symmetric4"]) == set(kinds["int8"]) == {AffineWeight}
    assert set(kinds["float16"]) == set(kinds["float32"]) == {DenseWeight, np.ndarray}
    fused, _ = optimize(build_llama(Llama(weights="float16")), generate=True)
    linear = next(n for n in fused.nodes if n.op == "Linear" and isinstance(n.input(1).constant, np.ndarray))
    assert linear.input(1).array().dtype == np.float16 and linear.input(1).dtype == "float32"


@pytest.mark.parametrize("form", FORMS)
def test_a_tied_embedding_is_one_weight(form: str) -> None:
    fused, _ = optimize(build_llama(Llama(weights=form)), generate=True, tokens=1)
    assert fused.nodes[-1].input(1) is fused.nodes[0].input(1)


def test_scoring_a_text_keeps_every_row() -> None:
    fused, _ = optimize(build_llama(Llama()), generate=True, every_row=True)
    assert "tlite.LastRow" not in ops(fused)
    assert fused.outputs[0].dims == (symbol("B"), symbol("T"), 96)


def test_the_source_graph_is_left_alone() -> None:
    graph = build_llama(Llama())
    before = dump(graph)
    optimize(graph, generate=True, tokens=1)
    assert dump(graph) == before


def test_each_pass_is_dumped_in_order() -> None:
    seen: list[str] = []

    def keep(name: str, graph: Graph) -> None:
        seen.append(name)
        graph.verify()
        check_shapes(graph)

    optimize(build_llama(Llama(layers=1)), generate=True, tokens=1, dump=keep)
    assert (
        seen.index("quantized-weights") < seen.index("linear") < seen.index("ring-attention") < seen.index("merge-qkv")
    )


def test_a_model_without_caches_cannot_generate() -> None:
    b = Builder()
    table = b.constant(np.ones((8, 4), np.float32))
    graph = b.graph(b.node("Gather", table, b.input("input_ids", "B", "T", dtype="int64")))
    with pytest.raises(GraphError, match="cannot generate with a cache"):
        optimize(graph, generate=True)


def test_the_roles_of_a_llama_graph() -> None:
    for generate in (False, True):
        graph, _ = optimize(build_llama(Llama(layers=2)), generate=generate)
        roles = find_roles(graph)
        assert roles.token_ids.name == "input_ids" and roles.logits.name == "logits"
        assert (roles.batch, roles.tokens, roles.capacity) == (symbol("B"), symbol("T"), symbol("C"))
        assert [(p.k_in.name, p.v_out.name) for p in roles.caches] == [
            (f"past_key_values.{i}.key", f"present.{i}.value") for i in (0, 1)
        ]
    decode, _ = optimize(build_llama(Llama(layers=2)), generate=True, tokens=1)
    assert find_roles(decode).tokens is None
