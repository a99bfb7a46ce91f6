"""Tiny Llama graphs in the forms a file may have: the weights' form, biases and the gate's activation are chosen."""

from dataclasses import dataclass

import numpy as np
from support.graphs import Array, Builder

from tlite_vk.graph.ir import Graph, Value
from tlite_vk.graph.shape import symbol

CONTEXT = 64  # rows of the rotary tables


@dataclass(frozen=True)
class Llama:
    """Sizes of a model. Weight forms: affine4, symmetric4, int8, float16 (rows), float32 (columns)."""

    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 8
    hidden: int = 32
    inner: int = 64
    vocabulary: int = 96
    weights: str = "affine4"
    bias: bool = False
    activation: str = "silu"
    rotary: bool = True


def build_llama(config: Llama) -> Graph:
    """Inputs input_ids, position_ids, write_indices, nonpad_kv_seqlen, past_key_values.*; outputs logits, present.*."""
    return _Maker(config).graph()


class _Maker:
    def __init__(self, config: Llama) -> None:
        self.c = config
        self.b = Builder()
        self.rng = np.random.default_rng(7)

    def matrix(self, rows: int, columns: int) -> Array:
        return (self.rng.normal(size=(rows, columns)) * 0.3).astype(np.float32)

    def rows(self, n: int, k: int) -> Value:
        """A weight [N, K] in the configured form, as float32."""
        b, form = self.b, self.c.weights
        if form == "float32":
            return b.constant(self.matrix(n, k))
        if form == "float16":
            return b.node("Cast", b.constant(self.matrix(n, k).astype(np.float16)), to=1)
        groups = (n, k // 8, 8)
        scale = b.constant((self.rng.random((*groups[:2], 1)) * 0.05 + 0.01).astype(np.float16))
        if form == "int8":
            codes = b.constant(self.rng.integers(-128, 128, groups).astype(np.int8))
        else:
            low = 0 if form == "affine4" else -8
            codes = b.packed(self.rng.integers(low, low + 16, groups), "uint4" if form == "affine4" else "int4")
        scaled = b.node("DequantizeLinear", codes, scale, axis=2, block_size=8, output_dtype=1)
        if form == "affine4":
            minimum = b.constant((self.rng.normal(size=(*groups[:2], 1)) * 0.3).astype(np.float16))
            scaled = b.node("Add", scaled, b.node("Cast", minimum, to=1))
        return b.node("Reshape", scaled, b.constant(np.array([n, k], np.int64)))

    def project(self, x: Value, n: int, k: int, name: str) -> Value:
        b = self.b
        if self.c.weights == "float32":
            y = b.node("MatMul", x, b.constant(self.matrix(k, n)), name=name)
        else:
            y = b.node("MatMul", x, b.node("Transpose", self.rows(n, k), perm=[1, 0]), name=name)
        if not self.c.bias:
            return y
        return b.node("Add", y, b.constant(self.rng.normal(size=n).astype(np.float32)))

    def norm(self, x: Value) -> Value:
        scale = self.b.constant((1 + self.rng.normal(size=self.c.hidden) * 0.1).astype(np.float32))
        return self.b.node("RMSNormalization", x, scale, axis=-1, epsilon=1e-5)

    def activate(self, gate: Value) -> Value:
        if self.c.activation == "silu":
            return self.b.node("Mul", gate, self.b.node("Sigmoid", gate))
        if self.c.activation == "swish":
            return self.b.node("Swish", gate)
        return self.b.node("Gelu", gate, approximate=self.c.activation)

    def tables(self) -> tuple[Value, Value]:
        angle = np.arange(CONTEXT)[:, None] * 10000.0 ** (-np.arange(self.c.head_dim // 2) / (self.c.head_dim // 2))
        return self.b.constant(np.cos(angle).astype(np.float32)), self.b.constant(np.sin(angle).astype(np.float32))

    def graph(self) -> Graph:
        b, c = self.b, self.c
        batch, capacity = symbol("B"), symbol("C")
        ids = b.input("input_ids", batch, "T", dtype="int64")
        positions = b.input("position_ids", batch, "T", dtype="int64")
        write = b.input("write_indices", batch, dtype="int64")
        nonpad = b.input("nonpad_kv_seqlen", batch, dtype="int64")
        caches = [
            b.input(f"past_key_values.{i}.{kind}", batch, capacity, c.kv_heads * c.head_dim)
            for i in range(c.layers)
            for kind in ("key", "value")
        ]
        table = self.rows(c.vocabulary, c.hidden)
        x = b.node("Gather", table, ids, axis=0)
        cos, sin = self.tables()
        presents: list[Value] = []
        for i in range(c.layers):
            h = self.norm(x)
            q, k, v = (
                self.project(h, n * c.head_dim, c.hidden, f"layer.{i}.{s}")
                for s, n in (("q", c.heads), ("k", c.kv_heads), ("v", c.kv_heads))
            )
            if c.rotary:
                q = b.node("RotaryEmbedding", q, cos, sin, positions, num_heads=c.heads)
                k = b.node("RotaryEmbedding", k, cos, sin, positions, num_heads=c.kv_heads)
            pair = [
                b.node("TensorScatter", past, new, write, axis=1, mode="circular", name=f"present.{i}.{kind}")
                for past, new, kind in zip(caches[2 * i : 2 * i + 2], (k, v), ("key", "value"), strict=True)
            ]
            presents += pair
            y = b.node(
                "Attention", q, *pair, None, None, None, nonpad, name=f"layer.{i}.attention",
                is_causal=1, q_num_heads=c.heads, kv_num_heads=c.kv_heads, scale=c.head_dim**-0.5,
            )  # fmt: skip
            x = b.node("Add", x, self.project(y, c.hidden, c.heads * c.head_dim, f"layer.{i}.o"))
            h = self.norm(x)
            gate = self.activate(self.project(h, c.inner, c.hidden, f"layer.{i}.gate"))
            inner = b.node("Mul", gate, self.project(h, c.inner, c.hidden, f"layer.{i}.up"))
            x = b.node("Add", x, self.project(inner, c.hidden, c.inner, f"layer.{i}.down"))
        h = self.norm(x)
        logits = b.node("MatMul", h, b.node("Transpose", table, perm=[1, 0]), name="logits")
        return b.graph(logits, *presents)


def step_inputs(
    graph: Graph, config: Llama, tokens: int, position: int, capacity: int, seed: int = 0
) -> dict[str, Array]:
    """Inputs of one step of the stateless graph: `tokens` new ones after `position` cached ones, batch 2."""
    rng = np.random.default_rng(seed)
    inputs: dict[str, Array] = {
        "input_ids": rng.integers(0, config.vocabulary, (2, tokens)),
        "position_ids": np.broadcast_to(position + np.arange(tokens), (2, tokens)),
        "write_indices": np.full(2, position % capacity),
        "nonpad_kv_seqlen": np.full(2, min(position + tokens, capacity)),
    }
    for value in graph.inputs:
        if value.name.startswith("past"):
            inputs[value.name] = rng.normal(size=(2, capacity, config.kv_heads * config.head_dim)).astype(np.float32)
    return inputs
