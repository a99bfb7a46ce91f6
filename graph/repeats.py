"""The longest repetition in a list: a model's layers, among its nodes or its blocks of memory."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Repetition:
    """Items `start` to `start + length` repeat after `period` items; the last period may be cut short."""

    start: int
    length: int
    period: int

    @property
    def count(self) -> int:
        """Whole periods."""
        return self.length // self.period


def longest_repetition(items: Sequence[Hashable], least: int) -> Repetition | None:
    """The longest run that repeats at least `least` times; of about the longest, that of shortest period."""
    numbers: dict[Hashable, int] = {}
    signs = np.array([numbers.setdefault(item, len(numbers)) for item in items], np.int64)
    best: Repetition | None = None
    for period in range(1, len(items) // least + 1):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], signs[period:] == signs[:-period], [0]]).astype(np.int64)))
        for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            length = stop - start + period
            if length >= least * period and (best is None or length > best.length + period):
                best = Repetition(start, length, period)
    return best
