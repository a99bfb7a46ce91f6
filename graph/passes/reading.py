"""What the passes for attention share: a Reader over the graph under change, and heads as [B, H, T, D]."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tlite_vk.graph.elements.formula import Formula, atoms_of, holds_at
from tlite_vk.graph.elements.moves import Index, Place
from tlite_vk.graph.elements.polynomial import Polynomial
from tlite_vk.graph.elements.reader import Reader
from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.ops.dtypes import INDICES
from tlite_vk.graph.shape import Dim, equal, equal_shapes

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
    """The graph input [B, S] that alone says what a mask bool [B, 1, 1, S] says, all keys where it is 1; or None."""
    if len(mask.dims) != 4 or mask.dtype != "bool":
        return None
    index = tuple(reader.atoms.index(f"mask{i}", d) for i, d in enumerate(mask.dims))
    found = reader.read(mask, index)
    sources = {(a.key[1], a.key[2]) if a.kind == "element" else None for a in atoms_of(found)}
    source = sources.pop() if len(sources) == 1 else None
    if source is None or not isinstance(found, Formula) or source[0] not in rewriter.inputs:
        return None
    value, at = source
    keys = at == (index[0], index[3]) and equal_shapes(value.dims, (mask.dims[0], mask.dims[3]))
    integers = value.dtype in (*INDICES, "bool")
    return value if keys and integers and holds_at(found, 1) else None


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


@dataclass(frozen=True)
class Heads:
    """Heads [B, H, T, D] as something reads them: their extents, and an index (b, h, t, d) into them.

    An index alone does not tell a whole tensor from its first row, so the extents of a source are compared, too.
    """

    batch: Dim
    count: int
    rows: Dim
    width: int
    index: Index

    @staticmethod
    def of(reader: Reader, batch: Dim, count: int, rows: Dim, width: int) -> Heads:
        extents = (batch, count, rows, width)
        index = tuple(reader.atoms.index(n, e) for n, e in zip("bhtd", extents, strict=True))
        return Heads(batch, count, rows, width, index)

    def are(self, place: Place) -> bool:
        """Whether the place is element (b, h, t, d) of just such a tensor."""
        value, at = place
        return at == self.index and equal_shapes(value.dims, (self.batch, self.count, self.rows, self.width))

    def are_rows_of(self, place: Place) -> bool:
        """Whether the place is element (b, t, h, d) of a tensor [B, T, H, D]."""
        value, at = place
        b, h, t, d = self.index
        return at == (b, t, h, d) and equal_shapes(value.dims, (self.batch, self.rows, self.count, self.width))

    def column(self, place: Place) -> Polynomial | None:
        """The column, where the place is in row (b, t) of a tensor [B, T, N]."""
        value, at = place
        whole = len(value.dims) == 3 and equal_shapes(value.dims[:2], (self.batch, self.rows))
        return at[2] if whole and at[:2] == (self.index[0], self.index[2]) else None

    def offset(self, place: Place) -> int | None:
        """`offset` where the place is in column offset + D*h + d."""
        column = self.column(place)
        if column is None:
            return None
        rest = (column - self.index[1].scaled(self.width) - self.index[3]).constant
        return rest if isinstance(rest, int) and rest >= 0 else None


def projected(rewriter: Rewriter, like: Node, place: Place, heads: Heads) -> Value | None:
    """Heads that lie apart in the columns of a projection, from one of its own that has only their rows."""
    h, d, column = heads.index[1], heads.index[3], heads.column(place)
    linear = rewriter.maker(place[0], "Linear", domain="tlite")
    if linear is None or column is None or h.atom is None or linear.optional(3) is not None:
        return None
    stride = (column - d).terms.get((h.atom,), 0)
    start = (column - d - h.scaled(stride)).constant
    if not isinstance(stride, int) or not isinstance(start, int) or linear.attributes.get("activation"):
        return None
    if stride < heads.width or start < 0:
        return None
    ranges = [(start + stride * i, start + stride * i + heads.width) for i in range(heads.count)]
    weight = some_rows(rewriter, linear.input(1), ranges)
    bias = linear.optional(2)
    if bias is not None:
        rows = np.concatenate([bias.array()[low:high] for low, high in ranges])
        bias = rewriter.constant(f"{bias.name}.heads", rows)
    own = rewriter.make("Linear", [linear.input(0), weight, bias], like)
    rewriter.insert_before(like, [own])
    return own.output


def as_heads(rewriter: Rewriter, place: Place, like: Node, heads: Heads) -> Value | None:
    """The value [B, H, T, D] of which element (b, h, t, d) is the place, made from where it lies."""
    value = place[0]
    if heads.are(place):
        return value
    if heads.are_rows_of(place):
        return _transposed(rewriter, like, value)
    offset = heads.offset(place)
    if offset is None:
        own = projected(rewriter, like, place, heads)
        if own is None:
            return None
        value, offset = own, 0
    nodes = []
    columns = heads.count * heads.width
    if offset or not equal(value.dims[2], columns):
        ends = [offset, offset + columns, 2]
        bounds = [
            rewriter.constant(f"{like.name}.{n}", np.asarray([v], np.int64))
            for n, v in zip(("start", "end", "axis"), ends, strict=True)
        ]
        nodes.append(rewriter.make("Slice", [value, *bounds], like, domain=""))
        value = nodes[-1].output
    shape = rewriter.constant(f"{like.name}.heads", np.asarray([0, 0, heads.count, heads.width], np.int64))
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
