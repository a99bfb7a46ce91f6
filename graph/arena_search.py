"""In which order blocks lie in an arena, so that it is small at several sample lengths at once.

An order is a plan: each block lies at the largest end of those before it that live at the same time. So every order is
valid, at every length, and only its quality is searched for: blocks are first placed one by one, each at the lowest
offset that is free at all samples ("first fit"), then single blocks of the order are moved, by simulated annealing
(Kirkpatrick, Gelatt and Vecchi, 1983) with a fixed seed and a fixed number of moves. Sizes, offsets and ends are
vectors over the samples.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cached_property
from heapq import heapify, heappop, heappush
from math import exp

import numpy as np
import numpy.typing as npt

from .arena_repeats import find_repeats, shortened, units

Ints = npt.NDArray[np.int64]

GOOD, FAIR = 1.001, 1.03  # of the lower bound: where the search ends, and where it ends after half of its rounds
ROUNDS, MOVES = 10, 800  # of annealing at most, and moves in each
TEMPERATURES = (0.15, 0.3, 0.08)  # in parts of the lower bound, when a round starts
WORST, SUM = 3.0, 3.0  # weights of the worst excess, and of the sum over blocks of the mean over samples
FOCUS = 0.7  # share of the moves that take a block from a chain that reaches too high


class Blocks:
    """Blocks sorted by birth, with their first and last step, and their sizes [block, sample] in bytes.

    unit: blocks of the same unit stay side by side in every order.
    """

    def __init__(self, spans: Sequence[tuple[int, int]], sizes: Ints, unit: Sequence[int] | None = None) -> None:
        self.spans, self.sizes = spans, sizes
        self.neighbours = overlaps(spans)
        self.bounds = np.maximum(peaks(spans, sizes), 1)
        names = range(len(spans)) if unit is None else unit
        self.units = sorted(set(names))
        self.unit = np.searchsorted(self.units, np.array(names, np.int64))

    @cached_property
    def members(self) -> list[list[int]]:
        """The blocks of each unit."""
        found: list[list[int]] = [[] for _ in self.units]
        for block, unit in enumerate(self.unit.tolist()):
            found[unit].append(block)
        return found

    def first_fit(self) -> list[list[int]]:
        """Orders of the units by their lowest free offsets when large blocks, or early ones, are placed first."""
        relative = self.sizes / self.bounds
        worst, total = relative.max(axis=1), relative.sum(axis=1)
        first, last = np.array(self.spans).T
        keys = ((first, -worst), (first, -total), (-worst, first), (first, -total * (last - first + 1)))
        return [self._by_offset(self.place(np.lexsort(key))) for key in keys]

    def _by_offset(self, offsets: Ints) -> list[int]:
        heights = (offsets / self.bounds).sum(axis=1)
        return [int(i) for i in np.argsort([heights[m].mean() for m in self.members], kind="stable")]

    def place(self, order: Ints) -> Ints:
        """Offsets [block, sample], each the lowest that is free at all samples when the block's turn comes."""
        offsets, ends = np.zeros_like(self.sizes), np.zeros_like(self.sizes)
        placed = np.zeros(len(order), bool)
        for block in order:
            near = self.neighbours[block]
            near = near[placed[near]]
            offsets[block] = self._lowest(offsets[near], ends[near], self.sizes[block])
            ends[block] = offsets[block] + self.sizes[block]
            placed[block] = True
        return offsets

    def _lowest(self, starts: Ints, ends: Ints, size: Ints) -> Ints:
        """The lowest offset [sample] clear of the ranges [range, sample], each of which lies below it or above it."""
        found = np.vstack([np.zeros_like(size), ends])
        while True:  # an offset that is clear of a range at some samples only moves above it
            below = (found[:, None] >= ends).all(axis=2)
            above = (starts >= (found + size)[:, None]).all(axis=2)
            clash = np.logical_not(below | above).reshape(len(found), -1)
            if not clash.any():
                break
            found = np.maximum(found, np.where(clash[:, :, None], ends, 0).max(axis=1))
        reach = (found + size) / self.bounds
        return np.asarray(found[np.lexsort((reach.sum(axis=1), reach.max(axis=1)))[0]], np.int64)


