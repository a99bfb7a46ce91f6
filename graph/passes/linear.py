"""MatMul or Gemm by a constant matrix (+ Add of a bias) -> Linear(x, w [N, K], bias).

A weight [K, N] in the file is presented as its transposed view; a quantized one must already be [N, K].
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.weights import AffineWeight

from .base import Pass, Rewriter


class Linear(Pass):
    name: ClassVar[str] = "linear"

    def rewrite(self, rewriter: Rewriter) -> None:
        self.transposed: dict[Value, Value] = {}
        for node in rewriter.nodes:
            if node.domain == "" and node.op == "MatMul":
                self._matmul(rewriter, node)
            elif node.domain == "" and node.op == "Gemm":
                self._gemm(rewriter, node)

    def _matmul(self, rewriter: Rewriter, node: Node) -> None:
        weight = self._rows(rewriter, node, node.input(1))
        if weight is None:
            return
        if len(node.input(0).dims) < 2:
            rewriter.reject(node, "its input is a vector")
            return
        add, bias = _bias(rewriter, node, weight.dims[0])
        end = node if add is None else add
        new = rewriter.make("Linear", [node.input(0), weight, bias], node, outputs=end.outputs)
        rewriter.replace(end, new)
        if end is not node:
            rewriter.replace(node)
        rewriter.matched(node, "with bias" if bias is not None else "")

    def _gemm(self, rewriter: Rewriter, node: Node) -> None:
        a = node.attributes
        if a.get("alpha", 1.0) != 1.0 or a.get("beta", 1.0) != 1.0 or a.get("transA", 0):
            rewriter.reject(node, "alpha, beta or transA is not the default")
            return
        weight = (
            node.input(1)
            if a.get("transB", 0) and _is_matrix(node.input(1))
            else self._rows(rewriter, node, node.input(1))
        )
        bias = node.optional(2)
        if weight is None:
            return
        if bias is not None and (bias.constant is None or bias.shape != weight.dims[:1]):
            rewriter.reject(node, "its bias is not one constant per column")
            return
        rewriter.replace(node, rewriter.make("Linear", [node.input(0), weight, bias], node, outputs=node.outputs))
        rewriter.matched(node)

    def _rows(self, rewriter: Rewriter, node: Node, value: Value) -> Value | None:
        """The right operand [K, N] of a product as a constant [N, K]."""
        value = rewriter.resolve(value)
        transpose = rewriter.maker(value, "Transpose")
        if (
            transpose is not None
            and _is_matrix(transpose.input(0))
            and transpose.attributes.get("perm", [1, 0]) == [1, 0]
        ):
            return rewriter.resolve(transpose.input(0))
        if value.constant is None:
            return None
        if isinstance(value.constant, AffineWeight):
            rewriter.reject(node, "its quantized weight is [K, N]; groups must run along K")
            return None
        if len(value.dims) != 2:
            rewriter.reject(node, f"its weight has rank {len(value.dims)}")
            return None
        if value not in self.transposed:
            view = np.asarray(value.constant).T
            self.transposed[value] = Value(rewriter.fresh(f"{value.name}.rows"), value.dtype, value.dims[::-1], view)
        return self.transposed[value]


def _is_matrix(value: Value) -> bool:
    return value.constant is not None and len(value.dims) == 2


def _bias(rewriter: Rewriter, node: Node, rows: object) -> tuple[Node | None, Value | None]:
    """The Add that alone reads the product and adds a constant [N], and that constant."""
    if not rewriter.used_once(node.output):
        return None, None
    add = rewriter.users(node.output)[0]
    if add.op != "Add" or add.domain or len(add.inputs) != 2:
        return None, None
    other = add.input(1) if add.input(0) is node.output else add.input(0)
    if not isinstance(other.constant, np.ndarray) or other.shape != (rows,):
        return None, None
    return add, other
