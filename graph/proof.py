"""Proofs of `expression >= 0` for every value of its symbols.

Method: floors and ceilings of a rational expression, Max and Min are replaced by their worst case (a ceiling whose
coefficient cannot be negative by its argument, one whose coefficient cannot be positive by its argument plus
`(d - 1)/d`, ...), every symbol is written as `lower bound + slack`, and the result is non-negative when all
coefficients of its expansion are. Since everything is an integer, `f >= 0` follows already from `f > -g`, where g
divides every coefficient. What is not proved this way counts as not proved.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import gcd

import sympy  # type: ignore[import-untyped]

from .shape import Expression, lower_bound

_MAX_ATOMS = 8  # nested rounding beyond this is not attempted
_ROUNDING = (sympy.floor, sympy.ceiling, sympy.Max, sympy.Min)


@lru_cache(maxsize=8192)
def prove_non_negative(expr: Expression) -> bool:
    """True when `expr >= 0` is proved; `expr` takes integer values."""
    return _prove_integer(sympy.expand(expr), 0)


def _prove_integer(expr: Expression, depth: int) -> bool:
    """Max and Min outside of any rounding are replaced first: what is left stays an integer, and may use `_spare`."""
    for atom in sorted(expr.atoms(sympy.Max, sympy.Min), key=_nesting, reverse=True):
        if depth < _MAX_ATOMS and (proved := _replace(expr, atom, depth, _prove_integer)) is not None:
            return proved
    return _prove(expr + _spare(expr), depth)


def _spare(expr: Expression) -> Expression:
    """g - 1 for the largest g that divides the integer expression whatever its (integer) atoms are."""
    divisor = 0
    for coefficient in expr.as_coefficients_dict().values():
        if not coefficient.is_Integer:
            return sympy.Integer(0)
        divisor = gcd(divisor, int(coefficient))
    return sympy.Integer(max(divisor, 1) - 1)


def _prove(expr: Expression, depth: int) -> bool:
    atom = next(iter(sorted(expr.atoms(*_ROUNDING), key=_nesting, reverse=True)), None)
    if atom is None:
        return _positive_coefficients(expr)
    return depth < _MAX_ATOMS and bool(_replace(expr, atom, depth, _prove))


def _replace(expr: Expression, atom: Expression, depth: int, prove: Callable[[Expression, int], bool]) -> bool | None:
    """Is the expression proved with its worst case in the atom's place? None where the atom is no linear term of it."""
    stand_in = sympy.Dummy("r", integer=True)
    rest = sympy.expand(expr.subs(atom, stand_in))
    coefficient = rest.coeff(stand_in, 1)
    if sympy.expand(rest - coefficient * stand_in).has(stand_in) or coefficient.has(stand_in):
        return None
    if prove_sign(coefficient):
        choices, every = _lower(atom)
    elif prove_sign(-coefficient):
        choices, every = _upper(atom)
    else:
        return None
    attempts = (prove(sympy.expand(rest.subs(stand_in, bound)), depth + 1) for bound in choices)
    return all(attempts) if every else any(attempts)


def prove_sign(coefficient: Expression) -> bool:
    return _prove(sympy.expand(coefficient), 1)


def _nesting(atom: Expression) -> tuple[int, str]:
    return sum(1 for _ in sympy.preorder_traversal(atom)), str(atom)


def _lower(atom: Expression) -> tuple[list[Expression], bool]:
    """Expressions that bound the atom from below, and whether all of them have to be tried (else any one will do)."""
    if isinstance(atom, sympy.ceiling):
        return [atom.args[0]], False
    if isinstance(atom, sympy.floor):
        return [atom.args[0] - _largest_fraction(atom.args[0])], False
    return list(atom.args), isinstance(atom, sympy.Min)


def _upper(atom: Expression) -> tuple[list[Expression], bool]:
    if isinstance(atom, sympy.ceiling):
        return [atom.args[0] + _largest_fraction(atom.args[0])], False
    if isinstance(atom, sympy.floor):
        return [atom.args[0]], False
    return list(atom.args), isinstance(atom, sympy.Max)


def _largest_fraction(argument: Expression) -> Expression:
    """How much rounding can change the argument: (d - 1)/d over an integer denominator d, else 1."""
    denominator = sympy.fraction(sympy.together(argument))[1]
    return 1 - 1 / denominator if denominator.is_Integer else sympy.Integer(1)


def _positive_coefficients(expr: Expression) -> bool:
    slack = {s: sympy.Dummy(s.name, integer=True, nonnegative=True) + lower_bound(s) for s in expr.free_symbols}
    shifted = sympy.expand(expr.subs(slack, simultaneous=True))
    if shifted.is_number:
        return bool(shifted >= 0)
    try:
        poly = sympy.Poly(shifted, *sorted(shifted.free_symbols, key=str))
    except sympy.PolynomialError:
        return bool(shifted.is_nonnegative)
    return all(c.is_number and c >= 0 for c in poly.coeffs())
