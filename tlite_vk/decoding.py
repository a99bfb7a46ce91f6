"""The steps of a generation: a prompt in padded chunks, then token by token, chosen on the device if possible."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from .engine import Engine, Variant
from .errors import ModelError
from .ring import Ring
from .sampling import Sampler, SamplingOptions

SUBMISSION_SECONDS = 0.05
"""Greedy decoding sends several tokens in one submission while it stays under this, so that text flows smoothly."""
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
        if sampling.greedy and sampling.repetition_penalty == 1.0 and look is None:
            yield from self._greedy(ids, limit, start, progress, most or MAX_BATCH)
        else:
            yield from self._sampled(ids, limit, Sampler(sampling), start, progress, look)

    def prefill(
        self, ids: Sequence[int], *, start: int = 0, pick: bool = True, progress: Progress | None = None
    ) -> None:
        """Run tokens at positions start, start + 1, ...; the last chunk leaves logits, or its choice with `pick`."""
        for _ in self._prefill(ids, start, pick, progress):
            pass

    def _prefill(self, ids: Sequence[int], start: int, pick: bool, progress: Progress | None) -> Iterator[bool]:
        """After each chunk, whether it was the last."""
        for part, variant in self.chunks(len(ids), pick):
            started = time.perf_counter()
            self.engine.feed(start + part.start, ids[part.start : part.stop], self.ring)
            self.engine.run(variant, ring=self.ring)
            self.stats.prefill_s += time.perf_counter() - started
            if progress is not None:
                progress(part.stop, len(ids))
            yield part.stop == len(ids)

    def chunks(self, count: int, pick: bool = True) -> Iterator[tuple[range, Variant]]:
        """The steps that a prompt of `count` tokens takes: which of its tokens, and how they run."""
        chunk = self.engine.chunk
        for first in range(0, count, chunk):
            part = range(first, min(first + chunk, count))
            last = part.stop == count
            tokens = self.padded(len(part)) if len(part) > 1 else 1
            entry = "prefill" if tokens > 1 else "decode"
            yield part, Variant(entry, tokens, head=last, pick=last and pick, read=last and not pick)

    def padded(self, count: int) -> int:
        """The length of a step of `count` tokens: a multiple of what the kernels take."""
        bucket = self.engine.target.bucket
        return -(-count // bucket) * bucket

    def _greedy(
        self, ids: list[int], limit: int, start: int, progress: Progress | None, most: int
    ) -> Iterator[list[int]]:
        """Tokens chosen on the device; as many per submission as keep it short."""
        for last in self._prefill(ids[start:], start, True, progress):
            yield [_checked(self.engine.picked(0, 1)[0])] if last else []
        done, batch = 1, 1
        step = Variant("decode", 1, feed=False, pick=True)
        while done < limit:
            started = time.perf_counter()
            batch = min(batch, limit - done)
            self.engine.run(step, batch, self.ring)
            seconds = time.perf_counter() - started
            self.stats.decode_s += seconds
            yield [_checked(token) for token in self.engine.picked(done, done + batch)]
            done += batch
            if seconds * 2 < SUBMISSION_SECONDS:
                batch = min(2 * batch, most)
            elif seconds > SUBMISSION_SECONDS:
                batch = max(1, batch // 2)

    def _sampled(
        self,
        ids: list[int],
        limit: int,
        sampler: Sampler,
        start: int,
        progress: Progress | None,
        look: Look | None,
    ) -> Iterator[list[int]]:
        """Tokens drawn on the host from the logits of each step."""
        seen = list(ids)
        for last in self._prefill(ids[start:], start, False, progress):
            yield [self._draw(sampler, seen, look)] if last else []
        while len(seen) - len(ids) < limit:
            started = time.perf_counter()
            self.engine.feed(len(seen) - 1, seen[-1:], self.ring)
            self.engine.run(Variant("decode", 1, read=True), ring=self.ring)
            token = self._draw(sampler, seen, look)
            self.stats.decode_s += time.perf_counter() - started
            yield [token]

    def _draw(self, sampler: Sampler, seen: list[int], look: Look | None) -> int:
        """The next token from the logits that were read; it is added to `seen`."""
        logits = self.engine.logits()[0]
        seen.append(sampler(logits, seen))
        if look is not None:
            look(logits, seen[-1])
        return seen[-1]


def _checked(token: int) -> int:
    if token == NOT_A_TOKEN:
        raise ModelError("the model returned logits that are not finite; try --precision fp32 or another device")
    return token
