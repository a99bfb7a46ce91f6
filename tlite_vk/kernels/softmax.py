"""Softmax, LogSoftmax, Hardmax along an axis."""

from __future__ import annotations

from tlite_vk.errors import ModelError
from tlite_vk.graph.ir import Node
from tlite_vk.graph.shape import Dim
from tlite_vk.lower import Lowering, lowers

from .elementwise import larger
from .generated.fusion import pull, settle, store
from .generated.rows import Rows
from .generated.source import kind_of, number
from .movement import axis_of
from .reduction import over


def _plain_sum(source: object, kind: str, a: str, b: str) -> str:
    return f"{a} + {b}"


def _shape(node: Node) -> tuple[list[Dim], list[int]]:
    """(shape, axes): before opset 13 the axis and all after it make one row."""
    x = node.input(0)
    axis = axis_of(node, len(x.dims), -1)
    return list(x.dims), list(range(axis, len(x.dims))) if node.attributes.get("flattened", 0) else [axis]


@lowers("Softmax")
@lowers("LogSoftmax")
def softmax(low: Lowering, node: Node) -> None:
    x, y = node.input(0), node.output
    if kind_of(x.dtype) != "float":
        raise ModelError(f"{node}: of {x.dtype} is not supported")
    settle(low, [x], work=8)
    rows = Rows(low, node.name, *_shape(node))
    source = rows.source
    high = over(rows, "float", number(float("-inf")), larger, lambda p: pull(source, x, rows.element(p)))
    total = over(
        rows,
        "float",
        "0.0",
        _plain_sum,
        lambda p: source.call("exponential", f"{pull(source, x, rows.element(p))} - {high}"),
    )
    target = source.writes(low.write(y), "float")
    if node.op == "Softmax":
        factor = source.let("float", f"1.0 / {total}")
    else:
        factor = source.let("float", source.call("logarithm", total))
    with rows.walk() as position:
        at = rows.element(position)
        shifted = f"{pull(source, x, at)} - {high}"
        text = f"{source.call('exponential', shifted)} * {factor}" if node.op == "Softmax" else f"{shifted} - {factor}"
        store(source, target, "float", at.flat(), text)
    low.may_replace(y, *rows.read_only_here())
    rows.emit()


@lowers("Hardmax")
def hardmax(low: Lowering, node: Node) -> None:
    x, y, kind = node.input(0), node.output, kind_of(node.output.dtype)
    settle(low, [x], work=8)
    rows = Rows(low, node.name, *_shape(node))
    source = rows.source
    high = over(
        rows,
        kind,
        number({"float": float("-inf"), "int": -(2**31)}.get(kind, 0), kind),
        larger,
        lambda p: pull(source, x, rows.element(p)),
    )
    first = over(
        rows,
        "int",
        number(2**31 - 1, "int"),
        lambda source, kind, a, b: f"min({a}, {b})",
        lambda p: f"{pull(source, x, rows.element(p))} == {high} ? {p} : 2147483647",
    )
    target = source.writes(low.write(y), kind)
    with rows.walk() as position:
        store(
            source,
            target,
            kind,
            rows.element(position).flat(),
            f"{position} == {first} ? {number(1, kind)} : {number(0, kind)}",
        )
    rows.emit()
