"""Sizes and offsets as integer vectors, so that a memory plan can compare many of them without sympy.

All sizes of a plan are sums of a few terms (T, B*T, B*ceil(T/16), ...). Over these terms a size is a vector of integer
coefficients, an offset is the largest of a few vectors (an `Extent`), and "at least, for every length" is the proof of
`proof.py` done once per term: each term is bounded from below and above by a polynomial over slacks `symbol - bound`,
and a difference is non-negative when the bound of the whole has no negative coefficient. Extents are interned: equal
ones are the same object, and what was computed of them is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from math import gcd

from .proof import slack_polynomial, term_bounds
from .shape import Dim, Expression, add, evaluate, is_non_negative, largest_of, multiply, terms

Vector = tuple[int, ...]
_Bound = dict[str, Fraction] | None  # a polynomial over slacks by monomial, the constant under "1"; None: no bound

MAX_ALTERNATIVES = 16  # an extent of more vectors is rounded up to a single one


class Extent:
    """The largest of some vectors; made by `Extents` only, compared by identity."""

    __slots__ = ("vectors",)

    def __init__(self, vectors: tuple[Vector, ...]) -> None:
        self.vectors = vectors


class Extents:
    """Arithmetic over the terms of the given sizes."""

    def __init__(self, sizes: Iterable[Dim]) -> None:
        split = {size: _terms(size) for size in set(sizes)}
        self.terms: list[Dim] = sorted({t for parts in split.values() for t in parts}, key=str)
        self._sizes = {size: tuple(parts.get(t, 0) for t in self.terms) for size, parts in split.items()}
        bounds = [term_bounds(term) for term in self.terms]
        self._lower, self._upper = ([_polynomial(b[side]) for b in bounds] for side in (0, 1))
        self._interned: dict[tuple[Vector, ...], Extent] = {}
        self._differences: dict[Vector, bool] = {}
        self._order: dict[tuple[Extent, Extent], bool] = {}
        self._sums: dict[tuple[Extent, Dim], Extent] = {}
        self.zero = self._extent([(0,) * len(self.terms)])

    def _extent(self, vectors: Iterable[Vector]) -> Extent:
        key = tuple(sorted(vectors))
        if key not in self._interned:
            self._interned[key] = Extent(key)
        return self._interned[key]

    def after(self, offset: Extent, size: Dim) -> Extent:
        """offset + size."""
        key = (offset, size)
        if key not in self._sums:
            more = self._sizes[size]
            self._sums[key] = self._extent(tuple(map(int.__add__, v, more)) for v in offset.vectors)
        return self._sums[key]

    def largest(self, a: Extent, b: Extent) -> Extent:
        """The larger of two at every length."""
        if self.at_least(a, b):
            return a
        kept: list[Vector] = []
        for v in sorted({*a.vectors, *b.vectors}, reverse=True):
            if not any(self._vector_at_least(k, v) for k in kept):
                kept = [*(k for k in kept if not self._vector_at_least(v, k)), v]
        if len(kept) > MAX_ALTERNATIVES:  # terms are not negative, so the larger coefficients are an upper bound
            kept = [tuple(max(column) for column in zip(*kept, strict=True))]
        return self._extent(kept)

    def at_least(self, a: Extent, b: Extent) -> bool:
        """True when a >= b is proved for every length."""
        if a is b:
            return True
        key = (a, b)
        if key not in self._order:
            self._order[key] = all(any(self._vector_at_least(x, y) for x in a.vectors) for y in b.vectors)
        return self._order[key]

    def _vector_at_least(self, a: Vector, b: Vector) -> bool:
        difference = tuple(map(int.__sub__, a, b))
        if difference not in self._differences:
            self._differences[difference] = min(difference) >= 0 or self._prove(difference)
        return self._differences[difference]

    def _prove(self, difference: Vector) -> bool:
        total = {"1": Fraction(max(gcd(*difference), 1) - 1)}
        for i, coefficient in enumerate(difference):
            if not coefficient:
                continue
            bound = self._lower[i] if coefficient > 0 else self._upper[i]
            if bound is None:
                return False
            for monomial, value in bound.items():
                total[monomial] = total.get(monomial, Fraction(0)) + coefficient * value
        return all(value >= 0 for value in total.values())

    def dim(self, extent: Extent) -> Dim:
        """The extent as an expression."""
        sums: list[Dim] = []
        for vector in extent.vectors:
            total: Dim = 0
            for term, coefficient in zip(self.terms, vector, strict=True):
                total = add(total, multiply(coefficient, term)) if coefficient else total
            sums.append(total)
        return largest_of(sums)

    def term_values(self, lengths: Mapping[str, int]) -> Vector:
        """The value of every term at given lengths, for `number`."""
        return tuple(evaluate(t, lengths) for t in self.terms)

    def number(self, extent: Extent, values: Vector) -> int:
        """The extent at the lengths that `values` were made for."""
        return max(sum(map(int.__mul__, vector, values)) for vector in extent.vectors)


def _terms(size: Dim) -> dict[Dim, int]:
    """The terms of a size, each provably not negative; a size that has others counts as one term."""
    parts = terms(size)
    return parts if all(is_non_negative(t) for t in parts) else {size: 1}


def _polynomial(bound: Expression | None) -> _Bound:
    return None if bound is None else slack_polynomial(bound)
