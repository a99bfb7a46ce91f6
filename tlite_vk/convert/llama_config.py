"""The dimensions of a Llama-type model, read from GGUF metadata and checked; and its rotary angles."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tlite_vk.convert.gguf_reader import GgufFile, shown
from tlite_vk.errors import ModelError

_UNSUPPORTED = (
    "expert_count",
    "attention.clamp_kqv",
    "attention.max_alibi_bias",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "logit_scale",
    "residual_scale",
    "embedding_scale",
)
"""Settings that change the arithmetic in ways this graph does not have; 0 means off."""

_MAX_SIZE = 1 << 20  # elements of one dimension
_MAX_CONTEXT = 1 << 20  # positions; two tables of angles of this length take half a GiB at 128 rotated elements


@dataclass(frozen=True)
class LlamaConfig:
    """Sizes are in elements; D is `head_dim`, Dv is `value_dim`."""

    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    rotary_dim: int
    vocab: int
    context: int
    norm_epsilon: float
    attention_scale: float
    rope_base: float
    rope_linear_factor: float


def read_config(gguf: GgufFile) -> LlamaConfig:
    """Read and check the configuration. Raises ModelError for another architecture or anything contradictory."""
    if gguf.metadata.get("split.count") not in (None, 0, 1):
        raise ModelError(f"{gguf.path} is one part of a split model; join the parts with llama-gguf-split --merge")
    architecture = gguf.metadata.get("general.architecture")
    if architecture != "llama":
        raise ModelError(f"{gguf.path}: architecture {shown(architecture)} is not supported; only 'llama' is")
    fields = _Fields(gguf, "llama.")
    for key in _UNSUPPORTED:
        if gguf.metadata.get("llama." + key):
            raise ModelError(f"{gguf.path}: models with 'llama.{key}' are not supported")
    hidden, heads = fields.integer("embedding_length"), fields.integer("attention.head_count")
    head_dim = fields.integer("attention.key_length", hidden // max(heads, 1))
    embedding = gguf.tensors.get("token_embd.weight")
    if embedding is None:
        raise ModelError(f"{gguf.path}: the tensor 'token_embd.weight' is missing")
    config = LlamaConfig(
        layers=fields.integer("block_count"),
        hidden=hidden,
        ffn=fields.integer("feed_forward_length"),
        heads=heads,
        kv_heads=fields.integer("attention.head_count_kv", heads),
        head_dim=head_dim,
        value_dim=fields.integer("attention.value_length", head_dim),
        rotary_dim=fields.integer("rope.dimension_count", head_dim),
        vocab=embedding.shape[0],
        context=fields.integer("context_length"),
        norm_epsilon=fields.number("attention.layer_norm_rms_epsilon"),
        attention_scale=fields.number("attention.scale", 0.0) or 1.0 / math.sqrt(max(head_dim, 1)),
        rope_base=fields.number("rope.freq_base", 10000.0),
        rope_linear_factor=_linear_factor(gguf, fields),
    )
    _check(gguf, config)
    return config


def rotary_frequencies(config: LlamaConfig, factors: npt.NDArray[np.float32] | None) -> npt.NDArray[np.float64]:
    """Angle per position of each rotated pair, float64 [rotary_dim/2].

    `factors` [rotary_dim/2] divide them: Llama 3's scaling for long contexts, which GGUF stores as a tensor.
    """
    exponent = np.arange(0, config.rotary_dim, 2, dtype=np.float64) / config.rotary_dim
    frequencies = config.rope_base**-exponent / config.rope_linear_factor
    return frequencies if factors is None else frequencies / factors.astype(np.float64)


def _linear_factor(gguf: GgufFile, fields: _Fields) -> float:
    kind = gguf.metadata.get("llama.rope.scaling.type", "linear")
    if kind == "none":
        return 1.0
    if kind != "linear":
        raise ModelError(
            f"{gguf.path}: rope scaling {shown(kind)} is not supported; 'linear' and frequency factors are"
        )
    return fields.number("rope.scaling.factor", fields.number("rope.scale_linear", 1.0)) or 1.0


def _check(gguf: GgufFile, c: LlamaConfig) -> None:
    sizes = (c.layers, c.hidden, c.ffn, c.heads, c.kv_heads, c.head_dim, c.value_dim)
    rules = (
        (min(sizes) > 0 and max(sizes) <= _MAX_SIZE, f"a size is outside 1..{_MAX_SIZE}"),
        (c.kv_heads > 0 and c.heads % c.kv_heads == 0, f"{c.heads} heads cannot share {c.kv_heads} key/value heads"),
        (0 < c.rotary_dim <= c.head_dim and c.rotary_dim % 2 == 0, f"rope.dimension_count {c.rotary_dim} does not fit"),
        (0 < c.context <= _MAX_CONTEXT, f"context_length {c.context} is outside 1..{_MAX_CONTEXT}"),
        (0 < c.norm_epsilon < 1, f"the norm's epsilon is {c.norm_epsilon}"),
        (c.rope_base > 0 and c.rope_linear_factor > 0, "a rope frequency is not positive"),
    )
    for holds, why in rules:
        if not holds:
            raise ModelError(f"{gguf.path}: the model's metadata are contradictory: {why}")


class _Fields:
    """Typed access to metadata under one prefix."""

    def __init__(self, gguf: GgufFile, prefix: str) -> None:
        self._gguf = gguf
        self._prefix = prefix

    def integer(self, name: str, default: int | None = None) -> int:
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ModelError(f"{self._gguf.path}: metadata '{self._prefix}{name}' is not an integer")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            raise ModelError(f"{self._gguf.path}: metadata '{self._prefix}{name}' is not a finite number")
        return float(value)

    def _value(self, name: str, default: float | None) -> object:
        value = self._gguf.metadata.get(self._prefix + name, default)
        if value is None:
            raise ModelError(f"{self._gguf.path}: metadata '{self._prefix}{name}' is missing")
        return value
