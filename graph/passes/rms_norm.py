"""RMSNormalization over the last axis with a constant scale -> RMSNorm(x, scale [K])."""

from __future__ import annotations

from typing import ClassVar

from .base import Pass, Rewriter


class RmsNorm(Pass):
    name: ClassVar[str] = "rms-norm"

    def rewrite(self, rewriter: Rewriter) -> None:
        for node in rewriter.nodes:
            if node.op != "RMSNormalization" or node.domain:
                continue
            x, scale = node.input(0), node.input(1)
            if node.attributes.get("axis", -1) not in (-1, len(x.dims) - 1):
                rewriter.reject(node, "it normalizes more than the last axis")
            elif scale.constant is None or scale.shape != x.dims[-1:]:
                rewriter.reject(node, "its scale is not one constant per column")
            else:
                epsilon = {"epsilon": node.attributes.get("epsilon", 1e-5)}
                rewriter.replace(node, rewriter.make("RMSNorm", [x, scale], node, epsilon, outputs=node.outputs))
                rewriter.matched(node)
