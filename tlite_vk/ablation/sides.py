"""One side of an ablation: an engine, and the measurements of `bench` on it, a step at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tlite_vk.compile import compile_model
from tlite_vk.decoding import Decoder
from tlite_vk.engine import Engine, Variant
from tlite_vk.expression import evaluate
from tlite_vk.program import Program
from tlite_vk.sweep import FILLING
from tlite_vk.target import Target

from .programs import ODD, Alternating, copied_past, int4

Compile = Callable[[Target], Program]
"""The model's Program for a target."""
STEP = Variant("decode", 1, feed=False, pick=True)
"""A token chosen on the device, of what the step before left there."""


class Side:
    """Runs steps and times them."""

    def __init__(self, engine: Engine, decoder: Decoder | None = None) -> None:
        self.engine, self._decoder = engine, decoder or Decoder(engine)

    def prefill(self, ids: Sequence[int]) -> float:
        """ms of a prompt from an empty cache until the logits of its last token are on the host."""
        started = time.perf_counter()
        self._decoder.prefill(ids, pick=False)
        return 1e3 * (time.perf_counter() - started)

    def decode(self, cached: int, ids: Sequence[int]) -> float:
        """ms of a token that sees `cached` positions, its own included, until its logits are on the host: the mean."""
        started = time.perf_counter()
        for token in ids:
            self._decoder.prefill([token], start=cached - 1, pick=False)
        return 1e3 * (time.perf_counter() - started) / len(ids)

    def chosen(self, ids: Sequence[int], count: int, batch: int) -> tuple[float, list[int]]:
        """`count` tokens chosen on the device behind a prompt, `batch` in a submission: ms of one, and the tokens."""
        self._decoder.prefill(ids)
        started = time.perf_counter()
        found: list[int] = []
        for first in range(0, count, batch):
            last = min(first + batch, count)
            self.engine.run(STEP, last - first)
            found += self.engine.picked(first + 1, last + 1)
        return 1e3 * (time.perf_counter() - started) / count, found

    def logits(self, ids: Sequence[int], prompt: int) -> npt.NDArray[np.float32]:
        """Of the last row after `prompt` tokens, then after each of the others: float32 [len(ids) - prompt + 1, V]."""
        self._decoder.prefill(ids[:prompt], pick=False)
        rows = [self.engine.logits()[0].copy()]
        for position in range(prompt, len(ids)):
            self._decoder.prefill([ids[position]], start=position, pick=False)
            rows.append(self.engine.logits()[0].copy())
        return np.array(rows)

    def fill(self) -> None:
        """Give the caches a content that costs attention what any other does."""
        self.engine.main.fill(FILLING)

    @property
    def arena_bytes(self) -> int:
        """Of activations: of a decode step and of a prompt's chunk."""
        entries = {n: e for n, e in self.engine.program.entries.items() if not n.endswith(ODD)}
        steps = {n: self.engine.symbols(1 if n == "decode" else self.engine.chunk) for n in entries}
        return sum(evaluate(entry.arena, steps[n]) for n, entry in entries.items())

    @property
    def cache_bytes(self) -> int:
        """Of all caches."""
        return sum(evaluate(s.size, self.engine.symbols(1)) for s in self.engine.program.states)


def compiler(path: Path, positions: int) -> Compile:
    """A function that compiles the model for generation."""
    return lambda target: compile_model(path, target, ("decode", "prefill"), positions=positions)


def variant_of(name: str, engine: Engine, compiled: Compile) -> Side:
    """The other side of one of IDEAS, on an engine of its own; of "single", the engine itself."""
    target = engine.target
    if name == "int4":
        return Side(_engine(engine, int4(engine.program)))
    if name == "concat":
        copying = _engine(engine, copied_past(engine.program, target))
        return Side(copying, Alternating(copying))
    if name == "unfused":
        return Side(_engine(engine, compiled(replace(target, fuse=False))))
    if name == "unplanned":
        return Side(_engine(engine, compiled(replace(target, reuse=False))))
    return Side(engine)


def _engine(like: Engine, program: Program) -> Engine:
    return Engine(
        like.device, program, like.target, capacity=like.capacity, window=like.window, chunk=like.chunk
    )  # fmt: skip
