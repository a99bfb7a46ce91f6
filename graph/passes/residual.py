"""Add of a Linear's result and another value of the same shape -> Linear with that residual."""

from __future__ import annotations

from typing import ClassVar

from tlite_vk.graph.ir import Node
from tlite_vk.graph.shape import equal_shapes

from .base import Pass, Rewriter


class Residual(Pass):
    name: ClassVar[str] = "residual"

    def rewrite(self, rewriter: Rewriter) -> None:
        order = {id(n): i for i, n in enumerate(rewriter.nodes)}
        for node in rewriter.nodes:
            if node.op != "Add" or node.domain:
                continue
            candidates = [m for v in node.inputs if (m := rewriter.maker(v, "Linear", domain="tlite")) is not None]
            # Of two projections the one computed last takes the other as its residual.
            for linear in sorted(candidates, key=lambda m: order.get(id(m), -1), reverse=True):
                if self._fuse(rewriter, node, linear):
                    break

    def _fuse(self, rewriter: Rewriter, node: Node, linear: Node) -> bool:
        other = node.input(1) if node.input(0) is linear.output else node.input(0)
        why = ""
        if not rewriter.used_once(linear.output) or other is linear.output:
            why = "the projection is used elsewhere too"
        elif linear.optional(3) is not None:
            why = "the projection already has a residual"
        elif not equal_shapes(other.dims, linear.output.dims):
            why = f"the other operand is {other}, of another shape"
        elif other.known:
            why = "the other operand is a constant"
        if why:
            rewriter.reject(node, why)
            return False
        inputs = [linear.optional(i) for i in range(5)]
        inputs[3] = other
        rewriter.replace(node, rewriter.make("Linear", inputs, linear, linear.attributes, outputs=node.outputs))
        rewriter.matched(node)
        return True
