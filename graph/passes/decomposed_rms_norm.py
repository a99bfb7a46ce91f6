"""x / sqrt(mean(x^2) + epsilon) * scale, written out by exporters -> RMSNormalization over the last axis.

The square is Pow(x, 2) or Mul(x, x); the root divides, or its reciprocal multiplies; the scale is a constant [K].
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from tlite_vk.graph.ir import Node, Value

from .base import Pass, RejectedError, Rewriter, require, scalar


class DecomposedRmsNorm(Pass):
    name: ClassVar[str] = "decomposed-rms-norm"

    def rewrite(self, rewriter: Rewriter) -> None:
        for node in rewriter.nodes:
            if node.op != "Mul" or node.domain:
                continue
            for normed, scale in ((node.input(0), node.input(1)), (node.input(1), node.input(0))):
                root = normed_by_root(rewriter, normed)
                if root is None or not isinstance(scale.constant, np.ndarray):
                    continue
                x, under = root
                try:
                    epsilon = plus_epsilon(rewriter, x, under)
                    require(scale.shape == x.dims[-1:], "its scale is not one constant per column")
                except RejectedError as why:
                    rewriter.reject(node, str(why))
                    break
                attributes = {"axis": -1, "epsilon": epsilon}
                new = rewriter.make("RMSNormalization", [x, scale], node, attributes, domain="", outputs=node.outputs)
                rewriter.replace(node, new)
                rewriter.matched(node)
                break


def normed_by_root(rewriter: Rewriter, normed: Value) -> tuple[Value, Value] | None:
    """(x, the argument of the root) of x / sqrt(a), x * (1 / sqrt(a)) or x * reciprocal(sqrt(a))."""
    divide = rewriter.maker(normed, "Div")
    if divide is not None:
        sqrt = rewriter.maker(divide.input(1), "Sqrt")
        return None if sqrt is None else (divide.input(0), sqrt.input(0))
    multiply = rewriter.maker(normed, "Mul")
    if multiply is None:
        return None
    for x, inverse in ((multiply.input(0), multiply.input(1)), (multiply.input(1), multiply.input(0))):
        sqrt = rewriter.maker(_reciprocal_of(rewriter, inverse), "Sqrt")
        if sqrt is not None:
            return x, sqrt.input(0)
    return None


def _reciprocal_of(rewriter: Rewriter, value: Value) -> Value | None:
    reciprocal = rewriter.maker(value, "Reciprocal", "Div")
    if reciprocal is None or (reciprocal.op == "Div" and scalar(reciprocal.input(0)) != 1.0):
        return None
    return reciprocal.inputs[-1]


def mean_over_last(rewriter: Rewriter, value: Value) -> Value | None:
    """What the value is the mean of, over the last axis, which it keeps."""
    reduce = rewriter.maker(value, "ReduceMean")
    if reduce is None or reduce.attributes.get("keepdims", 1) != 1:
        return None
    axes = reduce.optional(1)
    over = None if axes is None or axes.constant is None else axes.array().reshape(-1).tolist()
    return reduce.input(0) if over in ([-1], [len(reduce.input(0).dims) - 1]) else None


def plus_epsilon(rewriter: Rewriter, x: Value, under: Value) -> float:
    """epsilon where `under` is mean(x^2) + epsilon over the last axis. Raises RejectedError saying what it is not."""
    add = rewriter.maker(under, "Add")
    require(add is not None, "nothing is added to the mean")
    assert add is not None
    for mean, other in ((add.input(0), add.input(1)), (add.input(1), add.input(0))):
        epsilon = scalar(other)
        if epsilon is None or rewriter.maker(mean, "ReduceMean") is None:
            continue
        square = mean_over_last(rewriter, mean)
        if square is None:
            raise RejectedError("the mean is not over the last axis")
        require(_is_square(rewriter, square, x), "the mean is not of the square of what is normalized")
        return epsilon
    raise RejectedError("it is not the mean plus a constant")


def _is_square(rewriter: Rewriter, value: Value, x: Value) -> bool:
    node: Node | None = rewriter.maker(value, "Pow", "Mul")
    if node is None or node.input(0) is not x:
        return False
    return node.input(1) is x if node.op == "Mul" else scalar(node.input(1)) == 2.0
