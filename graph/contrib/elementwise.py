"""Activations, and normalizations with what stands before them: a sum, a bias."""

from __future__ import annotations

from tlite_vk.graph.ir import Node, Value

from .body import DOMAIN, Body, rewrites

SKIP_EPSILON = 1e-12  # onnxruntime's default for the norms with a sum; those without have 1e-5


@rewrites("SimplifiedLayerNormalization", inputs=(2, 2), domains=("", DOMAIN))
def simplified_layer_normalization(body: Body, node: Node) -> None:
    """RMS normalization under its older name: x [..., K], scale [K]."""
    axis, epsilon = body.take("axis", -1), body.take("epsilon", 1e-5)
    body.only("stash_type", 1)
    body.end("RMSNormalization", node.input(0), node.input(1), axis=axis, epsilon=epsilon)


@rewrites("SkipSimplifiedLayerNormalization", inputs=(3, 4))
def skip_simplified_layer_normalization(body: Body, node: Node) -> None:
    """x + skip + bias, which is output 3, then its RMS normalization."""
    total = _sum(body, node, node.optional(3))
    body.end("RMSNormalization", total, node.input(2), epsilon=body.take("epsilon", SKIP_EPSILON))


@rewrites("SkipLayerNormalization", inputs=(3, 5))
def skip_layer_normalization(body: Body, node: Node) -> None:
    """The same with the mean removed; inputs x, skip, scale, shift, bias."""
    total = _sum(body, node, node.optional(4))
    epsilon = body.take("epsilon", SKIP_EPSILON)
    body.end("LayerNormalization", total, node.input(2), node.optional(3), epsilon=epsilon)


def _sum(body: Body, node: Node, bias: Value | None) -> Value:
    """x + skip (+ bias): output 3 of the node, if it has one."""
    if bias is None:
        return body.end("Add", node.input(0), node.input(1), output=3)
    return body.end("Add", body("Add", node.input(0), bias), node.input(1), output=3)


@rewrites("Gelu")
def gelu(body: Body, node: Node) -> None:
    body.end("Gelu", node.input(0))


@rewrites("BiasGelu", inputs=(2, 2))
def bias_gelu(body: Body, node: Node) -> None:
    body.end("Gelu", body("Add", node.input(0), node.input(1)))


@rewrites("FastGelu", inputs=(1, 2))
def fast_gelu(body: Body, node: Node) -> None:
    x, bias = node.input(0), node.optional(1)
    body.end("Gelu", x if bias is None else body("Add", x, bias), approximate="tanh")


@rewrites("QuickGelu")
def quick_gelu(body: Body, node: Node) -> None:
    """x * sigmoid(alpha * x)."""
    body.end("Swish", node.input(0), alpha=float(body.take("alpha", 1.702)))
