"""act(gate) * up of two Linear nodes over the same input -> one Linear with a gated activation.

gate * Sigmoid(gate), Swish(gate) and Gelu(gate), in either order of the factors; weight rows: gate first, then up.
"""

from __future__ import annotations

from typing import ClassVar

from tlite_vk.graph.ir import Node, Value

from .base import Pass, Rewriter
from .merge import cannot_stack, stacked

GATES = {"silu": "swiglu", "gelu": "geglu", "gelu_tanh": "geglu_tanh"}
"""The gated form of an activation."""


class Gated(Pass):
    name: ClassVar[str] = "gated"

    def rewrite(self, rewriter: Rewriter) -> None:
        for node in rewriter.nodes:
            if node.op == "Mul" and not node.domain:
                self._try(rewriter, node)

    def _try(self, rewriter: Rewriter, node: Node) -> None:
        for activated, other in ((node.input(0), node.input(1)), (node.input(1), node.input(0))):
            found = activation_of(rewriter, activated)
            up = rewriter.maker(other, "Linear", domain="tlite")
            if found is None or up is None:
                continue
            kind, gate_value, uses = found
            gate = rewriter.maker(gate_value, "Linear", domain="tlite")
            if gate is None or gate is up:
                continue
            why = _cannot(rewriter, gate, up, activated, uses)
            if why:
                rewriter.reject(node, why)
                return
            weight, bias = stacked(rewriter, [gate, up])
            attributes = {"activation": GATES[kind]}
            rewriter.replace(
                node, rewriter.make("Linear", [gate.input(0), weight, bias], node, attributes, outputs=node.outputs)
            )
            rewriter.matched(node, attributes["activation"])
            return


def _cannot(rewriter: Rewriter, gate: Node, up: Node, activated: Value, uses: int) -> str:
    if not rewriter.used_once(up.output) or not rewriter.used_once(activated):
        return "the gate or the other factor is used elsewhere too"
    if len(rewriter.users(gate.output)) != uses or gate.output in rewriter.outputs:
        return "the gate is used elsewhere too"
    if gate.attributes.get("activation", ""):
        return "the gate already has an activation"
    return cannot_stack([gate, up])


def activation_of(rewriter: Rewriter, value: Value) -> tuple[str, Value, int] | None:
    """(activation, its argument, how often the pattern reads that) of a value that is silu or gelu of another."""
    mul = rewriter.maker(value, "Mul")
    if mul is not None:
        for x, s in ((mul.input(0), mul.input(1)), (mul.input(1), mul.input(0))):
            sigmoid = rewriter.maker(s, "Sigmoid")
            if sigmoid is not None and sigmoid.input(0) is x and rewriter.used_once(s):
                return "silu", x, 2
    swish = rewriter.maker(value, "Swish")
    if swish is not None and swish.attributes.get("alpha", 1.0) == 1.0:
        return "silu", swish.input(0), 1
    gelu = rewriter.maker(value, "Gelu")
    if gelu is not None:
        return ("gelu_tanh" if gelu.attributes.get("approximate", "none") == "tanh" else "gelu"), gelu.input(0), 1
    return None
