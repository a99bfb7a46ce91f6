"""Where the time of a step goes: GPU timestamps around every dispatch, summed by kernel, beside the device's limits.

A prompt from an empty cache, and one decode step behind it. Each dispatch runs alone, between two barriers, so that a
timestamp before and one after it tell its time; what lies between is a row of its own. Times are medians of the
repetitions, dispatch by dispatch. Beside them stands what the same steps take with only the barriers that they need.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .device import Device, DeviceInfo, Recording, open_device
from .engine import Engine, Variant
from .errors import DeviceError, InputError
from .expression import evaluate
from .generate import Model
from .loading import DEFAULT_CONTEXT, load
from .program import Dispatch
from .roofline import Roofline, measure
from .target import Precision
from .workload import Lengths, Workload

SEED = 1
WARM_UP = 0.5
"""Seconds of each step before anything counts: a GPU that was idle is several times slower at first."""
Progress = Callable[[str, int, int], None]
"""Called with (what is being done, steps done, steps in total)."""
Limit = Literal["bandwidth", "multiply-adds"]


@dataclass(frozen=True)
class Slice:
    """One dispatch. start, seconds: from the first timestamp of its step. bytes, multiply_adds: at least that many."""

    shader: str
    label: str
    groups: tuple[int, int, int]
    start: float
    seconds: float
    bytes: int
    multiply_adds: int

    @property
    def place(self) -> str:
        """The label without the numbers of layers: "layer.3.ffn.down" is "layer.*.ffn.down"."""
        parts = self.label.replace("/", ".").split(".")
        return ".".join("*" if part.isdigit() else part for part in parts)


@dataclass(frozen=True)
class Row:
    """All dispatches of a kernel at a place. Shares are fractions: of the step's time, of the device's limits."""

    shader: str
    place: str
    dispatches: int
    seconds: float
    share: float
    bytes: int
    bytes_per_s: float
    share_of_copy: float
    multiply_adds: int
    multiply_adds_per_s: float
    share_of_multiply_adds: float

    @property
    def nearer_limit(self) -> Limit:
        return "bandwidth" if self.share_of_copy >= self.share_of_multiply_adds else "multiply-adds"


@dataclass(frozen=True)
class Step:
    """A prompt, or a decode step: `tokens` of them behind `position` cached ones.

    seconds: from the first timestamp to the last. as_run_s: without the timestamps and barriers between.
    """

    name: str
    tokens: int
    position: int
    seconds: float
    as_run_s: float
    slices: list[Slice] = field(repr=False)

    @property
    def gaps_s(self) -> float:
        """Seconds in barriers and between dispatches."""
        return self.seconds - sum(s.seconds for s in self.slices)

    def rows(self, limits: Roofline) -> list[Row]:
        """The kernels, the one that takes most time first."""
        groups: dict[tuple[str, str], list[Slice]] = {}
        for s in self.slices:
            groups.setdefault((s.shader, s.place), []).append(s)
        rows = [self._row(shader, place, found, limits) for (shader, place), found in groups.items()]
        return sorted(rows, key=lambda row: -row.seconds)

    def _row(self, shader: str, place: str, found: list[Slice], limits: Roofline) -> Row:
        seconds = sum(s.seconds for s in found)
        moved, multiplied = sum(s.bytes for s in found), sum(s.multiply_adds for s in found)
        bandwidth, rate = (amount / seconds if seconds else 0.0 for amount in (moved, multiplied))
        return Row(
            shader, place, len(found), seconds, seconds / self.seconds if self.seconds else 0.0,
            moved, bandwidth, bandwidth / limits.copy_bytes_per_s,
            multiplied, rate, rate / limits.multiply_adds_per_s,
        )  # fmt: skip


@dataclass(frozen=True)
class Profile:
    """What `profile` found: the steps, and what the device can do at most."""

    model: str
    device: str
    driver: str
    precision: str
    prompt: int
    repeat: int
    limits: Roofline
    steps: list[Step]

    def as_json(self) -> dict[str, Any]:
        facts = {k: v for k, v in vars(self).items() if k not in ("limits", "steps")}
        limits = {
            "copy_bytes_per_s": self.limits.copy_bytes_per_s,
            "multiply_adds_per_s": self.limits.multiply_adds_per_s,
        }
        return facts | limits | {"steps": {step.name: self._step(step) for step in self.steps}}

    def _step(self, step: Step) -> dict[str, Any]:
        facts = {k: v for k, v in vars(step).items() if k not in ("name", "slices")}
        rows = [asdict(row) | {"nearer_limit": row.nearer_limit} for row in step.rows(self.limits)]
        return facts | {"gaps_s": step.gaps_s, "dispatches": len(step.slices), "kernels": rows}

    def as_trace(self) -> dict[str, Any]:
        """Chrome's trace event format, which ui.perfetto.dev opens: a track per step, a slice per dispatch."""
        events: list[dict[str, Any]] = [_named("process_name", 0, self.device)]
        begin, last = 0.0, 0  # seconds; nanoseconds, which rounding must not let overlap
        for track, step in enumerate(self.steps, 1):
            events.append(_named("thread_name", track, f"{step.name}, {step.tokens} tokens behind {step.position}"))
            for s in step.slices:
                first = max(last, round(1e9 * (begin + s.start)))
                last = max(first, round(1e9 * (begin + s.start + s.seconds)))
                events.append(_event(s, step.name, track, first, last))
            begin += step.seconds
        return {"displayTimeUnit": "ns", "traceEvents": events}


