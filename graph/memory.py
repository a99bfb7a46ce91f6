"""One arena for all activations, planned once for all lengths: lifetimes to offsets that are expressions.

Blocks are placed in an order, each at the lowest offset where it provably overlaps no block that lives at the same
time; "provably" means for every value of the symbols, so the plan needs no check at run time. Several orders are tried
and the one with the smallest arena at sample lengths is kept. A block may also take over the place of one that dies
when it is born, where the caller says that this is safe and the sizes are the same.

Placing big blocks first is a known heuristic for offset allocation (Pisarchyk and Lee, arXiv 2001.03288, "greedy by
size"); symbolic sizes and the proofs are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .errors import GraphError
from .extent import Extent, Extents
from .shape import Dim, add, at_least, ceil_div, equal, evaluate, is_non_negative, multiply, simplify, symbols

SAMPLES = (512, 64, 1)  # lengths at which candidate plans are compared; no proof rests on them
SHORT, LONG = 64, 2048
MAX_TRIES = 64  # placements tried to improve a plan of up to 200 blocks; fewer for larger ones
MAX_MOVES = 8
GOOD_ENOUGH = 1.01


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


@dataclass(frozen=True)
class _Placement:
    offsets: dict[_Block, Extent]
    total: Extent
    ratios: tuple[float, ...]  # of the arena to the lower bound, at each sample

    @property
    def excess(self) -> tuple[float, float]:
        """What is to be made small: the worst ratio, then their sum."""
        return max(self.ratios), sum(self.ratios)


def plan_memory(lifetimes: Sequence[Lifetime], *, alignment: int) -> MemoryPlan:
    """Offsets, multiples of `alignment` bytes, such that values alive in one step never overlap, at any length."""
    names = [v.name for v in lifetimes]
    if len(set(names)) != len(names) or any(v.last < v.first for v in lifetimes):
        raise GraphError("memory plan: a value is listed twice, or dies before it is born")
    sizes = {v.name: _aligned(v.size, alignment) for v in lifetimes}
    blocks = _blocks(lifetimes, sizes)
    if not blocks:
        return MemoryPlan((), {}, {}, 0)
    search = _Search(blocks)
    best = search.best()
    where = {extent: search.extents.dim(extent) for extent in {*best.offsets.values(), best.total}}
    offsets = {name: where[best.offsets[b]] for b in blocks for name in b.names}
    return MemoryPlan(tuple(lifetimes), offsets, sizes, where[best.total])


def _aligned(size: Dim, alignment: int) -> Dim:
    """The size rounded up to the alignment, unless it is a multiple by its form."""
    size = simplify(size)
    if not is_non_negative(size):
        raise GraphError(f"memory plan: a size of {size} may be negative")
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


class _Search:
    """Tries orders of placement and keeps the one whose arena is nearest to the lower bound at sample lengths."""

    def __init__(self, blocks: Sequence[_Block]) -> None:
        self.blocks = list(blocks)
        self.extents = Extents(b.size for b in blocks)
        samples = _samples({b.size for b in blocks})
        self.values = [self.extents.term_values(s) for s in samples]
        self.sizes = {d: [evaluate(d, s) for s in samples] for d in {b.size for b in blocks}}
        self.bounds = [_peak((b.first, b.last, self.sizes[b.size][i]) for b in blocks) for i in range(len(samples))]

    def best(self) -> _Placement:
        """The best placement found; stops early at the lower bound."""
        orders: list[Callable[[_Block], tuple[int, ...]]] = [
            lambda b: (*(-n for n in self.sizes[b.size]), b.first),
            lambda b: (b.first, *(-n for n in self.sizes[b.size])),
            lambda b: (-self.sizes[b.size][0] * (b.last - b.first + 1), b.first),
        ]
        candidates = [sorted(self.blocks, key=key) for key in orders]
        best, order = self.place(candidates[0]), candidates[0]
        for candidate in candidates[1:]:
            if best.excess[0] > 1.0 and (placement := self.place(candidate)).excess < best.excess:
                best, order = placement, candidate
        return self.improved(best, order)

    def improved(self, best: _Placement, order: list[_Block]) -> _Placement:
        """Move a block that reaches far up to the front of the order, as long as that helps."""
        tries = MAX_TRIES * 200 // max(len(order), 200)
        while tries > 0 and best.excess[0] > GOOD_ENOUGH:
            values = self.values[best.ratios.index(best.excess[0])]
            ends = {b: self.extents.number(self.extents.after(e, b.size), values) for b, e in best.offsets.items()}
            for block in sorted(order, key=lambda b: -ends[b])[:MAX_MOVES]:
                tries -= 1
                moved = [block, *(b for b in order if b is not block)]
                placement = self.place(moved)
                if placement.excess < best.excess:
                    best, order = placement, moved
                    break
            else:
                break
        return best

    def place(self, blocks: Sequence[_Block]) -> _Placement:
        """Offsets in the order given, each the lowest that works, and the size of the arena."""
        offsets: dict[_Block, Extent] = {}
        total = self.extents.zero
        alive: dict[int, list[tuple[Extent, Extent]]] = {}
        for block in blocks:
            steps = range(block.first, block.last + 1)
            taken = {span for step in steps for span in alive.get(step, ())}
            offset = self.lowest(taken, block.size)
            end = self.extents.after(offset, block.size)
            for step in steps:
                alive.setdefault(step, []).append((offset, end))
            offsets[block] = offset
            total = self.extents.largest(total, end)
        ratios = (self.extents.number(total, v) / max(b, 1) for v, b in zip(self.values, self.bounds, strict=True))
        return _Placement(offsets, total, tuple(ratios))

    def lowest(self, taken: set[tuple[Extent, Extent]], size: Dim) -> Extent:
        """The lowest offset at which `size` bytes are provably clear of all taken ranges."""
        at_least = self.extents.at_least
        for candidate in sorted({self.extents.zero, *(end for _, end in taken)}, key=self.rank):
            end = self.extents.after(candidate, size)
            if all(at_least(candidate, stop) or at_least(start, end) for start, stop in taken):
                return candidate
        above = self.extents.zero
        for _, end in taken:
            above = self.extents.largest(above, end)
        return above

    def rank(self, extent: Extent) -> tuple[int, ...]:
        return tuple(self.extents.number(extent, v) for v in self.values[:2])


def _samples(sizes: set[Dim]) -> list[dict[str, int]]:
    """Lengths to compare at: all alike, and each of them long beside short others."""
    names = sorted({s.name for d in sizes for s in symbols(d)})
    alike = [dict.fromkeys(names, n) for n in SAMPLES]
    return alike + ([{**dict.fromkeys(names, SHORT), n: LONG} for n in names] if len(names) > 1 else [])


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
