"""RotaryEmbedding as opset 23 defines it: pairs of a head's elements turned by an angle of their position."""

from __future__ import annotations

from tlite_vk.graph import shape as dims
from tlite_vk.graph.ir import Node, Value
from tlite_vk.lower import Lowering, lowers

from . import expansion
from .gather import within
from .generated.fusion import pull, pulls
from .generated.index import Index
from .generated.source import Source


@pulls("RotaryEmbedding", work=8)
def rotary_embedding(source: Source, node: Node, out: int, at: Index) -> str:
    """x: [B, T, H*D] or [B, H, T, D]; pairs are (d, d + r/2), or (2j, 2j + 1) where interleaved."""
    x = node.input(0)
    b, row, column, width = _rotary_place(source, node, at)
    rotary = int(node.attributes.get("rotary_embedding_dim", 0)) or width
    result = source.variable("float", pull(source, x, at))
    with source.block(f"if ({column} < {rotary})"):
        if node.attributes.get("interleaved", 0):
            pair, first = source.let("int", f"{column} / 2"), source.let("bool", f"({column} & 1) == 0")
            step = f"({first} ? 1 : -1)"
        else:
            first = source.let("bool", f"{column} < {rotary // 2}")
            pair = source.let("int", f"{first} ? {column} : {column} - {rotary // 2}")
            step = f"({first} ? {rotary // 2} : {-rotary // 2})"
        other = pull(source, x, at.replaced(at.rank - 1, source.let("int", f"{at.coord(at.rank - 1)} + {step}")))
        cos, sin = (_rotary_angle(source, node, table, (b, row, pair)) for table in (node.input(1), node.input(2)))
        source.line(f"{result} = {cos} * {result} + ({first} ? -{sin} : {sin}) * {other};")
    return result


def _rotary_place(source: Source, node: Node, at: Index) -> tuple[str, str, str, int]:
    """(batch, row, column within the head, width of a head)"""
    x = node.input(0)
    if len(x.dims) == 4:
        width = source.low.dim(x.dims[3])
        assert isinstance(width, int)
        return at.coord(0), at.coord(2), at.coord(3), width
    whole = dims.floor_div(x.dims[2], int(node.attributes["num_heads"]))
    assert isinstance(whole, int)
    return at.coord(0), at.coord(1), source.let("int", f"{at.coord(2)} % {whole}"), whole


def _rotary_angle(source: Source, node: Node, table: Value, place: tuple[str, str, str]) -> str:
    positions = node.optional(3)
    if positions is None:
        return pull(source, table, Index(source, table.dims, coords=place))
    b, row, pair = place
    batch = b if not dims.equal(positions.dims[0], 1) else "0"
    position = pull(source, positions, Index(source, positions.dims, coords=[batch, row]))
    return pull(source, table, Index(source, table.dims, coords=[within(source, position, table.dims[0]), pair]))


@lowers("RotaryAngles", "tlite")
def rotary_angles(low: Lowering, node: Node) -> None:
    expansion.rotary_angles(low, node)
