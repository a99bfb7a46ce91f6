"""Symbolic dimensions: integers or sympy expressions over the graph's symbols.

A symbol is an integer with a lower bound (1 for lengths, 0 for "tokens already cached"). Comparisons are proved,
never sampled: every symbol is written as `bound + slack` with `slack >= 0`, and an expression is non-negative when
all coefficients of its expansion are. What cannot be decided counts as "no".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import cast

import sympy
from sympy.parsing.sympy_parser import parse_expr

from .errors import GraphError

Dim = int | sympy.Expr
Shape = tuple[Dim, ...]

MAX_DIM = 2**40  # a larger extent is a hostile or broken model, not a tensor


@lru_cache(maxsize=None)
def symbol(name: str, minimum: int = 1) -> sympy.Symbol:
    """The symbol `name`; equal names with equal bounds are the same symbol. `minimum` is 0 or 1."""
    if minimum not in (0, 1):
        raise GraphError(f"symbol {name!r}: the lower bound must be 0 or 1, not {minimum}")
    return sympy.Symbol(name, integer=True, positive=True) if minimum else sympy.Symbol(name, integer=True, nonnegative=True)


def lower_bound(sym: sympy.Symbol) -> int:
    return 1 if sym.is_positive else 0


def simplify(dim: Dim | sympy.Basic) -> Dim:
    """A dimension in canonical form: a plain int where it is constant, otherwise an expanded expression."""
    if isinstance(dim, int):
        return dim
    expanded = sympy.expand(dim)
    if expanded.is_Integer:
        return int(expanded)
    return cast(sympy.Expr, expanded)


def is_constant(shape: Iterable[Dim]) -> bool:
    return all(isinstance(d, int) for d in shape)


def product(dims: Iterable[Dim]) -> Dim:
    """The number of elements of a shape."""
    result: Dim = 1
    for d in dims:
        result = result * d
    return simplify(result)


def ceil_div(a: Dim, b: int) -> Dim:
    if isinstance(a, int):
        return -(-a // b)
    return simplify(sympy.ceiling(a / sympy.Integer(b)))


def floor_div(a: Dim, b: Dim) -> Dim:
    """`a // b`, exact where the division has no remainder."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    quotient = sympy.cancel(sympy.sympify(a) / sympy.sympify(b))
    if quotient.is_polynomial() and all(c.is_integer for c in sympy.Poly(quotient, *quotient.free_symbols).coeffs()
                                        ) if quotient.free_symbols else quotient.is_Integer:
        return simplify(quotient)
    return simplify(sympy.floor(quotient))


def is_non_negative(dim: Dim) -> bool:
    """True when `dim >= 0` is proved for every value of its symbols."""
    if isinstance(dim, int):
        return dim >= 0
    slack = {s: sympy.Dummy(s.name, integer=True, nonnegative=True) + lower_bound(s) for s in _symbols(dim)}
    shifted = sympy.expand(dim.subs(slack, simultaneous=True))
    if shifted.is_nonnegative:
        return True
    try:
        poly = sympy.Poly(shifted, *sorted(shifted.free_symbols, key=str))
    except sympy.PolynomialError:
        return False
    return all(c.is_number and c >= 0 for c in poly.coeffs())


def at_least(a: Dim, b: Dim) -> bool:
    """True when `a >= b` is proved for every length."""
    return is_non_negative(simplify(a - b))


def equal(a: Dim, b: Dim) -> bool:
    """True when the two dimensions are the same for every length."""
    return a == b or simplify(a - b) == 0


def evaluate(dim: Dim, values: Mapping[str, int]) -> int:
    """The dimension as a number, given every symbol's value. Raises GraphError for a symbol without one."""
    if isinstance(dim, int):
        return dim
    missing = [s.name for s in _symbols(dim) if s.name not in values]
    if missing:
        raise GraphError(f"no value for the dimension {', '.join(sorted(missing))}")
    result = dim.subs({s: values[s.name] for s in _symbols(dim)})
    if not result.is_Integer:
        raise GraphError(f"dimension {dim} is not an integer for {dict(values)}")
    return int(result)


def _symbols(dim: sympy.Expr) -> set[sympy.Symbol]:
    return cast("set[sympy.Symbol]", dim.free_symbols)


def format_shape(shape: Shape | None) -> str:
    return "[?]" if shape is None else "[" + ", ".join(str(d) for d in shape) + "]"


_EXPRESSION = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*|\d+|[-+*/() ]|//")


def parse_dim(text: str) -> Dim:
    """A dimension from an ONNX `dim_param`: a name, or arithmetic over names ("past + 1"). Nothing is evaluated as Python.

    Text that is not arithmetic becomes one symbol of that name.
    """
    pieces = _EXPRESSION.findall(text)
    arithmetic = "".join(pieces) == text and any(c in text for c in "+*/-(") and len(text) < 200
    if not arithmetic:
        return symbol(text)
    names = sorted({p for p in pieces if re.match(r"[A-Za-z_]", p)}, key=len, reverse=True)
    plain = {name: f"v{i}_" for i, name in enumerate(names)}
    safe = "".join(plain.get(p, p) for p in pieces)
    try:
        tree = parse_expr(safe, local_dict={v: symbol(k) for k, v in plain.items()}, evaluate=True)
        return simplify(tree)
    except (SyntaxError, TypeError, ValueError, AttributeError):
        return symbol(text)
