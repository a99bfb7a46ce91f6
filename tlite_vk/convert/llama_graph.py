"""The ONNX graph of a Llama-type decoder, in the operators that the standard offers since opset 24.

    input_ids, position_ids int64 [B, T]     write_indices, nonpad_kv_seqlen int64 [B]
    past_key_values.N.key/value fp32 [B, C, KV*D]  ->  logits fp32 [B, T, V], present.N.key/value fp32 [B, C, KV*D]

The caches are rings: `TensorScatter` (circular) puts the new rows at `write_indices`, and `Attention` looks at the
first `nonpad_kv_seqlen` slots, causally.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from tlite_vk.convert.llama_config import LlamaConfig
from tlite_vk.convert.onnx_writer import OnnxWriter, Piece
from tlite_vk.convert.weights import Weights

_ROPE_ROWS = 4096  # positions computed at a time


class LlamaGraph:
    """Adds the whole decoder to `writer`, taking weights from `weights`. Raises ModelError as `Weights` does."""

    def __init__(self, config: LlamaConfig, weights: Weights, writer: OnnxWriter) -> None:
        self.config = config
        self._weights = weights
        self._writer = writer
        self._rotary_order = half_split_order(config.head_dim, config.rotary_dim)

    def build(self, frequencies: npt.NDArray[np.float64]) -> None:
        """Declare inputs and outputs and add every node; `frequencies` [rotary_dim/2] are radians per position."""
        c, w = self.config, self._writer
        ids = w.input("input_ids", TensorProto.INT64, ["B", "T"])
        w.input("position_ids", TensorProto.INT64, ["B", "T"])
        w.input("write_indices", TensorProto.INT64, ["B"])
        w.input("nonpad_kv_seqlen", TensorProto.INT64, ["B"])
        self._rotary_tables(frequencies)
        embedding = self._weights.matrix("token_embd.weight", (c.vocab, c.hidden))  # [V, H]
        x = w.node("Gather", [embedding, ids], "embedding", axis=0)  # [B, T, H]
        w.output("logits", TensorProto.FLOAT, ["B", "T", c.vocab])
        for layer in range(c.layers):
            x = self._attention(layer, x)
            x = self._feed_forward(layer, x)
        x = self._norm(x, "output_norm", "final_norm")
        head = embedding
        if self._weights.has("output.weight"):
            head = self._weights.matrix("output.weight", (c.vocab, c.hidden))
        w.node("MatMul", [x, w.node("Transpose", [head], "head.transposed", perm=[1, 0])], "logits")

    def _attention(self, layer: int, x: str) -> str:
        c, w, gguf, name = self.config, self._writer, f"blk.{layer}", f"layer.{layer}.attention"
        normed = self._norm(x, f"{gguf}.attn_norm", f"{name}.norm")
        q = self._linear(normed, f"{gguf}.attn_q", c.hidden, c.heads * c.head_dim, f"{name}.q", self._rotary_order)
        k = self._linear(normed, f"{gguf}.attn_k", c.hidden, c.kv_heads * c.head_dim, f"{name}.k", self._rotary_order)
        v = self._linear(normed, f"{gguf}.attn_v", c.hidden, c.kv_heads * c.value_dim, f"{name}.v")
        q = self._rotate(q, c.heads, f"{name}.q_rotated")
        k = self._rotate(k, c.kv_heads, f"{name}.k_rotated")
        keys = self._cache(layer, "key", k, c.kv_heads * c.head_dim)
        values = self._cache(layer, "value", v, c.kv_heads * c.value_dim)
        context = w.node(
            "Attention",
            [q, keys, values, "", "", "", "nonpad_kv_seqlen"],
            name,
            is_causal=1,
            q_num_heads=c.heads,
            kv_num_heads=c.kv_heads,
            scale=c.attention_scale,
        )  # [B, T, heads*Dv]
        out = self._linear(context, f"{gguf}.attn_output", c.heads * c.value_dim, c.hidden, f"{name}.output")
        return w.node("Add", [x, out], f"{name}.residual")

    def _feed_forward(self, layer: int, x: str) -> str:
        c, w, gguf, name = self.config, self._writer, f"blk.{layer}", f"layer.{layer}.ffn"
        normed = self._norm(x, f"{gguf}.ffn_norm", f"{name}.norm")
        gate = self._linear(normed, f"{gguf}.ffn_gate", c.hidden, c.ffn, f"{name}.gate")
        up = self._linear(normed, f"{gguf}.ffn_up", c.hidden, c.ffn, f"{name}.up")
        silu = w.node("Mul", [gate, w.node("Sigmoid", [gate], f"{name}.sigmoid")], f"{name}.silu")
        gated = w.node("Mul", [silu, up], f"{name}.gated")
        down = self._linear(gated, f"{gguf}.ffn_down", c.ffn, c.hidden, f"{name}.down")
        return w.node("Add", [x, down], f"{name}.residual")

    # -- building blocks --------------------------------------------------------------------------------------------

    def _linear(self, x: str, gguf: str, k: int, n: int, name: str, order: npt.NDArray[np.int64] | None = None) -> str:
        """x [.., K] @ weight [N, K] transposed (+ bias) -> [.., N]."""
        w = self._writer
        weight = self._weights.matrix(f"{gguf}.weight", (n, k), order)
        transposed = w.node("Transpose", [weight], f"{gguf}.weight.transposed", perm=[1, 0])
        if not self._weights.has(f"{gguf}.bias"):
            return w.node("MatMul", [x, transposed], name)
        product = w.node("MatMul", [x, transposed], f"{name}.product")
        return w.node("Add", [product, self._weights.vector(f"{gguf}.bias", n, order)], name)

    def _norm(self, x: str, gguf: str, name: str) -> str:
        scale = self._weights.vector(f"{gguf}.weight", self.config.hidden)
        return self._writer.node("RMSNormalization", [x, scale], name, axis=-1, epsilon=self.config.norm_epsilon)

    def _rotate(self, x: str, heads: int, name: str) -> str:
        c = self.config
        partial = {} if c.rotary_dim == c.head_dim else {"rotary_embedding_dim": c.rotary_dim}
        inputs = [x, "rotary.cos", "rotary.sin", "position_ids"]
        return self._writer.node("RotaryEmbedding", inputs, name, num_heads=heads, interleaved=0, **partial)

    def _cache(self, layer: int, which: str, rows: str, width: int) -> str:
        """Write `rows` [B, T, width] into the cache of this layer: [B, C, width], which is also an output."""
        w, dims = self._writer, ("B", "C", width)
        past = w.input(f"past_key_values.{layer}.{which}", TensorProto.FLOAT, dims)
        present = f"present.{layer}.{which}"
        w.node("TensorScatter", [past, rows, "write_indices"], present, mode="circular", axis=1)
        w.output(present, TensorProto.FLOAT, dims)
        return present

    def _rotary_tables(self, frequencies: npt.NDArray[np.float64]) -> None:
        """The initializers rotary.cos and rotary.sin, fp32 [context, rotary_dim/2]."""
        shape = (self.config.context, len(frequencies))
        for name in ("rotary.cos", "rotary.sin"):
            self._writer.reserve(name, TensorProto.FLOAT, shape, shape[0] * shape[1] * 4)

        def pieces() -> Iterator[Piece]:
            for first in range(0, shape[0], _ROPE_ROWS):
                positions = np.arange(first, min(first + _ROPE_ROWS, shape[0]), dtype=np.float64)
                angles = positions[:, None] * frequencies
                at = first * shape[1] * 4
                yield Piece("rotary.cos", at, np.cos(angles).astype(np.float32))
                yield Piece("rotary.sin", at, np.sin(angles).astype(np.float32))

        self._writer.fill(pieces)


def half_split_order(head_dim: int, rotary_dim: int) -> npt.NDArray[np.int64]:
    """Row order within a head [head_dim] that turns rotation of neighbours into rotation of halves.

    GGUF's Llama models rotate rows (2i, 2i+1); ONNX's RotaryEmbedding with interleaved=0 rotates (i, i + rotary_dim/2).
    Rows past `rotary_dim` are not rotated and stay. Queries and keys are permuted alike: their products do not change.
    """
    rotated = np.arange(rotary_dim, dtype=np.int64)
    return np.concatenate([rotated[0::2], rotated[1::2], np.arange(rotary_dim, head_dim, dtype=np.int64)])
