"""What generation needs to know of a graph, found by structure: token ids, caches, logits, symbols of its lengths.

A table that an integer input picks rows from is an embedding; the token ids pick from the one with as many rows as the
logits have columns. A cache is a graph input that TensorScatter, Concat or RingAttention turns into a graph output.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import GraphError
from .ir import Graph, Node, Value
from .ops.dtypes import FLOATS, INDICES
from .shape import Dim, Symbol, as_symbol

POSITIONS = frozenset({"position_ids"})
"""The one thing that goes by name: inputs that pick learned positions, as Hugging Face's exporters call them."""


@dataclass(frozen=True)
class CachePair:
    """The cached keys and values of one attention: graph inputs and the graph outputs that follow them."""

    k_in: Value
    k_out: Value
    v_in: Value
    v_out: Value


@dataclass(frozen=True)
class Roles:
    """token_ids: integer [B, T]. logits: float [B, T or 1, V]. A symbol is None where the graph fixes the length."""

    token_ids: Value
    logits: Value
    caches: tuple[CachePair, ...]
    batch: Symbol | None
    tokens: Symbol | None
    capacity: Symbol | None


def find_roles(graph: Graph) -> Roles:
    """The roles of a shaped graph's inputs and outputs. Raises GraphError where there are no token ids or logits."""
    makers, readers = graph.producers(), graph.consumers()
    pairs = _caches(graph, makers, readers)
    cached = {v for p in pairs for v in (p.k_out, p.v_out)}
    logits = [
        v for v in graph.outputs if v not in cached and v.dtype in FLOATS and len(v.dims) == 3 and v not in graph.inputs
    ]
    ids = _token_ids(graph, readers, [v.dims[-1] for v in logits])
    if ids is None:
        raise GraphError("the model has no integer input [batch, tokens] that picks rows of an embedding")
    logits = [v for v in logits if v.dims[0] == ids.dims[0]]
    if not logits:
        raise GraphError("the model has no output [batch, tokens, vocabulary]")
    capacity = pairs[0].k_in.dims[_length_axis(pairs[0].k_in)] if pairs else None
    return Roles(ids, logits[0], tuple(pairs), as_symbol(ids.dims[0]), as_symbol(ids.dims[1]), as_symbol(capacity))


def _length_axis(cache: Value) -> int:
    return 1 if len(cache.dims) == 3 else 2


def _token_ids(graph: Graph, readers: dict[Value, list[Node]], vocabularies: list[Dim]) -> Value | None:
    """The integer matrix that picks rows of a constant table, first of all of one with a row per logit."""
    found: list[tuple[bool, Value]] = []
    for value in graph.inputs:
        if value.dtype not in INDICES or len(value.dims) != 2:
            continue
        for table in (_table(n, value, graph) for n in readers.get(value, [])):
            if table is not None:
                found.append((table in vocabularies, value))
    found.sort(key=lambda f: not f[0])
    return found[0][1] if found else None


def _table(node: Node, ids: Value, graph: Graph) -> Dim | None:
    """The rows of the float table that the node picks from by `ids`, if it does."""
    if node.op == "Embedding" and node.domain == "tlite":
        return node.input(1).dims[0]
    if node.op == "Gather" and node.input(1) is ids and node.attributes.get("axis", 0) == 0:
        table = node.input(0)
        return table.dims[0] if table.dtype in FLOATS and len(table.dims) == 2 else None
    return None


def _caches(graph: Graph, makers: dict[Value, Node], readers: dict[Value, list[Node]]) -> list[CachePair]:
    inputs, outputs = set(graph.inputs), set(graph.outputs)
    pairs: list[CachePair] = []
    for node in graph.nodes:
        if node.op == "RingAttention" and node.domain == "tlite":
            pairs.append(CachePair(node.input(3), node.outputs[1], node.input(4), node.outputs[2]))
        elif node.op == "Attention" and node.domain == "":
            pair = _attention_cache(node, makers, inputs, outputs)
            pairs += [pair] if pair is not None else []
    return pairs


def _attention_cache(
    node: Node, makers: dict[Value, Node], inputs: set[Value], outputs: set[Value]
) -> CachePair | None:
    past_k, past_v = node.optional(4), node.optional(5)
    if past_k in inputs and past_v in inputs and len(node.outputs) >= 3 and outputs >= set(node.outputs[1:3]):
        assert past_k is not None and past_v is not None
        return CachePair(past_k, node.outputs[1], past_v, node.outputs[2])
    scatters = [makers.get(node.input(i)) for i in (1, 2)]
    found = [(s.input(0), s.output) for s in scatters if s is not None and s.op in ("TensorScatter", "Concat")]
    if len(found) == 2 and all(i in inputs and o in outputs for i, o in found):
        return CachePair(*found[0], *found[1])
    return None
