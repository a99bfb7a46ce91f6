"""FusedMatMul: a product of transposed and scaled operands."""

from __future__ import annotations

from tlite_vk.graph.ir import Node, Value

from .body import Body, rewrites


@rewrites("FusedMatMul", inputs=(2, 2))
def fused_matmul(body: Body, node: Node) -> None:
    """alpha * op(a) @ op(b), where op transposes."""
    a = _turned(body, node.input(0), body.take("transA", 0), body.take("transBatchA", 0))
    b = _turned(body, node.input(1), body.take("transB", 0), body.take("transBatchB", 0))
    alpha = float(body.take("alpha", 1.0))
    if alpha == 1.0:
        body.end("MatMul", a, b)
    else:
        body.end("Mul", body("MatMul", a, b), body.constant(alpha, like=node.input(0)))


def _turned(body: Body, x: Value, last: int, batch: int) -> Value:
    """x [..., M, K] with its last two axes swapped (last), or with its first axis moved before the last (batch).

    Both: [b0, b1, ..., M, K] becomes [b1, ..., M, b0, K] first. A vector has nothing to swap.
    """
    rank = body.rank(x)
    perm = list(range(rank))
    if batch and rank > 2:
        perm = [*perm[1:-1], perm[0], perm[-1]]
    if last and rank > 1:
        perm[-2], perm[-1] = perm[-1], perm[-2]
    return x if perm == sorted(perm) else body("Transpose", x, perm=perm)
