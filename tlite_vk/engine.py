"""A Program bound to a device: buffers, pipelines, one recording per bucket, and the step that runs it.

The step parameters and token ids live on the device. A recording that is fed starts with a copy from the host; one
that is not goes on from where the last choice on the device left them, so several tokens may go out in one submission.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .binding import Buffers, Pipelines, present, record
from .device import Buffer, Device, Recording
from .errors import InputError
from .expression import evaluate
from .kernels.attention import STEP_BYTES
from .kernels.norm import PICKED
from .program import Dispatch, Entry, Program
from .target import Target
from .upload import upload

Floats = npt.NDArray[np.float32]
MAX_RECORDINGS = 24


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
    """Runs the entries of a Program on one device, with one ring of `capacity` positions."""

    def __init__(
        self,
        device: Device,
        program: Program,
        target: Target,
        *,
        capacity: int,
        window: int,
        chunk: int,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """capacity: rows of the ring; window: positions that attention sees back (0: all); chunk: most tokens a step.

        Raises DeviceError where the device's memory does not suffice.
        """
        self.device, self.program, self.target = device, program, target
        self.capacity, self.window, self.chunk = capacity, window, chunk
        self._weights = upload(device, program.weights, target.alignment, progress)
        symbols = self.symbols(chunk)
        sizes = {name: evaluate(size, symbols) for name, size in program.inputs.items()} | {"step": STEP_BYTES}
        sizes |= {f"state:{s.name}": evaluate(s.size, symbols) for s in program.states}
        self._buffers = Buffers(
            {name: device.buffer(-(-size // 256) * 256) for name, size in sizes.items()}, self._weights
        )
        self._arenas: dict[str, Buffer] = {}
        self._inbox = device.buffer(STEP_BYTES + 4 * chunk, host=True)
        self._logits: Buffer | None = None
        self._choices = device.buffer(4 * PICKED, host=True)
        self._pipelines = Pipelines(device, program)
        self._recordings: OrderedDict[Variant, Recording] = OrderedDict()

    def symbols(self, tokens: int) -> dict[str, int]:
        """What the symbols of a Program's expressions are in a step of `tokens`."""
        return {"T": tokens, "C": self.capacity, "W": self.window}

    def feed(self, position: int, ids: Sequence[int]) -> None:
        """Put the next step's parameters and token ids where a fed recording takes them."""
        words = np.zeros(STEP_BYTES // 4 + len(ids), np.uint32)
        words[0], words[1] = position, len(ids)
        words[STEP_BYTES // 4 :] = np.asarray(ids, np.int64)
        self._inbox.write(words)

    def sample_by(self, settings: npt.NDArray[np.uint32]) -> None:
        """What variants that sample go by from now on: `tlite_vk.sampling.Settings.words` of the vocabulary."""
        self._buffers.named["sampling"].write(settings)

    def run(self, variant: Variant, repeat: int = 1) -> None:
        """Run a variant to its end, `repeat` times in one submission. Raises DeviceError if the device is lost."""
        self.recording(variant).run(repeat)

    def fill_ring(self, word: int) -> None:
        """Put a 32-bit word everywhere in the ring, whose content is undefined at first: for measurements."""
        recording = self.device.recording()
        for state in self.program.states:
            buffer = self._buffers.named[f"state:{state.name}"]
            recording.fill(buffer, 0, buffer.nbytes, word)
        recording.end()
        recording.run()
        recording.close()

    def logits(self, rows: int = 1) -> Floats:
        """The logits that the last reading run left: float32 [rows, V]."""
        assert self._logits is not None
        count = rows * self.program.vocabulary
        return self._logits.read(4 * count).view(np.float32).reshape(rows, self.program.vocabulary)

    def picked(self, start: int, stop: int) -> list[int]:
        """Tokens chosen on the device since the last feed: numbers [start, stop)."""
        all_choices = self._choices.read().view(np.uint32)
        return [int(all_choices[i % PICKED]) for i in range(start, stop)]

    def recording(self, variant: Variant) -> Recording:
        if variant in self._recordings:
            self._recordings.move_to_end(variant)
            return self._recordings[variant]
        if variant.tokens > self.chunk:
            raise InputError(f"a step of {variant.tokens} tokens exceeds the chunk size {self.chunk}")
        recording = self._record(variant)
        self._recordings[variant] = recording
        if len(self._recordings) > MAX_RECORDINGS:
            self._recordings.popitem(last=False)[1].close()
        return recording

    def _record(self, variant: Variant) -> Recording:
        entry = self.program.entries[variant.entry]
        symbols = self.symbols(variant.tokens)
        recording = self.device.recording()
        buffers = self._with_arena(entry)
        self._take(recording, variant)
        record(recording, _chosen(entry, variant), symbols, buffers, self._pipelines)
        if variant.pick or variant.read:
            recording.barrier()
        if variant.pick:
            recording.copy(self._buffers.named["picked"], 0, self._choices, 0, 4 * PICKED)
        if variant.read:
            _, offset, size = entry.outputs["logits"].resolve(symbols)
            if self._logits is None or self._logits.nbytes < size:
                self._logits = self.device.buffer(size, host=True)
            recording.copy(buffers.named["arena"], offset, self._logits, 0, size)
        recording.end()
        return recording

    def timed(self, variant: Variant, *, alone: bool = True) -> tuple[Recording, tuple[Dispatch, ...]]:
        """A recording with timestamps, which the caller closes, and its dispatches; what is read stays on the device.

        alone: 2 timestamps per dispatch, before and after it, with a barrier before the former. Otherwise 2 in all,
        around the dispatches with the barriers that they need. Raises DeviceError where a device has no timestamps.
        """
        entry, symbols = self.program.entries[variant.entry], self.symbols(variant.tokens)
        buffers, recording = self._with_arena(entry), self.device.recording()
        self._take(recording, variant)
        dispatches = present(_chosen(entry, variant), symbols)
        for part in [(d,) for d in dispatches] if alone else [dispatches]:
            recording.barrier()
            recording.timestamp()
            record(recording, part, symbols, buffers, self._pipelines)
            recording.timestamp()
        recording.end()
        return recording, dispatches

    def _take(self, recording: Recording, variant: Variant) -> None:
        """What a fed recording starts with."""
        if variant.feed:
            recording.copy(self._inbox, 0, self._buffers.named["step"], 0, STEP_BYTES)
            recording.copy(self._inbox, STEP_BYTES, self._buffers.named["ids"], 0, 4 * variant.tokens)
            recording.barrier()

    def _with_arena(self, entry: Entry) -> Buffers:
        """The buffers with the entry's own arena, made when it is first used, for the longest step."""
        if entry.name not in self._arenas:
            size = evaluate(entry.arena, self.symbols(1 if entry.name == "decode" else self.chunk))
            self._arenas[entry.name] = self.device.buffer(max(256, size))
        return Buffers({**self._buffers.named, "arena": self._arenas[entry.name]}, self._weights)

    def close(self) -> None:
        """Free everything on the device; the engine cannot be used afterwards."""
        for recording in self._recordings.values():
            recording.close()
        self._recordings.clear()
        self._pipelines.close()
        for buffer in {
            *self._buffers.named.values(),
            *self._arenas.values(),
            *(b for b, _ in self._weights.values()),
            self._inbox,
            self._choices,
        }:
            buffer.close()
        if self._logits is not None:
            self._logits.close()


def _chosen(entry: Entry, variant: Variant) -> tuple[Dispatch, ...]:
    if not variant.head:
        return entry.dispatches[: entry.head]
    before = entry.dispatches[: entry.pick]
    return before if not variant.pick else before + entry.sampling if variant.sample else entry.dispatches
