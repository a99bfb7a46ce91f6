"""Reductions over axes: the Reduce family, ArgMax and ArgMin, CumSum, TopK."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tlite_vk.errors import ModelError
from tlite_vk.graph.ir import Node, Value
from tlite_vk.lower import Lowering, lowers

from .elementwise import larger, smaller, wrap
from .generated.fusion import pull, pulls, settle, store
from .generated.index import Index
from .generated.rows import Rows
from .generated.source import Source, kind_of, number
from .movement import axis_of, numbers

Combine = Callable[[Source, str, str, str], str]
Map = Callable[[Source, str, str], str]


@dataclass(frozen=True)
class Reduction:
    """start: of nothing; map: of one element; combine: two results; end: (kernel, kind, total, elements per row)."""

    start: Callable[[str], str]
    combine: Combine
    map: Map = lambda source, kind, x: x
    end: Callable[[Source, str, str, str], str] = lambda source, kind, x, n: x


def _sum(source: Source, kind: str, a: str, b: str) -> str:
    return f"{a} + {b}"


def _zero(kind: str) -> str:
    return number(0, kind)


def _absolute(source: Source, kind: str, x: str) -> str:
    return x if kind == "uint" else f"abs({x})"


def _square(source: Source, kind: str, x: str) -> str:
    return f"{x} * {x}"


def _mean(source: Source, kind: str, x: str, n: str) -> str:
    return f"{x} / float({n})" if kind == "float" else source.call("divideInt", x, f"max({n}, 1)")


def _root(source: Source, kind: str, x: str, n: str) -> str:
    return source.call("squareRoot", x) if kind == "float" else source.call("toInt", f"sqrt(float({x}))")


def _log(source: Source, kind: str, x: str, n: str) -> str:
    text = source.call("logarithm", x if kind == "float" else f"float({x})")
    return text if kind == "float" else source.call("toInt", text)


def _lowest(kind: str) -> str:
    return number({"float": -np.inf, "int": -(2**31), "uint": 0, "bool": 0}[kind], kind)


def _highest(kind: str) -> str:
    return number({"float": np.inf, "int": 2**31 - 1, "uint": 2**32 - 1, "bool": 1}[kind], kind)


REDUCTIONS = {
    "ReduceSum": Reduction(_zero, _sum),
    "ReduceMean": Reduction(_zero, _sum, end=_mean),
    "ReduceProd": Reduction(lambda kind: number(1, kind), lambda source, kind, a, b: f"{a} * {b}"),
    "ReduceMax": Reduction(_lowest, larger),
    "ReduceMin": Reduction(_highest, smaller),
    "ReduceL1": Reduction(_zero, _sum, _absolute),
    "ReduceL2": Reduction(_zero, _sum, _square, _root),
    "ReduceSumSquare": Reduction(_zero, _sum, _square),
    "ReduceLogSum": Reduction(_zero, _sum, end=_log),
}


def _axes(node: Node) -> list[int]:
    """The axes that a node reduces; all where none are given, unless the node says otherwise."""
    rank, given = len(node.input(0).dims), node.optional(1)
    axes = [] if given is None else numbers(given, "its axes")
    if not axes and not node.attributes.get("noop_with_empty_axes", 0):
        axes = list(range(rank))
    return sorted({int(a) % rank for a in axes if isinstance(a, int)})


def over(rows: Rows, kind: str, start: str, combine: Combine, element: Callable[[str], str]) -> str:
    """The combination of element(position) over a row, in every lane."""
    source = rows.source
    total = source.variable(kind, start)
    with rows.walk() as position:
        x = source.let(kind, element(position))
        source.line(f"{total} = {combine(source, kind, total, x)};")
    return rows.combine(kind, total, lambda a, b: combine(source, kind, a, b))


def write_row(rows: Rows, value: Value, text: str) -> None:
    """The result of a row, at the row's number."""
    kind = kind_of(value.dtype)
    with rows.once():
        store(rows.source, rows.source.writes(rows.source.low.write(value), kind), kind, rows.row, text)


def lower_reduction(low: Lowering, node: Node) -> None:
    x, reduction = node.input(0), REDUCTIONS[node.op]
    settle(low, [x])
    rows = Rows(low, node.name, x.dims, _axes(node))
    source, kind = rows.source, kind_of(x.dtype)

    def element(position: str) -> str:
        return reduction.map(source, kind, pull(source, x, rows.element(position)))

    total = over(rows, kind, reduction.start(kind), reduction.combine, element)
    text = reduction.end(source, kind, total, source.dim(rows.length))
    write_row(rows, node.output, wrap(text, node.output.dtype))
    rows.emit()


for _op in REDUCTIONS:
    lowers(_op)(lower_reduction)


@lowers("ReduceLogSumExp")
def log_sum_exp(low: Lowering, node: Node) -> None:
    x = node.input(0)
    settle(low, [x], work=8)
    rows = Rows(low, node.name, x.dims, _axes(node))
    source = rows.source
    if kind_of(x.dtype) != "float":
        raise ModelError(f"{node}: of {x.dtype} is not supported")
    high = over(rows, "float", _lowest("float"), larger, lambda p: pull(source, x, rows.element(p)))
    shift = source.let("float", f"{source.call('isInfinite', high)} ? 0.0 : {high}")
    total = over(
        rows,
        "float",
        "0.0",
        _sum,
        lambda p: source.call("exponential", f"{pull(source, x, rows.element(p))} - {shift}"),
    )
    write_row(rows, node.output, f"{source.call('logarithm', total)} + {shift}")
    rows.emit()


