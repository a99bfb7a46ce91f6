"""A Llama in plain numpy that reads the GGUF itself: the oracle of whole models."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class PlainLlama:
    """A whole forward pass in float64, with GGUF's own conventions (neighbouring rows rotate together)."""

    def __init__(self, path: Path, window: int = 0) -> None:
        """window: how many positions back a query sees, itself included; 0 for all."""
        self.window = window
        reader = gguf.GGUFReader(str(path))
        self.fields = {key: field.contents() for key, field in reader.fields.items()}
        self.weights = {
            t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float64) for t in reader.tensors
        }

    def field(self, name: str) -> Any:
        return self.fields[f"llama.{name}"]

    def linear(self, x: Floats, name: str) -> Floats:
        y: Floats = x @ self.weights[f"{name}.weight"].T + self.weights.get(f"{name}.bias", 0.0)
        return y

    def norm(self, x: Floats, name: str) -> Floats:
        epsilon = self.field("attention.layer_norm_rms_epsilon")
        y: Floats = x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * self.weights[f"{name}.weight"]
        return y

    def rotate(self, x: Floats) -> Floats:  # [T, heads, D]
        rotary = self.field("rope.dimension_count")
        frequency = self.field("rope.freq_base") ** (-np.arange(0, rotary, 2) / rotary)
        frequency = frequency / self.fields.get("llama.rope.scaling.factor", 1.0)
        frequency = frequency / self.weights.get("rope_freqs.weight", 1.0)
        angle = (np.arange(len(x))[:, None] * frequency)[:, None, :]  # [T, 1, rotary/2]
        even, odd = x[..., 0:rotary:2], x[..., 1:rotary:2]
        turned = x.copy()
        turned[..., 0:rotary:2] = even * np.cos(angle) - odd * np.sin(angle)
        turned[..., 1:rotary:2] = even * np.sin(angle) + odd * np.cos(angle)
        return turned

    def attention(self, x: Floats, block: str) -> Floats:
        heads, kv_heads = self.field("attention.head_count"), self.field("attention.head_count_kv")
        t = len(x)
        q = self.rotate(self.linear(x, f"{block}.attn_q").reshape(t, heads, -1))
        k = self.rotate(self.linear(x, f"{block}.attn_k").reshape(t, kv_heads, -1)).repeat(heads // kv_heads, 1)
        v = self.linear(x, f"{block}.attn_v").reshape(t, kv_heads, -1).repeat(heads // kv_heads, 1)
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(q.shape[-1])
        seen = np.tri(t, dtype=bool)
        if self.window:
            seen &= ~np.tri(t, k=-self.window, dtype=bool)
        scores = np.where(seen, scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        return self.linear(np.einsum("hqk,khd->qhd", weights, v).reshape(t, -1), f"{block}.attn_output")

    def __call__(self, ids: list[int]) -> Floats:  # logits [T, V]
        x = self.weights["token_embd.weight"][ids]
        for layer in range(self.field("block_count")):
            block = f"blk.{layer}"
            x = x + self.attention(self.norm(x, f"{block}.attn_norm"), block)
            y = self.norm(x, f"{block}.ffn_norm")
            gate = self.linear(y, f"{block}.ffn_gate")
            x = x + self.linear(gate / (1 + np.exp(-gate)) * self.linear(y, f"{block}.ffn_up"), f"{block}.ffn_down")
        head = self.weights.get("output.weight", self.weights["token_embd.weight"])
        return self.norm(x, "output_norm") @ head.T
