"""Generation needs the logits of the last valid row only -> LastRow before the row-wise nodes that end in them.

The logits are a graph output [B, T, N] that a chain of Linear and RMSNorm makes; LastRow goes in front of the part of
the chain that nothing else reads, and the output becomes [B, 1, N].
"""

from __future__ import annotations

from typing import ClassVar

from tlite_vk.graph.ir import Node, Value

from .base import Pass, Rewriter


class LastRow(Pass):
    name: ClassVar[str] = "last-row"

    def rewrite(self, rewriter: Rewriter) -> None:
        for output in rewriter.graph.outputs:
            node = rewriter.producer.get(output)
            if node is not None and node.domain == "tlite" and node.op == "Linear":
                self._shorten(rewriter, output)

    def _shorten(self, rewriter: Rewriter, output: Value) -> None:
        head = rewriter.producer[output]
        if len(output.dims) != 3 or rewriter.users(output):
            rewriter.reject(head, "it is not [B, T, N], or something reads it")
            return
        if output.dims[1] == 1:
            rewriter.reject(head, "it has one row already")
            return
        chain = _row_wise_chain(rewriter, head)
        last = rewriter.make("LastRow", [chain[-1].input(0)], chain[-1], name=f"{chain[-1].input(0).name}.last")
        new = [last]
        for node in reversed(chain):
            inputs = [new[-1].output, *node.inputs[1:]]
            new.append(rewriter.remake(node, inputs))
        for node in chain:
            rewriter.replace(node, *(new if node is head else []))
        rewriter.matched(head, f"before {chain[-1]}")


def _row_wise_chain(rewriter: Rewriter, head: Node) -> list[Node]:
    """The head and, backwards, the row-wise nodes that feed it alone (a Linear with a residual ends the chain)."""
    chain = [head]
    while True:
        before = rewriter.maker(chain[-1].input(0), "RMSNorm", "Linear", domain="tlite")
        if before is None or not rewriter.used_once(before.output) or before.optional(3) is not None:
            return chain
        chain.append(before)
