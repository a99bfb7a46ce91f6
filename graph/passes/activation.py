"""An activation that alone reads a Linear's result -> part of that Linear: Relu, Gelu, Swish, x * Sigmoid(x)."""

from __future__ import annotations

from typing import ClassVar

from tlite_vk.graph.ir import Node, Value

from .base import Pass, Rewriter
from .gated import activation_of


class Activation(Pass):
    name: ClassVar[str] = "activation"

    def rewrite(self, rewriter: Rewriter) -> None:
        for node in rewriter.nodes:
            if node.domain or node.op not in ("Relu", "Gelu", "Swish", "Mul"):
                continue
            found = ("relu", node.input(0), 1) if node.op == "Relu" else activation_of(rewriter, node.output)
            if found is not None:
                self._fuse(rewriter, node, *found)

    def _fuse(self, rewriter: Rewriter, node: Node, kind: str, argument: Value, uses: int) -> None:
        linear = rewriter.maker(argument, "Linear", domain="tlite")
        if linear is None:
            return
        if len(rewriter.users(argument)) != uses or argument in rewriter.outputs:
            rewriter.reject(node, "the projection is used elsewhere too")
        elif linear.attributes.get("activation", "") or linear.optional(3) is not None:
            rewriter.reject(node, "the projection already has an activation or a residual")
        else:
            attributes = {**linear.attributes, "activation": kind}
            rewriter.replace(node, rewriter.make("Linear", linear.inputs, linear, attributes, outputs=node.outputs))
            rewriter.matched(node, kind)
