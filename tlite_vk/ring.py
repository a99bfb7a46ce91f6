"""A ring: the keys and values of one sequence on the device, with its step parameters and token ids.

The token at position p lies in row p mod C of each cache [C, KV * D]. Rings of an engine share weights, pipelines and
arenas; each has these buffers for itself. Positions [lowest, position) are held.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from .device import Buffer, Device, Recording
from .errors import InputError
from .expression import evaluate
from .program import Program
from .step import STEP_BYTES

Bytes = npt.NDArray[np.uint8]


class Ring:
    """Made by `Engine.ring`. `position`: tokens that it holds, counted from the start of the sequence."""

    def __init__(
        self,
        device: Device,
        program: Program,
        symbols: Mapping[str, int],
        forget: Callable[[Ring], None],
        settle: Callable[[], None],
    ) -> None:
        """symbols: lengths as in a Program, T the longest step. forget is called when the ring is closed, settle before
        the host reads or writes what a submission under way may still change.

        Raises DeviceError where the device's memory does not suffice.
        """
        self._device, self._forget, self._settle = device, forget, settle
        self.capacity, self.window = symbols["C"], symbols["W"] or program.window
        sizes = {name: evaluate(size, symbols) for name, size in program.inputs.items()} | {"step": STEP_BYTES}
        self._rows = {  # name of a cache: bytes of a row; a whole size is rounded up to 16 bytes
            f"state:{s.name}": evaluate(s.size, {**symbols, "C": 16}) // 16 for s in program.states
        }
        sizes |= {f"state:{s.name}": evaluate(s.size, symbols) for s in program.states}
        self.buffers: dict[str, Buffer] = {}
        try:
            for name, size in sizes.items():
                self.buffers[name] = device.buffer(-(-size // 256) * 256)
        except BaseException:
            self._free()
            raise
        self.position = self.lowest = 0
        self._fed = (0, 0)

    @property
    def nbytes(self) -> int:
        """Bytes of device memory that are this ring's own."""
        return sum(buffer.nbytes for buffer in self.buffers.values())

    @property
    def row_bytes(self) -> int:
        """Bytes that one position takes in all caches together."""
        return sum(self._rows.values())

    def feed(self, position: int, count: int) -> None:
        """Note what the next fed recording computes: `count` tokens from `position` on."""
        self._fed = (position, count)

    def starts(self, fed: bool, repeat: int) -> None:
        """Note what a recording will overwrite, before it runs: an interrupted run leaves what is noted true."""
        first, end = self._span(fed, repeat)
        self.position = min(self.position, first)
        self.lowest = max(min(self.lowest, first), end - self.capacity)

    def ran(self, fed: bool, repeat: int) -> None:
        """Note that the recording ran `repeat` times."""
        self.position = self._span(fed, repeat)[1]

    def _span(self, fed: bool, repeat: int) -> tuple[int, int]:
        """Positions [first, end) that a recording computes."""
        first, count = self._fed if fed else (self.position, repeat)
        return first, first + count

    def holds(self, count: int) -> bool:
        """Whether a step may go on after the first `count` tokens: all that its attention sees is still there."""
        first_seen = max(0, count - self.window + 1) if self.window else 0
        return 0 <= count <= self.position and (count == 0 or self.lowest <= first_seen)

    def rewind(self, count: int) -> None:
        """Forget all but the first `count` tokens. Raises InputError where `holds(count)` is false."""
        self._check(count)
        self.position = count
        self.lowest = min(self.lowest, count)

    def copy(self, source: Ring, count: int) -> None:
        """Take the first `count` tokens of another ring of the same engine, on the device."""
        source._check(count)
        rows = count if min(source.lowest, count) == 0 else self.capacity
        if rows and source is not self:
            recording = self._device.recording()
            for name, size in self._rows.items():
                recording.copy(source.buffers[name], 0, self.buffers[name], 0, rows * size)
            _run(recording)
        self.position, self.lowest = count, min(source.lowest, count)

    def fill(self, word: int) -> None:
        """Put a 32-bit word everywhere in the caches, whose content is undefined at first: for measurements."""
        recording = self._device.recording()
        for name in self._rows:
            recording.fill(self.buffers[name], 0, self.buffers[name].nbytes, word)
        _run(recording)

    def save(self, count: int) -> dict[str, Bytes]:
        """The rows that hold the first `count` tokens, by the name of the cache: uint8 [rows, bytes of a row].

        There are `count` rows, or all C where the ring has wrapped and count is not 0. Raises InputError where
        `holds(count)` is false.
        """
        self._check(count)
        self._settle()
        rows = count if min(self.lowest, count) == 0 else self.capacity
        return {
            name.removeprefix("state:"): self.buffers[name].read(rows * size).reshape(rows, size)
            if rows
            else np.zeros((0, size), np.uint8)
            for name, size in self._rows.items()
        }

    def restore(self, rows: Mapping[str, Bytes], position: int, lowest: int) -> None:
        """Take what `save` gave, of a ring with the same rows. Raises InputError where it does not fit."""
        wanted = position if lowest == 0 else self.capacity
        fits = 0 <= lowest <= position and wanted <= self.capacity and len(rows) == len(self._rows)
        for name, size in self._rows.items():
            found = rows.get(name.removeprefix("state:"))
            fits = fits and found is not None and found.dtype == np.uint8 and found.shape == (wanted, size)
        if not fits:
            raise InputError("the saved cache does not fit this model's; load it with the same model and options")
        self._settle()
        for name in self._rows:
            if wanted:
                self.buffers[name].write(np.ascontiguousarray(rows[name.removeprefix("state:")]))
        self.position, self.lowest = position, lowest

    def close(self) -> None:
        """Free its memory on the device; it cannot be used afterwards."""
        if self.buffers:
            self._forget(self)
            self._free()

    def _free(self) -> None:
        for buffer in self.buffers.values():
            buffer.close()
        self.buffers.clear()

    def _check(self, count: int) -> None:
        if not self.buffers:
            raise InputError("the model is closed; load it again")
        if not self.holds(count):
            raise InputError(
                f"the first {count} tokens are not in the ring any more, which holds [{self.lowest}, {self.position})"
            )


def _run(recording: Recording) -> None:
    """Run the copies once."""
    recording.end()
    recording.run()
    recording.close()
