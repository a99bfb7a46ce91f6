"""One variant of a step as the submissions that it takes: recordings that run one after the other, and their times."""

from __future__ import annotations

import time
from collections.abc import Sequence

from .device import Recording
from .pacing import Work


class Submissions:
    """Recordings over consecutive dispatches `parts` of `works`. Each ends with a barrier towards the next."""

    def __init__(self, recordings: Sequence[Recording], works: Sequence[Work], parts: Sequence[range]) -> None:
        self.recordings, self.works, self.parts = list(recordings), list(works), list(parts)
        self.took = [0.0] * len(self.parts)
        """Seconds of each part in the last run: from timestamps where it has them, else as the host saw it."""

    def run(self, repeat: int = 1) -> float:
        """Run all of it `repeat` times, in one submission where there is one part; the longest submission, seconds."""
        if len(self.parts) == 1:
            self.took[0] = self._run(0, repeat) / repeat
            return repeat * self.took[0]
        longest = 0.0
        for _ in range(repeat):
            self.took = [self._run(i, 1) for i in range(len(self.parts))]
            longest = max(longest, *self.took)
        return longest

    def _run(self, part: int, repeat: int) -> float:
        recording, started = self.recordings[part], time.perf_counter()
        recording.run(repeat)
        seconds = time.perf_counter() - started
        times = recording.timestamps()
        return repeat * (times[-1] - times[0]) if len(times) > 1 else seconds

    def settle(self) -> None:
        """Wait for what an interrupt left under way."""
        for recording in self.recordings:
            if recording.pending:
                recording.wait()

    def close(self) -> None:
        for recording in self.recordings:
            recording.close()
