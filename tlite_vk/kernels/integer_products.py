"""Products of quantized values: MatMulInteger, ConvInteger, QLinearMatMul, QLinearConv. Sums are 32-bit integers."""

from __future__ import annotations

from dataclasses import replace

from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.ops.quantization import _RANGES as RANGES
from tlite_vk.lower import Lowering, lowers

from .convolution import Element, convolve
from .generated.fusion import pull, settle, write_each
from .generated.index import Index
from .generated.source import Source, number
from .matmul import multiply


def _line(source: Source, value: Value, line: str) -> str:
    """A scale or zero point: one, or one per line of an axis."""
    if len(value.dims) == 0 or value.dims == (1,):
        return pull(source, value, Index(source, value.dims, coords=["0"] * len(value.dims)))
    return pull(source, value, Index(source, value.dims, coords=[*["0"] * (len(value.dims) - 1), line]))


def _levels(x: Value, zero: Value | None, axis: int) -> Element:
    """The levels of x less their zero point."""

    def element(source: Source, at: Index) -> str:
        level = f"int({pull(source, x, at)})"
        if zero is None:
            return source.let("int", level)
        where = at.coord(axis % at.rank) if at.rank else "0"
        return source.let("int", f"{level} - int({_line(source, zero, where)})")

    return element


def _sums(node: Node) -> Node:
    """The same product with 32-bit sums as its output: all inputs of both steps would be too many for one kernel."""
    total = Value(f"{node.name}/sums", "int32", node.output.dims)
    return replace(node, outputs=[total])


def _requantize(low: Lowering, node: Node, sums: Node, axes: tuple[int, int]) -> None:
    """Sums times a_scale * b_scale / y_scale as levels. axes: that the scales of a and of b run along."""
    scale_a, scale_b, scale_y, zero, total = (*(node.input(i) for i in (1, 4, 6, 7)), sums.output)
    low_end, high_end = RANGES[node.output.dtype]

    def element(source: Source, at: Index) -> str:
        lines = [at.coord(axis % at.rank) for axis in axes]
        a, b, y = (
            _line(source, s, line) for s, line in zip((scale_a, scale_b, scale_y), (*lines, lines[0]), strict=True)
        )
        factor = source.let("float", f"{a} * {b} / {y}")
        level = f"roundEven(float({pull(source, total, at)}) * {factor}) + float({_line(source, zero, lines[0])})"
        return f"int(clamp({source.let('float', level)}, {number(low_end)}, {number(high_end)}))"

    write_each(low, node, node.output, element)


@lowers("MatMulInteger")
def matmul_integer(low: Lowering, node: Node) -> None:
    a, b = node.input(0), node.input(1)
    settle(low, node.inputs, work=1)
    multiply(low, node, (a, b), (_levels(a, node.optional(2), -2), _levels(b, node.optional(3), -1)))


@lowers("QLinearMatMul")
def qlinear_matmul(low: Lowering, node: Node) -> None:
    a, b, sums = node.input(0), node.input(3), _sums(node)
    settle(low, node.inputs, work=1)
    multiply(low, sums, (a, b), (_levels(a, node.input(2), -2), _levels(b, node.input(5), -1)))
    _requantize(low, node, sums, (-2, -1))


@lowers("ConvInteger")
def conv_integer(low: Lowering, node: Node) -> None:
    x, w = node.input(0), node.input(1)
    settle(low, node.inputs, work=1)
    elements = (_levels(x, node.optional(2), 1), _levels(w, node.optional(3), 0))
    convolve(low, node, (x, w), elements, lambda source, channel, total: total)


@lowers("QLinearConv")
def qlinear_conv(low: Lowering, node: Node) -> None:
    x, w, bias, sums = node.input(0), node.input(3), node.optional(8), _sums(node)
    settle(low, node.inputs, work=1)

    def finish(source: Source, channel: str, total: str) -> str:
        return total if bias is None else f"{total} + {_line(source, bias, channel)}"

    convolve(low, sums, (x, w), (_levels(x, node.input(2), 1), _levels(w, node.input(5), 0)), finish)
    _requantize(low, node, sums, (1, 1))
