"""One product or attention alone on a device, timed: what tuning compares.

Every repetition reads other bytes of a large pool in the place of weights and of the ring, so that no cache holds them,
as in a model. Their values do not matter to the time, as long as they are ordinary numbers.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from .binding import Pipelines
from .book import Book
from .choices import Attention, Product, Task
from .device import Buffer, Device, Pipeline, Recording
from .errors import DeviceError
from .expression import evaluate
from .graph import shape as dims
from .graph.infer import make_node
from .graph.ir import Graph, Node, Value, constant
from .graph.weights import AffineWeight, QuantizedRows
from .hazards import Barrier, schedule
from .lower import Lowering
from .program import Dispatch, Entry, Program, Window
from .target import Target

POOL_BYTES = 1 << 29
SEED_BYTES = 1 << 20
WARM_UP = 0.2
"""Seconds of work before anything counts: a GPU that was idle is slower at first."""
RUN_SECONDS, MOST_RUNS = 0.003, 16
"""How long a measurement should last at least, and in how many runs of its recording at most."""
KEYS = 1000
"""Cached positions that attention is timed behind."""
TOKENS = {True: 128, False: 512}
"""Of a product of many tokens, on CPU drivers and on others: what a chunk of a prompt has."""
ONE_TOKEN, MANY_TOKENS = {True: 2, False: 24}, {True: 1, False: 2}
"""Repetitions in one recording, on CPU drivers and on others."""


@dataclass
class Trial:
    """A recording of repetitions of one dispatch."""

    shader: str
    recording: Recording
    pipelines: Pipelines
    repetitions: int
    stamps: bool
    runs: int = 0

    def seconds(self) -> float:
        """Of one repetition: of the last of so many in a row that a clock that was low has risen."""
        if not self.runs:
            self.runs = max(1, min(MOST_RUNS, int(RUN_SECONDS / max(1e-6, self._timed(1)))))
        return self._timed(self.runs) / self.repetitions

    def _timed(self, runs: int) -> float:
        """Seconds of a recording of which `runs` go out at once: the last one's by timestamps, or the mean."""
        started = time.perf_counter()
        self.recording.run(runs)
        elapsed = time.perf_counter() - started
        return self.recording.timestamps()[-1] if self.stamps else elapsed / runs

    def close(self) -> None:
        self.recording.close()
        self.pipelines.close()


