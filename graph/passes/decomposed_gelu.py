"""GELU written out by exporters -> Gelu: x/2 * (1 + erf(x / sqrt 2)), or its approximation by tanh.

The factors may stand in any order; x^3 may be Pow(x, 3) or x * x * x.
"""

from __future__ import annotations

import math
from typing import ClassVar

from tlite_vk.graph.ir import Node, Value

from .base import Pass, Rewriter, scalar

_CUBIC, _ROOT, _HALF = 0.044715, math.sqrt(2 / math.pi), math.sqrt(0.5)


class DecomposedGelu(Pass):
    name: ClassVar[str] = "decomposed-gelu"

    def rewrite(self, rewriter: Rewriter) -> None:
        for node in rewriter.nodes:
            if node.op != "Mul" or node.domain:
                continue
            factors, scale = _factors(rewriter, node)
            if len(factors) != 2:
                continue
            for x, bracket in (factors, factors[::-1]):
                inner = _one_plus(rewriter, bracket)
                kind = None if inner is None else _kind(rewriter, inner, x)
                if kind is not None and _near(scale, 0.5):
                    new = rewriter.make("Gelu", [x], node, {"approximate": kind}, domain="", outputs=node.outputs)
                    rewriter.replace(node, new)
                    rewriter.matched(node, kind)
                    break


def _factors(rewriter: Rewriter, node: Node) -> tuple[list[Value], float]:
    """The factors of a product of at most two tensors and numbers, with the product of the numbers."""
    found: list[Value] = []
    scale, pending = 1.0, [v for v in node.inputs if v is not None]
    alone = _number_in(node)  # so the other operand is the product of both tensors
    while pending:
        value = rewriter.resolve(pending.pop(0))
        by = scalar(value)
        inner = rewriter.maker(value, "Mul", "Div")
        if by is not None:
            scale *= by
        elif inner is not None and (_number_in(inner) or (alone and inner.op == "Mul")) and rewriter.used_once(value):
            alone = False
            if inner.op == "Div":
                scale, pending = scale / (scalar(inner.input(1)) or 1.0), [inner.input(0), *pending]
            else:
                pending = [inner.input(0), inner.input(1), *pending]
        else:
            found.append(value)
    return found, scale


def _number_in(node: Node) -> bool:
    return bool(scalar(node.input(1))) or (node.op == "Mul" and scalar(node.input(0)) is not None)


def _one_plus(rewriter: Rewriter, value: Value) -> Value | None:
    add = rewriter.maker(value, "Add")
    if add is None:
        return None
    for a, b in ((add.input(0), add.input(1)), (add.input(1), add.input(0))):
        if scalar(b) == 1.0:
            return a
    return None


def _kind(rewriter: Rewriter, value: Value, x: Value) -> str | None:
    """What `approximate` is where the value is erf(x / sqrt 2) or tanh(sqrt(2/pi) (x + 0.044715 x^3))."""
    node = rewriter.maker(value, "Erf", "Tanh")
    if node is None:
        return None
    argument, scale = _scaled(rewriter, node.input(0))
    if node.op == "Erf":
        return "none" if rewriter.resolve(argument) is rewriter.resolve(x) and _near(scale, _HALF) else None
    add = rewriter.maker(argument, "Add")
    if add is None or not _near(scale, _ROOT):
        return None
    for a, b in ((add.input(0), add.input(1)), (add.input(1), add.input(0))):
        if rewriter.resolve(a) is rewriter.resolve(x):
            cube, factor = _scaled(rewriter, b)
            if _near(factor, _CUBIC) and _is_cube(rewriter, cube, x):
                return "tanh"
    return None


def _scaled(rewriter: Rewriter, value: Value) -> tuple[Value, float]:
    """A value as another one times a number."""
    node = rewriter.maker(value, "Mul", "Div")
    if node is None:
        return value, 1.0
    by = scalar(node.input(1))
    if by:
        return node.input(0), by if node.op == "Mul" else 1.0 / by
    by = scalar(node.input(0))
    return (node.input(1), by) if node.op == "Mul" and by is not None else (value, 1.0)


def _is_cube(rewriter: Rewriter, value: Value, x: Value) -> bool:
    node = rewriter.maker(value, "Pow", "Mul")
    if node is None:
        return False
    if node.op == "Pow":
        return scalar(node.input(1)) == 3.0 and rewriter.resolve(node.input(0)) is rewriter.resolve(x)
    for a, b in ((node.input(0), node.input(1)), (node.input(1), node.input(0))):
        square = rewriter.maker(a, "Mul", "Pow")
        if square is None or rewriter.resolve(b) is not rewriter.resolve(x):
            continue
        other = square.input(1)
        if rewriter.resolve(square.input(0)) is rewriter.resolve(x) and (other is x or scalar(other) == 2.0):
            return True
    return False


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-5 * abs(b)
