"""RotaryEmbedding, GroupQueryAttention and MultiHeadAttention in the standard's RotaryEmbedding and Attention.

GroupQueryAttention keeps sequences of different lengths side by side, padded on the right: sequence b has
seqlens_k[b] + 1 tokens after the step, so its new rows belong right behind its own past, at

    write[b] = max(seqlens_k[b] + 1 - T, 0)

which is 0 in a first prompt, padded or not. Rows t of the step stand at positions write[b] + t, are scattered there
into a cache of P + T slots and see the keys up to themselves. Where no sequence is padded, write is P, and scattering
into Concat(past, new) changes nothing: the pass `unpadded` relies on that for generation. As in onnxruntime the result
of rows that are padding means nothing, and so do slots of the cache behind a sequence's last token.

Two differences: position_ids are taken as they are in a first prompt too, where onnxruntime counts on from the first;
and a past that is longer than its sequences makes a present of P + T slots. A model that declares its present as long
as its past, to keep both in one buffer, is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.shape import Dim, Shape, Symbol, as_symbol, exact_div

from .body import Body, rewrites

INT64, BOOL = 7, 9  # numbers of ONNX's element types


@rewrites("RotaryEmbedding", inputs=(4, 4))
def rotary_embedding(body: Body, node: Node) -> None:
    """x [B, T, H*D] or [B, H, T, D]; positions [B, T], or [1] for the first row's; tables [positions, rotary / 2]."""
    x, positions, cos, sin = (node.input(i) for i in range(4))
    heads, rotary = body.take("num_heads", 0), body.take("rotary_embedding_dim", 0)
    body.only("scale", 1.0)
    body.only("is_packed_batching", 0)
    flat = body.rank(x) == 3
    if not rotary:  # the whole head turns, so the tables tell its size
        count = exact_div(x.dims[-1], 2 * _columns(body, cos)) if flat else 0
        body.require(isinstance(count, int), f"{x.dims[-1]} columns are not whole heads of {2 * _columns(body, cos)}")
        heads = count
    if body.rank(positions) == 1:
        positions = body("Unsqueeze", body("Add", positions, _count(body, x, 1 if flat else 2)), body.ints(0))
    attributes = {"rotary_embedding_dim": rotary, "interleaved": body.take("interleaved", 0)}
    body.end("RotaryEmbedding", x, cos, sin, positions, num_heads=heads if flat else 0, **attributes)


def _columns(body: Body, table: Value) -> int:
    width = table.dims[-1]
    body.require(isinstance(width, int) and width > 0, f"the columns of its table {table.name!r} are not known")
    assert isinstance(width, int)
    return width


def _length(body: Body, x: Value, axis: int = 1) -> Value:
    """The extent of an axis, [1]."""
    return body("Shape", x, start=axis, end=axis + 1)


def _count(body: Body, x: Value, axis: int = 1) -> Value:
    """0, 1, ... along an axis of x: [T]."""
    length = body("Squeeze", _length(body, x, axis))
    return body("Range", body.scalar(0), length, body.scalar(1))


@rewrites("GroupQueryAttention", inputs=(1, 16), others=("query_seqlens",))
def group_query_attention(body: Body, node: Node) -> None:
    """query [B, T, H*D] with key and value [B, T, KV*D], or all three side by side; past [B, KV, P, D].

    Outputs: y [B, T, H*D], keys and values [B, KV, P + T, D].
    """
    heads, kv_heads = body.take("num_heads"), body.take("kv_num_heads")
    _refuse_variants(body, node)
    q, k, v = _queries_keys_values(body, node, heads, kv_heads)
    past_k, past_v = node.optional(3), node.optional(4)
    body.require((past_k is None) == (past_v is None), "only one of past_key and past_value is given")
    write = None if past_k is None else _write_index(body, node, q)
    q, k = (_normalized(body, node, x, n, i) for i, (x, n) in enumerate(((q, heads), (k, kv_heads))))
    if body.take("do_rotary", 0):
        positions = node.optional(9) or _positions(body, q, write)
        q, k = (_rotated(body, node, x, positions, n) for x, n in ((q, heads), (k, kv_heads)))
    body.left.pop("rotary_interleaved", None)
    attributes, bias = _attributes(body), node.optional(10)
    # Rows of a causal attention are aligned to the end of the keys it counts; padding behind them is not seen anyway.
    counted = None if attributes["is_causal"] else body("Add", _last(body, node), body.ints(1))
    if write is None:
        counts = {"q_num_heads": heads, "kv_num_heads": kv_heads}
        body.end("Attention", q, k, v, bias, None, None, counted, outputs=3, **counts, **attributes)
        return
    valid = counted or body("Add", write, _length(body, q))
    present = [
        _scattered(body, _heads(body, x, kv_heads), past, write, i)
        for i, (x, past) in enumerate(((k, past_k), (v, past_v)), 1)
    ]
    y = body("Attention", _heads(body, q, heads), *present, bias, None, None, valid, **attributes)
    body.end("Reshape", body("Transpose", y, perm=[0, 2, 1, 3]), body.ints(0, 0, -1))


