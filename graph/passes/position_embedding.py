"""Generation graphs: rows of a table at the positions -> PositionEmbedding, whose positions are the runtime's own.

Nothing in a graph tells a learned position from, say, a token type: both are integers that pick rows of a table. So
this goes by the name that exporters give the input.
"""

from __future__ import annotations

from typing import ClassVar

from tlite_vk.graph.roles import POSITIONS, find_roles

from .base import Pass, Rewriter


class PositionEmbedding(Pass):
    name: ClassVar[str] = "position-embedding"

    def rewrite(self, rewriter: Rewriter) -> None:
        ids = find_roles(rewriter.graph).token_ids
        for node in rewriter.nodes:
            if node.op != "Embedding" or node.domain != "tlite" or node.input(0) is ids:
                continue
            if node.input(0) not in rewriter.inputs or node.input(0).name not in POSITIONS:
                rewriter.reject(node, f"{node.input(0).name} is not an input of positions")
                continue
            rewriter.replace(node, rewriter.make("PositionEmbedding", [ids, node.input(1)], node, outputs=node.outputs))
            rewriter.matched(node)
