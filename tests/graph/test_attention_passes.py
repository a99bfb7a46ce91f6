"""Attention, masks, rotation and pasts as exporters write them: what the passes make of them, and what they leave."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from support.graphs import Array, Builder, apply, assert_same_results, ops

from tlite_vk.graph.ir import Graph, Node, Value
from tlite_vk.graph.passes.attention_core import AttentionCore
from tlite_vk.graph.passes.attention_mask import AttentionMask
from tlite_vk.graph.passes.base import Report, Rewriter
from tlite_vk.graph.passes.decomposed_gelu import DecomposedGelu
from tlite_vk.graph.passes.decomposed_layer_norm import DecomposedLayerNorm
from tlite_vk.graph.passes.flat_rows import FlatRows
from tlite_vk.graph.passes.gated_halves import GatedHalves
from tlite_vk.graph.passes.linear import Linear
from tlite_vk.graph.passes.movement import Movement
from tlite_vk.graph.passes.past_concat import PastConcat
from tlite_vk.graph.passes.reading import padding_input, reader_of
from tlite_vk.graph.passes.residual import Residual
from tlite_vk.graph.passes.rotary import Rotary

LENGTHS = {"B": 2, "T": 5, "P": 3}
RNG = np.random.default_rng(5)
Make = Callable[[Builder], Value]


def ints(b: Builder, *numbers: int) -> Value:
    return b.constant(np.asarray(numbers, np.int64))


def number(b: Builder, value: float) -> Value:
    return b.constant(np.asarray(value, np.float32))


@dataclass(frozen=True)
class Form:
    """One way to write attention out. heads, kv_heads, width as usual; past: with cached keys and values."""

    heads: int = 4
    kv_heads: int = 2
    width: int = 8
    past: bool = False
    scale: str = "scores"  # or "operands", "divide", "none"
    keys: str = "transposed"  # or "flattened": [B*H, S, D] on the way
    guarded: bool = False  # rows without keys are replaced by 0
    mask: str = "causal"  # or "window", "padding", "none", "alibi", "prefix"
    additive: bool = True
    cap: float = 0.0


def line(b: Builder, like: Value, axis: int, *, upto: Value | None = None) -> Value:
    """0, 1, ... as many as `like` is long on the axis."""
    length = b.node("Gather", b.node("Shape", like), b.constant(np.int64(axis)))
    end = length if upto is None else b.node("Add", length, upto)
    return b.node("Range", b.constant(np.int64(0)), end, b.constant(np.int64(1)))


def before(b: Builder, past: Value | None) -> Value:
    """The number of tokens in the past."""
    if past is None:
        return b.constant(np.int64(0))
    return b.node("Gather", b.node("Shape", past), b.constant(np.int64(2)))


def visible(b: Builder, form: Form, x: Value, past: Value | None) -> Value:
    """bool [B or 1, 1, T, S]"""
    rows = b.node("Unsqueeze", b.node("Add", line(b, x, 1), before(b, past)), ints(b, 0, 1, 3))
    keys = b.node("Unsqueeze", line(b, x, 1, upto=before(b, past)), ints(b, 0, 1, 2))
    seen = b.node("LessOrEqual", keys, rows)
    if form.mask == "window":
        seen = b.node("And", seen, b.node("Greater", keys, b.node("Sub", rows, b.constant(np.int64(3)))))
    if form.mask == "prefix":
        seen = b.node("Or", seen, b.node("Less", keys, b.constant(np.int64(2))))
    if form.mask == "padding":
        mask = b.input("attention_mask", "B", "P + T" if past is not None else "T", dtype="int64")
        seen = b.node("And", seen, b.node("Unsqueeze", b.node("Cast", mask, to=9), ints(b, 1, 2)))
    return seen


def added(b: Builder, form: Form, x: Value, past: Value | None) -> Value:
    mask = b.node("Where", visible(b, form, x, past), number(b, 0.0), number(b, -3.4e38))
    if form.mask == "alibi":
        slopes = b.node("Cast", b.node("Unsqueeze", line(b, x, 1, upto=before(b, past)), ints(b, 0, 1, 2)), to=1)
        mask = b.node("Add", mask, slopes)
    return mask


def repeated(b: Builder, form: Form, value: Value) -> Value:
    """Key heads repeated for the query heads of their group."""
    group = form.heads // form.kv_heads
    if group == 1:
        return value
    wide = b.node("Unsqueeze", value, ints(b, 2))
    shape = b.node("Shape", value)
    lengths = [b.node("Slice", shape, ints(b, i), ints(b, i + 1)) for i in range(4)]
    full = b.node("Concat", lengths[0], lengths[1], ints(b, group), lengths[2], lengths[3], axis=0)
    flat = b.node("Concat", lengths[0], ints(b, form.heads), lengths[2], lengths[3], axis=0)
    return b.node("Reshape", b.node("Expand", wide, full), flat)


def keys_turned(b: Builder, form: Form, keys: Value) -> Value:
    """[B, H, S, D] as [B, H, D, S]."""
    if form.keys == "transposed":
        return b.node("Transpose", keys, perm=[0, 1, 3, 2])
    shape = b.node("Shape", keys)
    s = b.node("Slice", shape, ints(b, 2), ints(b, 3))
    flat = b.node("Reshape", keys, b.node("Concat", ints(b, -1), s, ints(b, form.width), axis=0))
    turned = b.node("Transpose", flat, perm=[0, 2, 1])
    lead = b.node("Slice", shape, ints(b, 0), ints(b, 2))
    return b.node("Reshape", turned, b.node("Concat", lead, ints(b, form.width), s, axis=0))


def projected(b: Builder, x: Value, heads: int, width: int) -> Value:
    """Heads [B, H, T, D] of x [B, T, K]."""
    k = x.shape[-1] if x.shape else 0
    weight = b.constant(RNG.normal(size=(k, heads * width)).astype(np.float32))
    split = b.node("Reshape", b.node("MatMul", x, weight), ints(b, 0, 0, heads, width))
    return b.node("Transpose", split, perm=[0, 2, 1, 3])


def attention(b: Builder, form: Form, turn: Callable[[Builder, Value, Value], Value] | None = None) -> list[Value]:
    """The graph of one attention; its output [B, T, H*D] and, with a past, present keys and values."""
    x = b.input("x", "B", "T", 12)
    q = projected(b, x, form.heads, form.width)
    k, v = (projected(b, x, form.kv_heads, form.width) for _ in range(2))
    if turn is not None:
        q, k = turn(b, x, q), turn(b, x, k)
    outputs: list[Value] = []
    past = None
    if form.past:
        past, past_v = (b.input(n, "B", form.kv_heads, "P", form.width) for n in ("past_k", "past_v"))
        k, v = b.node("Concat", past, k, axis=-2), b.node("Concat", past_v, v, axis=-2)
        outputs = [k, v]
    keys, values = repeated(b, form, k), repeated(b, form, v)
    factor = form.width**-0.5
    if form.scale == "operands":
        q, keys = (b.node("Mul", o, number(b, factor**0.5)) for o in (q, keys))
    scores = b.node("MatMul", q, keys_turned(b, form, keys))
    if form.scale in ("scores", "divide"):
        op, by = ("Mul", factor) if form.scale == "scores" else ("Div", 1 / factor)
        scores = b.node(op, scores, number(b, by))
    if form.cap:
        scores = b.node("Mul", b.node("Tanh", b.node("Div", scores, number(b, form.cap))), number(b, form.cap))
    if form.mask != "none":
        scores = b.node("Add", scores, added(b, form, x, past))
    weights = b.node("Softmax", scores, axis=-1)
    if form.guarded:
        weights = b.node("Where", b.node("IsNaN", weights), number(b, 0.0), weights)
    y = b.node("Transpose", b.node("MatMul", weights, values), perm=[0, 2, 1, 3])
    return [b.node("Reshape", y, ints(b, 0, 0, form.heads * form.width)), *outputs]


def fused(b: Builder, outputs: list[Value]) -> tuple[Graph, Report, Node]:
    """The graph after the passes for attention, which must give the same results, and its Attention node."""
    before = b.graph(*outputs)
    after, report = apply(before, Linear(), AttentionCore(), PastConcat(), AttentionMask(), Rotary(), Movement())
    assert_same_results(before, after, LENGTHS, tolerance=1e-4)
    found = [n for n in after.nodes if n.op == "Attention"]
    assert len(found) == 1, [str(f) for f in report.findings]
    return after, report, found[0]


FORMS = [
    Form(),
    Form(scale="operands", keys="flattened", guarded=True),
    Form(kv_heads=1, scale="divide"),
    Form(kv_heads=4, scale="none"),
    Form(past=True, mask="padding", keys="flattened"),
    Form(past=True, mask="window"),
    Form(mask="none"),
    Form(cap=4.0),
]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_attention_written_out(form: Form) -> None:
    b = Builder()
    after, _, node = fused(b, attention(b, form))
    assert "Softmax" not in ops(after) and "Expand" not in ops(after)
    assert node.input(1).dims[1] == form.kv_heads
    assert node.attributes.get("is_causal", 0) == int(form.mask != "none")
    assert node.attributes.get("left_window_size", -1) == (2 if form.mask == "window" else -1)
    assert (node.optional(3) is not None) == (form.mask == "padding")
    assert (node.optional(4) is not None) == form.past
    assert node.attributes["softcap"] == form.cap
    scale = 1.0 if form.scale == "none" else form.width**-0.5
    assert node.attributes["scale"] == pytest.approx(scale, rel=1e-6)


@pytest.mark.parametrize(("mask", "why"), [("alibi", "its mask adds"), ("prefix", "its mask has the condition")])
@pytest.mark.parametrize("past", [False, True])
def test_other_masks_stay_tensors(mask: str, why: str, past: bool) -> None:
    b = Builder()
    _, report, node = fused(b, attention(b, Form(mask=mask, past=past)))
    assert node.optional(3) is not None and not node.attributes.get("is_causal", 0)
    assert any(why in f.detail for f in report.rejections())


def test_a_mask_that_is_off_by_one_stays() -> None:
    b = Builder()
    x = b.input("x", "B", "T", 12)
    rows, keys = b.node("Unsqueeze", line(b, x, 1), ints(b, 1)), b.node("Unsqueeze", line(b, x, 1), ints(b, 0))
    q, k, v = (projected(b, x, 2, 8) for _ in range(3))
    y = b.node("Attention", q, k, v, b.node("Less", keys, rows))  # does not see itself
    before = b.graph(y)
    after, report = apply(before, AttentionMask())
    assert after.nodes[-1].optional(3) is not None and "has the condition" in report.rejections()[0].detail
    assert_same_results(before, after, LENGTHS)


def test_a_softmax_that_is_no_attention_is_left_alone() -> None:
    b = Builder()
    x, v = b.input("x", "B", 4, "T", "T"), b.input("v", "B", 4, "T", 8)
    after, report = apply(b.graph(b.node("MatMul", b.node("Softmax", x), v)), AttentionCore())
    assert ops(after) == ["Softmax", "MatMul"]
    assert "not a product of queries and keys" in report.rejections()[0].detail


def test_joined_keys_that_something_else_reads_stay_joined() -> None:
    b = Builder()
    outputs = attention(b, Form(past=True))
    before = b.graph(*outputs, b.node("Relu", outputs[1]))
    after, report = apply(before, Linear(), AttentionCore(), PastConcat(), AttentionMask())
    assert "Concat" in ops(after)
    assert any("read elsewhere too" in f.detail for f in report.rejections())
    assert_same_results(before, after, LENGTHS, tolerance=1e-4)


HEADS = (4, 8)


def plain(b: Builder, q: Value, k: Value, v: Value, mask: Value | None = None) -> Value:
    scores = b.node("MatMul", q, b.node("Transpose", k, perm=[0, 1, 3, 2]))
    if mask is not None:
        scores = b.node("Add", scores, mask)
    return b.node("MatMul", b.node("Softmax", scores, axis=-1), v)


def rows_of(b: Builder, value: Value, start: int, end: int, axis: int = 2) -> Value:
    return b.node("Slice", value, ints(b, start), ints(b, end), ints(b, axis))


@pytest.mark.parametrize("axis", [0, 2])
@pytest.mark.parametrize("bounds", [(0, 1), (-1, 1 << 40), (1, 2)])
@pytest.mark.parametrize("which", ["q", "kv", "all"])
def test_a_part_of_a_tensor_is_not_taken_for_all_of_it(axis: int, bounds: tuple[int, int], which: str) -> None:
    b = Builder()
    x = b.input("x", "B", "T", 12)
    q, k, v = (projected(b, x, *HEADS) for _ in range(3))
    if which in ("q", "all"):
        q = rows_of(b, q, *bounds, axis)
    if which in ("kv", "all"):
        k, v = (rows_of(b, o, *bounds, axis) for o in (k, v))
    before = b.graph(plain(b, q, k, v))
    after, _ = apply(before, Linear(), AttentionCore(), PastConcat(), AttentionMask(), Movement())
    assert_same_results(before, after, LENGTHS, tolerance=1e-4)


@pytest.mark.parametrize("shape", [("B", 1, "T", 1), ("B", 1, 1, 1), (1, 1, "T", "T"), ("T",)])
def test_masks_that_are_broadcast(shape: tuple[str | int, ...]) -> None:
    b = Builder()
    x = b.input("x", "B", "T", 12)
    q, k, v = (projected(b, x, *HEADS) for _ in range(3))
    before = b.graph(plain(b, q, k, v, b.input("mask", *shape)))
    after, _ = apply(before, Linear(), AttentionCore(), AttentionMask(), Movement())
    assert_same_results(before, after, LENGTHS, tolerance=1e-4)


@pytest.mark.parametrize(
    ("op", "against", "ring"), [("Equal", 1, True), ("Greater", 0, True), ("Equal", 0, False), ("Less", 3, True)]
)
@pytest.mark.parametrize("hidden", [-1e4, -3.4e38])
def test_padding_by_comparison(op: str, against: int, ring: bool, hidden: float) -> None:
    """The random mask has sequences without any valid key, too: with a finite number, those are means over all keys."""
    b = Builder()
    x, valid = b.input("x", "B", "T", 12), b.input("valid", "B", "T", dtype="int64")
    q, k, v = (projected(b, x, *HEADS) for _ in range(3))
    keys = b.node("Unsqueeze", b.node(op, valid, b.constant(np.int64(against))), ints(b, 1, 2))
    mask = b.node("Where", keys, number(b, 0.0), number(b, hidden))
    before = b.graph(plain(b, q, k, v, mask))
    after, report = apply(before, Linear(), AttentionCore(), AttentionMask())
    node = next(n for n in after.nodes if n.op == "Attention")
    assert node.attributes["hidden"] == pytest.approx(hidden) and node.input(3).dims[1:3] == (1, 1), report
    for seed in range(4):
        assert_same_results(before, after, LENGTHS, seed=seed, tolerance=1e-4)
    rewriter = Rewriter(after)
    found = padding_input(rewriter, reader_of(rewriter), node.input(3))
    assert (found is not None) is ring  # 1 throughout must hide no key


# --- rotation --------------------------------------------------------------------------------------------------------


def tables(b: Builder, pairs: int, *, doubled: str, scale: float = 1.0) -> tuple[Value, Value]:
    """cos and sin [B, 1, T, r] of positions times frequencies; doubled: "halves" or "neighbours"."""
    known = [v for v in b.inputs if v.name == "position_ids"]
    positions = known[0] if known else b.input("position_ids", "B", "T", dtype="int64")
    frequencies = b.constant(np.asarray(10000.0 ** (-np.arange(pairs) / pairs), np.float32))
    column = b.node("Cast", b.node("Unsqueeze", positions, ints(b, 2)), to=1)
    angle = b.node("Mul", column, frequencies)
    if doubled == "halves":
        angle = b.node("Concat", angle, angle, axis=-1)
    else:
        twice = b.node("Concat", *[b.node("Unsqueeze", angle, ints(b, 3))] * 2, axis=-1)
        angle = b.node("Reshape", twice, ints(b, 0, 0, 2 * pairs))
    both = (b.node(op, b.node("Unsqueeze", angle, ints(b, 1))) for op in ("Cos", "Sin"))
    cos, sin = (v if scale == 1.0 else b.node("Mul", v, number(b, scale)) for v in both)
    return cos, sin


def cut(b: Builder, x: Value, start: int, end: int, step: int = 1) -> Value:
    return b.node("Slice", x, ints(b, start), ints(b, end), ints(b, 3), ints(b, step))


def turned(b: Builder, x: Value, cos: Value, sin: Value, rotary: int, *, interleaved: bool, sign: int = -1) -> Value:
    if interleaved:
        first, second = cut(b, x, 0, rotary, 2), cut(b, x, 1, rotary, 2)
        parts = [b.node("Unsqueeze", v, ints(b, 4)) for v in (b.node("Neg", second), first)]
        other = b.node("Reshape", b.node("Concat", *parts, axis=-1), ints(b, 0, 0, 0, rotary))
    else:
        first, second = cut(b, x, 0, rotary // 2), cut(b, x, rotary // 2, rotary)
        swapped = (b.node("Neg", second), first) if sign < 0 else (second, b.node("Neg", first))
        other = b.node("Concat", *swapped, axis=-1)
    return b.node("Add", b.node("Mul", x, cos), b.node("Mul", other, sin))


def rotation(
    rotary: int, width: int, *, interleaved: bool = False, scale: float = 1.0, sign: int = -1
) -> Callable[[Builder, Value, Value], Value]:
    def turn(b: Builder, x: Value, heads: Value) -> Value:
        cos, sin = tables(b, rotary // 2, doubled="neighbours" if interleaved else "halves", scale=scale)
        if rotary == width:
            return turned(b, heads, cos, sin, rotary, interleaved=interleaved, sign=sign)
        front = turned(b, cut(b, heads, 0, rotary), cos, sin, rotary, interleaved=interleaved, sign=sign)
        return b.node("Concat", front, cut(b, heads, rotary, width), axis=-1)

    return turn


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("rotary", [8, 4])
@pytest.mark.parametrize("scale", [1.0, 1.25])
def test_rotary_embedding_written_out(interleaved: bool, rotary: int, scale: float) -> None:
    b = Builder()
    form = Form(past=True, mask="padding")
    after, _, node = fused(b, attention(b, form, rotation(rotary, 8, interleaved=interleaved, scale=scale)))
    rotated = [n for n in after.nodes if n.op == "RotaryEmbedding"]
    assert len(rotated) == 2 and node.input(0) is rotated[0].output
    assert {n.attributes["interleaved"] for n in rotated} == {int(interleaved)}
    assert {n.attributes["rotary_embedding_dim"] for n in rotated} == {0 if rotary == 8 else rotary}
    angles = [n for n in after.nodes if n.op == "RotaryAngles"]
    assert angles[0].input(0).name == "position_ids" and angles[0].attributes["scale"] == pytest.approx(scale)
    assert not {"Neg", "Cos", "Sin"} & set(ops(after))


def test_a_rotation_the_other_way_is_left_alone() -> None:
    b = Builder()
    after, report, _ = fused(b, attention(b, Form(), rotation(8, 8, sign=1)))
    assert "RotaryEmbedding" not in ops(after) and "Neg" in ops(after)
    assert any("turns the other way" in f.detail for f in report.rejections())


# --- what stands around attention ------------------------------------------------------------------------------------


def same(make: Make, rules: list[object], expected: list[str]) -> None:
    b = Builder()
    before = b.graph(make(b))
    after, report = apply(before, *rules)  # type: ignore[arg-type]
    assert ops(after) == expected, [str(f) for f in report.findings]
    assert_same_results(before, after, LENGTHS, tolerance=1e-4)


def weights(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def tanh_gelu(b: Builder, x: Value, cube: str = "pow", swapped: bool = False) -> Value:
    third = b.node("Pow", x, number(b, 3.0)) if cube == "pow" else b.node("Mul", b.node("Mul", x, x), x)
    inner = b.node("Add", x, b.node("Mul", number(b, 0.044715), third))
    bracket = b.node("Add", number(b, 1.0), b.node("Tanh", b.node("Mul", inner, number(b, 0.7978845608))))
    if swapped:
        return b.node("Mul", number(b, 0.5), b.node("Mul", x, bracket))
    return b.node("Mul", b.node("Mul", x, number(b, 0.5)), bracket)


def erf_gelu(b: Builder, x: Value) -> Value:
    bracket = b.node("Add", b.node("Erf", b.node("Div", x, number(b, 2**0.5))), number(b, 1.0))
    return b.node("Mul", b.node("Mul", x, bracket), number(b, 0.5))


@pytest.mark.parametrize(
    "make",
    [erf_gelu, tanh_gelu, lambda b, x: tanh_gelu(b, x, "mul"), lambda b, x: tanh_gelu(b, x, swapped=True)],
    ids=["erf", "tanh", "x*x*x", "half last"],
)
def test_gelu_written_out(make: Callable[[Builder, Value], Value]) -> None:
    same(lambda b: make(b, b.input("x", "B", "T", 6)), [DecomposedGelu()], ["Gelu"])


def test_gelu_with_another_factor_is_left_alone() -> None:
    b = Builder()
    x = b.input("x", "B", 6)
    bracket = b.node("Add", b.node("Erf", b.node("Div", x, number(b, 2.0))), number(b, 1.0))
    after, _ = apply(b.graph(b.node("Mul", b.node("Mul", x, bracket), number(b, 0.5))), DecomposedGelu())
    assert "Gelu" not in ops(after)


def layer_norm(b: Builder, x: Value, divide: bool, biased: bool) -> Value:
    centred = b.node("Sub", x, b.node("ReduceMean", x, ints(b, -1)))
    variance = b.node("ReduceMean", b.node("Mul", centred, centred), ints(b, -1))
    root = b.node("Sqrt", b.node("Add", variance, number(b, 1e-5)))
    normed = b.node("Div", centred, root) if divide else b.node("Mul", centred, b.node("Reciprocal", root))
    scaled = b.node("Mul", normed, b.constant(weights(6)))
    return b.node("Add", scaled, b.constant(weights(6))) if biased else scaled


@pytest.mark.parametrize("divide", [True, False])
@pytest.mark.parametrize("biased", [True, False])
def test_layer_norm_written_out(divide: bool, biased: bool) -> None:
    same(
        lambda b: layer_norm(b, b.input("x", "B", "T", 6), divide, biased),
        [DecomposedLayerNorm()],
        ["LayerNormalization"],
    )


@pytest.mark.parametrize("slices", [False, True])
def test_a_gate_and_its_factor_cut_from_one_projection(slices: bool) -> None:
    def make(b: Builder) -> Value:
        both = b.node("MatMul", b.input("x", "B", "T", 6), b.constant(weights(6, 20)))
        if slices:
            gate, up = (b.node("Slice", both, ints(b, s), ints(b, s + 10), ints(b, -1)) for s in (0, 10))
        else:
            gate, up = b.nodes_of("Split", both, outputs=2, axis=-1, num_outputs=2)
        return b.node("Mul", up, b.node("Mul", gate, b.node("Sigmoid", gate)))

    same(make, [Linear(), GatedHalves()], ["tlite.Linear"])


def test_a_gate_behind_its_factor_is_left_alone() -> None:
    b = Builder()
    both = b.node("MatMul", b.input("x", "B", "T", 6), b.constant(weights(6, 20)))
    up, gate = b.nodes_of("Split", both, outputs=2, axis=-1, num_outputs=2)
    graph = b.graph(b.node("Mul", up, b.node("Mul", gate, b.node("Sigmoid", gate))))
    after, _ = apply(graph, Linear(), GatedHalves())
    assert ops(after) == ["tlite.Linear", "Split", "Sigmoid", "Mul", "Mul"]


def test_flattened_rows_meet_their_residual() -> None:
    def make(b: Builder) -> Value:
        x = b.input("x", "B", "T", 6)
        flat = b.node("Gemm", b.node("Reshape", x, ints(b, -1, 6)), b.constant(weights(6, 6)))
        return b.node("Add", x, b.node("Reshape", flat, b.node("Shape", x)))

    same(make, [Linear(), FlatRows(), Movement(), Residual()], ["tlite.Linear"])


def test_moves_that_cancel_are_gone() -> None:
    def make(b: Builder) -> Value:
        x = b.input("x", "B", "T", 12)
        heads = b.node("Transpose", b.node("Reshape", x, ints(b, 0, 0, 3, 4)), perm=[0, 2, 1, 3])
        back = b.node("Reshape", b.node("Transpose", heads, perm=[0, 2, 1, 3]), ints(b, 0, 0, 12))
        parts = b.nodes_of("Split", back, outputs=2, axis=-1, num_outputs=2)
        return b.node("Relu", b.node("Concat", *parts, axis=-1))

    def swapped(b: Builder) -> Value:
        parts = b.nodes_of("Split", b.input("x", "B", 8), outputs=2, axis=-1, num_outputs=2)
        return b.node("Relu", b.node("Concat", *parts[::-1], axis=-1))

    same(
        make, [Movement()], ["Split", "Concat", "Relu"]
    )  # a Concat is not followed where its part depends on the index
    same(swapped, [Movement()], ["Split", "Concat", "Relu"])
