"""Attention over caches of the graph -> RingAttention, which rotates, normalizes and caches in place.

Caches may be TensorScatter into graph inputs, pasts that an Attention extends, or none, where the graph always sees all
tokens: then they are added. The node's positions are the runtime's own: row t stands at position P + t, one sequence,
no padding. So the graph's positions, lengths and padding mask must say the same, or be inputs; they disappear.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from tlite_vk.graph.elements.reader import Reader
from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.shape import exact_div

from .base import Pass, RejectedError, Rewriter, require
from .reading import padding_input, reader_of, unpadded_reader
from .ring_caches import Cache, bookkeeping, find_cache
from .ring_sources import Rotation, Source, check_positions, find_source

LONG = 32768  # positions of computed tables where a window lets generation go on


class RingAttention(Pass):
    name: ClassVar[str] = "ring-attention"

    def __init__(self, positions: int = LONG) -> None:
        """positions: rows of the tables of a rotation whose frequencies the graph has."""
        self.positions = positions

    def rewrite(self, rewriter: Rewriter) -> None:
        tables: dict[object, tuple[Value, Value]] = {}
        for node in rewriter.nodes:
            if node.op != "Attention" or node.domain:
                continue
            saved = list(rewriter.inputs), dict(rewriter.renewed), list(rewriter.added_outputs)
            try:
                self._replace(rewriter, node, tables)
                rewriter.matched(node)
            except RejectedError as why:
                rewriter.inputs, rewriter.renewed, rewriter.added_outputs = saved
                rewriter.reject(node, str(why))

    def _replace(self, rewriter: Rewriter, node: Node, tables: dict[object, tuple[Value, Value]]) -> None:
        reader = reader_of(rewriter)
        heads, kv_heads, width = _shape(node)
        _check(rewriter, reader, node)
        k, v = (find_cache(rewriter, node, i, kv_heads, width) for i in (1, 2))
        counts = (heads, kv_heads, kv_heads)
        operands = zip((node.input(0), k.new, v.new), counts, ("queries", "keys", "values"), strict=True)
        q_source, k_source, v_source = (
            find_source(rewriter, reader, node, x, n, width, what) for x, n, what in operands
        )
        require(v_source.rotation is None and v_source.norm is None, "its values are rotated or normalized")
        require(q_source.rotation == k_source.rotation, "queries and keys are rotated differently")
        rotation = q_source.rotation
        window = int(node.attributes.get("left_window_size", -1)) + 1
        attributes: dict[str, Any] = {
            "heads": heads,
            "kv_heads": kv_heads,
            "head_dim": width,
            "scale": float(node.attributes.get("scale") or width**-0.5),
            "softcap": float(node.attributes.get("softcap", 0.0)),
            "window": window,
            "q_offset": q_source.offset,
            "k_offset": k_source.offset,
            "v_offset": v_source.offset,
            "interleaved": 0,
            "rotary_dim": 0,
        }
        inputs: list[Value | None] = [q_source.value, k_source.value, v_source.value, k.past, v.past, None, None]
        if rotation is not None:
            check_positions(rewriter, unpadded_reader(rewriter), rotation.positions, k.length)
            inputs[5:7] = self._tables(rewriter, rotation, window, tables)
            attributes |= {"interleaved": rotation.interleaved, "rotary_dim": rotation.dim or width}
        inputs += _norms(q_source, k_source, attributes)
        _emit(rewriter, node, inputs, attributes, (k, v))

    def _tables(
        self, rewriter: Rewriter, rotation: Rotation, window: int, made: dict[object, tuple[Value, Value]]
    ) -> tuple[Value, Value]:
        """cos and sin [positions, r/2]; angles are rounded to float32 as they are where a graph computes them."""
        if rotation.tables is not None:
            return rotation.tables
        count = max(self.positions, LONG) if window else self.positions
        key = (rotation.frequencies, rotation.scale, count)
        if key not in made:
            frequencies = np.frombuffer(rotation.frequencies, np.float32)
            angles = (np.arange(count, dtype=np.float32)[:, None] * frequencies).astype(np.float64)
            scale = np.float32(rotation.scale)
            made[key] = (
                rewriter.constant("rotary.cos", np.cos(angles).astype(np.float32) * scale),
                rewriter.constant("rotary.sin", np.sin(angles).astype(np.float32) * scale),
            )
        return made[key]


def _shape(node: Node) -> tuple[int, int, int]:
    """(query heads, key heads, head size)"""
    q, k = node.input(0), node.input(1)
    if len(q.dims) == 4:
        found = q.dims[1], k.dims[1], q.dims[3]
    else:
        heads, kv_heads = int(node.attributes.get("q_num_heads", 0)), int(node.attributes.get("kv_num_heads", 0))
        require(heads > 0 and kv_heads > 0, "it does not say how many heads it has")
        width = exact_div(q.dims[2], heads)
        found = heads, kv_heads, width if width is not None else 0
    require(all(isinstance(n, int) and n > 0 for n in found), "its heads or their size are not known")
    v = node.input(2)
    value_width = v.dims[3] if len(v.dims) == 4 else exact_div(v.dims[2], found[1])
    require(value_width == found[2], "its values are of another size than its keys")
    return int(found[0]), int(found[1]), int(found[2])


def _check(rewriter: Rewriter, reader: Reader, node: Node) -> None:
    a = node.attributes
    require(a.get("is_causal", 0) == 1, "it is not causal")
    require(a.get("right_window_size", -1) in (-1, 0), "it sees keys ahead")
    require(a.get("softmax_precision", 1) == 1, "its softmax has another precision")
    mask = node.optional(3)
    require(mask is None or padding_input(rewriter, reader, mask) is not None, "it has a mask of its own")
    require(
        len(node.outputs) < 4 or (node.outputs[3] not in rewriter.readers and node.outputs[3] not in rewriter.outputs),
        "its further outputs are used",
    )
    nonpad = node.optional(6)
    if nonpad is not None:
        unused = all(v not in rewriter.readers and v not in rewriter.outputs for v in node.outputs[1:])
        require(unused, "its further outputs are used")
        bookkeeping(rewriter, nonpad, "the number of valid keys", {"Attention"})


def _norms(q: Source, k: Source, attributes: dict[str, Any]) -> list[Value | None]:
    if q.norm is None and k.norm is None:
        return []
    if q.norm is None or k.norm is None or q.norm.epsilon != k.norm.epsilon:
        raise RejectedError("only one of queries and keys is normalized, or they are normalized differently")
    attributes["norm_epsilon"] = q.norm.epsilon
    return [q.norm.scale, k.norm.scale]


def _emit(
    rewriter: Rewriter, node: Node, inputs: list[Value | None], attributes: dict[str, Any], caches: tuple[Cache, Cache]
) -> None:
    """The RingAttention in the place of the Attention, whose output stays what it is."""
    for cache in caches:
        if cache.node is not None:
            rewriter.replace(cache.node)
    y = node.output
    if len(y.dims) == 3:
        ring = rewriter.make("RingAttention", inputs, node, attributes, outputs=[y, *(c.present for c in caches)])
        rewriter.replace(node, ring)
        return
    heads, width = attributes["heads"], attributes["head_dim"]
    rows = Value(rewriter.fresh(f"{y.name}.rows"), y.dtype, (y.dims[0], y.dims[2], heads * width))
    ring = rewriter.make("RingAttention", inputs, node, attributes, outputs=[rows, *(c.present for c in caches)])
    shape = rewriter.constant(f"{y.name}.heads", np.asarray([0, 0, heads, width], np.int64))
    split = rewriter.make("Reshape", [rows, shape], node, domain="")
    turn = rewriter.make("Transpose", [split.output], node, {"perm": [0, 2, 1, 3]}, domain="", outputs=[y])
    rewriter.replace(node, ring, split, turn)
