"""Integer expressions of a Program: nested tuples or lists, evaluated without sympy.

An expression is an int, a symbol's name, or [operator, operand, ...] with + and * (any number of operands),
floordiv and ceildiv (two), max and min. `tlite_vk.graph.shape.to_program` writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import mul
from typing import Any

Expression = int | str | tuple[Any, ...] | list[Any]


def evaluate(expression: Expression, symbols: Mapping[str, int]) -> int:
    """The value of the expression. Raises KeyError for a symbol without a value, ValueError for anything malformed."""
    if isinstance(expression, int):
        return expression
    if isinstance(expression, str):
        return symbols[expression]
    operator, *operands = expression or [""]
    values = [evaluate(operand, symbols) for operand in operands]
    if operator == "+":
        return sum(values)
    if operator == "*":
        return reduce(mul, values, 1)
    if operator in ("max", "min") and values:
        return max(values) if operator == "max" else min(values)
    if operator in ("floordiv", "ceildiv") and len(values) == 2:
        a, b = values
        return a // b if operator == "floordiv" else -(-a // b)
    raise ValueError(f"malformed expression {expression!r}")
