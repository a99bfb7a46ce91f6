"""Concat of a past, which is a graph input, with new keys and values -> past and present of the Attention itself."""

from __future__ import annotations

from typing import ClassVar

from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.shape import equal

from .base import Pass, RejectedError, Rewriter, require


class PastConcat(Pass):
    name: ClassVar[str] = "past-concat"

    def rewrite(self, rewriter: Rewriter) -> None:
        for node in rewriter.nodes:
            if node.op != "Attention" or node.domain or len(node.input(1).dims) != 4 or node.optional(4) is not None:
                continue
            concats = [rewriter.maker(node.input(i), "Concat") for i in (1, 2)]
            if concats[0] is None or concats[1] is None:
                continue
            try:
                self._fuse(rewriter, node, concats[0], concats[1])
                rewriter.matched(node)
            except RejectedError as why:
                rewriter.reject(node, str(why))

    def _fuse(self, rewriter: Rewriter, node: Node, keys: Node, values: Node) -> None:
        require(node.optional(6) is None and len(node.outputs) == 1, "it counts valid keys, or gives them out itself")
        past_k, new_k = _parts(rewriter, node, keys, "keys")
        past_v, new_v = _parts(rewriter, node, values, "values")
        require(equal(past_k.dims[2], past_v.dims[2]), "its cached keys and values differ in length")
        inputs = [node.input(0), new_k, new_v, node.optional(3), past_k, past_v]
        outputs = [node.output, keys.output, values.output]
        new = rewriter.make("Attention", inputs, node, node.attributes, domain="", outputs=outputs)
        rewriter.replace(keys)
        rewriter.replace(values)
        rewriter.replace(node, new)


def _parts(rewriter: Rewriter, node: Node, concat: Node, what: str) -> tuple[Value, Value]:
    """(past, new) of [B, KV, P + T, D] that nothing else reads."""
    require(len(concat.inputs) == 2 and concat.attributes["axis"] in (2, -2), f"its {what} are not joined by rows")
    require(all(n is node for n in rewriter.users(concat.output)), f"its joined {what} are read elsewhere too")
    past, new = rewriter.resolve(concat.input(0)), rewriter.resolve(concat.input(1))
    require(past in rewriter.inputs, f"the first part of its {what} is not a graph input")
    require(rewriter.users(past) == [concat], f"its cached {what} are read elsewhere too")
    return past, new
