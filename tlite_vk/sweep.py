"""How cost grows with length: a decoded token behind more and more cached ones, prompts, and the memory for both.

Attention must read every cached position, so a decoded token costs at least a + b P and a prompt a T + b T^2. Both are
fitted to what was measured; between the two longest lengths nothing should grow faster than the fit does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from .bench import SEED, Progress
from .device import Device
from .errors import InputError
from .expression import evaluate
from .generate import Model
from .loading import load
from .program import Program
from .target import Precision

CACHED = (128, 256, 512, 1024, 2048, 4096, 8192)
PROMPTS = (64, 128, 256, 512, 1024, 2048, 4096)
DECODE_POWERS, PREFILL_POWERS = (0, 1), (1, 2)
SLACK = 0.2
"""What an exponent may exceed the fit's by: 15 % of the time when the length doubles. Busy machines are no steadier."""
FILLING = 0x2C002C00  # two halves of 1/16, or a float of 2e-12: neither NaN nor denormal


@dataclass(frozen=True)
class SweepPlan:
    """cached: positions that a decode step sees, its own included. prompts: tokens. gen: tokens of one repetition."""

    cached: Sequence[int] = CACHED
    prompts: Sequence[int] = PROMPTS
    gen: int = 32
    repeat: int = 3

    def __post_init__(self) -> None:
        if min(self.gen, self.repeat, *self.cached, *self.prompts) < 1:
            raise InputError("lengths, gen and repeat must be at least 1")

    def up_to(self, longest: int) -> SweepPlan:
        """Without the lengths above `longest`. Raises InputError where no length is left of either kind."""
        cached = [n for n in self.cached if n <= longest]
        prompts = [n for n in self.prompts if n <= longest]
        if not cached or not prompts:
            shortest = max(min(self.cached), min(self.prompts))
            raise InputError(f"a sweep begins with {shortest} tokens, only {longest} are allowed or known to the model")
        return SweepPlan(cached, prompts, self.gen, self.repeat)


@dataclass(frozen=True)
class Memory:
    """Bytes on the device: weights, ring of keys and values, activations of a decode step and of a prompt's chunk."""

    weights: int
    ring: int
    arena: int

    @property
    def total(self) -> int:
        return self.weights + self.ring + self.arena


def memory(program: Program, capacity: int, chunk: int, window: int = 0) -> Memory:
    """What an engine with a ring of `capacity` positions allocates, from the Program's sizes; see `Engine`."""
    symbols = {"T": chunk, "C": capacity, "W": window}
    arenas = (evaluate(e.arena, symbols | ({"T": 1} if n == "decode" else {})) for n, e in program.entries.items())
    return Memory(program.weight_bytes, sum(evaluate(s.size, symbols) for s in program.states), sum(arenas))


@dataclass(frozen=True)
class Point:
    """tokens: cached ones or those of a prompt. ms: median of the repetitions. memory: with a ring just long enough."""

    tokens: int
    ms: float
    repetitions: list[float]
    memory: Memory

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "memory": {**asdict(self.memory), "total": self.memory.total}}


@dataclass(frozen=True)
class Growth:
    """factors[i] x^powers[i], summed, is the fit in ms. exponent: measured between the last two points; allowed: the
    fit's between them. Both are None where there is one point only."""

    powers: tuple[int, int]
    factors: tuple[float, float]
    exponent: float | None
    allowed: float | None

    def at(self, tokens: float) -> float:
        """ms that the fit gives."""
        return sum(f * tokens**p for f, p in zip(self.factors, self.powers, strict=True))

    @property
    def faster(self) -> bool:
        """Whether the last step grew faster than attention must, noise aside."""
        return self.exponent is not None and self.allowed is not None and self.exponent > self.allowed + SLACK


def growth(points: Sequence[Point], powers: tuple[int, int]) -> Growth:
    """Fit two factors, neither negative, by least squares of relative errors."""
    x, y = np.array([p.tokens for p in points], float), np.array([p.ms for p in points])
    columns = np.stack([x**p / y for p in powers], axis=1)  # [points, 2]
    found: list[tuple[float, tuple[float, float]]] = []
    for kept in [[0, 1], [0], [1]][len(points) < 2 :]:
        factors = np.zeros(2)
        factors[kept] = np.linalg.lstsq(columns[:, kept], np.ones(len(x)), rcond=None)[0]
        if (factors >= 0).all():
            found.append((float(np.square(columns @ factors - 1).sum()), (float(factors[0]), float(factors[1]))))
    fit = Growth(powers, min(found, key=lambda f: f[0])[1], None, None)
    if len(points) < 2:
        return fit
    (x1, y1), (x2, y2) = ((p.tokens, p.ms) for p in points[-2:])
    doublings = math.log(x2 / x1)
    return Growth(powers, fit.factors, math.log(y2 / y1) / doublings, math.log(fit.at(x2) / fit.at(x1)) / doublings)