def _named(what: str, track: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": 1, "tid": track, "args": {"name": name}}


def _event(s: Slice, category: str, track: int, first: int, last: int) -> dict[str, Any]:
    """A complete event from `first` to `last`, in nanoseconds; the format has microseconds."""
    args = {"label": s.label, "groups": list(s.groups), "bytes": s.bytes, "multiply_adds": s.multiply_adds}
    times = {"ts": first / 1e3, "dur": (last - first) / 1e3}
    return {"ph": "X", "name": s.shader, "cat": category, "pid": 1, "tid": track, **times, "args": args}


def profile(
    path: str | Path,
    *,
    prompt: int = 128,
    repeat: int = 5,
    device: Device | int | str | None = None,
    context: int | None = None,
    precision: Precision = "fp16",
    progress: Progress | None = None,
) -> Profile:
    """Profile a prompt of `prompt` random tokens and a decode step behind it. The device's limits are measured after.

    Raises DeviceError where the device has no timestamps, InputError if the context is too short, and what `load`
    raises.
    """
    report = progress or (lambda label, done, total: None)
    if min(prompt, repeat) < 1:
        raise InputError("prompt and repeat must be at least 1")
    opened = device if isinstance(device, Device) else open_device(device)
    require_timestamps(opened.info)
    if context is None and prompt >= DEFAULT_CONTEXT:
        context = prompt + 1
    with load(path, device=opened, context=context, precision=precision, progress=partial(report, "load")) as model:
        if prompt >= model.context:
            raise InputError(
                f"{prompt + 1} positions are needed, the context holds {model.context}; "
                "choose a smaller --prompt or a larger --context"
            )
        steps = _steps(model, prompt, repeat, partial(report, "run"))
        file = str(model.path)
    limits = measure(opened, partial(report, "measure the device"))
    driver = f"{opened.info.driver_name} {opened.info.driver_info}".strip()
    return Profile(file, opened.info.name, driver, precision, prompt, repeat, limits, steps)


def require_timestamps(info: DeviceInfo) -> None:
    """Raises DeviceError for a device whose compute queue has none."""
    if info.limits["timestamp_valid_bits"] == 0:
        raise DeviceError(
            f"{info.name} has no timestamps, which profiling needs; choose another --device, or use bench"
        )


def _steps(model: Model, prompt: int, repeat: int, progress: Callable[[int, int], None]) -> list[Step]:
    """The prompt, chunk by chunk, and a token behind it; the chunks leave the cache as a real prompt does."""
    ids = [int(i) for i in np.random.default_rng(SEED).integers(0, model.program.vocabulary, prompt + 1)]
    parts = [*model.chunks(prompt), (range(prompt, prompt + 1), Variant("decode", 1, pick=True))]
    done: list[Step] = []
    for number, (part, variant) in enumerate(parts):
        done.append(_timed(model.engine, variant, part.start, ids[part.start : part.stop], repeat))
        progress(number + 1, len(parts))
    return [_joined(done[:-1]), done[-1]]


def _joined(chunks: list[Step]) -> Step:
    """Chunks of a prompt as one step, one right after the other."""
    slices: list[Slice] = []
    begin = 0.0
    for chunk in chunks:
        slices += [Slice(**{**vars(s), "start": begin + s.start}) for s in chunk.slices]
        begin += chunk.seconds
    return Step("prefill", sum(c.tokens for c in chunks), 0, begin, sum(c.as_run_s for c in chunks), slices)


def _timed(engine: Engine, variant: Variant, position: int, ids: list[int], repeat: int) -> Step:
    plain, _ = engine.timed(variant, alone=False)
    recording, dispatches = engine.timed(variant)
    as_run, spans = _spans((plain, recording), lambda: engine.feed(position, ids), repeat)
    at = Lengths(engine.symbols(variant.tokens), position, len(ids))
    starts = np.cumsum(spans) - spans  # of a dispatch, a gap, a dispatch, ..., a dispatch
    slices = _slices(engine, variant, dispatches, at, list(zip(starts[::2], spans[::2], strict=True)))
    return Step(variant.entry, len(ids), position, float(spans.sum()), float(as_run.sum()), slices)


def _spans(recordings: Sequence[Recording], feed: Callable[[], None], repeat: int) -> list[Any]:
    """Seconds between neighbouring timestamps of each: medians over runs in turns. Closes the recordings."""
    found: list[list[Any]] = [[] for _ in recordings]
    started = time.perf_counter()
    warm = False
    while len(found[0]) < repeat:
        for recording, kept in zip(recordings, found, strict=True):
            feed()
            recording.run()
            if warm:
                kept.append(np.diff(recording.timestamps()))
        warm = warm or time.perf_counter() - started >= WARM_UP
    for recording in recordings:
        recording.close()
    return [np.median(kept, axis=0) for kept in found]


def _slices(
    engine: Engine, variant: Variant, dispatches: tuple[Dispatch, ...], at: Lengths, times: list[tuple[float, float]]
) -> list[Slice]:
    program, work = engine.program, Workload(engine.program)
    body = program.entries[variant.entry].dispatches[: program.entries[variant.entry].head]
    in_body = {id(d) for d in body}  # what follows has one row
    slices = []
    for dispatch, (start, seconds) in zip(dispatches, times, strict=True):
        x, y, z = (evaluate(group, at.symbols) for group in dispatch.groups)
        rows = at.count if id(dispatch) in in_body else 1
        slices.append(
            Slice(
                program.kernels[dispatch.kernel].shader, dispatch.label, (x, y, z), float(start), float(seconds),
                work.bytes_of(dispatch, at), work.multiply_adds_of(dispatch, at, rows),
            )
        )  # fmt: skip
    return slices
