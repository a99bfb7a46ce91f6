"""What the passes for attention share: a Reader over the graph under change, and heads as [B, H, T, D]."""

from __future__ import annotations

import numpy as np

from tlite_vk.graph.elements.formula import Formula
from tlite_vk.graph.elements.moves import Index, Place
from tlite_vk.graph.elements.reader import Reader
from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.ops.dtypes import INDICES
from tlite_vk.graph.shape import Dim, equal

from .base import Rewriter, scalar
from .merge import some_rows


def reader_of(rewriter: Rewriter) -> Reader:
    """A reader of the graph under change; make a new one after changes."""
    return Reader(rewriter.producer.get, resolve=rewriter.resolve)


def unpadded_reader(rewriter: Rewriter) -> Reader:
    """A reader for which no key is padding: the inputs that say so in masks are 1 throughout."""
    reader = reader_of(rewriter)
    masks = [n.optional(3) for n in rewriter.nodes if n.op == "Attention" and not n.domain]
    inputs = {v: 1 for mask in masks if mask is not None and (v := padding_input(rewriter, reader, mask)) is not None}
    return Reader(rewriter.producer.get, known=inputs, resolve=rewriter.resolve)


def padding_input(rewriter: Rewriter, reader: Reader, mask: Value) -> Value | None:
    """The graph input [B, S] whose elements a mask bool [B, 1, 1, S] is, where it is one."""
    if len(mask.dims) != 4 or mask.dtype != "bool":
        return None
    found = reader.read(mask, tuple(reader.atoms.index(f"mask{i}", d) for i, d in enumerate(mask.dims)))
    if not isinstance(found, Formula) or found.kind != "nonzero":
        return None
    source: Value = found.part.key[1]
    return source if source in rewriter.inputs and source.dtype in (*INDICES, "bool") else None


def scaled_source(reader: Reader, rewriter: Rewriter, value: Value, index: Index) -> tuple[list[Place], float]:
    """The places an element comes from, through moves and multiplications by numbers, nearest first, and the factor."""
    places: list[Place] = []
    factor = 1.0
    while True:
        value = rewriter.resolve(value)
        places.append((value, index))
        step = reader.step(value, index)
        if step is not None:
            value, index = step
            continue
        node = rewriter.maker(value, "Mul", "Div")
        found = None if node is None else _by_number(node)
        if found is None:
            return places, factor
        places.clear()  # what lies before the multiplication is another value
        value, factor = found[0], factor * found[1]


def _by_number(node: Node) -> tuple[Value, float] | None:
    a, b = node.input(0), node.input(1)
    by = scalar(b)
    if by is not None and by != 0 and len(a.dims) == len(node.output.dims):
        return a, (by if node.op == "Mul" else 1.0 / by)
    by = scalar(a)
    if by is not None and node.op == "Mul" and len(b.dims) == len(node.output.dims):
        return b, by
    return None


def columns_offset(reader: Reader, place: Place, index: Index, head_dim: int) -> int | None:
    """`offset` where the place is (b, t, offset + D*h + d) in rows [B, T, N]. index: (b, h, t, d)."""
    value, at = place
    b, h, t, d = index
    if len(value.dims) != 3 or at[0] != b or at[1] != t:
        return None
    rest = (at[2] - h.scaled(head_dim) - d).constant
    return rest if isinstance(rest, int) and rest >= 0 else None


def projected(rewriter: Rewriter, like: Node, place: Place, index: Index, heads: int, width: int) -> Value | None:
    """Heads that lie apart in the columns of a projection, from one of its own that has only their rows."""
    value, at = place
    b, h, t, d = index
    linear = rewriter.maker(value, "Linear", domain="tlite")
    if linear is None or len(value.dims) != 3 or at[:2] != (b, t) or h.atom is None or linear.optional(3) is not None:
        return None
    stride = (at[2] - d).terms.get((h.atom,), 0)
    start = (at[2] - d - h.scaled(stride)).constant
    if (
        not isinstance(stride, int)
        or not isinstance(start, int)
        or stride < width
        or linear.attributes.get("activation")
    ):
        return None
    ranges = [(start + stride * i, start + stride * i + width) for i in range(heads)]
    weight = some_rows(rewriter, linear.input(1), ranges)
    bias = linear.optional(2)
    if bias is not None:
        rows = np.concatenate([bias.array()[low:high] for low, high in ranges])
        bias = rewriter.constant(f"{bias.name}.heads", rows)
    own = rewriter.make("Linear", [linear.input(0), weight, bias], like)
    rewriter.insert_before(like, [own])
    return own.output


def as_heads(
    rewriter: Rewriter, reader: Reader, place: Place, index: Index, like: Node, heads: int, width: int
) -> Value | None:
    """The value [B, H, T, D] of which element (b, h, t, d) is the place, made from where it lies."""
    value, at = place
    b, h, t, d = index
    if len(value.dims) == 4 and at == (b, h, t, d) and equal(value.dims[1], heads):
        return value
    if len(value.dims) == 4 and at == (b, t, h, d) and equal(value.dims[2], heads):
        return _transposed(rewriter, like, value)
    offset = columns_offset(reader, place, index, width)
    if offset is None:
        own = projected(rewriter, like, place, index, heads, width)
        if own is None:
            return None
        value, offset = own, 0
    nodes = []
    if offset or not equal(value.dims[2], heads * width):
        ends = [offset, offset + heads * width, 2]
        bounds = [
            rewriter.constant(f"{like.name}.{n}", np.asarray([v], np.int64))
            for n, v in zip(("start", "end", "axis"), ends, strict=True)
        ]
        nodes.append(rewriter.make("Slice", [value, *bounds], like, domain=""))
        value = nodes[-1].output
    shape = rewriter.constant(f"{like.name}.heads", np.asarray([0, 0, heads, width], np.int64))
    nodes.append(rewriter.make("Reshape", [value, shape], like, domain=""))
    nodes.append(rewriter.make("Transpose", [nodes[-1].output], like, {"perm": [0, 2, 1, 3]}, domain=""))
    rewriter.insert_before(like, nodes)
    return nodes[-1].output


def known(rewriter: Rewriter, name: str, *dims: Dim) -> Value:
    """Lengths as an operand: an int64 vector, or a scalar where there is one."""
    shape = () if len(dims) == 1 else (len(dims),)
    if all(isinstance(d, int) for d in dims):
        return rewriter.constant(name, np.asarray(dims, np.int64).reshape(shape))
    content = np.empty(len(dims), object)
    content[:] = dims
    return Value(rewriter.fresh(name), "int64", shape, content=content.reshape(shape))


def _transposed(rewriter: Rewriter, like: Node, value: Value) -> Value:
    node = rewriter.make("Transpose", [value], like, {"perm": [0, 2, 1, 3]}, domain="")
    rewriter.insert_before(like, [node])
    return node.output
