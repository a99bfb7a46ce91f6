"""Text and data forms of a dimension: parsing an ONNX `dim_param`, printing, and the plain expression of a Program."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import lcm

import sympy

from .errors import GraphError
from .shape import (
    Dim,
    Expression,
    Program,
    add,
    floor_div,
    maximum,
    minimum,
    modulo,
    multiply,
    product,
    simplify,
    symbols,
)

MAX_TEXT = 200
_TOKEN = re.compile(r"\s*(?:(\d+)|([A-Za-z_][A-Za-z0-9_.]*)|(//|\*\*|[-+*/%(),]))")


class _NotArithmeticError(Exception):
    pass


def parse_dim(text: str, make: Callable[[str], Dim]) -> Dim:
    """A dimension from a `dim_param`: a name, or arithmetic over names ("past + 1", "2*s//4"), never run as Python.

    Text that is not arithmetic becomes one symbol of that name; `make` turns a name into its dimension.
    """
    try:
        if len(text) > MAX_TEXT:
            raise _NotArithmeticError
        return _Parser(text, make).parse()
    except (_NotArithmeticError, GraphError, ZeroDivisionError, RecursionError):
        return make(text)


class _Parser:
    """Recursive descent over `+ - * / // % **`, parentheses, and Max, Min of two."""

    def __init__(self, text: str, make: Callable[[str], Dim]):
        self.make = make
        self.tokens: list[str] = []
        position = 0
        text = text.strip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise _NotArithmeticError
            self.tokens.append(match.group().strip())
            position = match.end()
        self.tokens.append("")
        self.at = 0

    def take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1]

    def expect(self, token: str) -> None:
        if self.take() != token:
            raise _NotArithmeticError

    def parse(self) -> Dim:
        result = self.sum()
        self.expect("")
        return result

    def sum(self) -> Dim:
        left = self.term()
        while self.tokens[self.at] in ("+", "-"):
            sign = 1 if self.take() == "+" else -1
            left = add(left, multiply(sign, self.term()))
        return left

    def term(self) -> Dim:
        left = self.power()
        while self.tokens[self.at] in ("*", "/", "//", "%"):
            op, right = self.take(), self.power()
            left = multiply(left, right) if op == "*" else modulo(left, right) if op == "%" else floor_div(left, right)
        return left

    def power(self) -> Dim:
        base = self.factor()
        if self.tokens[self.at] != "**":
            return base
        self.take()
        exponent = self.take()
        if exponent not in ("1", "2", "3", "4"):
            raise _NotArithmeticError
        return product([base] * int(exponent))

    def factor(self) -> Dim:
        token = self.take()
        if token == "(":
            inner = self.sum()
            self.expect(")")
            return inner
        if token == "-":
            return multiply(-1, self.factor())
        if token.isdigit():
            return int(token)
        if not token or not (token[0].isalpha() or token[0] == "_"):
            raise _NotArithmeticError
        if token.lower() in ("max", "min") and self.tokens[self.at] == "(":
            return self.extreme(token.lower())
        return self.make(token)

    def extreme(self, name: str) -> Dim:
        self.expect("(")
        first = self.sum()
        self.expect(",")
        second = self.sum()
        self.expect(")")
        return maximum(first, second) if name == "max" else minimum(first, second)


def format_dim(dim: Dim) -> str:
    """The dimension as text; the same text in every run."""
    return str(dim)


def to_program(dim: Dim) -> Program:
    """The dimension as an int, a symbol's name, or a tuple (operator, operands...) that needs no sympy.

    Operators: + and * (two or more operands), floordiv, ceildiv (two), max, min. All values stay integers.
    Raises GraphError for an expression outside of these.
    """
    if not isinstance(dim, int | sympy.Max | sympy.Min):  # sympy would compare the arguments of these again, slowly
        dim = simplify(dim)
    if isinstance(dim, int):
        return dim
    if isinstance(dim, sympy.Symbol):
        return str(dim.name)
    denominator = _denominator(dim)
    if denominator != 1:
        return ("floordiv", to_program(multiply(dim, denominator)), denominator)
    if isinstance(dim, sympy.Add | sympy.Mul):
        parts = tuple(to_program(_as_dim(a)) for a in sorted(dim.args, key=sympy.default_sort_key))
        return ("+" if isinstance(dim, sympy.Add) else "*", *parts)
    if isinstance(dim, sympy.Pow) and dim.exp.is_Integer and 1 < dim.exp <= 8:
        return ("*", *(to_program(dim.base) for _ in range(int(dim.exp))))
    if isinstance(dim, sympy.floor | sympy.ceiling):
        numerator, below = sympy.fraction(sympy.together(dim.args[0]))
        name = "floordiv" if isinstance(dim, sympy.floor) else "ceildiv"
        return (name, to_program(_as_dim(numerator)), to_program(_as_dim(below)))
    if isinstance(dim, sympy.Max | sympy.Min):
        parts = tuple(to_program(_as_dim(a)) for a in sorted(dim.args, key=sympy.default_sort_key))
        return ("max" if isinstance(dim, sympy.Max) else "min", *parts)
    raise GraphError(f"dimension {dim} has no integer program (symbols {sorted(s.name for s in symbols(dim))})")


def _as_dim(expr: Expression) -> Dim:
    return int(expr) if expr.is_Integer else simplify(expr)


def _denominator(dim: Expression) -> int:
    """The common denominator of an expression that is an integer all the same, such as T*T/2 + T/2."""
    if not isinstance(dim, sympy.Add | sympy.Mul):
        return 1
    result = 1
    coefficients: Expression = dim.as_coefficients_dict().values()
    for coefficient in coefficients:
        if coefficient.is_Rational:
            result = lcm(result, int(coefficient.q))
    return result
