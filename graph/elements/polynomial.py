"""Polynomials over index variables, symbols of the graph and elements of other tensors: exact, immutable, hashable.

Index arithmetic needs few terms and many operations, so this is plain dictionaries where sympy would be too slow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tlite_vk.graph.shape import Dim, is_non_negative, lower_bound, multiply, simplify

Number = int | float


@dataclass(frozen=True, eq=False, slots=True)
class Atom:
    """What a polynomial is made of, compared by identity: `Atoms` makes each once.

    key: what it stands for: ("index", name), ("symbol", sympy symbol), ("element", value, index), ("floor", p, n),
    ("cos", p) or ("sin", p). extent: its values lie in [0, extent), where that is known.
    """

    key: tuple[Any, ...]
    number: int
    extent: Dim | None = None

    @property
    def kind(self) -> str:
        return str(self.key[0])

    @property
    def least(self) -> int | None:
        """A bound from below, where one is known."""
        return lower_bound(self.key[1]) if self.kind == "symbol" else 0 if self.extent is not None else None

    def __repr__(self) -> str:
        if self.kind == "element":
            return f"{self.key[1].name}[{', '.join(map(str, self.key[2]))}]"
        if self.kind == "floor":
            return f"({self.key[1]})//{self.key[2]}"
        return f"{self.kind}({self.key[1]})" if self.kind in ("cos", "sin") else str(self.key[1])


Monomial = tuple[Atom, ...]  # sorted by number


class Polynomial:
    """A sum of monomials with coefficients."""

    __slots__ = ("__dict__", "terms")

    def __init__(self, terms: Mapping[Monomial, Number]):
        self.terms: dict[Monomial, Number] = {m: c for m, c in terms.items() if c != 0}

    @cached_property
    def frozen(self) -> frozenset[tuple[Monomial, Number]]:
        return frozenset(self.terms.items())

    def __hash__(self) -> int:
        return hash(self.frozen)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Polynomial) and self.terms == other.terms

    def __add__(self, other: Polynomial) -> Polynomial:
        terms = dict(self.terms)
        for m, c in other.terms.items():
            terms[m] = terms.get(m, 0) + c
        return Polynomial(terms)

    def __neg__(self) -> Polynomial:
        return self.scaled(-1)

    def __sub__(self, other: Polynomial) -> Polynomial:
        return self + -other

    def __mul__(self, other: Polynomial) -> Polynomial:
        terms: dict[Monomial, Number] = {}
        for m, c in self.terms.items():
            for n, d in other.terms.items():
                both = n if not m else m if not n else tuple(sorted(m + n, key=_number))
                terms[both] = terms.get(both, 0) + c * d
        return Polynomial(terms)

    def scaled(self, factor: Number) -> Polynomial:
        return Polynomial({m: c * factor for m, c in self.terms.items()})

    @property
    def constant(self) -> Number | None:
        """The number it is, where it is one."""
        if not self.terms:
            return 0
        return self.terms.get(()) if len(self.terms) == 1 else None

    @property
    def atom(self) -> Atom | None:
        """The atom it is, where it is one alone."""
        if len(self.terms) != 1:
            return None
        ((monomial, coefficient),) = self.terms.items()
        return monomial[0] if len(monomial) == 1 and coefficient == 1 else None

    def atoms(self) -> set[Atom]:
        return {a for m in self.terms for a in m}

    def __repr__(self) -> str:
        parts = ["*".join([*([str(c)] if c != 1 or not m else []), *map(str, m)]) for m, c in self.terms.items()]
        return " + ".join(parts) or "0"


def _number(atom: Atom) -> int:
    return atom.number


ZERO, ONE = Polynomial({}), Polynomial({(): 1})


def number(value: Number) -> Polynomial:
    return Polynomial({(): value})


def of(atom: Atom) -> Polynomial:
    return Polynomial({(atom,): 1})


def total(parts: Iterable[Polynomial]) -> Polynomial:
    result = ZERO
    for part in parts:
        result = result + part
    return result


class Atoms:
    """Makes atoms, each once, and turns dimensions into polynomials."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], Atom] = {}
        self._dims: dict[Dim, Polynomial] = {}

    def atom(self, *key: Any, extent: Dim | None = None) -> Atom:
        if key not in self._known:
            self._known[key] = Atom(key, len(self._known), extent)
        return self._known[key]

    def index(self, name: str, extent: Dim) -> Polynomial:
        """An index that runs over [0, extent)."""
        return ZERO if extent == 1 else of(self.atom("index", name, extent, extent=extent))

    def dim(self, dim: Dim) -> Polynomial:
        """A dimension as a polynomial of its symbols; what is none becomes one symbol."""
        if isinstance(dim, int):
            return number(dim)
        if dim not in self._dims:
            self._dims[dim] = self._convert(dim)
        return self._dims[dim]

    def _convert(self, dim: Any) -> Polynomial:
        terms: dict[Monomial, Number] = {}
        for term, coefficient in dim.as_coefficients_dict().items():
            powers = term.as_powers_dict()
            if not coefficient.is_Integer or not all(b.is_Symbol and e.is_Integer and e > 0 for b, e in powers.items()):
                if term != 1:
                    return of(self.atom("symbol", dim))
                powers = {}
            atoms = [self.atom("symbol", b) for b, e in powers.items() for _ in range(int(e))]
            terms[tuple(sorted(atoms, key=_number))] = int(coefficient)
        return Polynomial(terms)

    def divide(self, p: Polynomial, n: Dim) -> tuple[Polynomial, Polynomial]:
        """(quotient, remainder) of an index by an extent; what cannot be decided becomes a "floor" atom."""
        if n == 1 or p == ZERO:
            return p, ZERO
        divisor = self.dim(n)
        quotient, rest = ZERO, ZERO
        for atom, factor in _by_index(p):
            exact = _exact(factor, divisor)
            part = of(atom) if atom is not None else ONE
            constant = factor.constant
            if atom is None and isinstance(n, int) and isinstance(constant, int):
                exact, factor = None, number(constant % n)
                quotient = quotient + number(constant // n)
            if exact is None:
                rest = rest + factor * part
            else:
                quotient = quotient + exact * part
        if within(rest, divisor, self):
            return quotient, rest
        floor = of(self.atom("floor", rest, n, extent=_floor_extent(rest, n, self)))
        return quotient + floor, rest - divisor * floor


def _by_index(p: Polynomial) -> list[tuple[Atom | None, Polynomial]]:
    """The polynomial as a sum over its indices: (index or None, factor without it)."""
    parts: dict[Atom | None, dict[Monomial, Number]] = {}
    for monomial, coefficient in p.terms.items():
        atom = next((a for a in monomial if a.kind != "symbol"), None)
        rest = list(monomial)
        if atom is not None:
            rest.remove(atom)
        parts.setdefault(atom, {})[tuple(rest)] = coefficient
    return [(atom, Polynomial(terms)) for atom, terms in parts.items()]


def _exact(p: Polynomial, divisor: Polynomial) -> Polynomial | None:
    """p / divisor where that is a polynomial with integer coefficients: long division by the leading monomials."""
    lead = max(divisor.terms, key=_degree)
    quotient, rest = ZERO, p
    while rest.terms:
        top = max(rest.terms, key=_degree)
        left = list(top)
        for atom in lead:
            if atom not in left:
                return None
            left.remove(atom)
        ratio = rest.terms[top] / divisor.terms[lead]
        if ratio != int(ratio) or len(quotient.terms) > 8:
            return None
        step = Polynomial({tuple(left): int(ratio)})
        quotient, rest = quotient + step, rest - step * divisor
    return quotient


def _degree(monomial: Monomial) -> tuple[int, tuple[int, ...]]:
    return len(monomial), tuple(a.number for a in monomial)


def upper(p: Polynomial, atoms: Atoms) -> Polynomial | None:
    """A bound from above over all indices, as a polynomial of symbols."""
    bound = ZERO
    for monomial, coefficient in p.terms.items():
        indices = [a for a in monomial if a.kind != "symbol"]
        if coefficient < 0 and indices:
            if any(a.least is None for a in indices):
                return None
            continue  # at most 0
        part = number(coefficient)
        for a in monomial:
            if a.kind != "symbol" and a.extent is None:
                return None
            part = part * (of(a) if a.kind == "symbol" else atoms.dim(a.extent) - ONE)
        bound = bound + part
    return bound


def lower(p: Polynomial, atoms: Atoms) -> Polynomial | None:
    """A bound from below over all indices."""
    negated = upper(-p, atoms)
    return None if negated is None else -negated


def never_negative(p: Polynomial, atoms: Atoms) -> bool:
    """True where p >= 0 is proved for all indices and all lengths."""
    least = lower(p, atoms)
    if least is None or any(a.kind != "symbol" for a in least.atoms()):
        return False
    return is_non_negative(to_dim(least))


def within(p: Polynomial, extent: Polynomial, atoms: Atoms) -> bool:
    """True where 0 <= p < extent is proved."""
    return never_negative(p, atoms) and never_negative(extent - ONE - p, atoms)


def to_dim(p: Polynomial) -> Dim:
    """A polynomial of symbols as a dimension."""
    result: Dim = 0
    for monomial, coefficient in p.terms.items():
        part: Dim = int(coefficient)
        for a in monomial:
            part = multiply(part, a.key[1])
        result = result + part
    return simplify(result)


def _floor_extent(p: Polynomial, n: Dim, atoms: Atoms) -> Dim | None:
    top = upper(p, atoms)
    if top is None or not never_negative(p, atoms):
        return None
    most = top.constant
    return int(most) // n + 1 if isinstance(most, int) and isinstance(n, int) else None
