"""Elements that follow from their position: Range, ConstantOfShape, Trilu, EyeLike, OneHot."""

from __future__ import annotations

import numpy as np

from tlite_vk.graph.ir import Node

from .generated.fusion import pull, pulls
from .generated.index import Index
from .generated.source import Source, kind_of, number
from .movement import axis_of


@pulls("ConstantOfShape", work=0)
def constant_of_shape(source: Source, node: Node, out: int, at: Index) -> str:
    value = node.attributes.get("value")
    kind = kind_of(node.output.dtype)
    return number(0 if value is None else np.asarray(value).reshape(-1)[0].item(), kind)


@pulls("Range", work=1)
def range_(source: Source, node: Node, out: int, at: Index) -> str:
    kind = kind_of(node.output.dtype)
    start, delta = (pull(source, v, at.of(v.dims, ["0"] * len(v.dims))) for v in (node.input(0), node.input(2)))
    return f"{start} + {kind}({at.flat()}) * {delta}"


@pulls("Trilu", work=1)
def trilu(source: Source, node: Node, out: int, at: Index) -> str:
    offset = node.optional(1)
    k = "0" if offset is None else pull(source, offset, at.of(offset.dims, ["0"] * len(offset.dims)))
    row, column = at.coord(at.rank - 2), at.coord(at.rank - 1)
    kept = f"{column} - {row} {'>=' if node.attributes.get('upper', 1) else '<='} {k}"
    return f"{kept} ? {pull(source, node.input(0), at)} : {number(0, kind_of(node.output.dtype))}"


@pulls("EyeLike", work=1)
def eye_like(source: Source, node: Node, out: int, at: Index) -> str:
    kind = kind_of(node.output.dtype)
    one = f"{at.coord(1)} - {at.coord(0)} == {number(int(node.attributes.get('k', 0)), 'int')}"
    return one if kind == "bool" else f"{one} ? {number(1, kind)} : {number(0, kind)}"


@pulls("OneHot", work=2)
def one_hot(source: Source, node: Node, out: int, at: Index) -> str:
    indices, values = node.input(0), node.input(2)
    axis = axis_of(node, at.rank, -1)
    coords = at.coords()
    position = coords.pop(axis)
    picked = pull(source, indices, at.of(indices.dims, coords))
    if kind_of(indices.dtype) != "int":
        picked = source.let(
            "int", source.call("toInt", picked) if kind_of(indices.dtype) == "float" else f"int({picked})"
        )
    hot = source.let("bool", f"({picked} < 0 ? {picked} + {source.dim(at.shape[axis])} : {picked}) == {position}")
    off, on = (pull(source, values, at.of(values.dims, [c])) for c in "01")
    return f"{hot} ? {on} : {off}"
