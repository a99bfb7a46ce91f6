"""Attention over the KV ring."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tlite_vk.choices import Attention
from tlite_vk.errors import ModelError
from tlite_vk.graph import shape as dims
from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.shape import Dim
from tlite_vk.lower import Lowering, lowers
from tlite_vk.program import Window
from tlite_vk.step import STEP_BYTES

from .split_attention import KERNEL, NORM_BYTES, Split

UNROLLED = 192
"""Elements of query rows that an invocation of attention_lane keeps in registers: larger code compiles for minutes."""


@dataclass(frozen=True)
class _Heads:
    """The shape of one attention: counts, sizes, offsets of q, k, v in their sources."""

    heads: int
    kv_heads: int
    head_dim: int
    rotary: int
    interleaved: int
    scale: float
    softcap: float
    offsets: tuple[int, int, int]
    normed: bool  # an RMS norm over each head of queries and keys
    norm_epsilon: float

    @staticmethod
    def of(node: Node) -> _Heads:
        a = node.attributes
        found = _Heads(
            int(a["heads"]),
            int(a["kv_heads"]),
            int(a["head_dim"]),
            int(a.get("rotary_dim", 0)),
            int(a.get("interleaved", 0)),
            float(a["scale"]),
            float(a.get("softcap", 0.0)),
            (int(a.get("q_offset", 0)), int(a.get("k_offset", 0)), int(a.get("v_offset", 0))),
            node.optional(7) is not None,
            float(a.get("norm_epsilon", 0.0)),
        )
        if found.head_dim % 8 or found.head_dim > 256:
            raise ModelError(f"{node}: head size {found.head_dim} has no kernel (a multiple of 8 up to 256 has)")
        return found


def rotary_table(low: Lowering, node: Node) -> tuple[Window, int]:
    """What shaders/lib/rotary.glsl describes as one constant, and the number of positions.

    (cos, sin) pairs [positions, rotary / 2], then the pairs of scales [D] of a norm over queries and keys.
    """
    tables = [node.optional(i) for i in (5, 6)]
    norms = [node.optional(i) for i in (7, 8)]
    pairs = [[v.array() for v in pair if v is not None] for pair in (tables, norms)]
    sources = tuple(array for pair in pairs for array in pair)
    if not sources:
        return low.weight("array", np.zeros(4, np.float32), "no_rotary"), 1
    name = "+".join(v.name for v in (*tables, *norms) if v is not None)
    size = sum(4 * int(array.size) for array in sources)
    positions = int(pairs[0][0].shape[0]) if pairs[0] else 1
    return low.weight("rotary", sources, name, -(-size // 16) * 16), positions


def _window(node: Node) -> Dim:
    own = int(node.attributes.get("window", 0))
    return own if own else dims.symbol("W", 0)


def _heads_per_group(low: Lowering, h: _Heads, fused: bool, lanes: int) -> int:
    """How many heads that share keys one workgroup takes: as many as registers and shared memory hold."""
    group = h.heads // h.kv_heads
    most = max(1, UNROLLED // h.head_dim) if low.target.cpu else 1 if fused else 8
    if low.target.cpu and fused:
        most = min(most, max(1, _heads_in_shared(low, h, lanes)))
    return max(d for d in range(1, group + 1) if group % d == 0 and d <= most)


def _heads_in_shared(low: Lowering, h: _Heads, lanes: int) -> int:
    """For how many heads attention_lane_fused has room in shared memory."""
    per_head = 4 * (lanes * (h.head_dim + 2) + h.head_dim) + NORM_BYTES
    return (low.target.max_shared_bytes - 8 * h.head_dim - NORM_BYTES) // per_head


def _fused_lanes(low: Lowering, h: _Heads) -> int:
    """Invocations of attention_lane_fused: the target's, or fewer where shared memory is small for large heads."""
    lanes = low.target.lanes
    while lanes > 4 and _heads_in_shared(low, h, lanes) < 1:
        lanes //= 2
    return lanes


