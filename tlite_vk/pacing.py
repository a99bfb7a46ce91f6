"""How long a submission may last, and where a step is cut so that none lasts longer: a screen stays smooth meanwhile,
and no watchdog resets the driver.

What a dispatch takes is its work, counted in workgroups, times what a workgroup of its kernel took when measured. One
of which nothing is known yet is submitted alone. Pure arithmetic: no device is needed.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .expression import evaluate
from .program import Dispatch

HEADROOM = 0.75
"""Submissions are cut at this share of the bound: times vary."""
STEEPEST, FLATTEST = 4.0, 0.5
"""What a measurement may change at once: one slow run must not cut a step to pieces, nor a fast one undo it."""
GROUPING = 0.75
"""A step is cut anew where it needs no more than this share of its submissions."""


@dataclass(frozen=True)
class Work:
    """A dispatch: `kind` is equal for those whose time per workgroup is alike, `groups` how many workgroups it has."""

    kind: Hashable
    groups: int

    @staticmethod
    def of(dispatch: Dispatch, symbols: Mapping[str, int]) -> Work:
        """Alike are dispatches of one kernel with the same constants; what depends on lengths is in the workgroups."""
        constants = tuple(word for word in dispatch.push if isinstance(word, int | float))
        groups = 1
        for axis in dispatch.groups:
            groups *= evaluate(axis, symbols)
        return Work((dispatch.kernel, constants), max(1, groups))


class Pace:
    """The bound in seconds (0: none), and what is known of the times of kernels."""

    def __init__(self, bound: float = 0.0) -> None:
        self.bound = bound
        self.lessons = 0
        """How often something was learnt."""
        self._per_group: dict[Hashable, float] = {}

    def seconds(self, works: Iterable[Work]) -> float | None:
        """What these will take together; None where one of them was never measured."""
        rates = [(self._per_group.get(work.kind), work.groups) for work in works]
        known = [rate * groups for rate, groups in rates if rate is not None]
        return sum(known) if len(known) == len(rates) else None

    def cut(self, works: Sequence[Work]) -> list[range]:
        """The dispatches of each submission, in order: as many as stay under the bound, at least one."""
        if self.bound <= 0 or not works:
            return [range(len(works))]
        parts, first, total = [], 0, 0.0
        for i, work in enumerate(works):
            one = self.seconds([work])
            cost = self.bound if one is None else one
            if i > first and total + cost > HEADROOM * self.bound:
                parts.append(range(first, i))
                first, total = i, 0.0
            total += cost
        return [*parts, range(first, len(works))]

    def learn(self, works: Sequence[Work], seconds: float) -> None:
        """Note what a submission of these took. Kernels that were never measured share what the others leave."""
        self.lessons += 1
        unknown = [work for work in works if work.kind not in self._per_group]
        expected = self.seconds(work for work in works if work.kind in self._per_group) or 0.0
        if unknown:
            each = max(seconds - expected, seconds / len(works)) / len(unknown)
            for work in unknown:
                self._per_group[work.kind] = each / work.groups
        elif expected > 0:
            factor = min(STEEPEST, max(FLATTEST, seconds / expected))
            for kind in {work.kind for work in works}:
                self._per_group[kind] *= factor

    def suits(self, works: Sequence[Work], parts: Sequence[range], took: Sequence[float]) -> bool:
        """Whether a step that was cut so is to run so again: none of its parts was too long, nor could many be one."""
        if self.bound <= 0:
            return True
        if any(seconds > self.bound and len(part) > 1 for part, seconds in zip(parts, took, strict=True)):
            return False
        return len(parts) == 1 or len(self.cut(works)) > GROUPING * len(parts)

    def tokens(self, works: Mapping[int, Sequence[Work]]) -> int:
        """The longest of several steps, by tokens, none of whose dispatches is too long alone; else the shortest.

        Only dispatches count that a shorter step makes shorter. One that was never measured suits the shortest step.
        """
        lengths = sorted(works, reverse=True)
        if self.bound <= 0:
            return lengths[0]
        for length in lengths[:-1]:
            pairs = zip(works[length], works[lengths[-1]], strict=True)
            grows = [self.seconds([work]) for work, least in pairs if work.groups > least.groups]
            if all(cost is not None and cost <= self.bound for cost in grows):
                return length
        return lengths[-1]
