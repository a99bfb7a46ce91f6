"""Symbolic dimensions: integers or sympy expressions over the graph's symbols.

A symbol is an integer with a lower bound (1 for lengths, 0 for "tokens already cached"). Comparisons are proved,
never sampled; what cannot be decided counts as "no". `proof.py` holds the proofs, `dimtext.py` the text form.
sympy is slow, so plain integers take a short way and expressions are cached: a graph repeats few of them often.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, TypeAlias, cast

import sympy

from .errors import GraphError

# sympy carries no types, so its objects are Any to the type checkers.
Expression: TypeAlias = Any  # a sympy.Expr
Symbol: TypeAlias = Any  # a sympy.Symbol
Dim: TypeAlias = int | Expression
Shape: TypeAlias = tuple[Dim, ...]
Program: TypeAlias = int | str | tuple[Any, ...]  # a dimension without sympy: 3, "T", ("+", ("*", 576, "T"), 4)

MAX_DIM = 2**40  # a larger extent is a hostile or broken model, not a tensor
MAX_RANK = 32  # axes of a tensor
MAX_TERMS, MAX_DEGREE = 256, 16  # of a dimension; arithmetic that makes more explodes rather than ends


@cache
def symbol(name: str, minimum: int = 1) -> Symbol:
    """The symbol `name`; equal names with equal bounds are the same symbol. `minimum` is 0 or 1."""
    if minimum not in (0, 1):
        raise GraphError(f"symbol {name!r}: the lower bound must be 0 or 1, not {minimum}")
    return (
        sympy.Symbol(name, integer=True, positive=True)
        if minimum
        else sympy.Symbol(name, integer=True, nonnegative=True)
    )


def lower_bound(sym: Symbol) -> int:
    return 1 if sym.is_positive else 0


def symbols(dim: Dim) -> set[Symbol]:
    return set() if isinstance(dim, int) else cast("set[Symbol]", dim.free_symbols)


def is_expression(item: object) -> bool:
    """True for a sympy expression (not for plain numbers)."""
    return isinstance(item, sympy.Basic)


def as_symbol(dim: Dim | None) -> Symbol | None:
    """The dimension where it is a bare symbol."""
    return dim if isinstance(dim, sympy.Symbol) else None


def ints(shape: Iterable[Dim]) -> tuple[int, ...]:
    """A shape that must be made of numbers."""
    result = tuple(d for d in shape if isinstance(d, int))
    if len(result) != len(tuple(shape)):
        raise GraphError(f"a shape depends on {', '.join(sorted(str(d) for d in shape if not isinstance(d, int)))}")
    return result


def simplify(dim: Dim) -> Dim:
    """A dimension in canonical form: a plain int where it is constant, otherwise an expanded expression."""
    if isinstance(dim, int):
        return int(dim)
    return _expand(dim)


@lru_cache(maxsize=8192)
def _expand(dim: Expression) -> Dim:
    if dim.is_Symbol:
        return cast(Expression, dim)
    expanded = sympy.expand(dim)
    return int(expanded) if expanded.is_Integer else cast(Expression, expanded)


def is_constant(shape: Iterable[Dim]) -> bool:
    return all(isinstance(d, int) for d in shape)


def add(a: Dim, b: Dim) -> Dim:
    return a + b if isinstance(a, int) and isinstance(b, int) else _add(a, b)


@lru_cache(maxsize=8192)
def _add(a: Dim, b: Dim) -> Dim:
    return _small(simplify(a + b))


def _small(dim: Dim) -> Dim:
    """The dimension. Raises GraphError where it has grown beyond what a model's shapes are."""
    if not isinstance(dim, int) and _term_count(dim) > MAX_TERMS:
        raise GraphError(f"a dimension would be a sum of more than {MAX_TERMS} terms")
    return dim


def _term_count(dim: Dim) -> int:
    return 1 if isinstance(dim, int) else len(sympy.Add.make_args(dim))


@lru_cache(maxsize=8192)
def _degree(dim: Expression) -> int:
    """The largest number of factors of a term, roundings and the like counted as one."""
    if isinstance(dim, int):
        return 0
    factors = (sympy.Mul.make_args(term) for term in sympy.Add.make_args(dim))
    powers = (
        sum(int(f.as_base_exp()[1]) for f in term if not f.is_number and f.as_base_exp()[1].is_Integer)
        for term in factors
    )
    return max(powers, default=0)


def multiply(a: Dim, b: Dim) -> Dim:
    return a * b if isinstance(a, int) and isinstance(b, int) else _multiply(a, b)


@lru_cache(maxsize=8192)
def _multiply(a: Dim, b: Dim) -> Dim:
    if _term_count(a) * _term_count(b) > MAX_TERMS or _degree(a) + _degree(b) > MAX_DEGREE:
        raise GraphError(f"a dimension would have more than {MAX_TERMS} terms, or products of more than {MAX_DEGREE}")
    return _small(simplify(a * b))


def product(dims: Iterable[Dim]) -> Dim:
    """The number of elements of a shape."""
    result: Dim = 1
    for d in dims:
        result = multiply(result, d)
    return result


