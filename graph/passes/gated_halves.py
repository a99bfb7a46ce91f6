"""act(first half) * second half of the columns of one Linear, cut by Split or Slice -> that Linear, gated."""

from __future__ import annotations

from typing import ClassVar

from tlite_vk.graph.elements.polynomial import number
from tlite_vk.graph.ir import Node, Value

from .base import Pass, Rewriter
from .gated import GATES, activation_of
from .reading import reader_of


class GatedHalves(Pass):
    name: ClassVar[str] = "gated-halves"

    def rewrite(self, rewriter: Rewriter) -> None:
        for node in rewriter.nodes:
            if node.op == "Mul" and not node.domain:
                for activated, other in ((node.input(0), node.input(1)), (node.input(1), node.input(0))):
                    found = activation_of(rewriter, activated)
                    if found is not None and self._try(rewriter, node, found[0], found[1], other):
                        break

    def _try(self, rewriter: Rewriter, node: Node, kind: str, gate: Value, up: Value) -> bool:
        linear = _linear_of_halves(rewriter, gate, up)
        if linear is None:
            return False
        if linear.attributes.get("activation", "") or linear.optional(3) is not None:
            rewriter.reject(node, "the projection already has an activation or a residual")
            return True
        cuts = {id(m) for v in (gate, up) if (m := rewriter.producer.get(rewriter.resolve(v))) is not None}
        if any(id(user) not in cuts for user in rewriter.users(linear.output)) or linear.output in rewriter.outputs:
            rewriter.reject(node, "the projection is used elsewhere too")
            return True
        attributes = {**linear.attributes, "activation": GATES[kind]}
        rewriter.replace(node, rewriter.make("Linear", linear.inputs, node, attributes, outputs=node.outputs))
        rewriter.matched(node, GATES[kind])
        return True


def _linear_of_halves(rewriter: Rewriter, gate: Value, up: Value) -> Node | None:
    """The Linear of which `gate` is the first half of the columns and `up` the second."""
    reader = reader_of(rewriter)
    index = tuple(reader.atoms.index(f"i{n}", d) for n, d in enumerate(gate.dims))
    columns = gate.dims[-1]
    if len(up.dims) != len(gate.dims) or not isinstance(columns, int):
        return None
    first, second = reader.source(gate, index), reader.source(up, index)
    linear = rewriter.maker(first[0], "Linear", domain="tlite")
    if linear is None or first[0] is not second[0] or linear.output.dims[-1] != 2 * columns:
        return None
    moved = (*index[:-1], index[-1] + number(columns))
    return linear if first[1] == index and second[1] == moved else None
