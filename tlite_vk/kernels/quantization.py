"""DequantizeLinear and QuantizeLinear: per tensor, per axis, and in blocks along an axis."""

from __future__ import annotations

from tlite_vk.errors import ModelError
from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.ops.quantization import _RANGES as RANGES

from .casting import convert
from .generated.fusion import pull, pulls
from .generated.index import Index
from .generated.source import Source, number
from .movement import axis_of


def _parameter(source: Source, node: Node, value: Value, at: Index) -> str:
    """The scale or zero point of an element."""
    if len(value.dims) == 0 or value.dims == (1,):
        return pull(source, value, at.of(value.dims, ["0"] * len(value.dims)))
    axis = axis_of(node, at.rank, 1)
    if len(value.dims) == 1:
        return pull(source, value, at.of(value.dims, [at.coord(axis)]))
    block = source.let("int", f"{at.coord(axis)} / {int(node.attributes.get('block_size', 0))}")
    return pull(source, value, at.replaced(axis, block, value.dims[axis]))


@pulls("DequantizeLinear", work=2)
def dequantize_linear(source: Source, node: Node, out: int, at: Index) -> str:
    x, scale, zero = node.input(0), node.input(1), node.optional(2)
    level = source.let("float", convert(source, pull(source, x, at), x.dtype, "float32"))
    if zero is not None:
        level = f"({level} - {convert(source, _parameter(source, node, zero, at), zero.dtype, 'float32')})"
    return f"{level} * {_parameter(source, node, scale, at)}"


@pulls("QuantizeLinear", work=4)
def quantize_linear(source: Source, node: Node, out: int, at: Index) -> str:
    """Nearest level, ties to even, within the range of the type."""
    x, scale, zero = node.input(0), node.input(1), node.optional(2)
    target = node.output.dtype
    if target not in RANGES:
        raise ModelError(f"{node}: quantizing to {target} is not supported")
    low, high = RANGES[target]
    element = convert(source, pull(source, x, at), x.dtype, "float32")
    ratio = source.call("divide", element, _parameter(source, node, scale, at))
    level = source.let("int", f"int(clamp(roundEven({ratio}), -1.0e9, 1.0e9))")
    if zero is not None:
        level = f"{level} + int({_parameter(source, node, zero, at)})"
    return f"clamp({level}, {number(low, 'int')}, {number(high, 'int')})"
