"""Random forms of the operators that transformers use since opset 23, as ONNX models with inputs."""

from typing import Any

import numpy as np
from support.onnx_models import Case, OnnxModel, floats

OPSET = 25  # Attention has windows since then


def attention(seed: int, dtype: Any = np.float32) -> Case:
    """Attention of any rank, heads, mask, past, and what else goes with them."""
    rng, m = np.random.default_rng(seed), OnnxModel(OPSET)
    pick = rng.integers
    batch, rows, columns, past = (int(pick(low, high)) for low, high in ((1, 4), (1, 8), (1, 10), (0, 5)))
    flat, kept = bool(pick(2)), ("", "past", "counted")[pick(3)]
    kv, size, value_size = int(pick(1, 3)), 2 * int(pick(1, 6)), int(pick(1, 9))
    heads = kv * int(pick(1, 4))
    names: list[str] = []
    for name, n, count, width in (("q", heads, rows, size), ("k", kv, columns, size), ("v", kv, columns, value_size)):
        length = "T" if name == "q" else "K"
        shape, dims = ((count, n * width), (length, n * width)) if flat else ((n, count, width), (n, length, width))
        names.append(m.feed(name, floats(rng, batch, *shape).astype(dtype), "B", *dims))
    total = columns + past * (kept == "past")
    names.append(_mask(rng, m, (batch, heads, rows, total), kept != "counted", dtype))
    if kept == "past":
        for name, width in (("past_k", size), ("past_v", value_size)):
            names.append(m.feed(name, floats(rng, batch, kv, past, width).astype(dtype), "B", kv, "P", width))
    elif kept:
        names += ["", "", m.feed("valid", pick(0, columns + 1, batch), "B")]
    attributes = _attributes(rng, bool(pick(2)))
    outputs = ["y", *(["present_k", "present_v"] if kept == "past" else [])]
    if pick(2):
        outputs, mode = ["y", "present_k", "present_v", "scores"], int(pick(4))
        attributes["qk_matmul_output_mode"] = mode
        if not mode:
            attributes.pop("softcap", None)  # onnx's reference evaluator gives the capped scores here, not the raw ones
    if flat:
        attributes |= {"q_num_heads": heads, "kv_num_heads": kv}
    m.several("Attention", *names, outputs=outputs, **attributes)
    return m.case(f"attention-{seed}", *outputs)


def _mask(rng: np.random.Generator, m: OnnxModel, shape: tuple[int, ...], may_be_short: bool, dtype: Any) -> str:
    """No mask, a boolean or an additive one, of two to four axes, for all keys or for the first few."""
    batch, heads, rows, total = shape
    kind, pick = rng.integers(3), rng.integers
    if not kind:
        return ""
    columns = int(pick(1, total + 1)) if may_be_short and pick(2) else total
    lead = [(), (1,), (heads,), (batch, heads), (batch, 1), (1, heads)][pick(6)]
    shape = (*lead, rows, columns)
    return m.feed("mask", rng.random(shape) < 0.7 if kind == 1 else floats(rng, *shape).astype(dtype), *shape)


def _attributes(rng: np.random.Generator, causal: bool) -> dict[str, Any]:
    pick = rng.integers
    attributes: dict[str, Any] = {"is_causal": int(causal)}
    if pick(2):
        attributes["scale"] = float(rng.uniform(0.1, 1))
    if pick(3) == 0:
        attributes["softcap"] = float(rng.uniform(0.5, 3))
    if pick(3) == 0:
        attributes["left_window_size"] = int(pick(0, 4))
    if pick(4) == 0 and not causal:
        attributes["right_window_size"] = int(pick(0, 4))
    return attributes


def rotary(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    pick, m = rng.integers, OnnxModel(OPSET)
    batch, heads, rows, size = int(pick(1, 4)), int(pick(1, 4)), int(pick(1, 6)), 2 * int(pick(1, 9))
    turning = 2 * int(pick(1, size // 2 + 1)) if pick(2) else 0
    attributes: dict[str, Any] = {"interleaved": int(pick(2)), "rotary_embedding_dim": turning}
    dims: tuple[int | str, ...] = ("B", heads, "T", size)
    x = floats(rng, batch, heads, rows, size)
    if pick(2):
        x, dims = floats(rng, batch, rows, heads * size), ("B", "T", heads * size)
        attributes["num_heads"] = heads
    names = [m.feed("x", x, *dims)]
    half = (turning or size) // 2
    if pick(2):
        names += [m.constant(floats(rng, 20, half)), m.constant(floats(rng, 20, half))]
        names.append(m.feed("positions", rng.integers(0, 20, (batch, rows)), "B", "T"))
    else:
        for name in ("cos", "sin"):
            names.append(m.feed(name, floats(rng, batch, rows, half), "B", "T", half))
    m.several("RotaryEmbedding", *names, outputs=["y"], **attributes)
    return m.case(f"rotary-{seed}", "y")


def rms_normalization(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    pick, m = rng.integers, OnnxModel(OPSET)
    rank = int(pick(1, 5))
    shape = [int(n) for n in pick(1, 9, rank)]
    axis = int(pick(-rank, rank))
    attributes: dict[str, Any] = {"axis": axis, "epsilon": float(rng.uniform(1e-6, 1e-2))}
    if pick(4) == 0:
        axis, attributes = -1, {}
    kept = shape[axis % rank :]
    scale = floats(rng, *[1 if pick(4) == 0 else n for n in kept])
    dims = (f"N{i}" if i < axis % rank else n for i, n in enumerate(shape))
    x = m.feed("x", floats(rng, *shape) * np.float32(10), *dims)
    m.several("RMSNormalization", x, m.constant(scale), outputs=["y"], **attributes)
    return m.case(f"rms-{seed}", "y")


def tensor_scatter(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    pick, m = rng.integers, OnnxModel(OPSET)
    rank = int(pick(3, 5))
    axis = int(pick(1, rank))
    shape = [int(n) for n in pick(1, 7, rank)]
    shape[axis] = int(pick(2, 9))
    rows = int(pick(1, shape[axis] + 1))
    new = [rows if i == axis else n for i, n in enumerate(shape)]
    mode = ("linear", "circular")[pick(2)]
    first = rng.integers(0, shape[axis] - (rows if mode == "linear" else 0) + (mode == "linear"), shape[0])
    dims: list[int | str] = ["B", *shape[1:]]
    names = [
        m.feed("past", floats(rng, *shape), *("C" if i == axis else n for i, n in enumerate(dims))),
        m.feed("update", floats(rng, *new), *("T" if i == axis else n for i, n in enumerate(dims))),
    ]
    if pick(4):
        names.append(m.feed("first", first, "B"))
    attributes: dict[str, Any] = {} if axis == rank - 2 and pick(2) else {"axis": axis if pick(2) else axis - rank}
    m.several("TensorScatter", *names, outputs=["y"], mode=mode, **attributes)
    return m.case(f"scatter-{seed}", "y")


def draws(count: int) -> list[Case]:
    """`count` of each, fewer of the small ones."""
    makers = ((attention, count), (rotary, count // 2), (rms_normalization, count // 3), (tensor_scatter, count // 3))
    return [make(seed) for make, n in makers for seed in range(n)]
