"""The steps of a generation: a prompt in padded chunks, then token by token, chosen on the device."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from .engine import Engine, Variant
from .errors import ModelError
from .ring import Ring
from .sampling import SamplingOptions, Settings

SUBMISSION_SECONDS = 0.05
"""Several tokens go in one submission while it stays under this (or the engine's bound): text flows smoothly."""
MAX_BATCH = 16
NOT_A_TOKEN = 0xFFFFFFFF

Finish = Literal["stop", "length", "context"]
Progress = Callable[[int, int], None]
"""Called with (done, total) as work goes on."""
Look = Callable[[npt.NDArray[np.float32], int], None]
"""Called with (logits [V], the token chosen from them)."""


@dataclass
class Stats:
    """What the last generation did. Times in seconds; prefill ends with the first token.

    cached_tokens: those of the prompt that were in the ring already, and not computed again.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    finish: Finish | None = None
    seed: int | None = None
    """What tokens were drawn with, chosen by the system where none was given; None: greedily."""


class Decoder:
    """Runs an engine's steps on one ring. `stats` may be replaced before a generation; its times are added to."""

    def __init__(self, engine: Engine, ring: Ring | None = None) -> None:
        """ring: the engine's own `main` by default."""
        self.engine, self.ring, self.stats = engine, ring or engine.main, Stats()

    def tokens(
        self, ids: list[int], limit: int, sampling: SamplingOptions, progress: Progress | None = None, start: int = 0
    ) -> Iterator[int]:
        """At most `limit` tokens that follow `ids`, whose first lies at position 0; `start` of them are in the ring.

        Raises ModelError for logits that are not finite, DeviceError if the device fails.
        """
        for found in self.steps(ids, limit, sampling, start=start, progress=progress):
            yield from found

    def steps(
        self,
        ids: list[int],
        limit: int,
        sampling: SamplingOptions,
        *,
        start: int = 0,
        progress: Progress | None = None,
        look: Look | None = None,
        most: int | None = None,
    ) -> Iterator[list[int]]:
        """As `tokens`, one submission at a time: the tokens that it gave, none while the prompt is read.

        Between two of them other rings may run. look: sees the logits of each token. most: tokens a submission.
        """
        if limit <= 0:
            return
        sample = not sampling.greedy or sampling.repetition_penalty != 1.0
        if sample:
            settings = Settings.of(sampling)
            self.stats.seed = None if sampling.greedy else settings.seed
            self.engine.sample_by(settings.words(ids, self.engine.program.vocabulary), self.ring)
        read = look is not None
        for last in self._prefill(ids[start:], start, progress, sample=sample, read=read):
            yield self._chosen(0, 1, look) if last else []
        step = Variant("decode", 1, feed=False, pick=True, sample=sample, read=read)
        yield from self._following(limit, step, 1 if read else most or MAX_BATCH, look)

    def prefill(
        self,
        ids: Sequence[int],
        *,
        start: int = 0,
        pick: bool = True,
        sample: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Run tokens at positions start, start + 1, ...; the last chunk leaves logits, or its choice with `pick`.

        sample: choose by what the engine samples by, not greedily.
        """
        for _ in self._prefill(ids, start, progress, pick=pick, sample=sample):
            pass

    def _prefill(
        self,
        ids: Sequence[int],
        start: int,
        progress: Progress | None,
        *,
        pick: bool = True,
        sample: bool = False,
        read: bool = False,
    ) -> Iterator[bool]:
        """After each chunk, whether it was the last. read: leave the logits as well as a choice."""
        for part, variant in self.chunks(len(ids), pick, sample):
            if read and variant.pick:
                variant = replace(variant, read=True)
            started = time.perf_counter()
            self.engine.feed(start + part.start, ids[part.start : part.stop], self.ring)
            self.engine.run(variant, ring=self.ring)
            self.stats.prefill_s += time.perf_counter() - started
            if progress is not None:
                progress(part.stop, len(ids))
            yield part.stop == len(ids)

    def chunks(self, count: int, pick: bool = True, sample: bool = False) -> Iterator[tuple[range, Variant]]:
        """The steps that a prompt of `count` tokens takes: which of its tokens, and how they run."""
        first = 0
        while first < count:
            part = range(first, min(first + (self.engine.step_tokens() if count - first > 1 else 1), count))
            first, last = part.stop, part.stop == count
            tokens = self.padded(len(part)) if len(part) > 1 else 1
            entry = "prefill" if tokens > 1 else "decode"
            pick_here = last and pick
            yield (
                part,
                Variant(entry, tokens, head=last, pick=pick_here, sample=pick_here and sample, read=last and not pick),
            )

    def padded(self, count: int) -> int:
        """The length of a step of `count` tokens: a multiple of what the kernels take."""
        bucket = self.engine.target.bucket
        return -(-count // bucket) * bucket

    def _following(self, limit: int, step: Variant, most: int, look: Look | None) -> Iterator[list[int]]:
        """The tokens after the first, chosen on the device; as many per submission as keep it short."""
        done, batch = 1, 1
        while done < limit:
            started = time.perf_counter()
            batch = min(batch, limit - done)
            self.engine.run(step, batch, self.ring)
            seconds = time.perf_counter() - started
            self.stats.decode_s += seconds
            yield self._chosen(done, done + batch, look)
            done += batch
            batch = _next_batch(batch, seconds, most, self.engine.pace.bound or SUBMISSION_SECONDS)

    def _chosen(self, first: int, end: int, look: Look | None) -> list[int]:
        """Tokens [first, end) of this generation, from the submission that just ended."""
        found = [_checked(token) for token in self.engine.picked(first, end)]
        if look is not None:
            look(self.engine.logits()[0], found[-1])
        return found


def _next_batch(batch: int, seconds: float, most: int, bound: float) -> int:
    """Tokens of the next submission, when `batch` took so long: as many as fit, at most twice as many, at least one."""
    fit = int(bound * batch / max(seconds, 1e-9))
    return max(1, min(2 * batch, most, fit))


def _checked(token: int) -> int:
    if token == NOT_A_TOKEN:
        raise ModelError("the model returned logits that are not finite; try --precision fp32 or another device")
    return token
