"""Reshapes, transposes, slices and the like that together move nothing -> gone, however many they are."""

from __future__ import annotations

from typing import ClassVar

from tlite_vk.graph.shape import equal_shapes

from .base import Pass, Rewriter
from .reading import reader_of

_MOVES = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Expand", "Slice", "Split", "Concat"})


class Movement(Pass):
    name: ClassVar[str] = "movement"

    def rewrite(self, rewriter: Rewriter) -> None:
        reader = reader_of(rewriter)
        for node in rewriter.nodes:
            if node.domain or node.op not in _MOVES or any(v.known for v in node.outputs):
                continue
            for value in node.outputs:
                index = tuple(reader.atoms.index(f"i{n}", d) for n, d in enumerate(value.dims))
                source, at = reader.source(value, index)
                if source is value or at != index or not equal_shapes(source.dims, value.dims):
                    continue
                if value in rewriter.outputs:
                    rewriter.reject(node, "its output is a graph output")
                    continue
                rewriter.alias(value, source)
                rewriter.matched(node, f"is {source.name}")
