"""Operators of the domain "tlite", which only our passes make. Shapes: B batch, T rows, K columns in, N columns out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tlite_vk.graph.shape import Shape, equal_shapes, ints

from .elementwise import gelu_erf, gelu_tanh, sigmoid
from .normalization import rms_normalize
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
