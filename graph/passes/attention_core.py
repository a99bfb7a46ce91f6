"""softmax(q k^T * scale + mask) v, written out by exporters -> Attention(q, k, v, mask) over [B, H, T, D].

Factors on q, k or the scores, a soft cap, a guard against rows without keys, and casts between are looked through. Keys
and values that were repeated for groups of query heads are taken from before that; so they are of an Attention node.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tlite_vk.graph.elements.reader import Reader
from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.shape import Dim, equal, equal_shapes

from .base import Pass, RejectedError, Rewriter, require, scalar
from .reading import Heads, as_heads, reader_of, scaled_source


@dataclass(frozen=True)
class _Scores:
    """What goes into a softmax: (q k^T) * scale, capped, plus mask."""

    product: Node
    scale: float
    softcap: float
    mask: Value | None


class AttentionCore(Pass):
    name: ClassVar[str] = "attention-core"

    def rewrite(self, rewriter: Rewriter) -> None:
        for node in rewriter.nodes:
            if node.domain == "" and node.op == "MatMul":
                softmax = _softmax_behind(rewriter, node.input(0))
                if softmax is not None:
                    self._try(rewriter, node, softmax)
            elif node.domain == "" and node.op == "Attention" and len(node.input(1).dims) == 4:
                self._ungroup(rewriter, node)

    def _try(self, rewriter: Rewriter, node: Node, softmax: Node) -> None:
        try:
            rewriter.replace(node, _attention(rewriter, node, softmax))
            rewriter.matched(node)
        except RejectedError as why:
            rewriter.reject(node, str(why))

    def _ungroup(self, rewriter: Rewriter, node: Node) -> None:
        """Keys and values that were repeated for the heads of a group, from before that."""
        heads, reader = node.input(0).dims[1], reader_of(rewriter)
        if node.optional(4) is not None or not isinstance(heads, int) or node.input(1).dims[1] != heads:
            return
        try:
            k, v = (_heads(reader, rewriter, node.input(i), heads, "bhjd", node) for i in (1, 2))
        except RejectedError as why:
            rewriter.reject(node, str(why))
            return
        if k[0] is node.input(1) and v[0] is node.input(2):
            return
        if k[1] != 1.0 or v[1] != 1.0 or not equal(k[0].dims[1], v[0].dims[1]):
            rewriter.reject(node, "keys and values are scaled, or repeated differently")
            return
        inputs = [node.input(0), k[0], v[0], *node.inputs[3:]]
        rewriter.replace(
            node, rewriter.make("Attention", inputs, node, node.attributes, domain="", outputs=node.outputs)
        )
        rewriter.matched(node, f"{k[0].dims[1]} key heads for {heads}")


def _softmax_behind(rewriter: Rewriter, value: Value) -> Node | None:
    """The Softmax over the last axis whose result this is, NaN of empty rows replaced and casts between or not."""
    node = rewriter.maker(value, "Softmax", "Where", "Cast")
    if node is None:
        return None
    if node.op == "Cast":
        return _softmax_behind(rewriter, node.input(0)) if node.output.dtype == "float32" else None
    if node.op == "Where":
        guard = rewriter.maker(node.input(0), "IsNaN")
        inner = rewriter.resolve(node.input(2))
        if guard is None or rewriter.resolve(guard.input(0)) is not inner or scalar(node.input(1)) != 0.0:
            return None
        return _softmax_behind(rewriter, inner)
    last = node.attributes.get("axis", -1) in (-1, len(node.output.dims) - 1)
    return node if last and not node.attributes.get("flattened") else None


def _attention(rewriter: Rewriter, node: Node, softmax: Node) -> Node:
    scores = _scores(rewriter, softmax.input(0))
    product = scores.product
    shape = product.output.dims
    require(len(shape) == 4 and isinstance(shape[1], int), f"its scores are {product.output}, not [B, H, T, S]")
    heads, reader = int(shape[1]), reader_of(rewriter)
    q, q_factor = _heads(reader, rewriter, product.input(0), heads, "bhtd", node)
    k, k_factor = _heads(reader, rewriter, product.input(1), heads, "bhdj", node, transposed=True)
    v, v_factor = _heads(reader, rewriter, node.input(1), heads, "bhjd", node)
    require(v_factor == 1.0, "its values are scaled")
    require(q.dtype == k.dtype == v.dtype == node.output.dtype, "its operands and its result are of several types")
    require(equal(q.dims[1], heads), "its queries are shared by heads")
    batches = equal(q.dims[0], k.dims[0]) and equal(k.dims[0], v.dims[0]) and equal(q.dims[0], node.output.dims[0])
    require(batches, "its operands are broadcast over the batch")
    require(equal(k.dims[1], v.dims[1]), "its keys and values are grouped differently")
    if scores.mask is not None:
        require(2 <= len(scores.mask.dims) <= 4, f"its mask has {len(scores.mask.dims)} axes")
        # Attention takes a shorter mask for one of the first keys.
        columns = scores.mask.dims[-1]
        require(equal(columns, shape[3]), f"its mask has {columns} columns for {shape[3]} keys")
    attributes = {"scale": scores.scale * q_factor * k_factor, "softcap": scores.softcap}
    return rewriter.make("Attention", [q, k, v, scores.mask], node, attributes, domain="", outputs=node.outputs)


def _scores(rewriter: Rewriter, value: Value) -> _Scores:
    """Take apart what goes into the softmax. Raises RejectedError where it is nothing like scores."""
    mask: Value | None = None
    scale, softcap = 1.0, 0.0
    while True:
        node = rewriter.maker(value, "MatMul", "Add", "Mul", "Div", "Tanh", "Cast")
        if node is None:
            raise RejectedError("the argument of its softmax is not a product of queries and keys")
        if node.op == "MatMul":
            return _Scores(node, scale * (softcap or 1.0), softcap, mask)  # the scale comes before the cap
        if node.op == "Add" and mask is None and scale == 1.0 and not softcap:
            value, mask = _product_and_mask(rewriter, node)
        elif node.op == "Tanh" and not softcap:
            softcap, scale, value = scale, 1.0, node.input(0)
        elif node.op == "Cast" and node.output.dtype == "float32":
            value = node.input(0)
        else:
            factor = _factor(node)
            value, scale = factor[0], scale * factor[1]


def _product_and_mask(rewriter: Rewriter, node: Node) -> tuple[Value, Value]:
    for value, mask in ((node.input(0), node.input(1)), (node.input(1), node.input(0))):
        if _leads_to_product(rewriter, value):
            return value, mask
    raise RejectedError("nothing that is added in its softmax is a product of queries and keys")


def _leads_to_product(rewriter: Rewriter, value: Value) -> bool:
    node = rewriter.maker(value, "MatMul", "Mul", "Div", "Tanh", "Cast")
    while node is not None and node.op != "MatMul":
        if node.op in ("Mul", "Div") and scalar(node.input(1)) is None and scalar(node.input(0)) is None:
            return False
        inner = node.input(1) if node.op == "Mul" and scalar(node.input(0)) is not None else node.input(0)
        node = rewriter.maker(inner, "MatMul", "Mul", "Div", "Tanh", "Cast")
    return node is not None


def _factor(node: Node) -> tuple[Value, float]:
    by = scalar(node.inputs[1]) if len(node.inputs) > 1 else None
    if node.op in ("Mul", "Div") and by:
        return node.input(0), by if node.op == "Mul" else 1.0 / by
    by = scalar(node.input(0))
    if node.op == "Mul" and by:
        return node.input(1), by
    raise RejectedError(f"{node} does something else to its scores")


def _heads(
    reader: Reader, rewriter: Rewriter, value: Value, heads: int, names: str, like: Node, *, transposed: bool = False
) -> tuple[Value, float]:
    """The value [B, G, S, D] of which head h // (H / G) is head h of an operand, as far back as it goes; its factor."""
    index = reader.index(value, names)
    wanted = (index[0], index[1], index[3], index[2]) if transposed else index
    places, factor = scaled_source(reader, rewriter, value, index)
    batch, rows, width = (value.dims[i] for i in ((0, 3, 2) if transposed else (0, 2, 3)))
    for found, at in reversed(places):
        if (
            len(found.dims) == 4
            and at[0] == wanted[0]
            and at[2:] == wanted[2:]
            and equal_shapes((found.dims[0], *found.dims[2:]), (batch, rows, width))
            and _serves(reader, found, at[1], heads)
        ):
            return found, factor
    if isinstance(width, int):
        view = Heads(batch, heads, rows, width, wanted)
        for place in reversed(places):
            made = as_heads(rewriter, place, like, view)
            if made is not None:
                return made, factor
    raise RejectedError("its operands are not [B, H, T, D]")


def _serves(reader: Reader, value: Value, at: object, heads: int) -> bool:
    count: Dim = value.dims[1]
    if not isinstance(count, int) or count < 1 or heads % count:
        return False
    head = reader.atoms.index("h", heads)
    return bool(at == reader.atoms.divide(head, heads // count)[0])
