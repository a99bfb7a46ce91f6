"""Nodes that change nothing -> gone: Identity, Cast to the same type, Reshape, Expand and Slice to the same shape,
Transpose in order, Concat of one, multiplication by 1."""

from __future__ import annotations

from typing import ClassVar

from tlite_vk.graph.ir import Node
from tlite_vk.graph.ops.dtypes import from_onnx
from tlite_vk.graph.shape import equal_shapes

from .base import Pass, Rewriter, scalar


class Identities(Pass):
    name: ClassVar[str] = "identities"

    def rewrite(self, rewriter: Rewriter) -> None:
        for node in rewriter.nodes:
            if node.domain or not _changes_nothing(node):
                continue
            if node.output in rewriter.outputs:
                rewriter.reject(node, "its output is a graph output")
                continue
            rewriter.alias(node.output, node.input(0))
            rewriter.matched(node, node.op)


def _changes_nothing(node: Node) -> bool:
    if not node.inputs or node.inputs[0] is None or len(node.outputs) != 1:
        return False
    x = node.input(0)
    if node.op == "Identity":
        return True
    if node.op == "Cast":
        return from_onnx(node.attributes["to"]) == x.dtype
    if node.op == "Transpose":
        perm = node.attributes.get("perm")
        return perm is not None and list(perm) == list(range(len(perm)))
    if node.op == "Concat":
        return len(node.inputs) == 1
    if node.op == "Slice":  # a reversing slice keeps the shape too
        steps = node.optional(4)
        forward = steps is None or (steps.constant is not None and bool((steps.array() > 0).all()))
        return forward and equal_shapes(x.dims, node.output.dims)
    if node.op in ("Mul", "Div"):
        return scalar(node.input(1)) == 1.0 and x.dtype == node.output.dtype and equal_shapes(x.dims, node.output.dims)
    return node.op in ("Reshape", "Expand") and equal_shapes(x.dims, node.output.dims)
