"""Decoders as exporters write them, made into rings: several steps against one pass over all tokens, and refusals."""

from collections.abc import Callable

import numpy as np
import pytest
from support.graphs import Array, Builder

from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.evaluate import evaluate
from tlite_vk.graph.ir import Graph, Value
from tlite_vk.graph.ops.registry import Step
from tlite_vk.graph.pipeline import optimize
from tlite_vk.graph.rows import mixes_rows
from tlite_vk.graph.shape import symbol

VOCABULARY, WIDTH, HEADS, KV, DIM = 11, 16, 4, 2, 4
RNG = np.random.default_rng(3)
Positions = Callable[[Builder, Value, Value | None], Value]


def ints(b: Builder, *numbers: int) -> Value:
    return b.constant(np.asarray(numbers, np.int64))


def weight(*shape: int) -> Array:
    return np.asarray(RNG.normal(size=shape) / np.sqrt(shape[0]), np.float32)


def length(b: Builder, value: Value, axis: int) -> Value:
    return b.node("Gather", b.node("Shape", value), b.constant(np.int64(axis)))


def given(b: Builder, ids: Value, past: Value | None) -> Value:
    return b.input("position_ids", "B", "T", dtype="int64")


def counted(b: Builder, ids: Value, past: Value | None) -> Value:
    """[1, T] from the length of the past on."""
    start = b.constant(np.int64(0)) if past is None else length(b, past, 2)
    line = b.node("Range", start, b.node("Add", start, length(b, ids, 1)), b.constant(np.int64(1)))
    return b.node("Unsqueeze", line, ints(b, 0))


def late(b: Builder, ids: Value, past: Value | None) -> Value:
    return b.node("Add", counted(b, ids, past), b.constant(np.int64(1)))


def decoder(
    *,
    past: bool,
    positions: Positions = given,
    learned: bool = False,
    window: int = 0,
    normed: bool = False,
) -> Graph:
    """One layer. learned: rows of a table at the positions, instead of rotation."""
    b = Builder()
    ids = b.input("input_ids", "B", "T", dtype="int64")
    x = b.node("Gather", b.constant(weight(VOCABULARY, WIDTH) * 4), ids)
    caches = [b.input(n, "B", KV, "P", DIM) for n in ("past_k", "past_v")] if past else [None, None]
    where = positions(b, ids, caches[0])
    if learned:
        x = b.node("Add", x, b.node("Gather", b.constant(weight(64, WIDTH) * 4), where))
    q, k, v = (projected(b, x, n, normed and i < 2) for i, n in enumerate((HEADS, KV, KV)))
    if not learned:
        angle = b.node("Mul", b.node("Cast", b.node("Unsqueeze", where, ints(b, 2)), to=1), b.constant(weight(2) + 1))
        table = b.node("Unsqueeze", b.node("Concat", angle, angle, axis=-1), ints(b, 1))
        q, k = (turned(b, h, b.node("Cos", table), b.node("Sin", table)) for h in (q, k))
    outputs = []
    if past:
        k, v = (
            b.node("Concat", c, h, axis=2, name=n) for c, h, n in zip(caches, (k, v), ("new_k", "new_v"), strict=True)
        )
        outputs = [k, v]
    seen = visible(b, ids, caches[0], window)
    y = b.node("Attention", q, repeated(b, k), repeated(b, v), seen, scale=0.5)
    rows = b.node("Reshape", b.node("Transpose", y, perm=[0, 2, 1, 3]), ints(b, 0, 0, HEADS * DIM))
    x = b.node("Add", x, b.node("MatMul", rows, b.constant(weight(HEADS * DIM, WIDTH))))
    return b.graph(b.node("MatMul", x, b.constant(weight(WIDTH, VOCABULARY)), name="logits"), *outputs)


def projected(b: Builder, x: Value, heads: int, normed: bool) -> Value:
    rows = b.node("Reshape", b.node("MatMul", x, b.constant(weight(WIDTH, heads * DIM))), ints(b, 0, 0, heads, DIM))
    if normed:
        rows = b.node("RMSNormalization", rows, b.constant(weight(DIM) + 1), epsilon=1e-3)
    return b.node("Transpose", rows, perm=[0, 2, 1, 3])


def turned(b: Builder, x: Value, cos: Value, sin: Value) -> Value:
    first, second = b.nodes_of("Split", x, outputs=2, axis=3, num_outputs=2)
    return b.node(
        "Add", b.node("Mul", x, cos), b.node("Mul", b.node("Concat", b.node("Neg", second), first, axis=3), sin)
    )


