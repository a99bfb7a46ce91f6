"""Normalizations over rows: LayerNormalization, RMSNormalization, Lp, instance, group and batch normalization."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tlite_vk.graph import shape as dims
from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.shape import Dim
from tlite_vk.lower import Lowering, lowers

from .generated.fusion import pull, pulls, settle, store
from .generated.index import Index
from .generated.rows import Rows
from .generated.source import Source, number
from .movement import axis_of
from .reduction import over, write_row

Scale = Callable[[Source, Index, str], str]
"""(kernel, position in the tensor, normalized element) -> the element of the result"""


def _sum(source: Source, kind: str, a: str, b: str) -> str:
    return f"{a} + {b}"


def _square(source: Source, text: str) -> str:
    centred = source.let("float", text)
    return f"{centred} * {centred}"


def _normalize(
    low: Lowering, node: Node, shape: Sequence[Dim], axes: Sequence[int], scale: Scale, *, centre: bool
) -> tuple[Rows, str, str]:
    """Write (x - mean) / sqrt(variance + epsilon) of each row; (the rows, their mean, their 1 / sqrt).

    shape: how to look at the input, which has as many elements. centre: whether there is a mean to subtract.
    """
    x, y = node.input(0), node.output
    settle(low, [x], room=3, work=8)
    rows = Rows(low, node.name, shape, axes)
    source = rows.source
    size = f"float({source.dim(rows.length)})"

    def element(position: str) -> str:
        return pull(source, x, rows.element(position).same_place(x.dims))

    mean = "0.0"
    if centre:
        mean = source.let("float", f"{over(rows, 'float', '0.0', _sum, element)} / {size}")
    squares = over(rows, "float", "0.0", _sum, lambda p: _square(source, f"{element(p)} - {mean}"))
    epsilon = number(float(node.attributes.get("epsilon", 1e-5)))
    factor = source.let("float", f"1.0 / sqrt({squares} / {size} + {epsilon})")
    target = source.writes(low.write(y), "float")
    with rows.walk() as position:
        at = rows.element(position).same_place(x.dims)
        normal = source.let("float", f"({element(position)} - {mean}) * {factor}")
        store(source, target, "float", at.flat(), scale(source, at, normal))
    return rows, mean, factor


def _scaled(
    *values: Value | None, place: Callable[[Index, Value], Index] = lambda at, v: at.broadcast(v.dims)
) -> Scale:
    """Times the first value, plus the second."""

    def scale(source: Source, at: Index, normal: str) -> str:
        weight, bias = (None if v is None else pull(source, v, place(at, v)) for v in (*values, None)[:2])
        text = normal if weight is None else f"{normal} * {weight}"
        return text if bias is None else f"{text} + {bias}"

    return scale


def _last_axes(node: Node) -> list[int]:
    rank = len(node.input(0).dims)
    return list(range(axis_of(node, rank, -1), rank))


@lowers("LayerNormalization")
def layer_normalization(low: Lowering, node: Node) -> None:
    scale = _scaled(node.input(1), node.optional(2))
    settle(low, node.inputs[1:], work=1, room=3)
    rows, mean, factor = _normalize(low, node, node.input(0).dims, _last_axes(node), scale, centre=True)
    for value, text in zip(node.outputs[1:], (mean, factor), strict=False):
        if value in low.users or value in low.graph.outputs:
            write_row(rows, value, text)
    rows.emit()


@lowers("RMSNormalization")
def rms_normalization(low: Lowering, node: Node) -> None:
    settle(low, node.inputs[1:], work=1, room=3)
    _normalize(low, node, node.input(0).dims, _last_axes(node), _scaled(node.input(1)), centre=False)[0].emit()


def _channel(at: Index, value: Value) -> Index:
    return at.of(value.dims, [at.coord(1)])


@lowers("InstanceNormalization")
def instance_normalization(low: Lowering, node: Node) -> None:
    settle(low, node.inputs[1:], work=1, room=3)
    shape = node.input(0).dims
    scale = _scaled(node.input(1), node.input(2), place=_channel)
    _normalize(low, node, shape, range(2, len(shape)), scale, centre=True)[0].emit()


@lowers("GroupNormalization")
def group_normalization(low: Lowering, node: Node) -> None:
    settle(low, node.inputs[1:], work=1, room=3)
    shape, groups = node.input(0).dims, int(node.attributes["num_groups"])
    grouped = (shape[0], groups, dims.floor_div(dims.product(shape[1:]), groups))
    scale = _scaled(node.input(1), node.input(2), place=_channel)
    _normalize(low, node, grouped, [2], scale, centre=True)[0].emit()


@lowers("MeanVarianceNormalization")
def mean_variance_normalization(low: Lowering, node: Node) -> None:
    axes = [int(a) % len(node.input(0).dims) for a in node.attributes.get("axes", (0, 2, 3))]
    node.attributes.setdefault("epsilon", 1e-9)
    _normalize(low, node, node.input(0).dims, axes, _scaled(), centre=True)[0].emit()


@lowers("LpNormalization")
def lp_normalization(low: Lowering, node: Node) -> None:
    x, p = node.input(0), int(node.attributes.get("p", 2))
    settle(low, [x], work=8)
    rows = Rows(low, node.name, x.dims, [axis_of(node, len(x.dims), -1)])
    source = rows.source

    def element(position: str) -> str:
        text = pull(source, x, rows.element(position))
        return f"abs({text})" if p == 1 else f"{text} * {text}"

    total = over(rows, "float", "0.0", _sum, element)
    norm = source.let("float", total if p == 1 else f"sqrt({total})")
    target = source.writes(low.write(node.output), "float")
    with rows.walk() as position:
        at = rows.element(position)
        store(source, target, "float", at.flat(), f"{norm} == 0.0 ? 0.0 : {pull(source, x, at)} / {norm}")
    rows.emit()


@pulls("BatchNormalization", work=4)
def batch_normalization(source: Source, node: Node, out: int, at: Index) -> str:
    x, scale, bias, mean, variance = (
        pull(source, v, at if i == 0 else _channel(at, v)) for i, v in enumerate(node.inputs[:5]) if v is not None
    )
    epsilon = number(float(node.attributes.get("epsilon", 1e-5)))
    return f"{scale} * ({x} - {mean}) / sqrt({variance} + {epsilon}) + {bias}"
