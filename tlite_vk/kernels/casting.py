"""Cast, CastLike and BitCast: an element as one of another type."""

from __future__ import annotations

from tlite_vk.errors import ModelError
from tlite_vk.graph.ir import Node
from tlite_vk.graph.ops.dtypes import from_onnx

from .elementwise import wrap
from .generated.fusion import pull, pulls
from .generated.index import Index
from .generated.source import Source, kind_of, number


def convert(source: Source, element: str, dtype: str, target: str) -> str:
    """An element of one graph type as one of another."""
    kind, wanted = kind_of(dtype), kind_of(target)
    if dtype == target:
        return element
    if wanted == "bool":
        return f"{element} != {number(0, kind)}"
    if wanted == "float":
        if target == "float16":
            return source.call("roundToHalf", f"float({element})")
        if target == "bfloat16":
            return source.call("roundToBfloat", f"float({element})")
        return element if kind == "float" else f"float({element})"
    if kind == "float":
        return wrap(source.call("toUint" if wanted == "uint" else "toInt", element), target)
    return wrap(f"{wanted}({element})" if kind != wanted else element, target)


@pulls("Cast")
def cast(source: Source, node: Node, out: int, at: Index) -> str:
    x = node.input(0)
    return convert(source, pull(source, x, at), x.dtype, from_onnx(node.attributes["to"]))


@pulls("CastLike")
def cast_like(source: Source, node: Node, out: int, at: Index) -> str:
    x = node.input(0)
    return convert(source, pull(source, x, at), x.dtype, node.output.dtype)


@pulls("BitCast")
def bit_cast(source: Source, node: Node, out: int, at: Index) -> str:
    """The same bits as another type; of types that are stored as they are."""
    x, target = node.input(0), node.output.dtype
    element, kinds = pull(source, x, at), (kind_of(x.dtype), kind_of(target))
    narrow = {"float16", "bfloat16", "float64", "int64", "uint64"} & {x.dtype, target}
    if narrow and x.dtype != target:
        raise ModelError(f"{node}: from {x.dtype} to {target} is not supported")
    if kinds == ("float", "float") or kinds[0] == kinds[1]:
        return wrap(element, target)
    if "float" in kinds:
        return f"{'floatBitsTo' + kinds[1].title() if kinds[0] == 'float' else kinds[0] + 'BitsToFloat'}({element})"
    return wrap(f"{kinds[1]}({element})", target)
