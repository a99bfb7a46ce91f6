"""Exporters name the same length differently from input to input; what must be equal becomes one symbol.

All pasts that a graph extends by the same rows are equally long (P), and a mask over keys covers past and new rows.
"""

from __future__ import annotations

from .ir import Graph, Node, Value
from .ops.dtypes import INDICES
from .shape import Dim, Symbol, add, as_symbol


def same_lengths(graph: Graph) -> dict[Symbol, Dim]:
    """Symbols of a shaped graph's inputs and what they are equal to, from how caches are extended."""
    bindings: dict[Symbol, Dim] = {}
    pasts = [(value, rows) for node in graph.nodes if (found := _extended(graph, node)) for value, rows in found]
    if not pasts:
        return bindings
    first, rows = as_symbol(pasts[0][0].dims[2]), pasts[0][1]
    if first is None:
        return bindings
    for past, _ in pasts[1:]:
        length = as_symbol(past.dims[2])
        if length is not None and length != first:
            bindings[length] = first
    for value in graph.inputs:
        length = as_symbol(value.dims[1]) if len(value.dims) == 2 else None
        if length is None or length in (first, as_symbol(rows)) or length in bindings:
            continue
        if value.dtype in (*INDICES, "bool") and not _lengths_elsewhere(graph, value, length):
            bindings[length] = add(first, rows)
    return bindings


def _lengths_elsewhere(graph: Graph, mask: Value, length: Symbol) -> bool:
    return any(v is not mask and any(d == length for d in v.dims) for v in graph.inputs)


def _given_out(graph: Graph, present: Value) -> bool:
    """Whether the joined rows are a graph output, as they are or with some of them moved by a TensorScatter."""
    moved = [n.output for n in graph.nodes if n.op == "TensorScatter" and present in n.inputs]
    return any(v in graph.outputs for v in (present, *moved))


def _extended(graph: Graph, node: Node) -> list[tuple[Value, Dim]]:
    """The pasts [B, KV, P, D] that a node extends, with the number of new rows."""
    if node.domain == "" and node.op == "Concat" and len(node.inputs) == 2:
        past, new = node.input(0), node.input(1)
        axis = node.attributes.get("axis", 0)
        if past in graph.inputs and len(past.dims) == 4 and axis in (2, -2) and _given_out(graph, node.output):
            return [(past, new.dims[2])]
    if node.domain == "" and node.op == "Attention":
        found = [node.optional(i) for i in (4, 5)]
        key = node.input(1)
        rows = key.dims[2] if len(key.dims) == 4 else key.dims[1]
        return [(v, rows) for v in found if v is not None and v in graph.inputs and len(v.dims) == 4]
    return []
