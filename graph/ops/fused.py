"""Operators of the domain "tlite", which only our passes make. Shapes: B batch, T rows, K columns in, N columns out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.shape import Shape, at_least, equal_shapes, ints, is_non_negative

from .attention import rotate
from .elementwise import gelu_erf, gelu_tanh, sigmoid
from .normalization import rms_normalize
from .reduction import softmax_array
from .registry import FUSED, Array, Step, Tensor, operator
from .rules import require, require_equal

# One-sided activations, and gated ones (the first half of the columns is the gate of the second half).
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: np.asarray(x * sigmoid(x), x.dtype),
    "gelu": gelu_erf,
    "gelu_tanh": gelu_tanh,
}
GATED: dict[str, Callable[[Array], Array]] = {"swiglu": ACTIVATIONS["silu"], "geglu": gelu_erf, "geglu_tanh": gelu_tanh}


@operator("Linear", domain=FUSED, foldable=False)
def linear(
    x: Array,
    w: Array,
    bias: Array | None = None,
    residual: Array | None = None,
    norm_scale: Array | None = None,
    *,
    activation: str = "",
    norm_epsilon: float = 1e-5,
) -> Array:
    """y = activation(norm(x) @ w.T + bias) + residual. x [..., K], w [N, K] ([2N, K], gate rows first, if gated)."""
    if norm_scale is not None:
        x = rms_normalize(x, norm_scale, -1, norm_epsilon)
    y = np.matmul(x, w.T.astype(x.dtype))
    if bias is not None:
        y = y + bias
    if activation in GATED:
        gate, up = np.split(y, 2, -1)
        y = GATED[activation](gate) * up
    else:
        y = ACTIVATIONS[activation](y)
    return np.asarray(y if residual is None else y + residual, x.dtype)


@linear.rule
def _(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    norm_scale: Tensor | None = None,
    *,
    activation: str = "",
    norm_epsilon: float = 1e-5,
) -> Tensor:
    require(w.rank == 2, f"its weight has rank {w.rank}")
    require_equal(x.shape[-1], w.shape[1], "its input and weight differ in columns")
    rows = ints(w.shape)[0]
    if activation in GATED:
        require(rows % 2 == 0, f"a gated weight of {rows} rows")
        rows //= 2
    else:
        require(activation in ACTIVATIONS, f"activation {activation!r} is not known")
    shape: Shape = (*x.shape[:-1], rows)
    require(bias is None or bias.shape == (w.shape[0],), "its bias does not fit")
    require(norm_scale is None or norm_scale.shape == (w.shape[1],), "its norm scale does not fit")
    require(residual is None or equal_shapes(residual.shape, shape), "its residual does not fit")
    return Tensor(x.dtype, shape)


@operator("Embedding", domain=FUSED, foldable=False)
def embedding(ids: Array, w: Array) -> Array:
    """Rows of w [V, K] at ids [...]: [..., K]. Ids are in [0, V)."""
    return w[ids]


@embedding.rule
def _(ids: Tensor, w: Tensor) -> Tensor:
    require(ids.dtype in ("int64", "int32") and w.rank == 2, "it needs integer ids and a matrix")
    return Tensor("float32" if w.dtype not in ("float16", "float32") else w.dtype, (*ids.shape, w.shape[1]))


@operator("RMSNorm", domain=FUSED)
def rms_norm(x: Array, scale: Array, *, epsilon: float = 1e-5) -> Array:
    """x / sqrt(mean(x^2) + epsilon) * scale over the last axis. x [..., K], scale [K]."""
    return rms_normalize(x, scale, -1, epsilon)


@rms_norm.rule
def _(x: Tensor, scale: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    require(scale.shape == x.shape[-1:], "its scale does not fit")
    return Tensor(x.dtype, x.shape)


@operator("RotaryAngles", domain=FUSED)
def rotary_angles(positions: Array, frequencies: Array, *, scale: float = 1.0) -> tuple[Array, Array]:
    """scale * (cos, sin) of positions [B, T] times frequencies [r/2], in float32: [B, T, r/2] each."""
    angle = np.asarray(positions[..., None].astype(np.float32) * frequencies, np.float32)
    return np.asarray(np.cos(angle) * np.float32(scale)), np.asarray(np.sin(angle) * np.float32(scale))


@rotary_angles.rule
def _(positions: Tensor, frequencies: Tensor, *, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    require(positions.rank == 2 and frequencies.rank == 1, "it takes positions [B, T] and frequencies [r/2]")
    shape: Shape = (*positions.shape, frequencies.shape[0])
    return Tensor("float32", shape), Tensor("float32", shape)


@operator("PositionEmbedding", domain=FUSED, foldable=False)
def position_embedding(ids: Array, w: Array, *, step: Step) -> Array:
    """Rows of w [N, K] at the positions of this step's tokens: [B, T, K]. ids [B, T] only give the shape."""
    return np.broadcast_to(w[step.position + np.arange(ids.shape[1])], (*ids.shape, w.shape[1]))


@position_embedding.rule
def _(ids: Tensor, w: Tensor) -> Tensor:
    require(ids.rank == 2 and w.rank == 2, "it takes ids [B, T] and a matrix")
    return Tensor("float32" if w.dtype not in ("float16", "float32") else w.dtype, (*ids.shape, w.shape[1]))


@operator("LastRow", domain=FUSED)
def last_row(x: Array, *, step: Step) -> Array:
    """The last valid row of x [B, T, K]: [B, 1, K]."""
    end = x.shape[1] if step.rows is None else step.rows
    return x[:, end - 1 : end]


@last_row.rule
def _(x: Tensor) -> Tensor:
    require(x.rank == 3, f"it takes [B, T, K], not rank {x.rank}")
    return Tensor(x.dtype, (x.shape[0], 1, x.shape[2]))


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
    step: Step,
) -> tuple[Array, Array, Array]:
    """Causal attention of T new rows over a ring of C slots that already holds `step.position` tokens.

    q, k, v: [B, T, >= offset + heads * head_dim]; row t is the token at position step.position + t; rows from step.rows
    on are padding (they write nothing; their output is zero). Caches [B, C, kv_heads * head_dim]: position p lives in
    slot p mod C. A query at position p sees positions in (p - window, p], all of them where window is 0.
    cos, sin: [positions, rotary_dim / 2]. Returns y [B, T, heads * head_dim] and the caches with the new rows.
    """
    batch, padded, capacity = q.shape[0], q.shape[1], k_cache.shape[1]
    rows = padded if step.rows is None else step.rows
    position = step.position + np.arange(rows)  # of each new token

    def heads_of(source: Array, offset: int, count: int) -> Array:
        return source[:, :rows, offset : offset + count * head_dim].reshape(batch, rows, count, head_dim)

    qh, kh, vh = heads_of(q, q_offset, heads), heads_of(k, k_offset, kv_heads), heads_of(v, v_offset, kv_heads)
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
    if heads % kv_heads:
        raise GraphError(f"{heads} heads do not share {kv_heads} key heads evenly")
    y = Tensor(q.dtype, (q.shape[0], q.shape[1], heads * head_dim))
    return y, Tensor(k_cache.dtype, k_cache.shape), Tensor(v_cache.dtype, v_cache.shape)
