"""The ring: its oracle against plain causal attention over all tokens, and which graphs may use it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.graphs import Array, Builder, apply, ops
from support.llama import Llama, build_llama, step_inputs

from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.evaluate import evaluate
from tlite_vk.graph.ir import Graph, Node, Value
from tlite_vk.graph.ops.registry import Step
from tlite_vk.graph.ops.ring import ring_attention
from tlite_vk.graph.passes.merge_qkv import MergeQkv
from tlite_vk.graph.passes.ring_attention import RingAttention
from tlite_vk.graph.pipeline import CLEAN, FUSE, optimize

HEADS, KV_HEADS, DIM = 4, 2, 6


def banded_attention(q: Array, k: Array, v: Array, window: int) -> Array:
    """Causal attention over all tokens at once, a query at p seeing (p - window, p]. q [N, H, D]; k, v [N, KV, D]."""
    n = len(q)
    out = np.empty_like(q)
    for h in range(HEADS):
        kv = h * KV_HEADS // HEADS
        for p in range(n):
            first = max(0, p - window + 1) if window else 0
            scores = k[first : p + 1, kv] @ q[p, h] / np.sqrt(DIM)
            weights = np.exp(scores - scores.max())
            out[p, h] = weights @ v[first : p + 1, kv] / weights.sum()
    return out


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.integers(1, 7), st.integers(0, 3), st.integers(0, 9))
def test_chunks_through_the_ring_equal_one_pass_over_all_tokens(
    chunks: list[int], window: int, spare: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    total = sum(chunks)
    q, k, v = (rng.normal(size=(total, n, DIM)) for n in (HEADS, KV_HEADS, KV_HEADS))
    expected = banded_attention(q, k, v, window)
    capacity = window + max(chunks) - 1 + spare
    caches = [np.full((1, capacity, KV_HEADS * DIM), 7.0) for _ in range(2)]  # what no token wrote must not matter
    start = 0
    for count in chunks:
        rows = slice(start, start + count)
        padded = [
            np.pad(a[rows].reshape(1, count, -1), ((0, 0), (0, spare), (0, 0)), constant_values=99) for a in (q, k, v)
        ]
        y, *caches = ring_attention.run(
            [*padded, *caches],
            {"heads": HEADS, "kv_heads": KV_HEADS, "head_dim": DIM, "scale": DIM**-0.5, "window": window},
            3,
            Step(start, count),
        )
        np.testing.assert_allclose(y[0, :count].reshape(count, HEADS, DIM), expected[rows], atol=1e-9)
        assert not y[0, count:].any()
        start += count


def test_the_sources_may_be_columns_of_one_tensor() -> None:
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(1, 3, n * DIM)) for n in (HEADS, KV_HEADS, KV_HEADS))
    caches = [np.zeros((1, 8, KV_HEADS * DIM))] * 2
    plain = {"heads": HEADS, "kv_heads": KV_HEADS, "head_dim": DIM, "scale": 0.3}
    offsets = {"q_offset": 0, "k_offset": HEADS * DIM, "v_offset": (HEADS + KV_HEADS) * DIM}
    joined = np.concatenate((q, k, v), -1)
    expected = ring_attention.run([q, k, v, *caches], plain, 3, Step(2, 3))
    got = ring_attention.run([joined, joined, joined, *caches], {**plain, **offsets}, 3, Step(2, 3))
    for a, b in zip(expected, got, strict=True):
        np.testing.assert_array_equal(a, b)


def clean() -> Graph:
    graph, _ = apply(build_llama(Llama(layers=1, weights="float32")), *CLEAN, *FUSE)
    return graph


def attempt(graph: Graph) -> tuple[list[str], list[str]]:
    """Operators after the pass, and the reasons it gave."""
    after, report = apply(graph, RingAttention())
    return ops(after), [f.detail for f in report.rejections()]


def test_the_pattern_matches() -> None:
    names, why = attempt(clean())
    assert "tlite.RingAttention" in names and why == []
    assert not {"RotaryEmbedding", "TensorScatter", "Attention"} & set(names)


def find(graph: Graph, op: str, index: int = 0) -> Node:
    return [n for n in graph.nodes if n.op == op][index]


def extra_reader(graph: Graph, value: Value) -> None:
    """Let something else read the value, and make that an output."""
    out = Value("extra", value.dtype, value.shape)
    graph.nodes.append(Node("Identity", [value], [out], name="other"))
    graph.outputs.append(out)


def not_causal(graph: Graph) -> None:
    find(graph, "Attention").attributes["is_causal"] = 0


def masked(graph: Graph) -> None:
    graph.inputs.append(Value("mask", "float32", (1,)))
    find(graph, "Attention").inputs[3] = graph.inputs[-1]


def linear_scatter(graph: Graph) -> None:
    find(graph, "TensorScatter").attributes["mode"] = "linear"


def positions_elsewhere(graph: Graph) -> None:
    extra_reader(graph, graph.find_input("position_ids"))


def indices_elsewhere(graph: Graph) -> None:
    extra_reader(graph, graph.find_input("write_indices"))


def lengths_elsewhere(graph: Graph) -> None:
    extra_reader(graph, graph.find_input("nonpad_kv_seqlen"))


def cache_elsewhere(graph: Graph) -> None:
    extra_reader(graph, find(graph, "TensorScatter").output)


def past_elsewhere(graph: Graph) -> None:
    extra_reader(graph, graph.find_input("past_key_values.0.key"))


def cache_is_no_output(graph: Graph) -> None:
    graph.outputs.remove(find(graph, "TensorScatter").output)


def other_tables(graph: Graph) -> None:
    rotary = find(graph, "RotaryEmbedding", 1)
    table = rotary.input(1)
    rotary.inputs[1] = Value("other_cos", table.dtype, table.shape, table.array() * 2)


def unrotated_keys(graph: Graph) -> None:
    rotary, scatter = find(graph, "RotaryEmbedding", 1), find(graph, "TensorScatter")
    scatter.inputs[1] = rotary.input(0)


def rotated_elsewhere(graph: Graph) -> None:
    extra_reader(graph, find(graph, "RotaryEmbedding").output)


def other_heads(graph: Graph) -> None:
    find(graph, "RotaryEmbedding").attributes.update(num_heads=2, rotary_embedding_dim=8)


def computed_positions(graph: Graph) -> None:
    source = graph.find_input("position_ids")
    out = Value("computed", "int64", source.shape)
    graph.nodes.insert(0, Node("Neg", [source], [out], name="mirror"))
    for node in graph.nodes:
        if node.op == "RotaryEmbedding":
            node.inputs[3] = out


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (not_causal, "not causal"),
        (masked, "it has a mask"),
        (linear_scatter, "is not circular"),
        (indices_elsewhere, "the write index (write_indices) is also read by"),
        (lengths_elsewhere, "the number of valid keys (nonpad_kv_seqlen) is also read by"),
        (cache_elsewhere, "is read elsewhere too"),
        (past_elsewhere, "not a graph input of its own"),
        (cache_is_no_output, "is not a graph output"),
        (other_tables, "rotated differently"),
        (unrotated_keys, "rotated differently"),
        (other_heads, "rotated as other heads"),
        (computed_positions, "are not a graph input"),
    ],
)
def test_near_misses_are_left_alone(change, why: str) -> None:  # type: ignore[no-untyped-def]
    graph = clean()
    change(graph)
    names, reasons = attempt(graph)
    assert "tlite.RingAttention" not in names
    assert any(why in r for r in reasons), reasons


def test_projections_that_cannot_be_stacked_stay_three() -> None:
    b = Builder()
    sources = [b.input(n, "B", "T", 8) for n in "abc"]
    linear = [b.node("Linear", x, b.constant(np.ones((16, 8), np.float32)), domain="tlite") for x in sources]
    caches = [b.input(f"cache{i}", "B", "C", 16) for i in range(2)]
    outs = b.nodes_of(
        "RingAttention", *linear, *caches, outputs=3, domain="tlite", heads=2, kv_heads=2, head_dim=8, scale=1.0,
        q_offset=0, k_offset=0, v_offset=0,
    )  # fmt: skip
    after, report = apply(b.graph(*outs), MergeQkv())
    assert ops(after).count("tlite.Linear") == 3
    assert "different inputs" in report.rejections()[0].detail


@pytest.mark.parametrize("layer", [0, 1])
def test_a_rejected_ring_is_explained_to_the_user(layer: int) -> None:
    graph = build_llama(Llama(layers=2))
    find(graph, "Attention", layer).attributes["is_causal"] = 0
    with pytest.raises(GraphError, match=rf"cannot generate with a cache \(layer.{layer}.attention: it is not causal"):
        optimize(graph, generate=True)


@pytest.mark.parametrize("left", [0, 3])
def test_a_sliding_window_is_kept(left: int) -> None:
    config = Llama(layers=1, weights="float32")
    graph = build_llama(config)
    find(graph, "Attention").attributes["left_window_size"] = left
    fused, _ = optimize(graph, generate=True)
    assert find(fused, "RingAttention").attributes["window"] == left + 1
    inputs = step_inputs(graph, config, 4, 5, 16)
    expected = evaluate(graph, inputs)["logits"][:, -1:]
    got = evaluate(fused, {v.name: inputs[v.name] for v in fused.inputs}, Step(5, 4))["logits"]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("change", [positions_elsewhere, rotated_elsewhere])
def test_what_else_reads_positions_or_heads_goes_on_reading_them(change) -> None:  # type: ignore[no-untyped-def]
    graph = clean()
    change(graph)
    names, reasons = attempt(graph)
    assert "tlite.RingAttention" in names and "Identity" in names and reasons == []
