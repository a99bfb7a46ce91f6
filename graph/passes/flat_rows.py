"""Linear over rows that were flattened to a matrix, [B*T, K] -> Linear over [B, T, K], flattened after it.

So the reshapes meet those that follow, and cancel.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from tlite_vk.graph.ir import Node
from tlite_vk.graph.shape import equal, product

from .base import Pass, Rewriter


class FlatRows(Pass):
    name: ClassVar[str] = "flat-rows"

    def rewrite(self, rewriter: Rewriter) -> None:
        for node in rewriter.nodes:
            if node.op != "Linear" or node.domain != "tlite" or node.optional(3) is not None:
                continue
            flat = rewriter.maker(node.input(0), "Reshape", "Flatten")
            if flat is None or len(flat.output.dims) != 2:
                continue
            x, k = flat.input(0), flat.output.dims[1]
            before: list[Node] = []
            if len(x.dims) == 4 and isinstance(k, int) and equal(product(x.dims[2:]), k):  # heads [B, T, H, D]
                rows = rewriter.constant(f"{x.name}.rows", np.asarray([0, 0, k], np.int64))
                before = [rewriter.make("Reshape", [x, rows], node, domain="")]
                x = before[0].output
            if len(x.dims) != 3 or not equal(x.dims[-1], k):
                rewriter.reject(node, f"{x} is not rows [B, T] of its {k} columns")
                continue
            wide = rewriter.make("Linear", [x, *node.inputs[1:]], node, node.attributes)
            columns = wide.output.dims[-1]
            assert isinstance(columns, int)
            shape = rewriter.constant(f"{node.output.name}.shape", np.asarray([-1, columns], np.int64))
            narrow = rewriter.make("Reshape", [wide.output, shape], node, domain="", outputs=node.outputs)
            rewriter.replace(node, *before, wide, narrow)
            rewriter.matched(node)