@lowers("RingAttention", "tlite")
def ring_attention(low: Lowering, node: Node) -> None:
    q, k, v, k_cache, v_cache = (node.input(i) for i in range(5))
    low.alias(node.outputs[1], k_cache)
    low.alias(node.outputs[2], v_cache)
    h = _Heads.of(node)
    if low.rows(q) == 1 and low.target.fuse:
        _fused(low, node, h)
        return
    table, positions = rotary_table(low, node)
    tokens = low.rows(q)
    half = int(low.book.half_states)
    rotated = low.scratch(f"{node.name}/q", dims.multiply(tokens, h.heads * h.head_dim * 4))
    lanes = 32 if h.head_dim >= 64 else 8
    side = 1 if low.target.cpu else min(8, low.target.max_invocations // lanes)  # small workgroups cost a GPU much
    storage = [
        low.read(q),
        low.read(k),
        low.read(v),
        table,
        rotated[0],
        _all(low, k_cache, "write"),
        _all(low, v_cache, "write"),
        low.named("step", STEP_BYTES, "read"),
    ]
    low.emit(
        "rotary_cache",
        [(w, "storage") for w in storage],
        (dims.ceil_div(h.head_dim // 2, lanes), dims.ceil_div(h.heads + 2 * h.kv_heads, side), tokens),
        [
            h.heads,
            h.kv_heads,
            dims.symbol("C"),
            positions,
            low.columns(q),
            low.columns(k),
            low.columns(v),
            *h.offsets,
            h.norm_epsilon,
        ],
        {0: lanes, 1: h.head_dim, 2: h.rotary, 3: h.interleaved, 4: half, 5: side, 6: int(h.normed)},
        f"{node.name}/rotary_cache",
    )
    _attend(low, node, h, rotated[1], tokens)


def _all(low: Lowering, cache: Value, access: str) -> Window:
    return low.update(cache) if access == "update" else _with_access(low.read(cache), access)


def _with_access(window: Window, access: str) -> Window:
    return Window(window.buffer, window.offset, window.size, access)  # type: ignore[arg-type]


def _common(low: Lowering, h: _Heads, half_out: bool, lanes: int, heads: int) -> dict[int, int]:
    return {
        0: lanes,
        1: h.head_dim,
        2: heads,
        3: h.rotary,
        4: h.interleaved,
        5: int(low.book.half_states),
        6: int(half_out),
        7: int(h.softcap != 0.0),
        20: int(h.normed),
    }


def _push(low: Lowering, node: Node, h: _Heads, tokens: Dim, positions: int, q_stride: int) -> list[Dim | float]:
    return [
        h.heads,
        h.kv_heads,
        dims.symbol("C"),
        _window(node),
        tokens,
        positions,
        q_stride,
        *h.offsets,
        h.scale,
        h.softcap,
        h.norm_epsilon,
    ]


def _block(h: _Heads) -> int:
    """Keys that attention_lane takes at once."""
    return max(1, min(4, 128 // h.head_dim))


def _group_lanes(low: Lowering, h: _Heads, fused: bool) -> int:
    return min(low.target.max_invocations, 512 if fused else 128)


def _group_tile(low: Lowering, h: _Heads, lanes: int, heads: int) -> int:
    """Keys per tile: a multiple of the lanes, up to 4 of them, that fits shared memory beside the rest."""
    rest = heads * (h.head_dim + 3 * lanes) * 4 + 2 * h.head_dim * 4 + (heads + 1) * NORM_BYTES
    room = (low.target.max_shared_bytes - rest) // (4 * heads * lanes)
    if room < 1:
        raise ModelError(
            f"attention with {heads} heads of {h.head_dim} does not fit {low.target.max_shared_bytes} bytes "
            "of shared memory"
        )
    return lanes * min(4, room)


def _matrices_serve(low: Lowering, h: _Heads, tokens: Dim) -> bool:
    """Whether shaders/attention_matrix.comp can run; see there for what it needs."""
    shared = 16 * 64 * (h.head_dim // 8 + 1) + 4 * 64 * 36 + 16 * 64 * 5
    whole = (tokens if isinstance(tokens, int) else low.multiple) % 16 == 0
    return (
        low.target.matrix
        and whole
        and low.book.half_states
        and h.head_dim % 16 == 0
        and shared <= low.target.max_shared_bytes
    )


def _attend(low: Lowering, node: Node, h: _Heads, q: Window, tokens: Dim) -> None:
    half_out = low.wants_half(node.output)
    out = low.write(node.output, half_out)
    k_cache, v_cache, step = low.read(node.input(3)), low.read(node.input(4)), low.named("step", STEP_BYTES, "read")
    lanes = low.target.lanes if low.target.cpu else _group_lanes(low, h, False)
    push = [*_push(low, node, h, tokens, 1, h.heads * h.head_dim)]
    push[7:10] = [0, 0, 0]
    if _matrices_serve(low, h, tokens):
        windows = [(w, "storage") for w in (q, out, step, k_cache, v_cache)]
        spec = {1: h.head_dim, 5: 1, 6: int(half_out), 7: int(h.softcap != 0.0)}
        low.emit(
            "attention_matrix", windows, (dims.ceil_div(tokens, 64), h.heads), push, spec, node.name, subgroup_size=32
        )
        return
    heads = _heads_per_group(low, h, False, lanes)
    spec = _common(low, h, half_out, lanes, heads)
    kv_groups, parts = h.kv_heads, h.heads // h.kv_heads // heads
    if low.target.cpu:
        kind = "texel_rgba32ui" if low.target.texel else "storage"
        shader, groups = "attention_lane" + ("_t" if low.target.texel else ""), dims.ceil_div(tokens, lanes)
        spec |= {11: _block(h)}
    else:
        kind, shader, groups = "storage", "attention_group", tokens
        spec |= {9: lanes, 10: _group_tile(low, h, lanes, heads)}
    low.emit(
        shader,
        [(q, "storage"), (out, "storage"), (step, "storage"), (k_cache, kind), (v_cache, kind)],
        (groups, kv_groups, parts),
        push,
        spec,
        node.name,
    )


def _split(low: Lowering, node: Node, h: _Heads, split: Split) -> None:
    """One token over a long cache: several workgroups for each head."""
    q, k, v, k_cache, v_cache = (node.input(i) for i in range(5))
    table, positions = rotary_table(low, node)
    half_out = low.wants_half(node.output)
    lanes = split.subgroups * low.target.subgroup
    partial = low.scratch(f"{node.name}/shares", h.heads * split.shares * (h.head_dim + 2) * 4)[0]
    windows = [
        low.read(q),
        low.write(node.output, half_out),
        low.named("step", STEP_BYTES, "read"),
        *(low.update(c) for c in (k_cache, v_cache)),
        *(low.read(s) for s in (k, v)),
        table,
        _with_access(partial, "update"),
        low.tickets(),
    ]
    spec = _common(low, h, half_out, lanes, 1)
    spec |= {8: split.subgroups, 9: lanes, 10: split.shares, 11: split.share, 12: split.least}
    low.emit(
        "attention_split",
        [(w, "storage") for w in windows],
        (split.shares, h.kv_heads, h.heads // h.kv_heads),
        _push(low, node, h, 1, positions, low.columns(q)),
        spec,
        node.name,
        subgroup_size=low.target.subgroup,
    )


def _fused(low: Lowering, node: Node, h: _Heads) -> None:
    task = Attention(h.heads, h.kv_heads, h.head_dim, low.book.half_states)
    split = Split.of(low.target, task)
    if split is not None:
        low.tasks.setdefault((task, KERNEL), node)
        _split(low, node, h, split)
        return
    q, k, v, k_cache, v_cache = (node.input(i) for i in range(5))
    table, positions = rotary_table(low, node)
    half_out = low.wants_half(node.output)
    out, step = low.write(node.output, half_out), low.named("step", STEP_BYTES, "read")
    lanes = _fused_lanes(low, h) if low.target.cpu else _group_lanes(low, h, True)
    heads = _heads_per_group(low, h, True, lanes)
    spec = _common(low, h, half_out, lanes, heads)
    sources = [(low.read(s), "storage") for s in (k, v)] + [(table, "storage")]
    head = [(low.read(q), "storage"), (out, "storage"), (step, "storage")]
    if low.target.cpu:
        spec |= {8: lanes * heads * (h.head_dim + 2), 11: _block(h)}
        shader = "attention_lane_fused" + ("_t" if low.target.texel else "")
    else:
        shader = "attention_group_fused"
        spec |= {9: lanes, 10: _group_tile(low, h, lanes, heads)}
    if low.target.cpu and low.target.texel:
        caches = [(low.read(c), "texel_rgba32ui") for c in (k_cache, v_cache)]
        written = [(_all(low, c, "write"), "storage") for c in (k_cache, v_cache)]
        bindings = head + caches + sources + written
    else:
        bindings = head + [(low.update(c), "storage") for c in (k_cache, v_cache)] + sources
    low.emit(
        shader,
        bindings,
        (1, h.kv_heads, h.heads // h.kv_heads // heads),
        _push(low, node, h, 1, positions, low.columns(q)),
        spec,
        node.name,
    )