def _attributes(body: Body) -> dict[str, Any]:
    """Attributes of the standard's Attention, but for the numbers of heads."""
    window = body.take("local_window_size", -1)
    return {
        "is_causal": body.take("causal", 1),
        "softcap": float(body.take("softcap", 0.0)),
        "left_window_size": window - 1 if window > 0 else -1,  # a query counts itself among its window
        **_scale(body),
    }


def refuse_shared_buffers(node: Node, declared: Mapping[str, Shape]) -> None:
    """Raise GraphError where the node's present is declared to be as long as its past. declared: shapes by name."""
    past = node.optional(3)
    if node.op != "GroupQueryAttention" or past is None or past.shape is None or len(past.shape) != 4:
        return
    for present in node.outputs[1:3]:
        shape = declared.get(present.name, ())
        if len(shape) == 4 and shape[2] == past.shape[2]:
            raise GraphError(
                f"{node}: past and present share a buffer of {shape[2]} slots, which is not supported; "
                "export the model with a past that grows"
            )


def implied_lengths(node: Node) -> dict[Symbol, Dim]:
    """Symbols in the shapes of a node's past that can have one value only: its key heads and their size.

    Recent model builders leave the size of a head open, for quantized caches.
    """
    past = [node.optional(i) for i in (3, 4)]
    heads, kv_heads = node.attributes.get("num_heads"), node.attributes.get("kv_num_heads")
    if node.op != "GroupQueryAttention" or not (isinstance(heads, int) and isinstance(kv_heads, int)):
        return {}
    if heads < 1 or kv_heads < 1 or not node.input(0).dims:
        return {}  # the rewriter refuses it
    packed = node.optional(1) is None
    size = exact_div(node.input(0).dims[-1], heads + (2 * kv_heads if packed else 0))
    found: dict[Symbol, Dim] = {}
    for value in past:
        if value is not None and len(value.dims) == 4 and isinstance(size, int):
            for d, known in ((value.dims[1], kv_heads), (value.dims[3], size)):
                symbol = as_symbol(d)
                if symbol is not None:
                    found[symbol] = known
    return found


def _refuse_variants(body: Body, node: Node) -> None:
    for name, harmless in (
        ("smooth_softmax", (0, -1)),
        ("sliding_window_cache", (0,)),
        ("kv_cache_bit_width", (0,)),
        ("k_quant_type", ("NONE",)),
        ("v_quant_type", ("NONE",)),
        ("qk_output", (0,)),
    ):
        body.only(name, *harmless)
    for i, name in ((11, "head_sink"), (12, "k_scale"), (13, "v_scale")):
        body.require(node.optional(i) is None, f"its input {name!r} is not supported")
    past = node.optional(3)
    body.require(
        past is None or past.dtype in ("float32", "float16", "bfloat16"),
        f"a cache of type {past.dtype if past else ''} is not supported",
    )


def _scale(body: Body) -> dict[str, float]:
    scale = float(body.take("scale", 0.0))
    return {"scale": scale} if scale else {}


def _queries_keys_values(body: Body, node: Node, heads: int, kv_heads: int) -> list[Value]:
    """[B, T, H*D] and twice [B, T, KV*D]."""
    q, k, v = node.input(0), node.optional(1), node.optional(2)
    body.require((k is None) == (v is None), "only one of key and value is given")
    if k is not None and v is not None:
        return [q, k, v]
    size = exact_div(q.dims[-1], heads + 2 * kv_heads)
    body.require(isinstance(size, int), f"{q.dims[-1]} columns are not {heads} + 2 * {kv_heads} heads")
    assert isinstance(size, int)
    sizes = body.ints(heads * size, kv_heads * size, kv_heads * size)
    return body.several("Split", q, sizes, outputs=3, axis=-1)