@lowers("ArgMax")
@lowers("ArgMin")
def arg_extreme(low: Lowering, node: Node) -> None:
    """The first (or last) place of the largest (or smallest) element; NaN beats all."""
    x = node.input(0)
    settle(low, [x])
    rows = Rows(low, node.name, x.dims, [axis_of(node, len(x.dims))])
    source, kind = rows.source, kind_of(x.dtype)
    best, place = source.variable(kind, number(0, kind)), source.variable("int", "-1")
    with rows.walk() as position:
        element = pull(source, x, rows.element(position))
        with source.block(f"if ({_beats(source, node, kind, (element, position), (best, place))})"):
            source.line(f"{best} = {element};")
            source.line(f"{place} = {position};")
    if not rows.alone:
        place = _best_of_lanes(rows, node, kind, best, place)
    write_row(rows, node.output, place)
    rows.emit()


def _beats(source: Source, node: Node, kind: str, a: tuple[str, str], b: tuple[str, str]) -> str:
    """Whether (element, place) a comes before b; places are -1 where there is no element."""
    sign = ">" if node.op == "ArgMax" else "<"
    order = ">" if node.attributes.get("select_last_index", 0) else "<"
    first = f"{a[0]} {sign} {b[0]}" if kind != "bool" else f"int({a[0]}) {sign} int({b[0]})"
    same = f"{a[0]} == {b[0]}"
    if kind == "float":
        nan_a, nan_b = (source.call("isNaN", t) for t in (a[0], b[0]))
        first, same = f"({nan_a} ? !{nan_b} : {first})", f"({nan_a} ? {nan_b} : {same})"
    return f"{a[1]} >= 0 && ({b[1]} < 0 || {first} || ({same} && {a[1]} {order} {b[1]}))"


def _best_of_lanes(rows: Rows, node: Node, kind: str, best: str, place: str) -> str:
    source, lane = rows.source, rows.source.lane()
    source.declare(f"shared {kind} bests[{rows.lanes}];")
    source.declare(f"shared int places[{rows.lanes}];")
    source.line(f"bests[{lane}] = {best};")
    source.line(f"places[{lane}] = {place};")
    source.line("barrier();")
    winner = source.variable("int", "0")
    with source.block(f"for (int i = 1; i < {rows.lanes}; ++i)"):
        beats = _beats(source, node, kind, ("bests[i]", "places[i]"), (f"bests[{winner}]", f"places[{winner}]"))
        source.line(f"if ({beats}) {winner} = i;")
    return f"places[{winner}]"


@pulls("CumSum", work=64)
def cumulative_sum(source: Source, node: Node, out: int, at: Index) -> str:
    return _running(source, node, at, 0, lambda a, b: f"{a} + {b}")


@pulls("CumProd", work=64)
def cumulative_product(source: Source, node: Node, out: int, at: Index) -> str:
    return _running(source, node, at, 1, lambda a, b: f"{a} * {b}")


def _running(source: Source, node: Node, at: Index, start: int, combine: Callable[[str, str], str]) -> str:
    """The combination of all elements up to a position along an axis."""
    x, kind = node.input(0), kind_of(node.output.dtype)
    axis = numbers(node.optional(1), "its axis")[0]
    assert isinstance(axis, int)
    axis %= at.rank
    total = source.variable(kind, number(start, kind))
    here, exclusive = at.coord(axis), bool(node.attributes.get("exclusive", 0))
    if node.attributes.get("reverse", 0):
        first, end = (f"{here} + 1" if exclusive else here), source.dim(x.dims[axis])
    else:
        first, end = "0", (here if exclusive else f"{here} + 1")
    with source.loop(end, first) as i:
        source.line(f"{total} = {combine(total, pull(source, x, at.replaced(axis, i)))};")
    return wrap(total, node.output.dtype)


@lowers("TopK")
def top_k(low: Lowering, node: Node) -> None:
    """Every element counts those that come before it, and is written to that place if it is one of the first k."""
    x, (values, places) = node.input(0), (*node.outputs, None)[:2]
    settle(low, [x], work=4)
    axis = axis_of(node, len(x.dims), -1)
    source = Source(low, node.name)
    item, groups = source.each(low.count(x))
    at, kind = Index(source, x.dims, flat=item), kind_of(x.dtype)
    mine, here = pull(source, x, at), at.coord(axis)
    rank = source.variable("int", "0")
    sign = ">" if node.attributes.get("largest", 1) else "<"
    with source.loop(source.dim(x.dims[axis])) as i:
        other = pull(source, x, at.replaced(axis, i))
        before, same = f"{other} {sign} {mine}", f"{other} == {mine}"
        if kind == "float":
            nans = [source.call("isNaN", t) for t in (other, mine)]
            larger_nan = f"{nans[0]} && !{nans[1]}" if sign == ">" else f"!{nans[0]} && {nans[1]}"
            before, same = f"({before} || ({larger_nan}))", f"({same} || ({nans[0]} && {nans[1]}))"
        source.line(f"if ({before} || ({same} && {i} < {here})) ++{rank};")
    assert values is not None
    with source.block(f"if ({rank} < {source.dim(values.dims[axis])})"):
        place = at.replaced(axis, rank, values.dims[axis]).flat()
        store(source, source.writes(low.write(values), kind), kind, place, mine)
        if places is not None:
            store(source, source.writes(low.write(places), "int"), "int", place, here)
    source.emit(groups)
