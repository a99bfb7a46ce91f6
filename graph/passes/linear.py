"""MatMul or Gemm by a constant matrix (+ Add of a bias) -> Linear(x, w [N, K], bias).

A weight [K, N] in the file is presented as its transposed view; a quantized one must already be [N, K].
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.weights import AffineWeight

from .base import Pass, Rewriter


class Linear(Pass):
    name: ClassVar[str] = "linear"

    def rewrite(self, rewriter: Rewriter) -> None:
        matrices = _Matrices(rewriter)
        for node in rewriter.nodes:
            if node.domain == "" and node.op == "MatMul":
                self._matmul(rewriter, matrices, node)
            elif node.domain == "" and node.op == "Gemm":
                self._gemm(rewriter, matrices, node)

    def _matmul(self, rewriter: Rewriter, matrices: _Matrices, node: Node) -> None:
        weight = self._rows(rewriter, matrices, node)
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

    def _gemm(self, rewriter: Rewriter, matrices: _Matrices, node: Node) -> None:
        a = node.attributes
        if a.get("alpha", 1.0) != 1.0 or a.get("beta", 1.0) != 1.0 or a.get("transA", 0):
            rewriter.reject(node, "alpha, beta or transA is not the default")
            return
        weight = (
            node.input(1) if a.get("transB", 0) and _is_matrix(node.input(1)) else self._rows(rewriter, matrices, node)
        )
        bias = node.optional(2)
        if weight is None:
            return
        if bias is not None and (bias.constant is None or bias.shape != weight.dims[:1]):
            rewriter.reject(node, "its bias is not one constant per column")
            return
        rewriter.replace(node, rewriter.make("Linear", [node.input(0), weight, bias], node, outputs=node.outputs))
        rewriter.matched(node)

    def _rows(self, rewriter: Rewriter, matrices: _Matrices, node: Node) -> Value | None:
        """The right operand [K, N] of a product as a constant [N, K]."""
        value = rewriter.resolve(node.input(1))
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
        return matrices.transposed(value)


class _Matrices:
    """The constant matrices of a graph by where they lie, so that a matrix and its transpose share one value."""

    def __init__(self, rewriter: Rewriter) -> None:
        self.rewriter = rewriter
        self.by_place: dict[object, Value] = {}
        for value in rewriter.graph.values():
            if isinstance(value.constant, np.ndarray) and value.constant.ndim == 2:
                self.by_place.setdefault(_place(value.constant, value.dtype), value)

    def transposed(self, value: Value) -> Value:
        """The matrix [K, N] as [N, K]: a value that exists, or a new one over the same memory."""
        view = np.asarray(value.constant).T
        place = _place(view, value.dtype)
        if place not in self.by_place:
            name = self.rewriter.fresh(f"{value.name}.rows")
            self.by_place[place] = Value(name, value.dtype, value.dims[::-1], view)
        return self.by_place[place]


def _place(array: npt.NDArray[Any], dtype: str) -> object:
    return (array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str, dtype)


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
