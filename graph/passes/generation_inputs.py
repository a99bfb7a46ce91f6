"""Generation graphs: drop the graph inputs that nothing reads any more (positions, write indices, lengths)."""

from __future__ import annotations

from typing import ClassVar

from .base import Finding, Pass, Rewriter


class GenerationInputs(Pass):
    name: ClassVar[str] = "generation-inputs"

    def rewrite(self, rewriter: Rewriter) -> None:
        kept = [v for v in rewriter.inputs if rewriter.users(v) or v in rewriter.outputs]
        for value in rewriter.inputs:
            if value not in kept:
                rewriter.report.findings.append(Finding(self.name, value.name, True, "nothing reads this input"))
        rewriter.inputs = kept
