"""Generation graphs: rows of a table at the positions -> PositionEmbedding, whose positions are the runtime's own.

Positions may be computed: then they must come to P + t where no token is padding. Where they are an input, nothing in a
graph tells them from, say, a token type, which also picks rows of a table; so that goes by the name that exporters give
the input.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.roles import POSITIONS, find_roles
from tlite_vk.graph.shape import Dim, equal_shapes

from .base import Pass, RejectedError, Rewriter, require
from .reading import unpadded_reader


class PositionEmbedding(Pass):
    name: ClassVar[str] = "position-embedding"

    def rewrite(self, rewriter: Rewriter) -> None:
        ids = find_roles(rewriter.graph).token_ids
        pasts = [n.optional(4) for n in rewriter.nodes if n.op == "Attention" and not n.domain]
        past: Dim = next((v.dims[2] for v in pasts if v is not None and len(v.dims) == 4), 0)
        for node in rewriter.nodes:
            if node.op != "Embedding" or node.domain != "tlite" or node.input(0) is ids:
                continue
            try:
                self._replace(rewriter, node, ids, past)
                rewriter.matched(node)
            except RejectedError as why:
                rewriter.reject(node, str(why))

    def _replace(self, rewriter: Rewriter, node: Node, ids: Value, past: Dim) -> None:
        positions = node.input(0)
        require(len(positions.dims) == 2, f"{positions} is not [B, T]")
        if positions in rewriter.inputs:
            require(positions.name in POSITIONS, f"{positions.name} is not an input of positions")
        else:
            reader = unpadded_reader(rewriter)
            index = tuple(reader.atoms.index(n, d) for n, d in zip("bt", positions.dims, strict=True))
            source, at = reader.source(positions, index)
            given = source in rewriter.inputs and source.name in POSITIONS
            if not (given and at == index and equal_shapes(source.dims, positions.dims)):
                found, expected = reader.read(positions, index), reader.atoms.dim(past) + index[1]
                require(found == expected, f"its rows are {found}, not {expected}")
        if positions.dims[0] == 1:  # as many rows of ids, for the shape
            bounds = [rewriter.constant(f"{node.name}.{i}", np.asarray([i], np.int64)) for i in (0, 1)]
            cut = rewriter.make("Slice", [ids, *bounds, bounds[0]], node, domain="")
            rewriter.insert_before(node, [cut])
            ids = cut.output
        rewriter.replace(node, rewriter.make("PositionEmbedding", [ids, node.input(1)], node, outputs=node.outputs))
