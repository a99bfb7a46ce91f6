"""The caches of an attention, in the forms in which graphs keep them, as rings [B, C, KV*D]."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.ops.dtypes import INDICES
from tlite_vk.graph.shape import Dim, symbol

from .base import RejectedError, Rewriter, require

CAPACITY = "ring_capacity"


@dataclass(frozen=True)
class Cache:
    """new: the keys or values of this step, [B, KV, T, D] or [B, T, KV*D]. past, present: the ring before and after the
    step. length: tokens in it before the step, where the graph's shapes say so. node: what updated it, which goes."""

    new: Value
    past: Value
    present: Value
    length: Dim | None
    node: Node | None = None


def find_cache(rewriter: Rewriter, node: Node, index: int, kv_heads: int, width: int) -> Cache:
    """The cache of keys (1) or values (2) of an Attention. Raises RejectedError where it cannot be a ring."""
    scatter = rewriter.maker(node.input(index), "TensorScatter")
    if scatter is not None:
        return _scattered(rewriter, node, scatter, ("keys", "values")[index - 1])
    if node.optional(6) is not None:
        raise RejectedError(f"its {('keys', 'values')[index - 1]} do not come from a TensorScatter into a cache")
    past = node.optional(index + 3)
    if past is None:
        return _made(rewriter, node, index, kv_heads, width)
    return _joined(rewriter, node, past, index, kv_heads, width)


def _scattered(rewriter: Rewriter, node: Node, scatter: Node, what: str) -> Cache:
    """TensorScatter into a graph input [B, C, KV*D], which is a ring already."""
    past, source, where = scatter.input(0), scatter.input(1), scatter.optional(2)
    require(node.optional(6) is not None, "it does not say how many keys are valid")
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
    bookkeeping(rewriter, where, "the write index", {"TensorScatter"})
    return Cache(source, past, scatter.output, None, scatter)


def _joined(rewriter: Rewriter, node: Node, past: Value, index: int, kv_heads: int, width: int) -> Cache:
    """A past [B, KV, P, D], which is a graph input, and the present that the Attention gives out."""
    what = ("keys", "values")[index - 1]
    require(
        past in rewriter.inputs and len(past.dims) == 4, f"the past of its {what} is not a graph input [B, KV, P, D]"
    )
    require(all(n is node for n in rewriter.users(past)), f"the past of its {what} is read elsewhere too")
    present = node.outputs[index] if index < len(node.outputs) else None
    require(present is not None and not rewriter.users(present), f"its present {what} are read elsewhere too")
    assert present is not None
    ring, after = _ring(past.name, past, kv_heads * width), _ring(present.name, past, kv_heads * width)
    rewriter.inputs = [ring if v is past else v for v in rewriter.inputs]
    if present in rewriter.outputs:
        rewriter.renewed[present] = after
    else:
        rewriter.added_outputs.append(after)
    return Cache(node.input(index), ring, after, past.dims[2])


def _made(rewriter: Rewriter, node: Node, index: int, kv_heads: int, width: int) -> Cache:
    """A cache for an attention that has none: its graph always sees all tokens. One pass later sees to the rest."""
    kind = ("key", "value")[index - 1]
    new = node.input(index)
    past = _ring(rewriter.fresh(f"{node.name}.past_{kind}"), new, kv_heads * width)
    present = _ring(rewriter.fresh(f"{node.name}.present_{kind}"), new, kv_heads * width)
    rewriter.inputs = [*rewriter.inputs, past]
    rewriter.added_outputs.append(present)
    return Cache(new, past, present, 0)


def _ring(name: str, like: Value, columns: int) -> Value:
    return Value(name, like.dtype, (like.dims[0], symbol(CAPACITY), columns))


def bookkeeping(rewriter: Rewriter, value: Value, what: str, readers: Iterable[str]) -> None:
    """A value that the ring replaces: an integer graph input that only such nodes read."""
    require(value in rewriter.inputs and value.dtype in INDICES, f"{what} ({value.name}) is not a graph input")
    require(value not in rewriter.outputs, f"{what} ({value.name}) is a graph output")
    other = next((n for n in rewriter.users(value) if n.domain or n.op not in readers), None)
    require(other is None, f"{what} ({value.name}) is also read by {other}")
