"""Random forms of the operators that transformers use since opset 23, as ONNX models with inputs."""

from typing import Any

import numpy as np
from support.onnx_models import Array, Case, OnnxModel, floats

OPSET = 25  # Attention has windows since then


def attention(seed: int, dtype: Any = np.float32) -> Case:
    """Attention of any rank, heads, mask, past, and what else goes with them."""
    rng = np.random.default_rng(seed)
    pick, m = rng.integers, OnnxModel(OPSET)
    flat, past, batch = bool(pick(2)), int(pick(0, 5)), int(pick(1, 4))
    kv, size, value_size = int(pick(1, 3)), 2 * int(pick(1, 6)), int(pick(1, 9))
    heads, rows, columns = kv * int(pick(1, 4)), int(pick(1, 8)), int(pick(1, 10))
    keeps_past = bool(pick(2))
    counted = not keeps_past and pick(3) == 0
    total = columns + (past if keeps_past else 0)
    names: list[str] = []
    inputs: dict[str, Array] = {}

    def feed(name: str, array: Array, *dims: int | str) -> None:
        array = array.astype(dtype) if array.dtype == np.float32 else array
        inputs[name] = array
        names.append(m.input(name, array.dtype, *dims))

    for name, n, count, width in (("q", heads, rows, size), ("k", kv, columns, size), ("v", kv, columns, value_size)):
        length = "T" if name == "q" else "K"
        if flat:
            feed(name, floats(rng, batch, count, n * width), "B", length, n * width)
        else:
            feed(name, floats(rng, batch, n, count, width), "B", n, length, width)
    kind = pick(3)
    if kind:
        short = total if counted or pick(2) else int(pick(1, total + 1))
        lead = [(), (1,), (heads,), (batch, heads), (batch, 1), (1, heads)][pick(6)]
        shape = (*lead, rows, short)
        mask = rng.random(shape) < 0.7 if kind == 1 else floats(rng, *shape)
        feed("mask", mask, *shape)
    else:
        names.append("")
    if keeps_past:
        feed("past_k", floats(rng, batch, kv, past, size), "B", kv, "P", size)
        feed("past_v", floats(rng, batch, kv, past, value_size), "B", kv, "P", value_size)
    elif counted:
        names += ["", ""]
        feed("valid", rng.integers(0, columns + 1, batch), "B")
    while not names[-1]:
        names.pop()
    attributes = {"is_causal": int(pick(2))}
    if flat:
        attributes |= {"q_num_heads": heads, "kv_num_heads": kv}
    if pick(2):
        attributes["scale"] = float(rng.uniform(0.1, 1))
    if pick(3) == 0:
        attributes["softcap"] = float(rng.uniform(0.5, 3))
    if pick(3) == 0:
        attributes["left_window_size"] = int(pick(0, 4))
    if pick(4) == 0 and not attributes["is_causal"]:
        attributes["right_window_size"] = int(pick(0, 4))
    outputs = ["y"]
    if pick(2):
        outputs += ["present_k", "present_v", "scores"]
        attributes["qk_matmul_output_mode"] = int(pick(4))
        if not attributes["qk_matmul_output_mode"]:
            attributes.pop("softcap", None)  # onnx's reference evaluator gives the capped scores here, not the raw ones
    elif keeps_past:
        outputs += ["present_k", "present_v"]
    m.several("Attention", *names, outputs=outputs, **attributes)
    return Case(f"attention-{seed}", m.proto(*outputs), inputs)


def rotary(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    pick, m = rng.integers, OnnxModel(OPSET)
    batch, heads, rows, size = int(pick(1, 4)), int(pick(1, 4)), int(pick(1, 6)), 2 * int(pick(1, 9))
    turning = 2 * int(pick(1, size // 2 + 1)) if pick(2) else 0
    attributes = {"interleaved": int(pick(2)), "rotary_embedding_dim": turning}
    if pick(2):
        x, dims = floats(rng, batch, rows, heads * size), ("B", "T", heads * size)
        attributes["num_heads"] = heads
    else:
        x, dims = floats(rng, batch, heads, rows, size), ("B", heads, "T", size)
    inputs = {"x": x}
    names = [m.input("x", np.float32, *dims)]
    half = (turning or size) // 2
    if pick(2):
        names += [m.constant(floats(rng, 20, half)), m.constant(floats(rng, 20, half))]
        inputs["positions"] = rng.integers(0, 20, (batch, rows))
        names.append(m.input("positions", np.int64, "B", "T"))
    else:
        for name in ("cos", "sin"):
            inputs[name] = floats(rng, batch, rows, half)
            names.append(m.input(name, np.float32, "B", "T", half))
    m.several("RotaryEmbedding", *names, outputs=["y"], **attributes)
    return Case(f"rotary-{seed}", m.proto("y"), inputs)


def rms_normalization(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    pick, m = rng.integers, OnnxModel(OPSET)
    rank = int(pick(1, 5))
    shape = [int(n) for n in pick(1, 9, rank)]
    axis = int(pick(-rank, rank))
    attributes = {"axis": axis, "epsilon": float(rng.uniform(1e-6, 1e-2))}
    if pick(4) == 0:
        axis, attributes = -1, {}
    kept = shape[axis % rank :]
    scale = floats(rng, *[1 if pick(4) == 0 else n for n in kept])
    x = m.input("x", np.float32, *(f"N{i}" if i < axis % rank else n for i, n in enumerate(shape)))
    m.several("RMSNormalization", x, m.constant(scale), outputs=["y"], **attributes)
    return Case(f"rms-{seed}", m.proto("y"), {"x": floats(rng, *shape) * np.float32(10)})


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
    inputs = {"past": floats(rng, *shape), "update": floats(rng, *new)}
    dims = ["B", *shape[1:]]
    names = [
        m.input("past", np.float32, *("C" if i == axis else n for i, n in enumerate(dims))),
        m.input("update", np.float32, *("T" if i == axis else n for i, n in enumerate(dims))),
    ]
    if pick(4):
        inputs["first"] = first
        names.append(m.input("first", np.int64, "B"))
    attributes = {} if axis == rank - 2 and pick(2) else {"axis": axis if pick(2) else axis - rank}
    m.several("TensorScatter", *names, outputs=["y"], mode=mode, **attributes)
    return Case(f"scatter-{seed}", m.proto("y"), inputs)


def draws(count: int) -> list[Case]:
    """`count` of each, fewer of the small ones."""
    makers = ((attention, count), (rotary, count // 2), (rms_normalization, count // 3), (tensor_scatter, count // 3))
    return [make(seed) for make, n in makers for seed in range(n)]
