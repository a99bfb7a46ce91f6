"""Proofs of `expression >= 0` for every value of its symbols.

Method: floors and ceilings of a rational expression, Max and Min are replaced by their worst case (a ceiling whose
coefficient cannot be negative by its argument, one whose coefficient cannot be positive by its argument plus
`(d - 1)/d`, ...), every symbol is written as `lower bound + slack`, and the result is non-negative when all
coefficients of its expansion are. Since everything is an integer, `f >= 0` follows already from `f > -g`, where g
divides every coefficient. What is not proved this way counts as not proved.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from math import gcd

import sympy

from .shape import Dim, Expression, lower_bound, terms

_MAX_ATOMS = 8  # nested rounding beyond this is not attempted
_ROUNDING = (sympy.floor, sympy.ceiling, sympy.Max, sympy.Min)


@lru_cache(maxsize=8192)
def prove_non_negative(expr: Expression) -> bool:
    """True when `expr >= 0` is proved; `expr` takes integer values."""
    return _prove_integer(sympy.expand(expr), 0)


def _prove_integer(expr: Expression, depth: int) -> bool:
    """Max and Min outside of any rounding are replaced first: what is left stays an integer, and may use `_spare`.

    Where every alternative must hold comes before where any one will do: the choice may depend on the former.
    """
    if depth < _MAX_ATOMS:
        atoms = sorted(expr.atoms(sympy.Max, sympy.Min), key=_nesting, reverse=True)
        found = [w for w in (_worst_case(expr, atom) for atom in atoms) if w is not None]
        for rest, stand_in, choices, every in sorted(found, key=lambda w: not w[3])[:1]:
            attempts = (_prove_integer(sympy.expand(rest.subs(stand_in, c)), depth + 1) for c in choices)
            return all(attempts) if every else any(attempts)
    return _bounded(expr) or _prove(expr + _spare(expr), depth)


def _bounded(expr: Expression) -> bool:
    """The proof for a sum of terms with integer coefficients, every term replaced by its bound at once."""
    parts = terms(int(expr) if expr.is_Integer else expr)
    total: Expression = sympy.Integer(max(gcd(*parts.values()), 1) - 1)
    for term, coefficient in parts.items():
        low, high = term_bounds(term) if _never_negative(term) else (None, None)
        bound = low if coefficient > 0 else high
        if bound is None:
            return False
        total += coefficient * bound
    return _positive_coefficients(sympy.expand(total))


def _never_negative(term: Dim) -> bool:
    """True for products of symbols and roundings of sums with positive coefficients."""
    if isinstance(term, int):
        return term >= 0
    arguments = [a.args[0] for a in term.atoms(*_ROUNDING) if not isinstance(a, sympy.Max | sympy.Min)]
    simple = len(arguments) == len(term.atoms(*_ROUNDING)) and not any(a.atoms(*_ROUNDING) for a in arguments)
    positive = not term.is_Add and term.as_coeff_Mul()[0] > 0
    return bool(simple and positive) and all(_positive_coefficients(a) for a in arguments)


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
    worst = _worst_case(expr, atom) if depth < _MAX_ATOMS else None
    if worst is None:
        return False
    rest, stand_in, choices, every = worst
    attempts = (_prove(sympy.expand(rest.subs(stand_in, c)), depth + 1) for c in choices)
    return all(attempts) if every else any(attempts)


def _worst_case(expr: Expression, atom: Expression) -> tuple[Expression, Expression, list[Expression], bool] | None:
    """(expr with a stand-in for the atom, the stand-in, what bounds the atom, whether all of these must be tried).

    None where the atom is no linear term of the expression, or its coefficient may have either sign.
    """
    stand_in = sympy.Dummy("r", integer=True)
    rest = sympy.expand(expr.subs(atom, stand_in))
    coefficient = rest.coeff(stand_in, 1)
    if sympy.expand(rest - coefficient * stand_in).has(stand_in) or coefficient.has(stand_in):
        return None
    if prove_sign(coefficient):
        return rest, stand_in, *_lower(atom)
    if prove_sign(-coefficient):
        return rest, stand_in, *_upper(atom)
    return None


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


def term_bounds(term: Dim) -> tuple[Expression | None, Expression | None]:
    """Polynomials that bound a non-negative term (a product of symbols and roundings) from below and above, if any."""
    low = high = sympy.sympify(term)
    factors = [f for f in sympy.Mul.make_args(low) if f.atoms(*_ROUNDING)]
    if len(factors) > 1 or any(f.is_Pow or f.atoms(sympy.Max, sympy.Min) for f in factors):
        return sympy.Integer(0), None
    for _ in range(_MAX_ATOMS):
        low, high = _without_rounding(low, _lower), _without_rounding(high, _upper)
    polynomial = [b if b.is_polynomial(*b.free_symbols) and not b.atoms(*_ROUNDING) else None for b in (low, high)]
    return (sympy.Integer(0) if polynomial[0] is None else polynomial[0]), polynomial[1]


def _without_rounding(expr: Expression, bound: Callable[[Expression], tuple[list[Expression], bool]]) -> Expression:
    """One outermost floor or ceiling replaced by its bound; all coefficients around it are positive in a term."""
    atoms = sorted(expr.atoms(sympy.floor, sympy.ceiling), key=_nesting, reverse=True)
    return sympy.expand(expr.subs(atoms[0], bound(atoms[0])[0][0])) if atoms else expr


def slack_polynomial(expr: Expression) -> dict[str, Fraction]:
    """A polynomial over `symbol - bound`: {monomial as text: coefficient}, the constant under "1"."""
    shifted = sympy.expand(expr.subs(_slacks(expr), simultaneous=True))
    return {str(m): Fraction(int(c.p), int(c.q)) for m, c in shifted.as_coefficients_dict().items()}


def _slacks(expr: Expression) -> dict[Expression, Expression]:
    return {s: sympy.Symbol(f"{s.name}'", integer=True, nonnegative=True) + lower_bound(s) for s in expr.free_symbols}


def _positive_coefficients(expr: Expression) -> bool:
    shifted = sympy.expand(expr.subs(_slacks(expr), simultaneous=True))
    if shifted.is_number:
        return bool(shifted >= 0)
    try:
        poly = sympy.Poly(shifted, *sorted(shifted.free_symbols, key=str))
    except sympy.PolynomialError:
        return bool(shifted.is_nonnegative)
    return all(c.is_number and c >= 0 for c in poly.coeffs())