class Stack:
    """An order of units with the ends of all blocks that follow from it, kept up to date as single units move."""

    def __init__(self, blocks: Blocks, order: list[int]) -> None:
        self.blocks, self.order = blocks, order
        self.position = self._positions()
        self.ends = np.zeros_like(blocks.sizes)
        self._settle(range(len(blocks.spans)))

    def _positions(self) -> Ints:
        """The place of each block in the order; those of one unit lie side by side, the first born first."""
        count = len(self.blocks.spans)
        place = np.empty(len(self.order), np.int64)
        place[self.order] = np.arange(len(self.order))
        return np.asarray(place[self.blocks.unit] * count + np.arange(count), np.int64)

    def cost(self) -> float:
        """What is to be made small: by how much blocks end above the lower bound."""
        excess = np.maximum(self.ends / self.blocks.bounds - 1, 0)
        return float(WORST * excess.max() + SUM * excess.mean(axis=1).sum())

    def ratio(self) -> float:
        """The worst ratio of the arena to the lower bound."""
        return float((self.ends / self.blocks.bounds).max())

    def moved(self, unit: int, target: int) -> Stack:
        """The stack with a unit moved to another position of the order."""
        new = object.__new__(Stack)
        new.blocks, new.order = self.blocks, self.order.copy()
        new.order.insert(target, new.order.pop(new.order.index(unit)))
        new.position, new.ends = new._positions(), self.ends.copy()
        members = self.blocks.members[unit]
        new._settle({*members, *(b for m in members for b in self.blocks.neighbours[m].tolist())})
        return new

    def _settle(self, changed: Sequence[int] | set[int] | range) -> None:
        """Ends anew of blocks that may have changed and of those above them, from the bottom up."""
        position, ends, neighbours, sizes = self.position, self.ends, self.blocks.neighbours, self.blocks.sizes
        waiting = [(int(position[b]), b) for b in changed]
        heapify(waiting)
        done = -1
        while waiting:
            place, block = heappop(waiting)
            if place == done:
                continue
            done = place
            near = neighbours[block]
            places = position[near]
            below = near[places < place]
            end = sizes[block] + ends[below].max(axis=0) if len(below) else sizes[block]
            if (end != ends[block]).any():
                ends[block] = end
                for other, there in zip(near.tolist(), places.tolist(), strict=True):
                    if there > place:
                        heappush(waiting, (there, other))

    def chain(self, rng: random.Random) -> list[int]:
        """Blocks one upon the other, at one sample: from one that ends too high down to the bottom."""
        high = np.argwhere(self.ends > GOOD * self.blocks.bounds)
        block, sample = (int(i) for i in high[rng.randrange(len(high))])
        found = [block]
        while (offset := self.ends[block, sample] - self.blocks.sizes[block, sample]) > 0:
            near = self.blocks.neighbours[block]
            near = near[self.position[near] < self.position[block]]
            under = near[self.ends[near, sample] == offset]
            block = int(under[rng.randrange(len(under))])
            found.append(block)
        return found

    def neighbour(self, rng: random.Random) -> Stack:
        """One unit moved just below or just above another that lives at the same time."""
        chain = self.chain(rng) if rng.random() < FOCUS else range(len(self.blocks.spans))
        block = chain[rng.randrange(len(chain))]
        near = self.blocks.neighbours[block]
        if not len(near):
            return self
        unit, other = (int(self.blocks.unit[b]) for b in (block, near[rng.randrange(len(near))]))
        here, there = self.order.index(unit), self.order.index(other)
        return self.moved(unit, there + rng.randrange(2) - (here < there))


def search_order(spans: Sequence[tuple[int, int]], sizes: Ints) -> list[int]:
    """The best order found of blocks with these first and last steps and sizes [block, sample], from the bottom up."""
    if not spans:
        return []
    rows = sorted(range(len(spans)), key=lambda i: (spans[i], *sizes[i].tolist()))
    spans, sizes = [spans[i] for i in rows], sizes[rows]
    repeats = find_repeats(spans, sizes)
    unit = units(len(spans), repeats)
    kept, short = shortened(spans, repeats)
    few = Blocks(short, sizes[kept], [unit[i] for i in kept])
    starts = sorted((Stack(few, order) for order in few.first_fit()), key=Stack.cost)
    best = _annealed(starts, random.Random(0))
    place = {few.units[u]: i for i, u in enumerate(best.order)}
    return [rows[i] for i in sorted(range(len(spans)), key=lambda i: (place[unit[i]], i))]


def _annealed(starts: list[Stack], rng: random.Random) -> Stack:
    """The best stack met in some rounds; the first begin with one of the starts each, later ones with the best."""
    best, least = starts[0], starts[0].cost()
    for i in range(ROUNDS):
        if best.ratio() <= (GOOD if i < ROUNDS // 2 else FAIR):
            break
        found = _round(starts[i] if i < len(starts) else best, TEMPERATURES[i % len(TEMPERATURES)], rng)
        if (cost := found.cost()) <= least:
            best, least = found, cost
    return best


def _round(stack: Stack, temperature: float, rng: random.Random) -> Stack:
    """The best stack met while units are moved; moves that make it worse become rarer."""
    best, least = stack, stack.cost()
    cost = least
    for i in range(MOVES):
        if stack.ratio() <= GOOD:
            return stack
        moved = stack.neighbour(rng)
        change = moved.cost() - cost
        if change <= 0 or rng.random() < exp(-change / (temperature * (1 - i / MOVES))):
            stack, cost = moved, cost + change
            if cost <= least:
                best, least = stack, cost
    return best


def overlaps(spans: Sequence[tuple[int, int]]) -> list[Ints]:
    """For each block the others that live in one of its steps."""
    first, last = np.array(spans, np.int64).reshape(-1, 2).T
    found: list[Ints] = []
    for i, (start, stop) in enumerate(spans):
        together = (first <= stop) & (last >= start)
        together[i] = False
        found.append(np.flatnonzero(together).astype(np.int64))
    return found


def peaks(spans: Sequence[tuple[int, int]], sizes: Ints) -> Ints:
    """The largest sum of sizes alive in one step, at each sample."""
    steps = np.zeros((max((last for _, last in spans), default=0) + 2, sizes.shape[1]), np.int64)
    for (first, last), size in zip(spans, sizes, strict=True):
        steps[first] += size
        steps[last + 1] -= size
    return np.asarray(steps.cumsum(axis=0).max(axis=0), np.int64)