@dataclass(frozen=True)
class SweepReport:
    """What `sweep` found. left_out: lengths of the plan that the model has no positions for."""

    model: str
    device: str
    driver: str
    precision: str
    gen: int
    repeat: int
    positions: int
    left_out: list[int]
    decode: list[Point]
    prefill: list[Point]
    decode_growth: Growth
    prefill_growth: Growth
    peak_device_bytes: int

    @property
    def ring_bytes_per_token(self) -> float:
        """What one more position costs; 0 where a window bounds the ring."""
        points = sorted([*self.decode, *self.prefill], key=lambda p: p.tokens)
        first, last = points[0], points[-1]
        return (last.memory.ring - first.memory.ring) / max(1, last.tokens - first.tokens)

    def as_json(self) -> dict[str, Any]:
        grown = {name: asdict(g) | {"faster": g.faster} for name, g in self._growths().items()}
        points = {"decode": [p.as_json() for p in self.decode], "prefill": [p.as_json() for p in self.prefill]}
        return asdict(self) | points | grown | {"ring_bytes_per_token": self.ring_bytes_per_token}

    def _growths(self) -> dict[str, Growth]:
        return {"decode_growth": self.decode_growth, "prefill_growth": self.prefill_growth}


def sweep(
    path: str | Path,
    plan: SweepPlan,
    *,
    device: Device | int | str | None = None,
    precision: Precision = "fp16",
    progress: Progress | None = None,
) -> SweepReport:
    """Measure a model at the plan's lengths, with one ring that holds the longest; the lengths take turns.

    A decode step is timed at one position, without computing what would lie in the cache: the ring is filled with one
    small number first. How long a step takes depends on how many positions it reads, not on their values.
    Raises InputError where the model knows too few positions for any length, and what `load` raises.
    """
    report = progress or (lambda label, done, total: None)
    longest = max(*plan.cached, *plan.prompts)
    with load(
        path, device=device, context=longest, shorten=True, precision=precision, progress=partial(report, "load")
    ) as model:
        kept = plan.up_to(model.context)
        decode, prefill = _Sweep(model, kept).run(partial(report, "run"))
        info = model.device.info
        return SweepReport(
            model=str(model.path),
            device=info.name,
            driver=f"{info.driver_name} {info.driver_info}".strip(),
            precision=precision,
            gen=plan.gen,
            repeat=plan.repeat,
            positions=model.context,
            left_out=sorted({*plan.cached, *plan.prompts} - {*kept.cached, *kept.prompts}),
            decode=decode,
            prefill=prefill,
            decode_growth=growth(decode, DECODE_POWERS),
            prefill_growth=growth(prefill, PREFILL_POWERS),
            peak_device_bytes=model.device.memory_peak,
        )


class _Sweep:
    """The measurements over one model."""

    def __init__(self, model: Model, plan: SweepPlan) -> None:
        self._model, self._plan = model, plan
        self._random = np.random.default_rng(SEED)

    def run(self, progress: Callable[[int, int], None]) -> tuple[list[Point], list[Point]]:
        """Points of decode and of prefill, in the plan's order."""
        self._model.engine.main.fill(FILLING)
        work = [(self._prefill, n) for n in self._plan.prompts] + [(self._decode, n) for n in self._plan.cached]
        self._warm_up()
        found: list[list[float]] = [[] for _ in work]
        total = self._plan.repeat * len(work)
        for number in range(self._plan.repeat):
            for i, (measured, tokens) in enumerate(work):
                found[i].append(measured(tokens))
                progress(number * len(work) + i + 1, total)
        points = [self._point(n, ms) for (_, n), ms in zip(work, found, strict=True)]
        prompts = len(self._plan.prompts)
        return points[prompts:], points[:prompts]

    def _warm_up(self) -> None:
        """Each recording once: a prompt of many chunks uses those of one of two chunks."""
        chunk = self._model.engine.chunk
        for tokens in self._plan.prompts:
            self._prefill(tokens if tokens <= 2 * chunk else chunk + (tokens - 1) % chunk + 1)
        for tokens in self._plan.cached:
            self._decode(tokens, 1)

    def _ids(self, count: int) -> list[int]:
        return [int(i) for i in self._random.integers(0, self._model.program.vocabulary, count)]

    def _prefill(self, tokens: int) -> float:
        """ms of a prompt from an empty cache until its last logits are on the host."""
        ids = self._ids(tokens)
        started = time.perf_counter()
        self._model.prefill(ids, pick=False)
        return 1e3 * (time.perf_counter() - started)

    def _decode(self, cached: int, gen: int | None = None) -> float:
        """ms of a token that sees `cached` positions, until its logits are on the host; the mean of `gen`."""
        ids = self._ids(gen or self._plan.gen)
        started = time.perf_counter()
        for token in ids:
            self._model.prefill([token], start=cached - 1, pick=False)
        return 1e3 * (time.perf_counter() - started) / len(ids)

    def _point(self, tokens: int, ms: list[float]) -> Point:
        engine = self._model.engine
        bounded = engine.window or engine.program.window
        capacity = engine.capacity if bounded else tokens
        return Point(tokens, median(ms), ms, memory(engine.program, capacity, engine.chunk, engine.window))
