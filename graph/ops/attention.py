"""Attention and RotaryEmbedding as opset 23 and 24 define them."""

from __future__ import annotations

import math

import numpy as np

from tlite_vk.graph.shape import Dim, Shape, add, exact_div, multiply

from .dtypes import from_onnx, numpy_dtype
from .reduction import softmax_array
from .registry import Array, Tensor, operator
from .rules import require, require_equal, same_dtype


def rotate(x: Array, cos: Array, sin: Array, interleaved: int, rotary_dim: int) -> Array:
    """Rotate pairs of the first `rotary_dim` elements. x: [..., D]; cos, sin: broadcast to [..., rotary_dim / 2]."""
    turned, rest = x[..., :rotary_dim], x[..., rotary_dim:]
    if interleaved:
        a, b = turned[..., 0::2], turned[..., 1::2]
    else:
        a, b = turned[..., : rotary_dim // 2], turned[..., rotary_dim // 2 :]
    real, imaginary = cos * a - sin * b, sin * a + cos * b
    if interleaved:
        turned = np.stack((real, imaginary), -1).reshape(turned.shape)
    else:
        turned = np.concatenate((real, imaginary), -1)
    return np.asarray(np.concatenate((turned, rest), -1), x.dtype)


@operator("RotaryEmbedding", since=23)
def rotary_embedding(
    x: Array,
    cos: Array,
    sin: Array,
    positions: Array | None = None,
    *,
    interleaved: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
) -> Array:
    """x: [B, T, H*D] (with num_heads) or [B, H, T, D]; cos, sin: [positions, r/2], or [B, T, r/2] without positions."""
    heads = x.reshape(*x.shape[:2], num_heads, -1) if x.ndim == 3 else x.transpose(0, 2, 1, 3)  # [B, T, H, D]
    if positions is not None:
        cos, sin = cos[positions], sin[positions]
    turned = rotate(heads, cos[:, :, None], sin[:, :, None], interleaved, rotary_embedding_dim or heads.shape[-1])
    return turned.reshape(x.shape) if x.ndim == 3 else turned.transpose(0, 2, 1, 3)


@rotary_embedding.rule
def _(
    x: Tensor,
    cos: Tensor,
    sin: Tensor,
    positions: Tensor | None = None,
    *,
    interleaved: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
) -> Tensor:
    require(x.rank in (3, 4), f"its input has rank {x.rank}, not 3 or 4")
    require(x.rank == 4 or num_heads > 0, "num_heads is missing")
    width = x.shape[3] if x.rank == 4 else exact_div(x.shape[2], num_heads)
    require(isinstance(width, int), "its head size is not known")
    assert isinstance(width, int)
    rotary = rotary_embedding_dim or width
    require(0 < rotary <= width and rotary % 2 == 0, f"rotary_embedding_dim {rotary} does not fit heads of {width}")
    require(
        cos.shape == sin.shape and cos.shape[-1] == rotary // 2, f"its cos and sin do not have {rotary // 2} columns"
    )
    require(cos.rank == (3 if positions is None else 2), "its cos and sin do not fit its positions")
    return Tensor(same_dtype(x, cos, sin), x.shape)


def _heads(x: Array, heads: int) -> Array:
    """[B, T, H*D] as [B, H, T, D]."""
    return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(0, 2, 1, 3) if x.ndim == 3 else x


def _bias(mask: Array | None, columns: int) -> Array:
    """A boolean or additive mask as additive float32, padded with -inf to the number of keys."""
    if mask is None:
        return np.zeros((1, columns), np.float32)
    bias = np.where(mask, 0.0, -np.inf) if mask.dtype == np.bool_ else mask
    short = columns - bias.shape[-1]
    widths = [(0, 0)] * (bias.ndim - 1) + [(0, max(short, 0))]
    return np.asarray(np.pad(bias, widths, constant_values=-np.inf), np.float32)


def _allowed(ahead: Array, is_causal: int, left: int, right: int) -> Array:
    """Which keys a query may see, given how far each lies after it. left, right: sizes of the window, -1 for none."""
    allowed = np.ones(ahead.shape, np.bool_)
    if is_causal:
        allowed &= ahead <= 0
    if left >= 0:
        allowed &= ahead >= -left
    if right >= 0:
        allowed &= ahead <= right
    return allowed


@operator("Attention", since=23)
def attention(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None = None,
    past_key: Array | None = None,
    past_value: Array | None = None,
    nonpad: Array | None = None,
    *,
    is_causal: int = 0,
    q_num_heads: int = 0,
    kv_num_heads: int = 0,
    qk_matmul_output_mode: int = 0,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int | None = None,
    left_window_size: int = -1,
    right_window_size: int = -1,
    hidden: float = -math.inf,
) -> tuple[Array, Array, Array, Array]:
    """Scaled dot-product attention with grouped heads; rows are aligned to the end of the valid keys.

    hidden: what is added to the score of a key that is not seen. Ours, not the standard's: an additive mask may hide by
    a finite number, and then a row that sees no key is still a mean over all.
    """
    flat = q.ndim == 3
    q, k, v = _heads(q, q_num_heads), _heads(k, kv_num_heads), _heads(v, kv_num_heads)
    past = 0
    if past_key is not None and past_value is not None:
        past = past_key.shape[2]
        k, v = np.concatenate((past_key, k), 2), np.concatenate((past_value, v), 2)
    rows, columns, group = q.shape[2], k.shape[2], q.shape[1] // k.shape[1]
    root = q.dtype.type(math.sqrt(1 / math.sqrt(q.shape[3]) if scale is None else scale))
    scores = np.matmul(q * root, np.repeat(k, group, 1).transpose(0, 1, 3, 2) * root)
    raw = scores
    if softcap:
        scores = np.asarray(softcap * np.tanh(scores / softcap), scores.dtype)
    first = np.asarray(past) if nonpad is None else (nonpad.reshape(-1, 1, 1, 1) - rows)
    ahead = np.arange(columns) - (np.arange(rows)[:, None] + first)  # how far a key lies after its query
    allowed = _allowed(ahead, is_causal, left_window_size, right_window_size)
    if nonpad is not None:
        allowed = allowed & (np.arange(columns) < nonpad.reshape(-1, 1, 1, 1))
    bias = np.where(allowed, _bias(mask, columns), hidden)
    if mask is not None and mask.dtype == np.bool_:
        bias = np.maximum(bias, hidden)
    biased = scores + bias.astype(scores.dtype)
    kind = q.dtype if softmax_precision is None else np.dtype(numpy_dtype(from_onnx(softmax_precision)))
    weights = softmax_array(biased.astype(kind)).astype(q.dtype)
    weights = np.where(np.isneginf(bias.max(-1, keepdims=True)), weights.dtype.type(0), weights)
    y = np.matmul(weights, np.repeat(v, group, 1))
    if flat:
        y = y.transpose(0, 2, 1, 3).reshape(y.shape[0], rows, -1)
    return y, k, v, (raw, scores, biased, weights)[qk_matmul_output_mode]


def _head_shape(x: Tensor, heads: int) -> tuple[Dim, Dim, Dim, Dim]:
    """(B, H, T, D) of a 3-D or 4-D input."""
    if x.rank == 4:
        return x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    require(x.rank == 3, f"an input has rank {x.rank}, not 3 or 4")
    require(heads > 0, "q_num_heads and kv_num_heads are needed with 3-D inputs")
    width = exact_div(x.shape[2], heads)
    require(width is not None, f"{x.shape[2]} columns are not {heads} heads")
    return x.shape[0], heads, x.shape[1], width if width is not None else 0


@attention.rule
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    nonpad: Tensor | None = None,
    *,
    is_causal: int = 0,
    q_num_heads: int = 0,
    kv_num_heads: int = 0,
    qk_matmul_output_mode: int = 0,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int | None = None,
    left_window_size: int = -1,
    right_window_size: int = -1,
    hidden: float = -math.inf,
) -> tuple[Tensor, ...]:
    batch, heads, rows, width = _head_shape(q, q_num_heads)
    _, kv_heads, columns, k_width = _head_shape(k, kv_num_heads)
    _, v_heads, v_columns, v_width = _head_shape(v, kv_num_heads)
    require_equal(k_width, width, "keys and queries have different head sizes")
    require_equal(v_columns, columns, "keys and values have different lengths")
    require_equal(v_heads, kv_heads, "keys and values have different heads")
    require(exact_div(heads, kv_heads) is not None, f"{heads} heads do not share {kv_heads} key heads evenly")
    require((past_key is None) == (past_value is None), "only one of past_key and past_value is given")
    require(past_key is None or nonpad is None, "nonpad_kv_seqlen excludes past_key")
    total = columns if past_key is None else add(past_key.shape[2], columns)
    y: Shape = (batch, heads, rows, v_width) if q.rank == 4 else (batch, rows, multiply(heads, v_width))
    dtype = same_dtype(q, k)
    return (
        Tensor(dtype, y),
        Tensor(dtype, (batch, kv_heads, total, width)),
        Tensor(v.dtype, (batch, kv_heads, total, v_width)),
        Tensor(dtype, (batch, heads, rows, total)),
    )
