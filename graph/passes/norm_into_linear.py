"""RMSNorm whose readers are all Linear, on single rows (decode) -> the Linear nodes normalize their own input.

With one row per sequence the sum of squares costs each workgroup less than a dispatch of its own; with many rows it
would be computed again for every tile, so the norm stays separate there.
"""

from __future__ import annotations

from typing import ClassVar

from .base import Pass, Rewriter


class NormIntoLinear(Pass):
    name: ClassVar[str] = "norm-into-linear"

    def rewrite(self, rewriter: Rewriter) -> None:
        for norm in rewriter.nodes:
            if norm.op != "RMSNorm" or norm.domain != "tlite":
                continue
            x, users = norm.input(0), rewriter.users(norm.output)
            linear = [n for n in users if n.op == "Linear" and n.domain == "tlite" and n.input(0) is norm.output]
            if len(x.dims) < 2 or x.dims[-2] != 1:
                rewriter.reject(norm, f"it normalizes {x.dims[-2] if len(x.dims) > 1 else 'no'} rows, not one")
            elif norm.output in rewriter.outputs or len(linear) != len(users):
                rewriter.reject(norm, "something other than a projection reads it")
            elif any(norm.output in n.inputs[1:] or n.optional(4) is not None for n in linear):
                rewriter.reject(norm, "a projection reads it twice")
            else:
                for node in list(linear):
                    inputs = [norm.input(0), *(node.optional(i) for i in range(1, 4)), norm.input(1)]
                    attributes = {**node.attributes, "norm_epsilon": norm.attributes["epsilon"]}
                    rewriter.replace(node, rewriter.make("Linear", inputs, node, attributes, outputs=node.outputs))
                rewriter.matched(norm, f"into {len(linear)}")