class Trials:
    """The buffers that trials share."""

    def __init__(self, device: Device) -> None:
        self._device, self._cpu = device, device.info.device_type == "cpu"
        self._stamps = device.info.limits["timestamp_valid_bits"] > 0
        most = device.info.device_bytes // 8 // SEED_BYTES * SEED_BYTES
        self._pool = _numbers(device, max(SEED_BYTES, min(POOL_BYTES, most)))
        self._named: dict[str, Buffer] = {}
        self._warm: Trial | None = None

    def __enter__(self) -> Trials:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._warm is not None:
            self._warm.close()
        for buffer in (self._pool, *self._named.values()):
            buffer.close()

    def warm_up(self) -> None:
        """Keep the device busy for a moment."""
        if self._warm is None:
            task = Product("float32", 4096, 512, True)
            node = make_node("Linear", [_row(512), constant("w", np.zeros((4096, 512), np.float32))], "y")
            self._warm = self.trial(Target.of(self._device.info, "fp32"), task, node)
        started = time.perf_counter()
        while time.perf_counter() - started < WARM_UP:
            self._warm.recording.run()

    def trial(self, target: Target, task: Task, node: Node) -> Trial:
        """A recording of the task's dispatch with what the target's tuning says. Raises DeviceError."""
        low = _attention(target, node) if isinstance(task, Attention) else _product(target, task, node)
        low.run()
        entry = low.finish("trial", {"y": low.graph.outputs[0]}, None)
        one = isinstance(task, Attention) or task.one
        repetitions = (ONE_TOKEN if one else MANY_TOKENS)[self._cpu]
        repeated = replace(entry, dispatches=(entry.dispatches[-1],) * repetitions)
        pipelines = Pipelines(self._device, Program(tuple(low.book.kernels), {}, (), (), {}, 0, 0, 0))
        symbols = {"T": TOKENS[self._cpu], "C": 2 * KEYS, "W": 0}
        recording = self._record(repeated, pipelines, symbols)
        recording.run()  # drivers compile when a pipeline runs first
        shader = low.book.kernels[repeated.dispatches[0].kernel].shader
        return Trial(shader, recording, pipelines, repetitions, self._stamps)

    def _record(self, entry: Entry, pipelines: Pipelines, symbols: dict[str, int]) -> Recording:
        recording = self._device.recording()
        places = _Places(self._pool.nbytes)
        recording.barrier()
        if self._stamps:
            recording.timestamp()
        for step in schedule(entry.dispatches, symbols):
            if isinstance(step, Barrier):
                recording.barrier()
                continue
            self._dispatch(recording, step, pipelines[step.kernel], places, symbols)
        if self._stamps:
            recording.timestamp()
        recording.end()
        return recording

    def _dispatch(
        self, recording: Recording, step: Dispatch, pipeline: Pipeline, places: _Places, symbols: dict[str, int]
    ) -> None:
        windows = []
        seen: dict[str, tuple[Buffer, int, int]] = {}
        for window in step.windows:
            name, offset, size = window.resolve(symbols)
            if name.startswith(("weight:", "state:")) and name != "weight:tickets":
                if name not in seen:
                    seen[name] = (self._pool, *places.take(size))
                windows.append(seen[name])
            else:
                buffer = self._buffer(name, window, symbols)
                windows.append((buffer, offset, size))
        x, y, z = (evaluate(group, symbols) for group in step.groups)
        recording.dispatch(pipeline, windows, (x, y, z), step.push_words(symbols))

    def _buffer(self, name: str, window: Window, symbols: dict[str, int]) -> Buffer:
        """A buffer with room for a window; the step's holds a position, all others zeros."""
        _, offset, size = window.resolve(symbols)
        known = self._named.get(name)
        if known is None or known.nbytes < offset + size:
            # A longer one takes its place; recordings keep the one that they were made with.
            made = self._device.buffer(max(4096, 2 * (offset + size)))
            words = np.zeros(made.nbytes // 4, np.uint32)
            if name == "step":
                words[:2] = KEYS - 1, 1
            made.write(words)
            self._named[name] = made
        return self._named[name]


class _Places:
    """Takes ranges of the pool one after another, from the start again at its end."""

    def __init__(self, size: int) -> None:
        self._size, self._next = size, 0

    def take(self, size: int) -> tuple[int, int]:
        """(offset, size). Raises DeviceError for a range that exceeds the pool."""
        if size > self._size:
            raise DeviceError(f"{size} bytes of weights cannot be tuned with a pool of {self._size}")
        if self._next + size > self._size:
            self._next = 0
        offset = self._next
        self._next += -(-size // 4096) * 4096
        return offset, size


def _numbers(device: Device, size: int) -> Buffer:
    """A buffer of random words that are ordinary numbers below 2, as two halves and as a float."""
    pool = device.buffer(size)
    seed = np.random.default_rng(1).integers(0, 1 << 32, SEED_BYTES // 4, np.uint32) & np.uint32(0x3FFF3FFF)
    pool.write(seed)
    recording = device.recording()
    have = SEED_BYTES
    while have < size:
        recording.copy(pool, 0, pool, have, min(have, size - have))
        recording.barrier()
        have *= 2
    recording.end()
    recording.run()
    recording.close()
    return pool


def _row(columns: int, tokens: dims.Dim = 1) -> Value:
    return Value("x", "float32", (tokens, columns))


def _product(target: Target, task: Product, node: Node) -> Lowering:
    """The product alone; of many tokens behind a norm, so that its inputs are stored as in a model."""
    rows = task.outputs * (2 if task.gated else 1)
    x = _row(task.columns, 1 if task.one else dims.symbol("T"))
    scale = constant("scale", np.ones(task.columns, np.float32))
    weight = Value("w", "float32", (rows, task.columns), _bare(node.input(1).constant, rows))
    bias = constant("b", np.zeros(rows, np.float32)) if task.biased else None
    before = [] if task.one else [make_node("RMSNorm", [x, scale], "n", {"epsilon": 1e-5})]
    source = before[0].output if before else x
    residual = None
    if node.optional(3) is not None:
        residual = Value("residual", "float32", (x.dims[0], task.outputs))
    last = make_node(
        "Linear", [source, weight, bias, residual, scale if task.normed else None], "y", dict(node.attributes)
    )
    inputs = [v for v in (x, residual) if v is not None]
    graph = Graph("trial", inputs, [*before, last], [last.output])
    names = {v: v.name for v in inputs}
    return Lowering(graph, target, Book(target.half_cache), {}, {}, names, multiple=target.bucket)


def _attention(target: Target, node: Node) -> Lowering:
    """Attention alone, over rings of C positions."""
    sources = {v: Value(v.name, "float32", (1, 1, int(v.dims[-1]))) for v in (node.input(i) for i in range(3))}
    width = int(node.attributes["kv_heads"]) * int(node.attributes["head_dim"])
    rings = [Value(n, "float32", (1, dims.symbol("C"), width)) for n in "kv"]
    rest = [node.optional(i) for i in range(5, len(node.inputs))]
    inputs = [*(sources[node.input(i)] for i in range(3)), *rings, *rest]
    last = make_node("RingAttention", inputs, "y", dict(node.attributes), output_names=["y", "k_out", "v_out"])
    given = [*dict.fromkeys(sources.values())]
    graph = Graph("trial", [*given, *rings], [last], last.outputs)
    states = {ring: ring.name for ring in rings}
    return Lowering(graph, target, Book(target.half_cache), {}, states, {v: v.name for v in given})


def _bare(weight: Any, rows: int) -> Any:
    """A weight of the same format with `rows` rows, which takes no memory."""
    if isinstance(weight, AffineWeight):
        part = weight.parts[0]
        codes, scale = _zeros(part.codes, rows), _zeros(part.scale, rows)
        minimum = None if part.minimum is None else _zeros(part.minimum, rows)
        return AffineWeight((QuantizedRows(codes, scale, minimum, part.bits, part.signed, part.zero),))
    return np.broadcast_to(np.zeros((), weight.dtype), (rows, int(weight.shape[1])))


def _zeros(array: npt.NDArray[Any], rows: int) -> npt.NDArray[Any]:
    return np.broadcast_to(np.zeros((), array.dtype), (rows, int(array.shape[1])))
