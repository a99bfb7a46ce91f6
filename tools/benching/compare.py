"""Rounds of two commits in turns, and what they come to: medians, ratios, their spread."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any

Times = dict[str, dict[str, list[float]]]
"""{"prefill": {"base": [ms, ...], "head": [...]}, "decode": ...}; without "base" where there is none."""
WORKER = Path(__file__).parent / "worker.py"


class WorkerError(Exception):
    """A commit that was built but cannot be measured; the message is one line."""


class Worker:
    """A process that measures one commit."""

    def __init__(self, site: Path, model: Path, device: str | None = None) -> None:
        """Starts and loads. Raises WorkerError where that fails."""
        command = [sys.executable, str(WORKER), str(site), str(model)]
        command += ["--device", device] if device else []
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (a pipe that nobody reads would fill)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )
        self.facts: dict[str, Any] = self._answer()

    def measure(self, what: str, count: int) -> float:
        """ms; see worker.py. Raises WorkerError."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{what} {count}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer says why
        return float(self._answer())

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._process.communicate()
        self._errors.seek(0)
        said = [s for s in self._errors.read().splitlines() if s.strip()]
        raise WorkerError(said[-1].strip() if said else f"it ended with code {self._process.returncode}")

    def close(self) -> None:
        """Ends the process."""
        if self._process.poll() is None:
            self._process.communicate()
        self._errors.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def take_turns(workers: Mapping[str, Worker], sizes: Mapping[str, int], rounds: int) -> Times:
    """A warm-up, then the rounds; who goes first changes from round to round."""
    times: Times = {what: {side: [] for side in workers} for what in sizes}
    for number in range(rounds + 1):
        order = list(workers) if number % 2 else list(workers)[::-1]
        for what, count in sizes.items():
            for side in order:
                ms = workers[side].measure(what, count)
                if number:
                    times[what][side].append(ms)
    return times


def summary(times: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Of one measurement: {"base": {"ms", "median_ms"}, "head": ..., "ratio": {"median", "low", "high", "rounds"}}.

    A ratio is the speed of head over that of base in one round, above 1 where head is faster; low and high are the
    quartiles. None where there is no base.
    """
    found: dict[str, Any] = {side: {"ms": list(ms), "median_ms": median(ms)} for side, ms in times.items()}
    if "base" not in times:
        return found | {"ratio": None}
    ratios = [base / head for base, head in zip(times["base"], times["head"], strict=True)]
    low, high = quartiles(ratios)
    return found | {"ratio": {"median": median(ratios), "low": low, "high": high, "rounds": ratios}}


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The medians of the lower and of the upper half, the middle one in both."""
    ordered, half = sorted(values), (len(values) + 1) // 2
    return median(ordered[:half]), median(ordered[-half:])