def ceil_div(a: Dim, b: int) -> Dim:
    """`ceil(a / b)` for a positive integer `b`."""
    if isinstance(a, int):
        return -(-a // b)
    return simplify(sympy.ceiling(a / sympy.Integer(b)))


def floor_div(a: Dim, b: Dim) -> Dim:
    """`floor(a / b)`, an expression without division where there is no remainder."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    return _floor_div(a, b)


@lru_cache(maxsize=4096)
def _floor_div(a: Dim, b: Dim) -> Dim:
    exact = exact_div(a, b)
    return simplify(sympy.floor(sympy.sympify(a) / sympy.sympify(b))) if exact is None else exact


@lru_cache(maxsize=4096)
def exact_div(a: Dim, b: Dim) -> Dim | None:
    """`a / b` where it is an integer for every length (a polynomial with integer coefficients), else None."""
    if b == 0:
        raise GraphError("a dimension is divided by zero")
    quotient = sympy.sympify(a) / sympy.sympify(b)
    if not (quotient.is_Integer or _integer_polynomial(quotient)):
        quotient = sympy.cancel(quotient)
    if quotient.is_Integer or _integer_polynomial(quotient):
        return simplify(quotient)
    return None


def _integer_polynomial(expr: Expression) -> bool:
    if not expr.free_symbols or not expr.is_polynomial():
        return False
    return all(c.is_integer for c in sympy.Poly(expr, *expr.free_symbols).coeffs())


def modulo(a: Dim, b: Dim) -> Dim:
    """`a - b * floor(a / b)`."""
    return add(a, multiply(-1, multiply(b, floor_div(a, b))))


def maximum(a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b)
    if at_least(a, b):
        return a
    return b if at_least(b, a) else simplify(sympy.Max(a, b))


def largest_of(dims: Sequence[Dim]) -> Dim:
    """The maximum of dimensions of which none is known to be at least another; they are not compared again."""
    return dims[0] if len(dims) == 1 else cast(Expression, sympy.Max(*dims, evaluate=False))


def minimum(a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) and isinstance(b, int):
        return min(a, b)
    if at_least(a, b):
        return b
    return a if at_least(b, a) else simplify(sympy.Min(a, b))


def terms(dim: Dim) -> dict[Dim, int]:
    """The dimension as a sum: {term: integer coefficient}, the constant under 1. What is no such sum is one term."""
    if isinstance(dim, int):
        return {1: dim}
    parts = {int(t) if t.is_Integer else t: c for t, c in dim.as_coefficients_dict().items()}
    return {t: int(c) for t, c in parts.items()} if all(c.is_Integer for c in parts.values()) else {dim: 1}


def is_non_negative(dim: Dim) -> bool:
    """True when `dim >= 0` is proved for every value of its symbols."""
    if isinstance(dim, int):
        return dim >= 0
    from .proof import prove_non_negative

    return prove_non_negative(dim)


def at_least(a: Dim, b: Dim) -> bool:
    """True when `a >= b` is proved for every length."""
    return a == b or is_non_negative(add(a, multiply(-1, b)))


def equal(a: Dim, b: Dim) -> bool:
    """True when the two dimensions are the same for every length."""
    return a == b or (not (isinstance(a, int) and isinstance(b, int)) and add(a, multiply(-1, b)) == 0)


def different(a: Dim, b: Dim) -> bool:
    """True when the two dimensions are proved to differ for every length."""
    if isinstance(a, int) and isinstance(b, int):
        return a != b
    return at_least(a, add(b, 1)) or at_least(b, add(a, 1))


def equal_shapes(a: Shape, b: Shape) -> bool:
    return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))


def substitute(dim: Dim, values: Mapping[Symbol, Dim]) -> Dim:
    """The dimension with some of its symbols replaced."""
    if isinstance(dim, int) or not (symbols(dim) & values.keys()):
        return dim
    return simplify(dim.subs(dict(values), simultaneous=True))


def evaluate(dim: Dim, values: Mapping[str, int]) -> int:
    """The dimension as a number, given every symbol's value. Raises GraphError for a symbol without one."""
    if isinstance(dim, int):
        return dim
    missing = [s.name for s in symbols(dim) if s.name not in values]
    if missing:
        raise GraphError(f"no value for the dimension {', '.join(sorted(missing))}")
    result = dim.subs({s: values[s.name] for s in symbols(dim)})
    if not result.is_Integer:
        raise GraphError(f"dimension {dim} is not an integer for {dict(values)}")
    return int(result)


def format_shape(shape: Shape | None) -> str:
    return "[?]" if shape is None else "[" + ", ".join(format_dim(d) for d in shape) + "]"


def format_dim(dim: Dim) -> str:
    from .dimtext import format_dim as text

    return text(dim)


def parse_dim(text: str, minimum: int = 1) -> Dim:
    """A dimension from an ONNX `dim_param`; see `dimtext.parse_dim`."""
    from .dimtext import parse_dim as parse

    return parse(text, lambda name: symbol(name, minimum))


def to_program(dim: Dim) -> Program:
    """The dimension as nested tuples that plain Python evaluates; see `dimtext.to_program`."""
    from .dimtext import to_program as convert

    return convert(dim)
