"""Plans of dispatches and barriers: what happens when one barrier is missing, and what a dispatch really writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tlite_vk import spirv
from tlite_vk.binding import Buffers, Pipelines, present, record_steps
from tlite_vk.device import Device
from tlite_vk.engine import Engine
from tlite_vk.hazards import Barrier, Step, schedule
from tlite_vk.program import Dispatch, Kernel, Program, Window

COUNT = 64
CHAIN = Program((Kernel("test_chain", ("storage", "storage"), ((0, 64), (1, 1)), 8),), {}, (), (), {}, 0, 0, 0)
"""A program of the kernel that tests of the binding use, y[i] = x[i] + offset over COUNT numbers."""
HAZARDS = {"RAW": ("ab", "bc"), "WAR": ("ab", "ca"), "WAW": ("ab", "cb")}
"""Of each kind: two dispatches that have it, each from the buffer of one letter to that of another."""


def link(source: str, target: str, count: int = COUNT, size: int = 4 * COUNT) -> Dispatch:
    """Reads one buffer, writes another; `size` bytes of it are declared, `count` numbers are written."""
    windows = (Window(source, 0, size, "read"), Window(target, 0, size, "write"))
    return Dispatch(0, windows, (-(-count // 64), 1, 1), (count, 1), f"{source} to {target}")


def without_one_barrier(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """The plan without its first barrier, without its second, ..."""
    for i, step in enumerate(steps):
        if isinstance(step, Barrier):
            yield [*steps[:i], *steps[i + 1 :]]


def run_chain(device: Device, steps: Sequence[Step], nbytes: int = 1024) -> None:
    """Record and run steps over CHAIN with buffers a, b and c."""
    assert spirv.load("test_chain")
    named = {name: device.buffer(nbytes) for name in "abc"}
    pipelines, recording = Pipelines(device, CHAIN), device.recording()
    record_steps(recording, steps, {}, Buffers(named, {}), pipelines)
    recording.end()
    recording.run()


def stray_writes(
    device: Device, program: Program, dispatches: Sequence[Dispatch], symbols: dict[str, int], buffers: Buffers
) -> list[str]:
    """Run the dispatches one by one; which of them changed bytes that they do not declare to write.

    A driver that keeps a shader within its windows by itself (lavapipe does) hides what goes beyond them.
    """
    pipelines, found = Pipelines(device, program), []
    every = {id(b): b for b in [*buffers.named.values(), *(b for b, _ in buffers.weights.values())]}
    for dispatch in present(dispatches, symbols):
        before = {key: b.read() for key, b in every.items()}
        recording = device.recording()
        record_steps(recording, [dispatch], symbols, buffers, pipelines)
        recording.end()
        recording.run()
        for window in dispatch.windows:
            if window.access != "read":
                buffer, offset, size = buffers.bind(window, symbols)
                before[id(buffer)][offset : offset + size] = buffer.read(size, offset)
        found += [dispatch.label for key, b in every.items() if not np.array_equal(b.read(), before[key])]
    return found


def engine_plan(engine: Engine, entry: str, tokens: int) -> tuple[list[Step], dict[str, int]]:
    """The steps of one of an engine's entries, with the lengths they are for."""
    symbols = engine.symbols(tokens)
    return schedule(present(engine.program.entries[entry].dispatches, symbols), symbols), symbols
