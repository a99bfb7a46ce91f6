"""One arena for all activations, planned once for all lengths: lifetimes to offsets that are expressions.

A plan is an order of the blocks from the bottom of the arena to its top, the same at every length: a block's offset is
the largest end of those before it that live at the same time. So no two that live together overlap, whatever the values
of the symbols, and no check is needed at run time; only how small the arena is depends on the order, which is searched
for at sample lengths (`arena_search.py`). A block may also take over the place of one that dies when it is born, where
the caller says that this is safe and the sizes are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from .arena_search import overlaps, search_order
from .errors import GraphError
from .extent import Extent, Extents
from .shape import (
    Dim,
    add,
    at_least,
    ceil_div,
    equal,
    evaluate,
    is_non_negative,
    lower_bound,
    multiply,
    simplify,
    symbols,
)

LENGTHS = (8, 64, 512)  # at which orders are compared, besides the shortest; no proof rests on them
MAX_COMBINED = 3  # symbols of which every combination of long and short ones is looked at


@dataclass(frozen=True)
class Lifetime:
    """A value that needs storage: `size` bytes, from step `first` to step `last` inclusive.

    in_place: names of values whose storage this one may take over if they die at `first` and have the same size.
    """

    name: str
    size: Dim
    first: int
    last: int
    in_place: tuple[str, ...] = ()


@dataclass(frozen=True)
class MemoryPlan:
    """Offsets and sizes in bytes, as expressions, of every value in one arena of `total` bytes."""

    lifetimes: tuple[Lifetime, ...]
    offsets: dict[str, Dim]
    sizes: dict[str, Dim]
    total: Dim

    def lower_bound(self, values: Mapping[str, int]) -> int:
        """The largest sum of bytes alive in one step: no plan can do with less (in-place sharing counted once)."""
        blocks = _blocks(self.lifetimes, self.sizes)
        numbers = {d: evaluate(d, values) for d in {b.size for b in blocks}}
        return _peak((b.first, b.last, numbers[b.size]) for b in blocks)

    def without_reuse(self, values: Mapping[str, int]) -> int:
        """The sum of all sizes: what a plan without any sharing takes."""
        return sum(evaluate(size, values) for size in self.sizes.values())

    def bytes(self, values: Mapping[str, int]) -> int:
        """The size of the arena."""
        return evaluate(self.total, values)

    def verify(self) -> None:
        """Raise GraphError unless values alive together are provably apart, and all lie inside of the arena."""
        blocks = _blocks(self.lifetimes, self.sizes)
        for i, a in enumerate(blocks):
            start, end = self.offsets[a.names[0]], add(self.offsets[a.names[0]], a.size)
            if not (is_non_negative(start) and at_least(self.total, end)):
                raise GraphError(f"memory plan: {a.names[0]} lies outside of the arena")
            for b in blocks[:i]:
                if not (b.first > a.last or a.first > b.last):
                    other = self.offsets[b.names[0]]
                    if not (at_least(start, add(other, b.size)) or at_least(other, end)):
                        raise GraphError(f"memory plan: {a.names[0]} and {b.names[0]} overlap")


@dataclass(eq=False)
class _Block:
    """Values that share one place by in-place reuse: their common lifetime."""

    names: list[str]
    size: Dim
    first: int
    last: int


def plan_memory(lifetimes: Sequence[Lifetime], *, alignment: int) -> MemoryPlan:
    """Offsets, multiples of `alignment` bytes, such that values alive in one step never overlap, at any length."""
    names = [v.name for v in lifetimes]
    if len(set(names)) != len(names) or any(v.last < v.first for v in lifetimes):
        raise GraphError("memory plan: a value is listed twice, or dies before it is born")
    sizes = {v.name: _aligned(v, alignment) for v in lifetimes}
    blocks = _blocks(lifetimes, sizes)
    if not blocks:
        return MemoryPlan((), {}, {}, 0)
    samples = _samples({b.size for b in blocks})
    numbers = {d: [evaluate(d, s) for s in samples] for d in {b.size for b in blocks}}
    spans = [(b.first, b.last) for b in blocks]
    order = search_order(spans, np.array([numbers[b.size] for b in blocks], np.int64))
    offsets, total = _stacked(blocks, order)
    return MemoryPlan(tuple(lifetimes), {n: offsets[i] for i, b in enumerate(blocks) for n in b.names}, sizes, total)


def _stacked(blocks: Sequence[_Block], order: Sequence[int]) -> tuple[list[Dim], Dim]:
    """The offset of each block above all that live with it and come before it in the order; the size of the arena."""
    extents = Extents(b.size for b in blocks)
    neighbours = overlaps([(b.first, b.last) for b in blocks])
    ends: dict[int, Extent] = {}
    offsets: dict[int, Extent] = {}
    total = extents.zero
    for i in order:
        offset = extents.zero
        for j in neighbours[i].tolist():
            if j in ends:
                offset = extents.largest(offset, ends[j])
        offsets[i], ends[i] = offset, extents.after(offset, blocks[i].size)
        total = extents.largest(total, ends[i])
    where = {extent: extents.dim(extent) for extent in {*offsets.values(), total}}
    return [where[offsets[i]] for i in range(len(blocks))], where[total]


def _aligned(value: Lifetime, alignment: int) -> Dim:
    """The size rounded up to the alignment, unless it is a multiple by its form."""
    size = simplify(value.size)
    if not is_non_negative(size):
        raise GraphError(f"memory plan: the size of {value.name.removeprefix('arena:')!r}, {size}, may be negative")
    if isinstance(size, int):
        return -(-size // alignment) * alignment
    if all(c.is_Integer and int(c) % alignment == 0 for c in size.as_coefficients_dict().values()):
        return size
    return multiply(ceil_div(size, alignment), alignment)


def _blocks(lifetimes: Sequence[Lifetime], sizes: Mapping[str, Dim]) -> list[_Block]:
    """The lifetimes, those merged that may share a place one after the other."""
    blocks: dict[str, _Block] = {}
    for value in sorted(lifetimes, key=lambda v: v.first):
        size = sizes[value.name]
        for donor in (blocks.get(name) for name in value.in_place):
            if donor is not None and donor.last == value.first and equal(donor.size, size):
                donor.names.append(value.name)
                donor.last = value.last
                blocks[value.name] = donor
                break
        else:
            blocks[value.name] = _Block([value.name], size, value.first, value.last)
    return list(dict.fromkeys(blocks.values()))


def _samples(sizes: set[Dim]) -> list[dict[str, int]]:
    """Lengths to compare at: every choice of symbols that are long (each of some lengths) while the others are short;
    of many symbols, each alone and all of them."""
    bounds = {s.name: lower_bound(s) for d in sizes for s in symbols(d)}
    names = sorted(bounds)
    counts = range(1, len(names) + 1) if len(names) <= MAX_COMBINED else {1, len(names)} - {0}
    chosen = [c for n in counts for c in combinations(names, n)]
    return [bounds] + [{**bounds, **dict.fromkeys(c, n)} for c in chosen for n in LENGTHS]


def _peak(spans: Iterable[tuple[int, int, int]]) -> int:
    """The largest sum of sizes alive in one step, of (first, last, size)."""
    events: dict[int, int] = {}
    for first, last, size in spans:
        events[first] = events.get(first, 0) + size
        events[last + 1] = events.get(last + 1, 0) - size
    alive = most = 0
    for step in sorted(events):
        alive += events[step]
        most = max(most, alive)
    return most