def repeated(b: Builder, heads: Value) -> Value:
    shape = b.node("Shape", heads)
    parts = [b.node("Slice", shape, ints(b, i), ints(b, i + 1)) for i in range(4)]
    wide = b.node("Concat", parts[0], parts[1], ints(b, HEADS // KV), *parts[2:], axis=0)
    flat = b.node("Concat", parts[0], ints(b, HEADS), *parts[2:], axis=0)
    return b.node("Reshape", b.node("Expand", b.node("Unsqueeze", heads, ints(b, 2)), wide), flat)


def visible(b: Builder, ids: Value, past: Value | None, window: int) -> Value:
    rows = b.node("Unsqueeze", counted(b, ids, past), ints(b, 0, 3))  # [1, 1, T, 1]
    before = b.constant(np.int64(0)) if past is None else length(b, past, 2)
    total = b.node("Add", before, length(b, ids, 1))
    keys = b.node(
        "Unsqueeze", b.node("Range", b.constant(np.int64(0)), total, b.constant(np.int64(1))), ints(b, 0, 1, 2)
    )
    seen = b.node("LessOrEqual", keys, rows)
    if window:
        seen = b.node("And", seen, b.node("Greater", keys, b.node("Sub", rows, b.constant(np.int64(window)))))
    return seen


def in_steps(graph: Graph, ids: list[int], steps: list[int], capacity: int) -> Array:
    """The logits after the last step, the caches handed on."""
    ring = {v.name: np.zeros((1, capacity, KV * DIM), np.float32) for v in graph.inputs if len(v.dims) == 3}
    logits = np.zeros(0)
    start = 0
    for count in steps:
        part = np.asarray([ids[start : start + count]])
        results = evaluate(graph, {"input_ids": part, **ring}, Step(start, count))
        logits = results.pop("logits")
        ring = dict(zip(ring, results.values(), strict=True))
        start += count
    return np.asarray(logits[0, -1])


FORMS = [
    {"past": True},
    {"past": False},
    {"past": True, "positions": counted},
    {"past": False, "positions": counted, "normed": True},
    {"past": True, "learned": True},
    {"past": True, "learned": True, "positions": counted},
    {"past": False, "learned": True, "positions": counted},
    {"past": True, "window": 4, "normed": True},
]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_steps_give_what_one_pass_gives(form) -> None:  # type: ignore[no-untyped-def]
    graph = decoder(**form)
    fused, _ = optimize(graph, generate=True, positions=32)
    assert fused.inputs[0].name == "input_ids" and len(fused.inputs) == 3
    kinds = {n.op for n in fused.nodes}
    assert "RingAttention" in kinds and not {"Softmax", "Attention", "RotaryEmbedding", "Range", "Concat"} & kinds
    ids = RNG.integers(0, VOCABULARY, 9).tolist()
    inputs: dict[str, Array] = {"input_ids": np.asarray([ids]), "position_ids": np.arange(9)[None]}
    for value in graph.inputs:
        if value.name.startswith("past"):
            inputs[value.name] = np.zeros((1, KV, 0, DIM), np.float32)
    known = {v.name for v in graph.inputs}
    expected = evaluate(graph, {k: v for k, v in inputs.items() if k in known})["logits"][0, -1]
    capacity = 4 + 4 - 1 if form.get("window") else 12  # a window, and the longest step
    for steps in ([9], [4, 4, 1]) if not form.get("window") else ([4, 4, 1], [1] * 9):
        got = in_steps(fused, ids, steps, capacity)
        np.testing.assert_allclose(got, expected, atol=2e-5, err_msg=str(steps))


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_decode_step_fuses_likewise(form) -> None:  # type: ignore[no-untyped-def]
    fused, _ = optimize(decoder(**form), generate=True, tokens=1, positions=32)
    kinds = [n.op for n in fused.nodes if n.op != "Slice"]  # nobody reads the ids that only give a shape
    assert kinds.count("RingAttention") == 1 and len(kinds) <= 7, kinds


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("past", [False, True])
def test_positions_that_are_off_are_refused(past: bool, learned: bool) -> None:
    with pytest.raises(GraphError, match=r"cannot generate with a cache .*(position|rows|length)"):
        optimize(decoder(past=past, positions=late, learned=learned), generate=True)


def test_an_encoder_is_refused() -> None:
    b = Builder()
    ids = b.input("input_ids", "B", "T", dtype="int64")
    x = b.node("Gather", b.constant(weight(VOCABULARY, WIDTH)), ids)
    q, k, v = (projected(b, x, HEADS, False) for _ in range(3))
    y = b.node("Transpose", b.node("Attention", q, k, v, name="all_see_all"), perm=[0, 2, 1, 3])
    rows = b.node("Reshape", y, ints(b, 0, 0, HEADS * DIM))
    with pytest.raises(GraphError, match="all_see_all: it is not causal"):
        optimize(b.graph(b.node("MatMul", rows, b.constant(weight(WIDTH, VOCABULARY)))), generate=True)


@pytest.mark.parametrize(
    ("op", "why"),
    [
        ("CumSum", "keep rows apart"),
        ("ReduceMean", "across rows"),
        ("Slice", "across rows"),
        ("MatMul", "rows by rows"),
    ],
)
def test_rows_that_meet_outside_of_attention_are_noticed(op: str, why: str) -> None:
    b = Builder()
    x = b.input("x", "B", "T", 4)
    if op == "CumSum":
        y = b.node(op, x, b.constant(np.int64(1)))
    elif op == "ReduceMean":
        y = b.node("Sub", x, b.node(op, x, ints(b, 1)))
    elif op == "Slice":
        y = b.node(op, x, ints(b, 1), ints(b, 1 << 40), ints(b, 1))
    elif op == "MatMul":
        y = b.node(op, x, b.node("Transpose", x, perm=[0, 2, 1]))
    elif op == "Reshape":  # [B, T, 4] seen as [B, 4, T]
        y = b.node("Transpose", b.node(op, x, ints(b, 0, 4, -1)), perm=[0, 2, 1])
    elif op == "Gather":
        last = b.node("Sub", length(b, x, 1), b.constant(np.int64(1)))
        y = b.node("Add", x, b.node(op, b.constant(weight(64, 4)), last))
    else:
        y = b.node("Mul", x, b.node(op, b.node("Cast", length(b, x, 1), to=1)))
    assert why in mixes_rows(b.graph(y), symbol("T"))


def test_rows_that_stay_apart() -> None:
    b = Builder()
    x = b.input("x", "B", "T", 4)
    y = b.node("Softmax", b.node("Mul", b.node("Tanh", x), b.constant(weight(4))), axis=-1)
    y = b.node("Sub", y, b.node("ReduceMean", y, ints(b, -1)))
    assert mixes_rows(b.graph(b.node("Transpose", y, perm=[0, 2, 1])), symbol("T")) == ""
