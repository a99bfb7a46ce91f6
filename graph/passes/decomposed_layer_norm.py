"""(x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) * scale + bias over the last axis -> LayerNormalization.

The square is Pow(d, 2) or Mul(d, d); the root divides, or its reciprocal multiplies; scale and bias are constants [K].
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from tlite_vk.graph.ir import Node, Value

from .base import Pass, RejectedError, Rewriter, require
from .decomposed_rms_norm import mean_over_last, normed_by_root, plus_epsilon


class DecomposedLayerNorm(Pass):
    name: ClassVar[str] = "decomposed-layer-norm"

    def rewrite(self, rewriter: Rewriter) -> None:
        for node in rewriter.nodes:
            if node.op != "Mul" or node.domain:
                continue
            for normed, scale in ((node.input(0), node.input(1)), (node.input(1), node.input(0))):
                found = normed_by_root(rewriter, normed)
                centred = None if found is None else rewriter.maker(found[0], "Sub")
                if found is None or centred is None or not isinstance(scale.constant, np.ndarray):
                    continue
                try:
                    self._fuse(rewriter, node, centred, found[1], scale)
                except RejectedError as why:
                    rewriter.reject(node, str(why))
                break

    def _fuse(self, rewriter: Rewriter, node: Node, centred: Node, under: Value, scale: Value) -> None:
        x = rewriter.resolve(centred.input(0))
        mean = mean_over_last(rewriter, centred.input(1))
        require(mean is not None and rewriter.resolve(mean) is x, "what is subtracted is not the mean")
        epsilon = plus_epsilon(rewriter, centred.output, under)
        require(scale.shape == x.dims[-1:], "its scale is not one constant per column")
        end, bias = _bias(rewriter, node, scale)
        attributes = {"axis": -1, "epsilon": epsilon}
        inputs: list[Value | None] = [x, scale, bias]
        rewriter.replace(
            end, rewriter.make("LayerNormalization", inputs, node, attributes, domain="", outputs=[end.output])
        )
        if end is not node:
            rewriter.replace(node)
        rewriter.matched(node)


def _bias(rewriter: Rewriter, node: Node, scale: Value) -> tuple[Node, Value | None]:
    """The Add of a constant [K] behind the scale, and that constant."""
    if rewriter.used_once(node.output):
        add = rewriter.users(node.output)[0]
        if add.op == "Add" and not add.domain:
            other = add.input(1) if add.input(0) is node.output else add.input(0)
            if isinstance(other.constant, np.ndarray) and other.shape == scale.shape:
                return add, other
    return node, None
