"""Matrix products of any two values: MatMul, Gemm, Einsum. (Products with packed weights are in linear.py.)"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from tlite_vk.graph import shape as dims
from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.shape import Dim, Shape
from tlite_vk.lower import Lowering, lowers

from .elementwise import wrap
from .generated.fusion import pull, pulls, settle, store
from .generated.index import Index
from .generated.source import Source, kind_of, number

Element = Callable[[Source, Index, str, str], str]
"""(kernel, position among the batches, row, column) -> an element of an operand"""

Finish = Callable[[Source, Index, str], str]
"""(kernel, position in the result, sum) -> the element of the result"""

TILE = 4
"""Rows and columns of the result that one invocation computes: 8 loads serve 16 products."""


@dataclass(frozen=True)
class Product:
    """Batched y[b, m, n] = finish(sum over k of left[b, m, k] * right[b, k, n]), written to `y` at `place`."""

    y: Value
    batch: Shape
    rows: Dim
    columns: Dim
    inner: Dim
    left: Element
    right: Element
    finish: Finish = field(default=lambda source, at, total: total)
    place: Callable[[Source, Index], str] = field(default=lambda source, at: at.flat())

    def emit(self, low: Lowering, label: str) -> None:
        source, kind = Source(low, label), kind_of(self.y.dtype)
        tile = [_tile(low.dim(d)) for d in (self.rows, self.columns)]
        tiles = [dims.ceil_div(low.dim(d), t) for d, t in zip((self.rows, self.columns), tile, strict=True)]
        item, groups = source.each(dims.product([*(low.dim(d) for d in self.batch), *tiles]))
        place = Index(source, (*self.batch, *tiles), flat=item)
        batch = Index(source, self.batch, coords=place.coords()[:-2])
        rows = _lines(source, place.coord(place.rank - 2), tile[0])
        columns = _lines(source, place.coord(place.rank - 1), tile[1])
        sums = self._sums(source, kind, batch, (rows, columns))
        self._write(source, kind, batch, (rows, columns), sums)
        source.emit(groups)

    def _sums(self, source: Source, kind: str, batch: Index, lines: tuple[list[str], list[str]]) -> list[list[str]]:
        rows, columns = (
            self._inside(source, line, d) for line, d in zip(lines, (self.rows, self.columns), strict=True)
        )
        sums = [[source.variable(kind, number(0, kind)) for _ in columns] for _ in rows]
        with source.loop(source.dim(self.inner)) as k:
            left = [self.left(source, batch, row, k) for row in rows]
            right = [self.right(source, batch, k, column) for column in columns]
            for i, a in enumerate(left):
                for j, b in enumerate(right):
                    source.line(f"{sums[i][j]} += {a} * {b};")
        return sums

    def _write(
        self, source: Source, kind: str, batch: Index, lines: tuple[list[str], list[str]], sums: list[list[str]]
    ) -> None:
        target = source.writes(source.low.write(self.y), kind)
        for i, row in enumerate(lines[0]):
            for j, column in enumerate(lines[1]):
                at = Index(source, (*self.batch, self.rows, self.columns), coords=[*batch.coords(), row, column])
                with ExitStack() as guard:
                    for line, extent in ((row, self.rows), (column, self.columns)):
                        if not self._divides(source, extent):
                            guard.enter_context(source.block(f"if ({line} < {source.dim(extent)})"))
                    store(source, target, kind, self.place(source, at), self.finish(source, at, sums[i][j]))

    def _inside(self, source: Source, lines: Sequence[str], extent: Dim) -> list[str]:
        """The lines, those past the end replaced by the last one."""
        if self._divides(source, extent):
            return list(lines)
        return [source.let("int", f"min({line}, {source.dim(extent)} - 1)") for line in lines]

    @staticmethod
    def _divides(source: Source, extent: Dim) -> bool:
        known = source.low.dim(extent)
        return isinstance(known, int) and known % _tile(known) == 0


def _tile(extent: Dim) -> int:
    return min(TILE, max(1, extent)) if isinstance(extent, int) else TILE


def _lines(source: Source, tile: str, size: int) -> list[str]:
    first = tile if size == 1 else source.let("int", f"{tile} * {size}")
    return [first if i == 0 else source.let("int", f"{first} + {i}") for i in range(size)]


@lowers("MatMul")
def matmul(low: Lowering, node: Node) -> None:
    a, b = node.input(0), node.input(1)
    settle(low, [a, b], work=1)
    multiply(low, node, (a, b), (lambda source, at: pull(source, a, at), lambda source, at: pull(source, b, at)))


def multiply(
    low: Lowering,
    node: Node,
    values: tuple[Value, Value],
    elements: tuple[Callable[[Source, Index], str], Callable[[Source, Index], str]],
    finish: Finish | None = None,
) -> None:
    """numpy's matmul of two values, whose elements `elements` reads, as the node's output."""
    a, b = values
    left: Shape = a.dims if len(a.dims) > 1 else (1, *a.dims)
    right: Shape = b.dims if len(b.dims) > 1 else (*b.dims, 1)
    batch = list(node.output.dims)
    for vector in (len(a.dims) == 1, len(b.dims) == 1):
        batch = batch if vector else batch[:-1]

    def operand(i: int, shape: Shape) -> Element:
        def element(source: Source, at: Index, row: str, column: str) -> str:
            whole = at.broadcast(shape[:-2])
            return elements[i](source, at.of(shape, [*whole.coords(), row, column]).same_place(values[i].dims))

        return element

    Product(
        node.output,
        tuple(batch),
        left[-2],
        right[-1],
        left[-1],
        operand(0, left),
        operand(1, right),
        finish or (lambda source, at, total: wrap(total, node.output.dtype)),
    ).emit(low, node.name)


@lowers("Gemm")
def gemm(low: Lowering, node: Node) -> None:
    a, b, c = node.input(0), node.input(1), node.optional(2)
    settle(low, [a, b], work=1)
    settle(low, [v for v in (a, b, c) if v is not None])
    alpha, beta = float(node.attributes.get("alpha", 1.0)), float(node.attributes.get("beta", 1.0))
    turned = [bool(node.attributes.get(name, 0)) for name in ("transA", "transB")]

    def operand(value: Value, transposed: bool) -> Element:
        return lambda source, at, row, column: pull(
            source, value, at.of(value.dims, [column, row] if transposed else [row, column])
        )

    def finish(source: Source, at: Index, total: str) -> str:
        kind = kind_of(node.output.dtype)
        text = total if alpha == 1.0 else scaled(kind, total, alpha)
        if c is not None:
            other = pull(source, c, at.broadcast(c.dims))
            text = f"{text} + {other if beta == 1.0 else scaled(kind, other, beta)}"
        return text

    rows, columns = node.output.dims
    inner = a.dims[0] if turned[0] else a.dims[1]
    Product(node.output, (), rows, columns, inner, operand(a, turned[0]), operand(b, turned[1]), finish).emit(
        low, node.name
    )


def scaled(kind: str, element: str, factor: float) -> str:
    return f"{number(factor)} * {element}" if kind == "float" else f"{kind}({number(factor)} * float({element}))"


@pulls("Einsum", work=64)
def einsum(source: Source, node: Node, out: int, at: Index) -> str:
    """Products of the inputs' elements, summed over the indices that the result does not have."""
    left, arrow, right = node.attributes["equation"].replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow:
        right = "".join(sorted(c for c in set(left) - {","} if left.count(c) == 1))
    extents = {c: d for term, v in zip(terms, node.inputs, strict=True) if v for c, d in zip(term, v.dims, strict=True)}
    where = dict(zip(right, at.coords(), strict=True))
    kind = kind_of(node.output.dtype)
    total = source.variable(kind, number(0, kind))
    with ExitStack() as loops:
        for letter in sorted(set(extents) - set(right)):
            where[letter] = loops.enter_context(source.loop(source.dim(extents[letter])))
        factors = [
            pull(source, v, at.of(v.dims, [where[c] for c in term]))
            for term, v in zip(terms, node.inputs, strict=True)
            if v
        ]
        source.line(f"{total} += {' * '.join(factors)};")
    return total
