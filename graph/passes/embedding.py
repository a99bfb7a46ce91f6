"""Gather of rows from a constant matrix -> Embedding(ids, w [V, K])."""

from __future__ import annotations

from typing import ClassVar

from tlite_vk.graph.ops.dtypes import FLOATS

from .base import Pass, Rewriter


class Embedding(Pass):
    name: ClassVar[str] = "embedding"

    def rewrite(self, rewriter: Rewriter) -> None:
        for node in rewriter.nodes:
            if node.op != "Gather" or node.domain or node.input(0).constant is None:
                continue
            table, ids = node.input(0), node.input(1)
            if len(table.dims) != 2 or table.dtype not in FLOATS or node.attributes.get("axis", 0) != 0 or ids.known:
                rewriter.reject(node, f"it does not pick rows of a float matrix ({table})")
                continue
            rewriter.replace(node, rewriter.make("Embedding", [ids, table], node, outputs=node.outputs))
            rewriter.matched(node)
