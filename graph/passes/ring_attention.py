"""RotaryEmbedding + TensorScatter + Attention over caches of the graph -> RingAttention, which updates them in place.

The node's positions are the runtime's own: row t stands at position P + t. So the graph's positions, write indices and
valid lengths must be graph inputs that nothing else reads; they disappear.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.ops.dtypes import INDICES
from tlite_vk.graph.shape import exact_div

from .base import Pass, RejectedError, Rewriter, require


@dataclass(frozen=True)
class _Cache:
    scatter: Node
    past: Value
    present: Value
    source: Value


@dataclass(frozen=True)
class _Rotary:
    source: Value
    key: tuple[Value, Value, Value, int, int] | None  # cos, sin, positions, interleaved, rotary dim (0: whole head)


class RingAttention(Pass):
    name: ClassVar[str] = "ring-attention"

    def rewrite(self, rewriter: Rewriter) -> None:
        for node in rewriter.nodes:
            if node.op != "Attention" or node.domain:
                continue
            try:
                ring, scatters = self._ring(rewriter, node)
                for scatter in scatters:
                    rewriter.replace(scatter)
                rewriter.replace(node, ring)
                rewriter.matched(node)
            except RejectedError as why:
                rewriter.reject(node, str(why))

    def _ring(self, rewriter: Rewriter, node: Node) -> tuple[Node, list[Node]]:
        _check_attention(rewriter, node)
        k, v = _cache(rewriter, node, 1), _cache(rewriter, node, 2)
        heads, kv_heads = node.attributes["q_num_heads"], node.attributes["kv_num_heads"]
        head_dim = exact_div(node.input(0).dims[2], heads)
        require(isinstance(head_dim, int), "the head size is not known")
        assert isinstance(head_dim, int)
        q_rotary, k_rotary = _rotary(rewriter, node.input(0), heads), _rotary(rewriter, k.source, kv_heads)
        require(q_rotary.key == k_rotary.key, "queries and keys are rotated differently")
        attributes: dict[str, Any] = {
            "heads": heads,
            "kv_heads": kv_heads,
            "head_dim": head_dim,
            "scale": float(node.attributes.get("scale", head_dim**-0.5)),
            "softcap": float(node.attributes.get("softcap", 0.0)),
            "window": node.attributes.get("left_window_size", -1) + 1,
            "q_offset": 0,
            "k_offset": 0,
            "v_offset": 0,
            "interleaved": 0,
            "rotary_dim": 0,
        }
        inputs: list[Value | None] = [q_rotary.source, k_rotary.source, v.source, k.past, v.past]
        if q_rotary.key is not None:
            cos, sin, _, interleaved, rotary_dim = q_rotary.key
            inputs += [cos, sin]
            attributes |= {"interleaved": interleaved, "rotary_dim": rotary_dim or head_dim}
        ring = rewriter.make("RingAttention", inputs, node, attributes, outputs=[node.output, k.present, v.present])
        return ring, [k.scatter, v.scatter]


def _check_attention(rewriter: Rewriter, node: Node) -> None:
    a = node.attributes
    require(a.get("is_causal", 0) == 1, "it is not causal")
    require(a.get("q_num_heads", 0) > 0 and a.get("kv_num_heads", 0) > 0, "its inputs are not [B, T, H*D]")
    require(a.get("softmax_precision", 1) == 1, "its softmax has another precision")
    require(all(node.optional(i) is None for i in (3, 4, 5)), "it has a mask or its own past")
    require(
        all(v not in rewriter.readers and v not in rewriter.outputs for v in node.outputs[1:]),
        "its further outputs are used",
    )
    nonpad = node.optional(6)
    require(nonpad is not None, "it does not say how many keys are valid")
    assert nonpad is not None
    _bookkeeping(rewriter, nonpad, "the number of valid keys", {"Attention"})


def _bookkeeping(rewriter: Rewriter, value: Value, what: str, readers: set[str]) -> None:
    """A value that the ring replaces: an integer graph input that only such nodes read."""
    require(value in rewriter.inputs and value.dtype in INDICES, f"{what} ({value.name}) is not a graph input")
    require(value not in rewriter.outputs, f"{what} ({value.name}) is a graph output")
    other = next((n for n in rewriter.users(value) if n.domain or n.op not in readers), None)
    require(other is None, f"{what} ({value.name}) is also read by {other}")


def _cache(rewriter: Rewriter, node: Node, index: int) -> _Cache:
    scatter = rewriter.maker(node.input(index), "TensorScatter")
    what = ("keys", "values")[index - 1]
    if scatter is None:
        raise RejectedError(f"its {what} do not come from a TensorScatter into a cache")
    past, source, where = scatter.input(0), scatter.input(1), scatter.optional(2)
    require(scatter.attributes.get("mode", "linear") == "circular", f"the cache of its {what} is not circular")
    require(
        len(past.dims) == 3 and scatter.attributes.get("axis", -2) in (1, -2),
        f"the cache of its {what} is not [B, C, KV*D]",
    )
    require(
        past in rewriter.inputs and len(rewriter.users(past)) == 1,
        f"the cache of its {what} is not a graph input of its own",
    )
    require(scatter.output in rewriter.outputs, f"the updated cache of its {what} is not a graph output")
    require(len(rewriter.users(scatter.output)) == 1, f"the updated cache of its {what} is read elsewhere too")
    if where is None:
        raise RejectedError("its cache is always written from slot 0")
    _bookkeeping(rewriter, where, "the write index", {"TensorScatter"})
    return _Cache(scatter, past, scatter.output, source)


def _rotary(rewriter: Rewriter, value: Value, heads: int) -> _Rotary:
    node = rewriter.maker(value, "RotaryEmbedding")
    if node is None:
        return _Rotary(value, None)
    cos, sin, positions = node.input(1), node.input(2), node.optional(3)
    if positions is None:
        raise RejectedError("its rotation has no positions")
    require(cos.constant is not None and sin.constant is not None, "its cos and sin are not constants")
    require(node.attributes.get("num_heads", 0) == heads, "rotation and attention disagree on the number of heads")
    require(rewriter.used_once(node.output), "the rotated heads are used elsewhere too")
    _bookkeeping(rewriter, positions, "the positions", {"RotaryEmbedding"})
    a = node.attributes
    return _Rotary(node.input(0), (cos, sin, positions, a.get("interleaved", 0), a.get("rotary_embedding_dim", 0)))
