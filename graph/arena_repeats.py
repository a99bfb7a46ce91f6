"""Repeated layers in a list of lifetimes, so that a long model is planned like a short one.

Blocks in the order of their births look alike, layer after layer: same sizes, same lifetimes, same distances in time.
What was found for a few layers then holds for all: blocks at the same place of every second layer form one *unit* that
is ordered as a whole (every second, because what one layer hands to the next alternates between two places).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .repeats import longest_repetition

Ints = npt.NDArray[np.int64]

KEPT = 4  # periods that a shortened list keeps at least; an even number of them is left out


@dataclass(frozen=True)
class Repeats:
    """Blocks `start` to `start + length` (sorted by birth) repeat after `period` blocks, which take `steps` steps."""

    start: int
    length: int
    period: int
    steps: int


def find_repeats(spans: Sequence[tuple[int, int]], sizes: Ints) -> Repeats | None:
    """The longest repetition among blocks sorted by birth, of at least KEPT + 2 periods."""
    births = [first for first, _ in spans]
    marks = [
        (first - before, last - first, *size)
        for (first, last), before, size in zip(spans, [births[0], *births[:-1]], sizes.tolist(), strict=True)
    ]
    found = longest_repetition(marks, KEPT + 2)
    if found is None:
        return None
    steps = births[found.start + found.period] - births[found.start]
    return Repeats(found.start, found.length, found.period, steps)


def units(count: int, repeats: Repeats | None) -> list[int]:
    """For each block the number of its unit: its place in every second period, or a unit of its own."""
    if repeats is None:
        return list(range(count))
    inside = range(repeats.start, repeats.start + repeats.length)
    return [repeats.start + (i - repeats.start) % (2 * repeats.period) if i in inside else i for i in range(count)]


def shortened(spans: Sequence[tuple[int, int]], repeats: Repeats | None) -> tuple[list[int], list[tuple[int, int]]]:
    """The blocks of a list without most of its periods, and their lifetimes without those periods' steps."""
    if repeats is None:
        return list(range(len(spans))), list(spans)
    gone = (repeats.length // repeats.period - KEPT) // 2 * 2
    first = repeats.start + KEPT // 2 * repeats.period
    cut = spans[first][0]
    steps = gone * repeats.steps

    def moved(step: int) -> int:
        return step if step < cut else max(step - steps, cut)

    kept = [i for i in range(len(spans)) if not first <= i < first + gone * repeats.period]
    # A block born before the cut keeps its length if it dies within a period of it, and shrinks if it lives on.
    near = cut + repeats.steps
    return kept, [
        (moved(a), b if a < cut and b < near else max(moved(b), moved(a))) for a, b in (spans[i] for i in kept)
    ]
