"""Speed and memory of a model on a device, measured as llama-bench does, beside what the device can do at most.

Random token ids, an untimed warm-up, medians of the repetitions:
    prefill    a prompt from an empty cache, in chunks, until the logits of its last token are on the host
    decode     one random token per submission; after each one the logits are on the host
    generate   what `Model.generate` does at temperature 0: tokens chosen on the device, several in a submission
The three take turns within a repetition, so that other work on the machine falls on all alike.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from .device import Device
from .errors import InputError
from .generate import Model
from .loading import DEFAULT_CONTEXT, load
from .roofline import Roofline, measure
from .target import Precision
from .workload import Workload

SEED = 1
Progress = Callable[[str, int, int], None]
"""Called with (what is being done, steps done, steps in total)."""


@dataclass(frozen=True)
class Plan:
    """prompt, gen: tokens. depth: tokens cached before decoding. Raises InputError for what cannot be measured."""

    prompt: int = 128
    gen: int = 32
    repeat: int = 3
    depth: int = 0

    def __post_init__(self) -> None:
        if min(self.prompt, self.gen, self.repeat) < 1 or self.depth < 0:
            raise InputError("prompt, gen and repeat must be at least 1, depth at least 0")

    @property
    def positions(self) -> int:
        """How many the cache must hold."""
        return max(self.prompt, self.depth) + self.gen


@dataclass
class Repetitions:
    """Seconds of each repetition, except generate_tokens_per_s."""

    prefill_s: list[float] = field(default_factory=list)
    decode_s: list[float] = field(default_factory=list)
    time_to_first_token_s: list[float] = field(default_factory=list)
    generate_tokens_per_s: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """What `bench` found. Rates are medians, per second; sizes in bytes; shares are fractions of the device's limit."""

    model: str
    device: str
    driver: str
    precision: str
    prompt: int
    gen: int
    depth: int
    repeat: int
    context: int
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    generate_tokens_per_s: float | None  # None where gen is 1
    time_to_first_token_s: float
    load_s: float
    weight_bytes: int
    peak_device_bytes: int
    peak_host_bytes: int
    longest_submission_s: float  # after the warm-up
    copy_bytes_per_s: float
    copies: Mapping[str, float]
    multiply_adds_per_s: float
    decode_bytes_per_token: float
    decode_share_of_copy: float
    prefill_multiply_adds_per_token: float
    prefill_share_of_multiply_adds: float
    repetitions: Repetitions

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def bench(
    path: str | Path,
    plan: Plan,
    *,
    device: Device | int | str | None = None,
    context: int | None = None,
    precision: Precision = "fp16",
    submission_ms: float | None = None,
    progress: Progress | None = None,
) -> Report:
    """Measure a model. On CPU drivers the device's memory is part of the host's.

    Raises InputError if the context is too short, and what `load` raises.
    """
    report = progress or (lambda label, done, total: None)
    started = time.perf_counter()
    if context is None and plan.positions > DEFAULT_CONTEXT:
        context = plan.positions
    with load(
        path, device=device, context=context, precision=precision, submission_ms=submission_ms,
        progress=partial(report, "load"),
    ) as model:  # fmt: skip
        facts: dict[str, Any] = {"load_s": time.perf_counter() - started, "precision": precision}
        if plan.positions > model.context:
            raise InputError(
                f"{plan.positions} positions are needed, the context holds {model.context}; "
                "choose smaller --prompt, --gen or --depth, or a larger --context"
            )
        repetitions = _Bench(model, plan).run(partial(report, "run"))
        facts |= {"peak_host_bytes": peak_host_bytes(), "peak_device_bytes": model.device.memory_peak}
        facts |= _about(model) | {"longest_submission_s": model.engine.longest_submission_s}
        opened, work, window = model.device, Workload(model.program), model.program.window
    # Only now: the buffers of this measurement must not count as the model's memory.
    limits = measure(opened, partial(report, "measure the device"))
    return Report(**facts, **asdict(plan), **_rates(plan, repetitions, work, window, limits), repetitions=repetitions)


def _about(model: Model) -> dict[str, Any]:
    info = model.device.info
    return {
        "model": str(model.path),
        "device": info.name,
        "driver": f"{info.driver_name} {info.driver_info}".strip(),
        "context": model.context,
        "weight_bytes": model.program.weight_bytes,
    }


def _rates(plan: Plan, found: Repetitions, work: Workload, window: int, limits: Roofline) -> dict[str, Any]:
    prefill, decode = plan.prompt / median(found.prefill_s), plan.gen / median(found.decode_s)
    read = work.decode_bytes(plan.depth + (plan.gen - 1) / 2, window)
    multiplied = work.prefill_multiply_adds(plan.prompt, window) / plan.prompt
    return {
        "prefill_tokens_per_s": prefill,
        "decode_tokens_per_s": decode,
        "generate_tokens_per_s": median(found.generate_tokens_per_s) if found.generate_tokens_per_s else None,
        "time_to_first_token_s": median(found.time_to_first_token_s),
        "copy_bytes_per_s": limits.copy_bytes_per_s,
        "copies": limits.copies,
        "multiply_adds_per_s": limits.multiply_adds_per_s,
        "decode_bytes_per_token": read,
        "decode_share_of_copy": decode * read / limits.copy_bytes_per_s,
        "prefill_multiply_adds_per_token": multiplied,
        "prefill_share_of_multiply_adds": prefill * multiplied / limits.multiply_adds_per_s,
    }


class _Bench:
    """The three measurements over one model."""

    def __init__(self, model: Model, plan: Plan) -> None:
        self._model = Model(model.engine, None, model.path)  # without a tokenizer nothing stops a generation early
        self._plan = plan
        self._random = np.random.default_rng(SEED)

    def _ids(self, count: int) -> list[int]:
        return [int(i) for i in self._random.integers(0, self._model.program.vocabulary, count)]

    def run(self, progress: Callable[[int, int], None]) -> Repetitions:
        """An untimed warm-up, then the repetitions. Where submissions are bounded, kernels' times are learnt first."""
        kept, engine = Repetitions(), self._model.engine
        warm = 3 if engine.pace.bound else 1
        for number in range(self._plan.repeat + warm):
            found = kept if number >= warm else Repetitions()
            for step, measured in enumerate((self._prefill, self._decode, self._generate)):
                measured(found)
                progress(3 * number + step + 1, 3 * (self._plan.repeat + warm))
            if number < warm:
                engine.longest_submission_s = 0.0
        return kept

    def _prefill(self, found: Repetitions) -> None:
        ids = self._ids(self._plan.prompt)
        started = time.perf_counter()
        self._model.prefill(ids, pick=False)
        found.prefill_s.append(time.perf_counter() - started)

    def _decode(self, found: Repetitions) -> None:
        depth = self._plan.depth
        if depth:
            self._model.prefill(self._ids(depth))
        ids = self._ids(self._plan.gen)
        started = time.perf_counter()
        for position, token in enumerate(ids, depth):
            self._model.prefill([token], start=position, pick=False)
        found.decode_s.append(time.perf_counter() - started)

    def _generate(self, found: Repetitions) -> None:
        ids = self._ids(self._plan.prompt)
        started = time.perf_counter()
        tokens = self._model.generate_tokens(ids, max_tokens=self._plan.gen)
        next(tokens)
        found.time_to_first_token_s.append(time.perf_counter() - started)
        started = time.perf_counter()
        count = sum(1 for _ in tokens)
        if count:
            found.generate_tokens_per_s.append(count / (time.perf_counter() - started))


def peak_host_bytes() -> int:
    """Most memory that this process ever held (VmHWM); shared memory of a CPU driver counts."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
