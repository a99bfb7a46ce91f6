"""RotaryEmbedding, GroupQueryAttention and MultiHeadAttention of com.microsoft, in small ONNX models with inputs."""

from typing import Any

import numpy as np
from support.onnx_models import CONTRIB, Array, Case, OnnxModel, floats


def tables(rotary: int, positions: int = 40) -> list[Array]:
    angle = np.arange(positions)[:, None] * 100.0 ** (-np.arange(rotary // 2) / (rotary // 2))
    return [np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)]


def rotary(name: str, positions: Array, shape: tuple[int, ...], width: int, **attributes: Any) -> Case:
    """x of `shape`, 3-D or 4-D; `width` is how many elements of a head turn."""
    rng, m = np.random.default_rng(3), OnnxModel()
    x = m.feed("x", floats(rng, *shape), "B", *(("T", shape[2]) if len(shape) == 3 else (shape[1], "T", shape[3])))
    at = m.feed("positions", positions.astype(np.int64), *(("B", "T") if positions.ndim == 2 else (1,)))
    turn = [m.constant(t) for t in tables(width)]
    m.several("RotaryEmbedding", x, at, *turn, outputs=["y"], domain=CONTRIB, **attributes)
    return m.case(name, "y")


def rotary_cases() -> list[Case]:
    several = np.array([[3, 4, 9], [0, 1, 2]])
    return [
        rotary("rotary-flat", several, (2, 3, 48), 16),
        rotary("rotary-heads", several, (2, 3, 48), 16, num_heads=3),
        rotary("rotary-offset", np.array([5]), (2, 3, 48), 16),
        rotary("rotary-interleaved", several, (2, 3, 48), 16, interleaved=1),
        rotary("rotary-partial", several, (2, 3, 48), 8, num_heads=3, rotary_embedding_dim=8),
        rotary("rotary-odd-pairs", several, (2, 3, 48), 8, num_heads=3, rotary_embedding_dim=8, interleaved=1),
        rotary("rotary-4d", several, (2, 5, 3, 16), 16),
        rotary("rotary-4d-offset", np.array([7]), (2, 5, 3, 16), 16),
    ]


HEADS, KV_HEADS = 4, 2


def grouped(name: str, batch: int, tokens: int, past: int, lengths: list[int] | None = None, **options: Any) -> Case:
    """GroupQueryAttention of 4 heads over 2. lengths: valid tokens of each sequence after the step, all by default.

    options: packed, rotary (elements of a head that turn, 0 for none), bias, positions, size, no_past, and attributes.
    """
    rng, m = np.random.default_rng(tokens + past), OnnxModel()
    size, valid = options.pop("size", 16), lengths or [past + tokens] * batch
    names = _operands(m, rng, (batch, tokens), size, options.pop("packed", False))
    if options.pop("no_past", False):
        names += ["", ""]
    else:
        caches = [floats(rng, batch, KV_HEADS, past, size) for _ in range(2)]
        names += [m.feed(f"past_{n}", a, "B", KV_HEADS, "P", size) for n, a in zip("kv", caches, strict=True)]
    names.append(m.feed("lengths", np.array(valid, np.int32) - 1, "B"))
    names.append(m.feed("total", np.array(max(valid), np.int32)))
    turning = options.pop("rotary", size)
    names += [m.constant(t) for t in tables(turning)] if turning else ["", ""]
    positions, bias = options.pop("positions", None), options.pop("bias", None)
    names.append("" if positions is None else m.feed("positions", np.array(positions, np.int64), "B", "T"))
    if bias is not None:
        names.append(m.feed("bias", floats(rng, *bias, tokens, max(valid)), *bias, "T", "S"))
    outputs = ["y", "present_k", "present_v"]
    attributes = {"num_heads": HEADS, "kv_num_heads": KV_HEADS, "do_rotary": int(turning > 0), **options}
    m.several("GroupQueryAttention", *names, outputs=outputs, domain=CONTRIB, **attributes)

    def meaningful(name: str, array: Array) -> Array:
        rows = [min(tokens, n) if past == 0 else tokens for n in valid]  # padding of a first prompt is on the right
        parts = [a[:n] if name == "y" else a[:, :v] for a, n, v in zip(array, rows, valid, strict=True)]
        return np.concatenate([p.reshape(-1) for p in parts])

    return m.case(name, *outputs, valid=meaningful)


def _operands(m: OnnxModel, rng: np.random.Generator, lead: tuple[int, int], size: int, packed: bool) -> list[str]:
    """query, key and value, or all in the first."""
    if packed:
        width = (HEADS + 2 * KV_HEADS) * size
        return [m.feed("q", floats(rng, *lead, width), "B", "T", width), "", ""]
    counts = {"q": HEADS, "k": KV_HEADS, "v": KV_HEADS}
    return [m.feed(key, floats(rng, *lead, n * size), "B", "T", n * size) for key, n in counts.items()]


def grouped_cases() -> list[Case]:
    return [
        grouped("prompt", 1, 5, 0),
        grouped("step", 1, 1, 6),
        grouped("chunk", 1, 4, 6),
        grouped("prompt-two", 2, 5, 0),
        grouped("prompt-padded", 2, 5, 0, [5, 3]),
        grouped("step-two", 2, 1, 6),
        grouped("step-padded", 3, 1, 6, [7, 4, 1]),
        grouped("no-rotation", 1, 4, 3, rotary=0),
        grouped("partial", 1, 4, 3, rotary=16, size=32),
        grouped("interleaved", 2, 1, 3, [4, 2], rotary_interleaved=1),
        grouped("partial-interleaved", 1, 4, 3, rotary=16, size=32, rotary_interleaved=1),
        grouped("window", 1, 7, 4, local_window_size=3),
        grouped("window-of-one", 1, 4, 2, local_window_size=1),
        grouped("window-step", 2, 1, 8, [9, 5], local_window_size=4),
        grouped("window-prompt", 2, 9, 0, [9, 6], local_window_size=4),
        grouped("softcap", 1, 4, 3, softcap=2.0),
        grouped("scale", 1, 4, 3, scale=0.1),
        grouped("packed", 1, 4, 3, packed=True),
        grouped("packed-padded", 2, 1, 3, [4, 2], packed=True),
        grouped("without-past", 2, 5, 0, no_past=True),
        grouped("without-past-packed", 2, 5, 0, no_past=True, packed=True, rotary=0),
        grouped("positions", 2, 1, 5, positions=[[9], [3]]),
        grouped("positions-prompt", 2, 3, 0, positions=[[0, 1, 2], [0, 1, 2]]),
        grouped("bias", 1, 3, 2, bias=(1, 1)),
        grouped("bias-heads", 2, 1, 4, bias=(2, 4), softcap=3.0),
        grouped("both-ways", 1, 4, 0, causal=0, rotary=0),
        grouped("both-ways-chunk", 1, 4, 3, causal=0),
        grouped("both-ways-padded", 2, 5, 0, [5, 3], causal=0),
        grouped("both-ways-step", 2, 1, 5, [6, 3], causal=0),
        grouped("both-ways-without-past", 2, 5, 0, [5, 3], causal=0, no_past=True),
    ]


def multi_head(name: str, past: int = 0, keys: int = 3, **options: Any) -> Case:
    """MultiHeadAttention of 2 sequences, 3 rows and 4 heads of 8; options: crossed, bias, mask, added, attributes."""
    rng, m = np.random.default_rng(5), OnnxModel()
    batch, rows, heads, size = 2, 3, 4, 8
    width = heads * size
    names = [m.feed("q", floats(rng, batch, rows, width), "B", "T", width)]
    crossed = options.pop("crossed", False)
    for key in ("k", "v"):
        if crossed:
            names.append(m.feed(key, floats(rng, batch, heads, keys, size), "B", heads, "K", size))
        else:
            names.append(m.feed(key, floats(rng, batch, keys, width), "B", "K", width))
    names.append(m.constant(floats(rng, 3 * width)) if options.pop("bias", False) else "")
    mask = np.array(options.pop("mask", 0), np.int32)
    names.append(m.feed("mask", mask, *(("B", "S") if mask.ndim == 2 else ("B", "T", "S"))) if mask.ndim else "")
    added = floats(rng, 1, heads, rows, past + keys)
    names.append(m.feed("added", added, 1, heads, "T", "S") if options.pop("added", False) else "")
    outputs = ["y"]
    if past:
        caches = [floats(rng, batch, heads, past, size) for _ in range(2)]
        names += [m.feed(f"past_{n}", a, "B", heads, "P", size) for n, a in zip("kv", caches, strict=True)]
        outputs += ["present_k", "present_v"]
    m.several("MultiHeadAttention", *names, outputs=outputs, domain=CONTRIB, num_heads=heads, **options)
    return m.case(f"multi-head-{name}", *outputs)


def multi_head_cases() -> list[Case]:
    padding = [[1, 1, 1, 0, 1], [1, 0, 1, 1, 0]]
    return [
        multi_head("plain"),
        multi_head("cross", keys=5),
        multi_head("crossed", keys=5, crossed=True),
        multi_head("bias", keys=5, bias=True, scale=0.2),
        multi_head("causal", unidirectional=1),
        multi_head("mask", keys=5, mask=padding),
        multi_head("mask-value", keys=5, mask=padding, mask_filter_value=-2.0),
        multi_head("mask-rows", keys=5, mask=[[p] * 3 for p in padding]),
        multi_head("mask-added", keys=5, mask=padding, added=True),
        multi_head("added", keys=5, added=True),
        multi_head("past", past=4),
        multi_head("past-causal", past=4, unidirectional=1, bias=True),
    ]


def attention_cases() -> list[Case]:
    return [*rotary_cases(), *grouped_cases(), *multi_head_cases()]
