"""The steps of a generation: a prompt in padded chunks, then token by token, chosen on the device."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from .engine import Engine, Variant
from .errors import ModelError
from .sampling import SamplingOptions, Settings

SUBMISSION_SECONDS = 0.05
"""Several tokens go in one submission while it stays under this, so that text flows smoothly."""
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
    seed: int | None = None
    """What tokens were drawn with, chosen by the system where none was given; None: greedily."""


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
        sample = not sampling.greedy or sampling.repetition_penalty != 1.0
        if sample:
            settings = Settings.of(sampling)
            self.stats.seed = None if sampling.greedy else settings.seed
            self.engine.sample_by(settings.words(ids, self.engine.program.vocabulary))
        started = time.perf_counter()
        self.prefill(ids, sample=sample, progress=progress)
        self.stats.prefill_s = time.perf_counter() - started
        yield _checked(self.engine.picked(0, 1)[0])
        yield from self._following(limit, Variant("decode", 1, feed=False, pick=True, sample=sample))

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
        for part, variant in self.chunks(len(ids), pick, sample):
            self.engine.feed(start + part.start, ids[part.start : part.stop])
            self.engine.run(variant)
            if progress is not None:
                progress(part.stop, len(ids))

    def chunks(self, count: int, pick: bool = True, sample: bool = False) -> Iterator[tuple[range, Variant]]:
        """The steps that a prompt of `count` tokens takes: which of its tokens, and how they run."""
        chunk = self.engine.chunk
        for first in range(0, count, chunk):
            part = range(first, min(first + chunk, count))
            last = part.stop == count
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

    def _following(self, limit: int, step: Variant) -> Iterator[int]:
        """The tokens after the first, chosen on the device; as many per submission as keep it short."""
        done, batch = 1, 1
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


def _checked(token: int) -> int:
    if token == NOT_A_TOKEN:
        raise ModelError("the model returned logits that are not finite; try --precision fp32 or another device")
    return token
