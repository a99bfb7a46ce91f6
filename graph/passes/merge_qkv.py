"""The query, key and value projections of a RingAttention, over the same input -> one Linear; the attention reads its
columns at offsets 0, H*D and (H+KV)*D."""

from __future__ import annotations

from typing import ClassVar

from tlite_vk.graph.ir import Node

from .base import Pass, Rewriter
from .merge import cannot_stack, stacked


class MergeQkv(Pass):
    name: ClassVar[str] = "merge-qkv"

    def rewrite(self, rewriter: Rewriter) -> None:
        for node in rewriter.nodes:
            if node.op == "RingAttention" and node.domain == "tlite":
                self._merge(rewriter, node)

    def _merge(self, rewriter: Rewriter, node: Node) -> None:
        makers = [rewriter.maker(node.input(i), "Linear", domain="tlite") for i in range(3)]
        linear = [m for m in makers if m is not None]
        if len(linear) != 3 or len({id(m) for m in linear}) != 3:
            rewriter.reject(node, "its sources are not three projections")
            return
        why = cannot_stack(linear)
        if not all(rewriter.used_once(m.output) for m in linear):
            why = "a projection is used elsewhere too"
        if why:
            rewriter.reject(node, why)
            return
        weight, bias = stacked(rewriter, linear)
        last = max(linear, key=rewriter.nodes.index)
        merged = rewriter.make(
            "Linear", [linear[0].input(0), weight, bias], last, linear[0].attributes, name=f"{node.name}.qkv"
        )
        for m in linear:
            rewriter.replace(m, *([merged] if m is last else []))
        rewriter.replace(node, _with_offsets(rewriter, node, merged, [m.output.dims[-1] for m in linear]))
        rewriter.matched(node)


def _with_offsets(rewriter: Rewriter, node: Node, merged: Node, widths: list[object]) -> Node:
    q, k = (int(w) for w in widths[:2] if isinstance(w, int))
    old = node.attributes
    attributes = {**old, "k_offset": q + old["k_offset"], "v_offset": q + k + old["v_offset"]}
    return rewriter.make(
        "RingAttention",
        [merged.output, merged.output, merged.output, *node.inputs[3:]],
        node,
        attributes,
        outputs=node.outputs,
    )
