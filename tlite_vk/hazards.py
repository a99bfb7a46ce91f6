"""Barriers where there is a hazard, and a checker that proves that none is missing.

Two accesses conflict when their byte ranges overlap and one of them writes: read after write (RAW), write after read
(WAR), write after write (WAW). A barrier orders everything before it against everything after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .program import Dispatch, Window


@dataclass(frozen=True)
class Barrier:
    """Everything before it happens, and is visible, before everything after it."""


Step = Dispatch | Barrier


@dataclass(frozen=True)
class Hazard:
    """A pair of dispatches that touch the same bytes with no barrier between them."""

    kind: str
    first: str
    second: str
    buffer: str

    def __str__(self) -> str:
        return f"{self.kind} hazard on {self.buffer}: {self.first} and {self.second} have no barrier between them"


@dataclass(frozen=True)
class _Range:
    start: int
    stop: int
    label: str


class _Since:
    """The ranges read and written since the last barrier, per buffer."""

    def __init__(self) -> None:
        self.reads: dict[str, list[_Range]] = {}
        self.writes: dict[str, list[_Range]] = {}

    def conflicts(self, label: str, windows: Sequence[Window], symbols: Mapping[str, int]) -> Iterable[Hazard]:
        for window in windows:
            buffer, start, size = window.resolve(symbols)
            reading, writing = window.access in ("read", "update"), window.access in ("write", "update")
            for kind, wanted, earlier in (
                ("RAW", reading, self.writes),
                ("WAR", writing, self.reads),
                ("WAW", writing, self.writes),
            ):
                for other in earlier.get(buffer, ()) if wanted else ():
                    if other.start < start + size and start < other.stop:
                        yield Hazard(kind, other.label, label, buffer)

    def add(self, label: str, windows: Sequence[Window], symbols: Mapping[str, int]) -> None:
        for window in windows:
            buffer, start, size = window.resolve(symbols)
            if window.access in ("read", "update"):
                self.reads.setdefault(buffer, []).append(_Range(start, start + size, label))
            if window.access in ("write", "update"):
                self.writes.setdefault(buffer, []).append(_Range(start, start + size, label))


def find_hazards(steps: Sequence[Step], symbols: Mapping[str, int]) -> list[Hazard]:
    """Replay the steps with the symbols' values: every hazard that no barrier covers."""
    since = _Since()
    found: list[Hazard] = []
    for step in steps:
        if isinstance(step, Barrier):
            since = _Since()
            continue
        found += since.conflicts(step.label, step.windows, symbols)
        since.add(step.label, step.windows, symbols)
    return found


def schedule(dispatches: Sequence[Dispatch], symbols: Mapping[str, int]) -> list[Step]:
    """The dispatches with a barrier before each one that conflicts with what ran since the last barrier."""
    steps: list[Step] = []
    since = _Since()
    for dispatch in dispatches:
        if any(True for _ in since.conflicts(dispatch.label, dispatch.windows, symbols)):
            steps.append(Barrier())
            since = _Since()
        since.add(dispatch.label, dispatch.windows, symbols)
        steps.append(dispatch)
    return steps