def _normalized(body: Body, node: Node, x: Value, heads: int, which: int) -> Value:
    """Queries (0) or keys (1) [B, T, H*D], each head after an RMS norm where the node has a scale for it."""
    scale = node.optional(14 + which)
    epsilon = body.take(("q_norm_epsilon", "k_norm_epsilon")[which], body.take("qk_norm_epsilon", 1e-6))
    if scale is None:
        return x
    y = body("RMSNormalization", body("Reshape", x, body.ints(0, 0, heads, -1)), scale, epsilon=epsilon)
    return body("Reshape", y, body.ints(0, 0, -1))


def _write_index(body: Body, node: Node, q: Value) -> Value:
    """Where the step's first row of each sequence goes, int64 [B]: seqlens_k + 1 - T, at least 0."""
    behind = body("Sub", body.ints(1), _length(body, q))
    return body("Max", body("Add", _last(body, node), behind), body.ints(0))


def _last(body: Body, node: Node) -> Value:
    """seqlens_k: the tokens of each sequence after the step, less one, int64 [B]."""
    return body("Cast", body("Reshape", node.input(5), body.ints(-1)), to=INT64)


def _positions(body: Body, q: Value, write: Value | None) -> Value:
    """Positions of the step's rows: [B, T], or [1, T] where all sequences start at 0."""
    if write is None:
        return body("Unsqueeze", _count(body, q), body.ints(0))
    return body("Add", body("Unsqueeze", write, body.ints(1)), _count(body, q))


def _rotated(body: Body, node: Node, x: Value, positions: Value, heads: int) -> Value:
    cos, sin = node.input(7), node.input(8)
    attributes = {
        "num_heads": heads,
        "interleaved": body.take("rotary_interleaved", 0),
        "rotary_embedding_dim": 2 * _columns(body, cos),
    }
    return body("RotaryEmbedding", x, cos, sin, positions, **attributes)


def _heads(body: Body, x: Value, heads: int) -> Value:
    """[B, T, H*D] as [B, H, T, D]."""
    return body("Transpose", body("Reshape", x, body.ints(0, 0, heads, -1)), perm=[0, 2, 1, 3])


def _scattered(body: Body, rows: Value, past: Value | None, write: Value, output: int) -> Value:
    """Output `output`: the past with the new rows [B, KV, T, D] written behind each sequence, [B, KV, P + T, D]."""
    return body.end("TensorScatter", body("Concat", past, rows, axis=2), rows, write, output=output, axis=2)


@rewrites("MultiHeadAttention", inputs=(1, 8), others=("past_sequence_length", "cache_indirection"))
def multi_head_attention(body: Body, node: Node) -> None:
    """query [B, T, H*D]; key and value [B, S, H*D], or [B, H, S, D] of a cross attention; past [B, H, P, D]."""
    q, k, v = node.input(0), node.optional(1), node.optional(2)
    if k is None or v is None or body.rank(q) != 3 or body.rank(k) not in (3, 4) or body.rank(v) != body.rank(k):
        raise body.refusal("queries, keys and values packed into one input are not supported")
    heads = body.take("num_heads")
    if node.optional(3) is not None:
        widths = [x.dims[-1] for x in (q, k, v)]
        body.require(all(isinstance(w, int) for w in widths) and body.rank(k) == 3, "a bias of unknown parts")
        parts = body.several("Split", node.input(3), body.ints(*map(int, widths)), outputs=3, axis=0)
        q, k, v = (body("Add", x, part) for x, part in zip((q, k, v), parts, strict=True))
    attributes = {
        "q_num_heads": heads,
        "kv_num_heads": heads,
        "is_causal": body.take("unidirectional", 0),
        **_scale(body),
    }
    mask = _padding_mask(body, node.optional(4), q)
    bias = node.optional(5)
    if mask is not None and bias is not None:
        mask = body("Add", mask, bias)
    body.end("Attention", q, k, v, mask or bias, node.optional(6), node.optional(7), outputs=3, **attributes)


def _padding_mask(body: Body, mask: Value | None, like: Value) -> Value | None:
    """What is added to the scores: mask_filter_value where the mask [B, S] or [B, T, S] is 0."""
    hidden = float(body.take("mask_filter_value", -10000.0))
    if mask is None:
        return None
    body.require(body.rank(mask) in (2, 3), "a key_padding_mask of lengths is not supported")
    seen = body("Unsqueeze", body("Cast", mask, to=BOOL), body.ints(*((1, 2) if body.rank(mask) == 2 else (1,))))
    return body("Where", seen, body.constant(0.0, like=like), body.constant(hidden, like=like))
