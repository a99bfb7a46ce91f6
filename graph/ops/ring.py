"""RingAttention: attention of a step's rows over caches that are updated in place. Only passes make it."""

from __future__ import annotations

import numpy as np

from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.shape import at_least, is_non_negative

from .attention import rotate
from .normalization import rms_normalize
from .reduction import softmax_array
from .registry import FUSED, Array, Step, Tensor, operator
from .rules import require, require_equal


def _seen(position: Array, capacity: int, window: int) -> Array:
    """Which slots of a ring each query sees [rows, capacity], once the tokens at `position` [rows] are written."""
    last = position[-1]
    slot_position = last - (last - np.arange(capacity)) % capacity  # the newest position that each slot can hold
    seen = (slot_position <= position[:, None]) & (slot_position >= 0)
    if window:
        seen &= slot_position > position[:, None] - window
    return np.asarray(seen)


@operator("RingAttention", domain=FUSED)
def ring_attention(
    q: Array,
    k: Array,
    v: Array,
    k_cache: Array,
    v_cache: Array,
    cos: Array | None = None,
    sin: Array | None = None,
    q_norm: Array | None = None,
    k_norm: Array | None = None,
    *,
    heads: int,
    kv_heads: int,
    head_dim: int,
    scale: float,
    window: int = 0,
    interleaved: int = 0,
    rotary_dim: int = 0,
    softcap: float = 0.0,
    q_offset: int = 0,
    k_offset: int = 0,
    v_offset: int = 0,
    norm_epsilon: float = 0.0,
    step: Step,
) -> tuple[Array, Array, Array]:
    """Causal attention of T new rows over a ring of C slots that already holds `step.position` tokens.

    q, k, v: [B, T, >= offset + heads * head_dim]; row t is the token at position step.position + t; rows from step.rows
    on are padding (they write nothing; their output is zero). Caches [B, C, kv_heads * head_dim]: position p lives in
    slot p mod C. A query at position p sees positions in (p - window, p], all of them where window is 0.
    cos, sin: [positions, rotary_dim / 2]. q_norm, k_norm: [head_dim], scales of an RMS norm over each head, before
    it is rotated. Returns y [B, T, heads * head_dim] and the caches with the new rows.
    """
    batch, padded, capacity = q.shape[0], q.shape[1], k_cache.shape[1]
    rows = padded if step.rows is None else step.rows
    position = step.position + np.arange(rows)  # of each new token

    def heads_of(source: Array, offset: int, count: int) -> Array:
        return source[:, :rows, offset : offset + count * head_dim].reshape(batch, rows, count, head_dim)

    qh, kh, vh = heads_of(q, q_offset, heads), heads_of(k, k_offset, kv_heads), heads_of(v, v_offset, kv_heads)
    if q_norm is not None and k_norm is not None:
        qh, kh = rms_normalize(qh, q_norm, -1, norm_epsilon), rms_normalize(kh, k_norm, -1, norm_epsilon)
    if cos is not None and sin is not None and rotary_dim:
        c, s = cos[position][None, :, None], sin[position][None, :, None]
        qh, kh = rotate(qh, c, s, interleaved, rotary_dim), rotate(kh, c, s, interleaved, rotary_dim)
    new_k, new_v = k_cache.copy(), v_cache.copy()
    new_k[:, position % capacity] = kh.reshape(batch, rows, -1)
    new_v[:, position % capacity] = vh.reshape(batch, rows, -1)
    seen = _seen(position, capacity, window)
    group = heads // kv_heads
    keys = np.repeat(new_k.reshape(batch, capacity, kv_heads, head_dim), group, 2)
    values = np.repeat(new_v.reshape(batch, capacity, kv_heads, head_dim), group, 2)
    scores = np.einsum("bthd,bchd->bhtc", qh, keys) * q.dtype.type(scale)
    if softcap:
        scores = np.asarray(softcap * np.tanh(scores / softcap), q.dtype)
    weights = softmax_array(np.where(seen, scores, -np.inf).astype(q.dtype))
    y = np.zeros((batch, padded, heads * head_dim), q.dtype)
    y[:, :rows] = np.einsum("bhtc,bchd->bthd", weights, values).reshape(batch, rows, -1)
    return y, new_k, new_v


@ring_attention.rule
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    cos: Tensor | None = None,
    sin: Tensor | None = None,
    q_norm: Tensor | None = None,
    k_norm: Tensor | None = None,
    *,
    heads: int,
    kv_heads: int,
    head_dim: int,
    scale: float,
    window: int = 0,
    interleaved: int = 0,
    rotary_dim: int = 0,
    softcap: float = 0.0,
    q_offset: int = 0,
    k_offset: int = 0,
    v_offset: int = 0,
    norm_epsilon: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    for source, offset, count in ((q, q_offset, heads), (k, k_offset, kv_heads), (v, v_offset, kv_heads)):
        require(source.rank == 3, f"a source has rank {source.rank}, not 3")
        require(
            is_non_negative(offset) and at_least(source.shape[2], offset + count * head_dim),
            "a source has too few columns",
        )
    for cache in (k_cache, v_cache):
        require(cache.rank == 3, f"a cache has rank {cache.rank}, not 3")
        require_equal(cache.shape[2], kv_heads * head_dim, "a cache does not fit the heads")
    require((q_norm is None) == (k_norm is None), "only one of queries and keys is normalized")
    for norm in (q_norm, k_norm):
        require(norm is None or norm.shape == (head_dim,), "a norm does not fit the head")
    if heads % kv_heads:
        raise GraphError(f"{heads} heads do not share {kv_heads} key heads evenly")
    y = Tensor(q.dtype, (q.shape[0], q.shape[1], heads * head_dim))
    return y, Tensor(k_cache.dtype, k_cache.shape), Tensor(v_cache.dtype, v_cache.shape)
