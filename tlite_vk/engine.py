"""A Program bound to a device: buffers, pipelines, one recording per bucket, and the step that runs it.

The step parameters and token ids live on the device. A recording that is fed starts with a copy from the host; one
that is not goes on from where the last choice on the device left them, so several tokens may go out in one submission.

A sequence has a ring (tlite_vk.ring) for itself; weights, pipelines and arenas are shared. Where no ring is named, the
engine's own `main` is meant.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .binding import Buffers, Pipelines, present, record
from .device import Buffer, Device, Recording
from .errors import DeviceError, InputError
from .expression import evaluate
from .pacing import Pace, Work
from .program import Dispatch, Entry, Program
from .ring import Ring
from .step import PICKED, STEP_BYTES
from .submissions import Submissions
from .target import Target
from .upload import upload

Floats = npt.NDArray[np.float32]
MAX_RECORDINGS = 24
"""Kept for one ring; each further ring adds MORE_RECORDINGS. Those used last stay."""
MORE_RECORDINGS = 8
FIRST_STEP = 4
"""With a bound, the first step of a prompt takes so many times the padding: nothing is known of the device yet."""


@dataclass(frozen=True)
class Variant:
    """What a recording does besides the entry's own dispatches.

    feed: take step parameters and ids from the host first. head: go through the head (where the entry can leave it
    out). pick: choose a token on the device: greedily, or with `sample` by what `sample_by` was given. read: copy the
    logits to the host; those of a sampled step are penalized.
    """

    entry: str
    tokens: int
    feed: bool = True
    head: bool = True
    pick: bool = False
    sample: bool = False
    read: bool = False


class Engine:
    """Runs the entries of a Program on one device, over rings of `capacity` positions."""

    def __init__(
        self,
        device: Device,
        program: Program,
        target: Target,
        *,
        capacity: int,
        window: int,
        chunk: int,
        submission_s: float = 0.0,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """capacity: rows of a ring; window: positions that attention sees back (0: all); chunk: most tokens a step.
        submission_s: seconds that no submission of a step shall exceed, as far as dispatches allow; 0: any.

        Raises DeviceError where the device's memory does not suffice.
        """
        self.device, self.program, self.target = device, program, target
        self.capacity, self.window, self.chunk = capacity, window, chunk
        symbols = self.symbols(chunk)
        sizes = [evaluate(size, symbols) for size in (*program.inputs.values(), *(s.size for s in program.states))]
        _check_range(max(sizes), target, capacity)
        self.using = threading.RLock()  # held while it works, so that nobody frees it meanwhile
        self._rings: list[Ring] = []
        self._weights: dict[str, tuple[Buffer, int]] = {}
        self._host: list[Buffer] = []
        self._arenas: dict[str, Buffer] = {}
        self._pipelines = Pipelines(device, program)
        self.pace, self.longest_submission_s = Pace(submission_s), 0.0
        self._works: dict[int, list[Work]] = {}
        self._step_tokens: tuple[int, int] | None = None  # lessons of the pace, what followed from them
        self._recordings: OrderedDict[tuple[int, Variant], Submissions] = OrderedDict()
        self._running: Submissions | None = None
        self._logits: Buffer | None = None
        try:
            self._weights = upload(device, program.weights, target.alignment, progress)
            self.main = self.ring()
            for size in (STEP_BYTES + 4 * chunk, 4 * PICKED):
                self._host.append(device.buffer(size, host=True))
            self._inbox, self._choices = self._host
        except BaseException:  # Ctrl-C as well: nothing stays on the device
            self.close()
            raise

    def symbols(self, tokens: int) -> dict[str, int]:
        """What the symbols of a Program's expressions are in a step of `tokens`."""
        return {"T": tokens, "C": self.capacity, "W": self.window}

    def ring(self) -> Ring:
        """A further ring, empty; close it when its sequence ends. Raises DeviceError where memory does not suffice."""
        ring = Ring(self.device, self.program, self.symbols(self.chunk), self._forget, self.settle)
        self._rings.append(ring)
        return ring

    def feed(self, position: int, ids: Sequence[int], ring: Ring | None = None) -> None:
        """Put the next step's parameters and token ids where the ring's next fed recording takes them."""
        self.settle()
        words = np.zeros(STEP_BYTES // 4 + len(ids), np.uint32)
        words[0], words[1] = position, len(ids)
        words[STEP_BYTES // 4 :] = np.asarray(ids, np.int64)
        self._inbox.write(words)
        (ring or self.main).feed(position, len(ids))

    def sample_by(self, settings: npt.NDArray[np.uint32], ring: Ring | None = None) -> None:
        """What variants that sample go by from now on: `tlite_vk.sampling.Settings.words` of the vocabulary."""
        self.settle()
        (ring or self.main).buffers["sampling"].write(settings)

    def run(self, variant: Variant, repeat: int = 1, ring: Ring | None = None) -> None:
        """Run a variant to its end, `repeat` times: in one submission, or in more where the bound asks for it.

        Raises DeviceError if the device is lost. Ctrl-C ends the wait, not the submission: whatever is done next waits
        for it first.
        """
        ring = ring or self.main
        self.settle()
        self._running = submissions = self.submissions(variant, ring)
        ring.starts(variant.feed, repeat)
        longest = submissions.run(repeat)
        ring.ran(variant.feed, repeat)
        self._running = None
        self.longest_submission_s = max(self.longest_submission_s, longest)
        self._learn(submissions, (id(ring), variant))

    def _learn(self, submissions: Submissions, key: tuple[int, Variant]) -> None:
        """What the run tells of the times of kernels; a step that was cut badly is cut anew when it runs next."""
        whole = len(submissions.parts) == 1 and len(submissions.works) > 1
        if self.pace.bound <= 0 or (whole and submissions.took[0] <= self.pace.bound):
            return
        for part, seconds in zip(submissions.parts, submissions.took, strict=True):
            self.pace.learn(submissions.works[part.start : part.stop], seconds)
        if not self.pace.suits(submissions.works, submissions.parts, submissions.took):
            self._recordings.pop(key).close()

    def step_tokens(self) -> int:
        """Most tokens of a prompt for one step: the chunk, or less where a dispatch would exceed the bound alone."""
        if self.pace.bound <= 0 or "prefill" not in self.program.entries:
            return self.chunk
        least = min(self.chunk, FIRST_STEP * self.target.bucket)
        if not self._works:
            dispatches = self.program.entries["prefill"].dispatches
            for n in {least << i for i in range(16) if least << i < self.chunk} | {self.chunk}:
                self._works[n] = [Work.of(dispatch, self.symbols(n)) for dispatch in dispatches]
        if self._step_tokens is None or self._step_tokens[0] != self.pace.lessons:
            self._step_tokens = self.pace.lessons, self.pace.tokens(self._works)
        return self._step_tokens[1]

    def settle(self) -> None:
        """Wait for a submission that an interrupt left under way."""
        if self._running is not None:
            self._running.settle()
            self._running = None

    def logits(self, rows: int = 1) -> Floats:
        """The logits that the last reading run left: float32 [rows, V]."""
        self.settle()
        assert self._logits is not None
        count = rows * self.program.vocabulary
        return self._logits.read(4 * count).view(np.float32).reshape(rows, self.program.vocabulary)

    def picked(self, start: int, stop: int) -> list[int]:
        """Tokens chosen on the device since its last feed for the ring that ran last: numbers [start, stop)."""
        self.settle()
        all_choices = self._choices.read().view(np.uint32)
        return [int(all_choices[i % PICKED]) for i in range(start, stop)]

    def submissions(self, variant: Variant, ring: Ring | None = None) -> Submissions:
        """What a variant does on a ring, kept for the next time."""
        ring = ring or self.main
        key = (id(ring), variant)
        if key in self._recordings:
            self._recordings.move_to_end(key)
            return self._recordings[key]
        if variant.tokens > self.chunk:
            raise InputError(f"a step of {variant.tokens} tokens exceeds the chunk size {self.chunk}")
        made = self._record(variant, ring)
        self._recordings[key] = made
        if len(self._recordings) > MAX_RECORDINGS + MORE_RECORDINGS * (len(self._rings) - 1):
            self._recordings.popitem(last=False)[1].close()
        return made

    def _forget(self, ring: Ring) -> None:
        """A ring is closed: so are its recordings."""
        for key in [key for key in self._recordings if key[0] == id(ring)]:
            self._recordings.pop(key).close()
        self._rings.remove(ring)

    def _record(self, variant: Variant, ring: Ring) -> Submissions:
        entry = self.program.entries[variant.entry]
        symbols = self.symbols(variant.tokens)
        dispatches = present(_chosen(entry, variant), symbols)
        works = [Work.of(dispatch, symbols) for dispatch in dispatches]
        parts, recordings = self.pace.cut(works), []
        timed = len(parts) > 1 and self.device.info.limits["timestamp_valid_bits"] > 0
        buffers = self._buffers(entry, ring)
        for part in parts:
            recording = self.device.recording()
            recordings.append(recording)
            if timed:
                recording.timestamp()
            if part is parts[0]:
                self._take(recording, variant, ring)
            record(recording, dispatches[part.start : part.stop], symbols, buffers, self._pipelines)
            if part is parts[-1]:
                self._give(recording, variant, ring, buffers)
            if timed:
                recording.timestamp()
            recording.end()
        return Submissions(recordings, works, parts)

    def _give(self, recording: Recording, variant: Variant, ring: Ring, buffers: Buffers) -> None:
        """What a recording ends with: choices and logits, as far as the host wants them."""
        if variant.pick or variant.read:
            recording.barrier()
        if variant.pick:
            recording.copy(ring.buffers["picked"], 0, self._choices, 0, 4 * PICKED)
        if variant.read:
            logits = self.program.entries[variant.entry].outputs["logits"]
            _, offset, size = logits.resolve(self.symbols(variant.tokens))
            recording.copy(buffers.named["arena"], offset, self._room_for_logits(size), 0, size)

    def _room_for_logits(self, size: int) -> Buffer:
        """The host's copy of logits, of at least `size` bytes. What was recorded for a smaller one is made anew."""
        if self._logits is None or self._logits.nbytes < size:
            for key in [key for key in self._recordings if key[1].read]:
                self._recordings.pop(key).close()
            if self._logits is not None:
                self._logits.close()
            self._logits = self.device.buffer(size, host=True)
        return self._logits

    def timed(self, variant: Variant, *, alone: bool = True) -> tuple[Recording, tuple[Dispatch, ...]]:
        """A recording with timestamps, which the caller closes, and its dispatches; what is read stays on the device.

        alone: 2 timestamps per dispatch, before and after it, with a barrier before the former. Otherwise 2 in all,
        around the dispatches with the barriers that they need. Raises DeviceError where a device has no timestamps.
        """
        entry, symbols = self.program.entries[variant.entry], self.symbols(variant.tokens)
        buffers, recording = self._buffers(entry, self.main), self.device.recording()
        self._take(recording, variant, self.main)
        dispatches = present(_chosen(entry, variant), symbols)
        for part in [(d,) for d in dispatches] if alone else [dispatches]:
            recording.barrier()
            recording.timestamp()
            record(recording, part, symbols, buffers, self._pipelines)
            recording.timestamp()
        recording.end()
        return recording, dispatches

    def _take(self, recording: Recording, variant: Variant, ring: Ring) -> None:
        """What a fed recording starts with."""
        if variant.feed:
            recording.copy(self._inbox, 0, ring.buffers["step"], 0, STEP_BYTES)
            recording.copy(self._inbox, STEP_BYTES, ring.buffers["ids"], 0, 4 * variant.tokens)
            recording.barrier()

    def bound(self, entry: str) -> Buffers:
        """What an entry's windows lie in, on the main ring: for measurements and checks."""
        return self._buffers(self.program.entries[entry], self.main)

    def _buffers(self, entry: Entry, ring: Ring) -> Buffers:
        """The ring's buffers with the entry's own arena, made when it is first used, for the longest step."""
        if entry.name not in self._arenas:
            size = evaluate(entry.arena, self.symbols(1 if entry.name == "decode" else self.chunk))
            self._arenas[entry.name] = self.device.buffer(max(256, size))
        return Buffers({**ring.buffers, "arena": self._arenas[entry.name]}, self._weights)

    def close(self) -> None:
        """Free everything on the device, also a lost one; the engine cannot be used afterwards."""
        self._running = None
        for submissions in self._recordings.values():
            submissions.close()
        self._recordings.clear()
        for ring in list(self._rings):
            ring.close()
        self._pipelines.close()
        for buffer in {
            *self._arenas.values(),
            *(b for b, _ in self._weights.values()),
            *self._host,
        }:
            buffer.close()
        if self._logits is not None:
            self._logits.close()


def _check_range(size: int, target: Target, capacity: int) -> None:
    """A ring is one window: one that no binding can see is refused before anything is allocated."""
    if size > target.max_storage_range:
        most = capacity * target.max_storage_range // size
        raise DeviceError(
            f"a layer's ring of {capacity} positions takes {size} bytes, and {target.name} binds at most "
            f"{target.max_storage_range} at once; choose a context of at most {most}"
        )


def _chosen(entry: Entry, variant: Variant) -> tuple[Dispatch, ...]:
    if not variant.head:
        return entry.dispatches[: entry.head]
    before = entry.dispatches[: entry.pick]
    return before if not variant.pick else before + entry.sampling if variant.sample else entry.dispatches
