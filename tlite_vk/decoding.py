"""The steps of a generation: a prompt in padded chunks, then token by token, chosen on the device if possible."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from .engine import Engine, Variant
from .errors import ModelError
from .sampling import Sampler, SamplingOptions

SUBMISSION_SECONDS = 0.05
"""Greedy decoding sends several tokens in one submission while it stays under this, so that text flows smoothly."""
MAX_BATCH = 16
NOT_A_TOKEN = 0xFFFFFFFF

Finish = Literal["stop", "length", "context"]
Progress = Callable[[int, int], None]
"""Called with (done, total) as work goes on."""


@dataclass
class Stats:
    """What the last generation did. Times in seconds; prefill ends with the first token."""

    prompt_tokens: int = 0
    generated_tokens: int = 0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    finish: Finish | None = None


class Decoder:
    """Runs an engine's steps. `stats` may be replaced before a generation; its times are added to."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.stats = engine, Stats()

    def tokens(
        self, ids: list[int], limit: int, sampling: SamplingOptions, progress: Progress | None = None
    ) -> Iterator[int]:
        """At most `limit` tokens that follow `ids`, whose first lies at position 0.

        Raises ModelError for logits that are not finite, DeviceError if the device fails.
        """
        if limit <= 0:
            return
        if sampling.greedy and sampling.repetition_penalty == 1.0:
            yield from self._greedy(ids, limit, progress)
        else:
            yield from self._sampled(ids, limit, Sampler(sampling), progress)

    def prefill(
        self, ids: Sequence[int], *, start: int = 0, pick: bool = True, progress: Progress | None = None
    ) -> None:
        """Run tokens at positions start, start + 1, ...; the last chunk leaves logits, or its choice with `pick`."""
        for part, variant in self.chunks(len(ids), pick):
            self.engine.feed(start + part.start, ids[part.start : part.stop])
            self.engine.run(variant)
            if progress is not None:
                progress(part.stop, len(ids))

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

    def _greedy(self, ids: list[int], limit: int, progress: Progress | None) -> Iterator[int]:
        """Tokens chosen on the device; as many per submission as keep it short."""
        started = time.perf_counter()
        self.prefill(ids, progress=progress)
        done, batch = 1, 1
        self.stats.prefill_s = time.perf_counter() - started
        yield _checked(self.engine.picked(0, 1)[0])
        step = Variant("decode", 1, feed=False, pick=True)
        while done < limit:
            started = time.perf_counter()
            batch = min(batch, limit - done)
            self.engine.run(step, batch)
            seconds = time.perf_counter() - started
            self.stats.decode_s += seconds
            for token in self.engine.picked(done, done + batch):
                yield _checked(token)
            done += batch
            if seconds * 2 < SUBMISSION_SECONDS:
                batch = min(2 * batch, MAX_BATCH)
            elif seconds > SUBMISSION_SECONDS:
                batch = max(1, batch // 2)

    def _sampled(self, ids: list[int], limit: int, sampler: Sampler, progress: Progress | None) -> Iterator[int]:
        """Tokens drawn on the host from the logits of each step."""
        if limit <= 0:
            return
        seen = list(ids)
        started = time.perf_counter()
        self.prefill(ids, pick=False, progress=progress)
        seen.append(sampler(self.engine.logits()[0], seen))
        self.stats.prefill_s = time.perf_counter() - started
        yield seen[-1]
        while len(seen) - len(ids) < limit:
            started = time.perf_counter()
            self.prefill(seen[-1:], start=len(seen) - 1, pick=False)
            seen.append(sampler(self.engine.logits()[0], seen))
            self.stats.decode_s += time.perf_counter() - started
            yield seen[-1]


def _checked(token: int) -> int:
    if token == NOT_A_TOKEN:
        raise ModelError("the model returned logits that are not finite; try --precision fp32 or another device")
    return token
