"""Generation graphs: drop graph outputs that are neither logits nor caches, and inputs that nothing reads any more
(positions, write indices, lengths, masks)."""

from __future__ import annotations

from typing import ClassVar

from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.roles import find_roles

from .base import Finding, Pass, Rewriter


class GenerationInputs(Pass):
    name: ClassVar[str] = "generation-inputs"

    def rewrite(self, rewriter: Rewriter) -> None:
        roles = find_roles(rewriter.graph)
        wanted = {roles.logits, *(v for pair in roles.caches for v in (pair.k_out, pair.v_out))}
        for value in rewriter.graph.outputs:
            if value not in wanted:
                rewriter.dropped_outputs.add(value)
                rewriter.report.findings.append(
                    Finding(self.name, value.name, True, "generation does not need this output")
                )
        used = _needed(rewriter, wanted)
        kept = [v for v in rewriter.inputs if v in used]
        for value in rewriter.inputs:
            if value not in kept:
                rewriter.report.findings.append(Finding(self.name, value.name, True, "nothing reads this input"))
        rewriter.inputs = kept


def _needed(rewriter: Rewriter, outputs: set[Value]) -> set[Value]:
    """All that the outputs are computed from, themselves included."""
    needed, pending = set(outputs), list(outputs)
    while pending:
        node: Node | None = rewriter.producer.get(pending.pop())
        for value in node.inputs if node is not None else []:
            if value is not None and value not in needed:
                needed.add(value)
                pending.append(value)
    return needed
