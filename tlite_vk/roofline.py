"""What a device can do at most, measured: copy bandwidth and multiply-add rate (the roofline model, Williams 2009).

Both figures are the best of several runs: other work on the machine only ever makes them smaller.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from . import spirv
from .device import Device, Recording

RUNS = 5
MIN_SECONDS = 0.02  # of one submission, so that its own cost does not count
MAX_REPEAT = 1 << 12
MAX_ROUNDS = 1 << 16
COPY_BYTES = 1 << 27
"""Bytes of each of the two buffers: more than the caches hold, within the storage range that every phone offers."""
MULTIPLY_ADDS = 96  # per round and invocation; see shaders/roofline_multiply_add.comp
GROUPS = 8192
LANES = 64

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Roofline:
    """copies: bytes per second, read plus written, by the way of copying. multiply_adds_per_s: in fp32."""

    copies: dict[str, float]
    multiply_adds_per_s: float

    @property
    def copy_bytes_per_s(self) -> float:
        """Bytes read plus bytes written per second, by the fastest way."""
        return max(self.copies.values())


def measure(device: Device, progress: Progress | None = None) -> Roofline:
    """Measure a device; takes about a second, and 256 MiB of its memory. `progress` is called with (done, total).

    Raises DeviceError where the memory does not suffice or the device fails.
    """
    copies = _Copies(device)
    try:
        ways = copies.recordings()
        repeat = {name: _repetitions(recording) for name, recording in ways.items()}
        best = dict.fromkeys(ways, 0.0)
        for done in range(RUNS):
            for name, recording in ways.items():
                seconds = _once(recording, repeat[name]) / repeat[name]
                best[name] = max(best[name], 2 * copies.nbytes / seconds)
            if progress is not None:
                progress(done + 1, RUNS + 1)
    finally:
        copies.close()
    found = Roofline(best, _multiply_adds(device))
    if progress is not None:
        progress(RUNS + 1, RUNS + 1)
    return found


def _once(recording: Recording, repeat: int = 1) -> float:
    """Seconds of one submission."""
    started = time.perf_counter()
    recording.run(repeat)
    return time.perf_counter() - started


def _repetitions(recording: Recording) -> int:
    """How many repetitions make a submission last MIN_SECONDS; the first run, which is a warm-up, does not count."""
    _once(recording)
    repeat = 1
    while _once(recording, repeat) < MIN_SECONDS and repeat < MAX_REPEAT:
        repeat *= 2
    return repeat


class _Copies:
    """Two buffers, and the ways to copy one to the other."""

    def __init__(self, device: Device) -> None:
        limits = device.info.limits
        self._device = device
        self._lanes = min(512, limits["max_workgroup_invocations"], device.info.max_workgroup_size[0])
        most = min(COPY_BYTES, limits["max_storage_buffer_range"])
        group = 16 * self._lanes
        self._groups = min(min(most, device.info.device_bytes // 16) // group, device.info.max_workgroup_count[0])
        self.nbytes = self._groups * group
        self._source, self._target = device.buffer(self.nbytes), device.buffer(self.nbytes)
        fill = device.recording()
        fill.fill(self._source, 0, self.nbytes, 0x01234567)
        fill.end()
        fill.run()
        self._made: list[Recording] = []

    def recordings(self) -> dict[str, Recording]:
        """Shaders that read a storage buffer and, where its limit allows, a texel buffer; the driver's copy command."""
        by_command = self._device.recording()
        by_command.copy(self._source, 0, self._target, 0, self.nbytes)
        by_command.end()
        self._made.append(by_command)
        ways = {"command": by_command, "storage": self._shader("roofline_copy", "storage")}
        if self.nbytes <= 16 * self._device.info.limits["max_texel_buffer_elements"]:
            ways["texel"] = self._shader("roofline_copy_t", "texel_rgba32ui")
        return ways

    def _shader(self, name: str, kind: str) -> Recording:
        pipeline = self._device.pipeline(spirv.load(name), [kind, "storage"], specialization=[self._lanes])
        recording = self._device.recording()
        windows = [(self._source, 0, self.nbytes), (self._target, 0, self.nbytes)]
        recording.dispatch(pipeline, windows, (self._groups, 1, 1))
        recording.end()
        self._made.append(recording)
        return recording

    def close(self) -> None:
        for recording in self._made:
            recording.close()
        self._source.close()
        self._target.close()


def _multiply_adds(device: Device) -> float:
    """Multiply-adds per second of a loop in registers, with enough rounds to last MIN_SECONDS."""
    pipeline = device.pipeline(spirv.load("roofline_multiply_add"), ["storage"], specialization=[LANES], push_bytes=12)
    result = device.buffer(4 * LANES * GROUPS)
    rounds, seconds = 16, 0.0
    while True:
        recording = device.recording()
        push = struct.pack("<Iff", rounds, 0.5, 1.0)  # the chains tend to 2: no infinities, no denormal numbers
        recording.dispatch(pipeline, [(result, 0, result.nbytes)], (GROUPS, 1, 1), push)
        recording.end()
        _once(recording)
        seconds = min(_once(recording) for _ in range(RUNS))
        recording.close()
        if seconds >= MIN_SECONDS or rounds >= MAX_ROUNDS:
            break
        rounds *= 4
    result.close()
    return LANES * GROUPS * rounds * MULTIPLY_ADDS / seconds
