"""Operators in terms of simpler ones, where no kernel of their own is worth it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tlite_vk.graph.infer import make_node
from tlite_vk.graph.ir import Node, Value, constant
from tlite_vk.lower import Lowering


class Body:
    """The standard operators that a node stands for: call it to add one, then `end` with the last."""

    def __init__(self, low: Lowering, node: Node) -> None:
        self._low, self._node = low, node
        self._nodes: list[Node] = []

    def __call__(self, op: str, *inputs: Value | None, outputs: int = 1, **attributes: Any) -> Value:
        return self.several(op, *inputs, outputs=outputs, **attributes)[0]

    def several(self, op: str, *inputs: Value | None, outputs: int, **attributes: Any) -> list[Value]:
        """The outputs of a node of several."""
        names = [f"{self._node.name}/{op}.{len(self._nodes)}.{i}" for i in range(outputs)]
        self._nodes.append(make_node(op, list(inputs), self._node.name, attributes, domain="", output_names=names))
        return self._nodes[-1].outputs

    def end(self, op: str, *inputs: Value | None, **attributes: Any) -> None:
        """The node that computes the outputs; then all of them are lowered."""
        self.into(self._node.outputs, op, *inputs, **attributes)
        self.done()

    def into(self, outputs: list[Value], op: str, *inputs: Value | None, **attributes: Any) -> None:
        """A node that computes some of the outputs; `done` follows when all are computed."""
        self._nodes.append(make_node(op, list(inputs), self._node.name, attributes, domain="", outputs=outputs))

    def done(self) -> None:
        self._low.expand(self._nodes)


def linear(low: Lowering, node: Node) -> None:
    """activation(norm(x) @ w.T + bias) + residual, for weights that have no packed form."""
    body, x = Body(low, node), node.input(0)
    bias, residual, scale = (node.optional(i) for i in (2, 3, 4))
    if scale is not None:
        x = body("RMSNormalization", x, scale, epsilon=float(node.attributes.get("norm_epsilon", 1e-5)))
    y = body("MatMul", x, body("Transpose", node.input(1), perm=[1, 0]))
    if bias is not None:
        y = body("Add", y, bias)
    y = _activated(body, y, str(node.attributes.get("activation", "")))
    if residual is not None:
        body.end("Add", y, residual)
    else:
        body.end("Identity", y)


def _activated(body: Body, y: Value, activation: str) -> Value:
    gate, up = y, None
    if activation.endswith(("glu", "glu_tanh")):
        gate, up = body.several("Split", y, outputs=2, axis=-1, num_outputs=2)
        activation = {"swiglu": "silu", "geglu": "gelu", "geglu_tanh": "gelu_tanh", "reglu": "relu"}[activation]
    if activation == "silu":
        gate = body("Swish", gate)
    elif activation == "relu":
        gate = body("Relu", gate)
    elif activation.startswith("gelu"):
        gate = body("Gelu", gate, approximate="tanh" if activation == "gelu_tanh" else "none")
    return gate if up is None else body("Mul", gate, up)


def embedding(low: Lowering, node: Node) -> None:
    """Rows of a matrix that has no packed form."""
    Body(low, node).end("Gather", node.input(1), node.input(0), axis=0)


def rms_norm(low: Lowering, node: Node) -> None:
    """A norm over an odd number of elements."""
    Body(low, node).end("RMSNormalization", node.input(0), node.input(1), epsilon=float(node.attributes["epsilon"]))


def rotary_angles(low: Lowering, node: Node) -> None:
    """scale * cos and sin of positions times frequencies: [B, T, r/2] each."""
    body, positions = Body(low, node), node.input(0)
    column = constant(f"{node.name}/axis", np.asarray([2], np.int64))
    angle = body("Mul", body("Unsqueeze", body("Cast", positions, to=1), column), node.input(1))
    scale = float(node.attributes.get("scale", 1.0))
    for op, out in zip(("Cos", "Sin"), node.outputs, strict=True):
        if scale == 1.0:
            body.into([out], op, angle)
        else:
            body.into([out], "Mul", body(op, angle), constant(f"{node.name}/scale", np.asarray(scale, np.float32)))
    body.done()
