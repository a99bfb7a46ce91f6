"""Boolean formulas over polynomials, and numbers that depend on one: what masks are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .polynomial import ONE, Atom, Polynomial, number


@dataclass(frozen=True)
class Formula:
    """kind "all" or "any": `parts` are formulas (none: true, false). "not": one formula. "at_least_0": a polynomial of
    integers. "nonzero": an atom."""

    kind: str
    parts: frozenset[Any]

    @property
    def part(self) -> Any:
        (one,) = self.parts
        return one

    def __repr__(self) -> str:
        if self.kind == "at_least_0":
            return f"{self.part} >= 0"
        if self.kind in ("not", "nonzero"):
            return f"{self.kind}({self.part})"
        return f"{self.kind}({', '.join(sorted(map(str, self.parts)))})"


TRUE, FALSE = Formula("all", frozenset()), Formula("any", frozenset())


def at_least_0(p: Polynomial) -> Formula:
    constant = p.constant
    if constant is not None:
        return TRUE if constant >= 0 else FALSE
    return Formula("at_least_0", frozenset([p]))


def nonzero(atom: Atom) -> Formula:
    return Formula("nonzero", frozenset([atom]))


def both(*formulas: Formula) -> Formula:
    return _joined("all", FALSE, formulas)


def either(*formulas: Formula) -> Formula:
    return _joined("any", TRUE, formulas)


def _joined(kind: str, decided: Formula, formulas: tuple[Formula, ...]) -> Formula:
    parts: set[Formula] = set()
    for f in formulas:
        if f == decided:
            return decided
        parts |= f.parts if f.kind == kind else {f}
    if any(negated(f) in parts for f in parts):
        return decided
    return next(iter(parts)) if len(parts) == 1 else Formula(kind, frozenset(parts))


def negated(f: Formula) -> Formula:
    if f.kind == "not":
        return f.part  # type: ignore[no-any-return]
    if f.kind == "at_least_0":
        return at_least_0(-f.part - ONE)
    if f.kind in ("all", "any"):
        return Formula("any" if f.kind == "all" else "all", frozenset(negated(p) for p in f.parts))
    return Formula("not", frozenset([f]))


@dataclass(frozen=True)
class Select:
    """`yes` where the condition holds, else `no`."""

    condition: Formula
    yes: Element
    no: Element


Element = Polynomial | Formula | Select


def select(condition: Formula, yes: Element, no: Element) -> Element:
    if condition == TRUE or yes == no:
        return yes
    if condition == FALSE:
        return no
    if isinstance(yes, Formula) and isinstance(no, Formula):
        return either(both(condition, yes), both(negated(condition), no))
    return Select(condition, yes, no)


def each(element: Element, f: Callable[[Polynomial], Element]) -> Element:
    """f of a number, in both branches of what depends on a condition."""
    if isinstance(element, Select):
        return select(element.condition, each(element.yes, f), each(element.no, f))
    if isinstance(element, Formula):
        return each(as_number(element), f)
    return f(element)


def pairwise(a: Element, b: Element, f: Callable[[Polynomial, Polynomial], Element]) -> Element:
    return each(a, lambda x: each(b, lambda y: f(x, y)))


def as_number(element: Element) -> Element:
    """A truth value as 1 or 0."""
    return select(element, ONE, number(0)) if isinstance(element, Formula) else element


def as_formula(element: Element) -> Formula:
    """Whether a number is not 0."""
    if isinstance(element, Formula):
        return element
    if isinstance(element, Select):
        yes, no = as_formula(element.yes), as_formula(element.no)
        return either(both(element.condition, yes), both(negated(element.condition), no))
    if element.constant is not None:
        return TRUE if element.constant != 0 else FALSE
    atom = element.atom
    if atom is not None:
        return nonzero(atom)
    return negated(both(at_least_0(element), at_least_0(-element)))


def atoms_of(element: Element) -> set[Atom]:
    """All atoms in an expression."""
    if isinstance(element, Polynomial):
        return element.atoms()
    if isinstance(element, Select):
        return atoms_of(element.condition) | atoms_of(element.yes) | atoms_of(element.no)
    if element.kind == "nonzero":
        return {element.part}
    return {a for part in element.parts for a in atoms_of(part)}


def holds_at(formula: Formula, value: int) -> bool:
    """Whether a formula is true where every atom in it has this value."""
    if formula.kind == "all":
        return all(holds_at(part, value) for part in formula.parts)
    if formula.kind == "any":
        return any(holds_at(part, value) for part in formula.parts)
    if formula.kind == "not":
        return not holds_at(formula.part, value)
    if formula.kind == "nonzero":
        return value != 0
    return bool(sum(c * value ** len(m) for m, c in formula.part.terms.items()) >= 0)
