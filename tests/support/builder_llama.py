"""Llamas as onnxruntime's model builder writes them, with random weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from support.contrib_attention import tables
from support.contrib_cases import quantized
from support.onnx_models import CONTRIB, Array, OnnxModel


@dataclass(frozen=True)
class BuilderLlama:
    """Sizes of a model, and the form of its parts.

    bits: 4 or 8 of all projections, 0 for floats. zero: their zero points, "" or "packed". table: the embedding, in
    "floats", in "codes", or "tied" to the head. turn: where heads are rotated, in the "attention", there by positions
    from an input ("given"), by such in "nodes", or "" for nowhere. lengths: from a "mask", or from "inputs".
    head_norms: of queries and keys, in "nodes", or in the "attention", which onnxruntime has no CPU kernel for.
    open_size: the size of a head is a symbol in the shapes of the caches.
    """

    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 16
    hidden: int = 64
    inner: int = 128
    vocabulary: int = 160
    context: int = 512
    bits: int = 4
    block: int = 32
    zero: str = ""
    packed: bool = False
    window: int = -1
    interleaved: int = 0
    rotary: int = 16
    turn: str = "attention"
    head_norms: str = ""
    bias: bool = False
    table: str = "floats"
    lengths: str = "mask"
    open_size: bool = False
    dtype: Any = np.float32
    seed: int = 5


def build_builder_llama(config: BuilderLlama) -> onnx.ModelProto:
    """Inputs input_ids, attention_mask (or seqlens_k and total_sequence_length where lengths is "inputs"), position_ids
    where turn is "nodes" or "given", past_key_values.N.key and .value; outputs logits, present.N.key and .value."""
    return _Maker(config).model()


class _Maker:
    def __init__(self, config: BuilderLlama) -> None:
        self.c, self.m = config, OnnxModel()
        self.rng = np.random.default_rng(config.seed)

    def floats(self, array: Any) -> str:
        return self.m.constant(np.asarray(array).astype(self.c.dtype))

    def project(self, x: str, rows: int, columns: int, name: str) -> str:
        c, m = self.c, self.m
        if not c.bits:
            y = m.node("MatMul", x, self.floats(self.rng.normal(size=(columns, rows)) * 0.2), name=name)
        else:
            codes, scales, *zeros = quantized(self.rng, rows, columns, c.bits, c.block, c.zero, c.dtype)
            inputs = [x, m.constant(codes, f"{name}.codes"), m.constant(scales * c.dtype(0.5)), *map(m.constant, zeros)]
            y = m.node(
                "MatMulNBits", *inputs, domain=CONTRIB, name=name, K=columns, N=rows, bits=c.bits, block_size=c.block
            )
        return y if not c.bias else m.node("Add", y, self.floats(self.rng.normal(size=rows) * 0.3))

    def scale(self, n: int) -> str:
        return self.floats(1 + self.rng.normal(size=n) * 0.1)

    def skip_norm(self, x: str, more: str, last: bool) -> list[str]:
        """The normalized sum, and the sum where it goes on."""
        names = [self.m.fresh("norm"), *([] if last else ["", "", self.m.fresh("sum")])]
        inputs = [x, more, self.scale(self.c.hidden)]
        done = self.m.several("SkipSimplifiedLayerNormalization", *inputs, outputs=names, domain=CONTRIB, epsilon=1e-5)
        return [done[0], done[-1]]

    def lengths(self) -> list[str]:
        """seqlens_k and total_sequence_length."""
        m = self.m
        if self.c.lengths == "inputs":
            return [m.input("seqlens_k", np.int32, "batch_size"), m.input("total_sequence_length", np.int32)]
        mask = m.input("attention_mask", np.int64, "batch_size", "total_sequence_length")
        one = m.constant(np.array([1], np.int64))
        last = m.node("Sub", m.node("ReduceSum", mask, one), one)
        total = m.node("Gather", m.node("Shape", mask), m.constant(np.array(1, np.int64)), axis=0)
        return [m.node("Cast", last, to=6), m.node("Cast", total, to=6)]

    def head_norm(self, x: str, heads: int) -> str:
        """As for Qwen3: each head is normalized before it is rotated."""
        m, size = self.m, self.c.head_dim
        split = m.node("Reshape", x, m.constant(np.array([0, 0, heads, size], np.int64)))
        y = m.node("SimplifiedLayerNormalization", split, self.scale(size), axis=-1, epsilon=1e-5, stash_type=1)
        return m.node("Reshape", y, m.constant(np.array([0, 0, heads * size], np.int64)))

    def attention(self, x: str, layer: int, lengths: Sequence[str], turn: Sequence[str]) -> str:
        c, m = self.c, self.m
        counts, size = (c.heads, c.kv_heads, c.kv_heads), c.head_dim
        if c.packed:
            operands = [self.project(x, sum(counts) * c.head_dim, c.hidden, f"layer.{layer}.qkv"), "", ""]
        else:
            operands = [
                self.project(x, n * c.head_dim, c.hidden, f"layer.{layer}.{s}")
                for s, n in zip("qkv", counts, strict=True)
            ]
        if c.head_norms == "nodes":
            operands[:2] = [self.head_norm(y, n) for y, n in zip(operands, counts[:2], strict=False)]
        if c.turn == "nodes":
            operands[:2] = [
                m.node("RotaryEmbedding", y, *turn, domain=CONTRIB, interleaved=c.interleaved) for y in operands[:2]
            ]
        width = "kv_cache_dim" if c.open_size else size
        past = [
            m.input(f"past_key_values.{layer}.{s}", c.dtype, "batch_size", c.kv_heads, "past_sequence_length", width)
            for s in ("key", "value")
        ]
        inside = list(turn) if c.turn in ("attention", "given") else []
        if c.head_norms == "attention":
            inside += [""] * (7 - len(inside)) + [self.scale(size), self.scale(size)]
        norms = {"qk_norm_epsilon": 1e-5} if c.head_norms == "attention" else {}
        names = [m.fresh("attention"), f"present.{layer}.key", f"present.{layer}.value"]
        m.several(
            "GroupQueryAttention", *operands, *past, *lengths, *inside, outputs=names, domain=CONTRIB,
            name=f"layer.{layer}.attention", num_heads=c.heads, kv_num_heads=c.kv_heads, scale=c.head_dim**-0.5,
            do_rotary=int(c.turn in ("attention", "given")), local_window_size=c.window,
            rotary_interleaved=0 if c.turn == "nodes" else c.interleaved, **norms,
        )  # fmt: skip
        return self.project(names[0], c.hidden, c.heads * c.head_dim, f"layer.{layer}.o")

    def feed_forward(self, x: str, layer: int) -> str:
        c, m = self.c, self.m
        gate = self.project(x, c.inner, c.hidden, f"layer.{layer}.gate")
        up = self.project(x, c.inner, c.hidden, f"layer.{layer}.up")
        inner = m.node("Mul", m.node("Mul", gate, m.node("Sigmoid", gate)), up)
        return self.project(inner, c.hidden, c.inner, f"layer.{layer}.down")

    def embedding(self, ids: str) -> str:
        c, m = self.c, self.m
        if c.table == "floats":
            return m.node("Gather", self.floats(self.rng.normal(size=(c.vocabulary, c.hidden))), ids)
        if c.table == "tied":
            shape = m.constant(np.array([c.vocabulary, c.hidden * c.bits // 8], np.int64))
            self.tied = [
                m.constant(a) for a in quantized(self.rng, c.vocabulary, c.hidden, c.bits, c.block, "", c.dtype)
            ]
            codes, scales = m.node("Reshape", self.tied[0], shape), self.tied[1]
        else:
            arrays = quantized(self.rng, c.vocabulary, c.hidden, c.bits, c.block, "", c.dtype)
            codes, scales = m.constant(arrays[0].reshape(c.vocabulary, -1)), m.constant(arrays[1])
        return m.node(
            "GatherBlockQuantized", codes, ids, scales, domain=CONTRIB, bits=c.bits, block_size=c.block, quantize_axis=1
        )

    def head(self, x: str) -> str:
        c = self.c
        if c.table != "tied":
            return self.project(x, c.vocabulary, c.hidden, "logits")
        sizes = {"K": c.hidden, "N": c.vocabulary, "bits": c.bits, "block_size": c.block}
        return self.m.node("MatMulNBits", x, *self.tied, domain=CONTRIB, name="logits", **sizes)

    def model(self) -> onnx.ModelProto:
        c, m = self.c, self.m
        ids = m.input("input_ids", np.int64, "batch_size", "sequence_length")
        lengths = self.lengths()
        turn = [m.constant(t.astype(c.dtype)) for t in tables(c.rotary, c.context)] if c.turn else []
        if c.turn in ("nodes", "given"):
            positions = m.input("position_ids", np.int64, "batch_size", "sequence_length")
            turn.insert(0 if c.turn == "nodes" else len(turn), positions)
        total = self.embedding(ids)
        x = m.node("SimplifiedLayerNormalization", total, self.scale(c.hidden), axis=-1, epsilon=1e-5, stash_type=1)
        for i in range(c.layers):
            x, total = self.skip_norm(total, self.attention(x, i, lengths, turn), False)
            x, total = self.skip_norm(total, self.feed_forward(x, i), i == c.layers - 1)
        presents = [f"present.{i}.{s}" for i in range(c.layers) for s in ("key", "value")]
        return m.proto(self.head(x), *presents)


def step_inputs(
    model: onnx.ModelProto,
    config: BuilderLlama,
    tokens: int,
    past: int,
    valid: Sequence[int] | None = None,
    batch: int = 1,
) -> dict[str, Array]:
    """Random inputs of one step: `tokens` after `past`; valid: tokens of each sequence afterwards, by default all."""
    rng = np.random.default_rng(tokens + 7 * past)
    counts = list(valid or [past + tokens] * batch)
    total = max(counts)
    inputs: dict[str, Array] = {}
    for value in model.graph.input:
        if value.name == "input_ids":
            inputs[value.name] = rng.integers(0, config.vocabulary, (len(counts), tokens))
        elif value.name == "attention_mask":
            inputs[value.name] = np.array([[1] * n + [0] * (total - n) for n in counts], np.int64)
        elif value.name == "seqlens_k":
            inputs[value.name] = np.array(counts, np.int32) - 1
        elif value.name == "total_sequence_length":
            inputs[value.name] = np.array(total, np.int32)
        elif value.name == "position_ids":
            first = [0 if past == 0 else n - tokens for n in counts]
            inputs[value.name] = np.array(first)[:, None] + np.arange(tokens)
        else:
            shape = (len(counts), config.kv_heads, past, config.head_dim)
            inputs[value.name] = rng.standard_normal(shape).astype(config.dtype)
    return inputs
