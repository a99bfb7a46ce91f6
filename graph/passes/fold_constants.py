"""Nodes over constants -> constants. Views (Transpose, Reshape, a widening Cast) cost nothing and keep a weight in the
file's map; anything else is computed here only where the result is small."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tlite_vk.graph.budget import take
from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.evaluate import constant_array
from tlite_vk.graph.infer import lookup
from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.ops.dtypes import FLOATS, bits, from_onnx
from tlite_vk.graph.ops.registry import MISFITS
from tlite_vk.graph.shape import ints, product

from .base import Pass, Rewriter

MAX_BYTES = 16 << 20  # larger results are left to the device
MAX_READ = 1 << 30  # and so is what would unpack more than this
_WIDENS = {("float16", "float32"), ("bfloat16", "float32")}  # every value of the first is one of the second


class FoldConstants(Pass):
    name: ClassVar[str] = "fold-constants"

    def rewrite(self, rewriter: Rewriter) -> None:
        for node in rewriter.nodes:
            inputs = [None if v is None else rewriter.resolve(v) for v in node.inputs]
            if inputs and all(v is None or isinstance(v.constant, np.ndarray) for v in inputs):
                self._fold(rewriter, replace(node, inputs=inputs))

    def _fold(self, rewriter: Rewriter, node: Node) -> None:
        if any(v in rewriter.outputs for v in node.outputs):
            rewriter.reject(node, "its constant output is a graph output")
            return
        folded = _view(node)
        if folded is None:
            size = sum(_bytes(v) for v in node.outputs)
            if size > MAX_BYTES or not lookup(node, rewriter.graph.opset).foldable:
                rewriter.reject(node, f"its result has {size} bytes")
                return
            read = sum(_logical_bytes(v) for v in node.inputs if v is not None)
            if read > MAX_READ:
                rewriter.reject(node, f"it reads {read} bytes")
                return
            take(size, f"{node}, whose inputs are constants,")
            folded = _compute(rewriter, node)
        for value, array in zip(node.outputs, folded, strict=False):
            rewriter.alias(value, Value(value.name, value.dtype, value.shape, array))
        rewriter.matched(node, node.op)


def _bytes(value: Value) -> int:
    count = product(value.dims)
    return count * bits(value.dtype) // 8 if isinstance(count, int) else MAX_BYTES + 1


def _logical_bytes(value: Value) -> int:
    """What a constant takes once it is unpacked."""
    count = product(value.dims)
    return count * max(4, bits(value.dtype) // 8) if isinstance(count, int) else MAX_READ + 1


def _view(node: Node) -> list[npt.NDArray[Any]] | None:
    """The result without copying, where the operator only changes how the elements are looked at."""
    if node.domain or node.input(0).dtype not in FLOATS:
        return None
    array = node.input(0).array()
    if node.op == "Transpose":
        return [np.transpose(array, node.attributes.get("perm"))]
    if node.op in ("Reshape", "Squeeze", "Unsqueeze", "Flatten") and array.flags.c_contiguous:
        return [array.reshape(ints(node.output.dims))]
    if node.op == "Cast" and (node.input(0).dtype, from_onnx(node.attributes["to"])) in _WIDENS:
        return [array]  # stored narrow, used wide
    return None


def _compute(rewriter: Rewriter, node: Node) -> list[npt.NDArray[Any]]:
    operator = lookup(node, rewriter.graph.opset)
    try:
        with np.errstate(all="ignore"):
            arrays = [None if v is None else constant_array(v) for v in node.inputs]
            return list(operator.run(arrays, node.attributes, len(node.outputs)))
    except MISFITS as error:
        raise GraphError(f"{node}: its constant inputs do not fit ({error})") from error
