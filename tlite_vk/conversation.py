"""A sequence that goes on: the tokens that a ring knows, so that none of them is computed again."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .decoding import Decoder, Look, Progress, Stats
from .engine import Engine
from .errors import InputError
from .ring import Ring
from .sampling import SamplingOptions
from .stop_text import StopText

if TYPE_CHECKING:
    from .tokenizer import Tokenizer


class Conversation:
    """Token ids over a ring of its own. Each generation takes the whole prompt and computes what is new in it.

    `ids` are the tokens whose keys and values the ring holds. The last token of an answer is not among them: nothing
    was computed from it yet.
    """

    def __init__(
        self, engine: Engine, stops: frozenset[int], context: int, busy: threading.Lock, ring: Ring | None = None
    ) -> None:
        """stops: tokens that end an answer. context: most tokens. busy: held while one generates on this engine.

        ring: one that exists; otherwise a new one. Raises DeviceError where the device's memory does not suffice.
        """
        self.engine, self.context = engine, context
        self.ring = ring or engine.ring()
        self._stops, self._busy = stops, busy
        self.decoder = Decoder(engine, self.ring)
        """Steps on the ring, without any memory of tokens."""
        self._known: list[int] = []

    @property
    def stats(self) -> Stats:
        """Of the last generation, or of the one under way."""
        return self.decoder.stats

    @property
    def ids(self) -> list[int]:
        """Tokens that need not be computed again: none where a wrapped ring ran too far ahead of them."""
        ids = self._known[: self.ring.position]
        return ids if self.ring.holds(len(ids)) else []

    def shared(self, ids: Sequence[int]) -> int:
        """How many of the first tokens of `ids` need not be computed: all but the last at most.

        A ring that has wrapped goes back by one chunk at most; where more is needed, that is none.
        """
        return self.common(ids[:-1])

    def common(self, ids: Sequence[int]) -> int:
        """How many of the first tokens of `ids` the ring can go on from: the longest common prefix, or none."""
        known = self.ids
        count = next((i for i, (a, b) in enumerate(zip(known, ids, strict=False)) if a != b), min(len(known), len(ids)))
        return count if self.ring.holds(count) else 0

    def steps(
        self,
        ids: Sequence[int],
        max_tokens: int | None,
        sampling: SamplingOptions,
        *,
        progress: Progress | None = None,
        look: Look | None = None,
        most: int | None = None,
    ) -> Iterator[list[int]]:
        """The tokens that follow the prompt `ids`, without the stop token, one submission at a time.

        Nobody else may run the engine during a step; other sequences may between two. Arguments as in
        `Decoder.steps`; max_tokens None: until the model stops or the context is full. Closing it cancels.
        """
        self.check(ids, max_tokens)
        start = self.shared(ids)
        self.ring.rewind(start)
        self._known = list(ids)
        self.decoder.stats = stats = Stats(prompt_tokens=len(ids), cached_tokens=start)
        room = self.context - len(ids) + 1  # the last token needs no slot
        limit = room if max_tokens is None else min(max_tokens, room)
        for found in self._guarded(
            self.decoder.steps(self._known[:], limit, sampling, start=start, progress=progress, look=look, most=most)
        ):
            given: list[int] = []
            for token in found:
                self._known.append(token)
                if token in self._stops:
                    stats.finish = "stop"
                    break
                given.append(token)
            stats.generated_tokens += len(given)
            yield given
            if stats.finish:
                return
        stats.finish = "length" if limit == max_tokens else "context"

    def _guarded(self, steps: Iterator[list[int]]) -> Iterator[list[int]]:
        """The same steps, each computed while nobody may free the engine."""
        while True:
            with self.engine.using:
                self.check_open()
                found = next(steps, None)
            if found is None:
                return
            yield found

    def check_open(self) -> None:
        """Raises InputError where the ring, or the model, was closed."""
        if not self.ring.buffers:
            raise InputError("the model is closed; load it again")

    def tokens(
        self,
        ids: Sequence[int],
        max_tokens: int | None,
        sampling: SamplingOptions,
        progress: Progress | None = None,
        *,
        anew: bool = False,
    ) -> Iterator[int]:
        """As `steps`, one token at a time, with the engine to itself. anew: compute all of the prompt.

        Raises InputError for a prompt that does not fit, or while another generation is under way.
        """
        self.check(ids, max_tokens)
        with self.alone():
            if anew:
                self.truncate(0)
            for found in self.steps(ids, max_tokens, sampling, progress=progress):
                yield from found

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other generations of the model out. Raises InputError while one is under way."""
        if not self._busy.acquire(blocking=False):
            raise InputError(
                "this model is generating already; finish or close that generation, or load a second model"
            )
        try:
            yield
        finally:
            self._busy.release()

    def check(self, ids: Sequence[int], max_tokens: int | None = None) -> None:
        """Raises InputError for a prompt or a limit that does not fit."""
        if max_tokens is not None and max_tokens < 0:
            raise InputError(f"max_tokens must be 0 or more, not {max_tokens}")
        self.check_open()
        vocabulary = self.engine.program.vocabulary
        if not ids:
            raise InputError("the prompt is empty; give it at least one token")
        if min(ids) < 0 or max(ids) >= vocabulary:
            raise InputError(f"token ids must lie in [0, {vocabulary}); the prompt has {min(ids)} to {max(ids)}")
        if len(ids) > self.context:
            raise InputError(
                f"the prompt has {len(ids)} tokens, the context holds {self.context}; "
                "shorten it or load the model with a larger context (--context)"
            )

    def truncate(self, count: int) -> None:
        """Forget all but the first `count` tokens; all where a ring that has wrapped does not go back so far."""
        count = min(count, len(self.ids))
        if not self.ring.holds(count):
            count = 0
        self.ring.rewind(count)
        self._known = self._known[:count]

    def copy(self, source: Conversation, count: int) -> None:
        """Take the first `count` tokens of another conversation, on the device: a prefix that was computed once."""
        self.ring.copy(source.ring, count)
        self._known = source.ids[:count]

    def restore(self, ids: Sequence[int]) -> None:
        """The ring was restored: these are the tokens that it holds."""
        self._known = list(ids)

    def close(self) -> None:
        """Free the ring. A step under way in another thread ends first."""
        with self.engine.using:
            self.ring.close()


def texts(
    tokenizer: Tokenizer, conversation: Conversation, prompt: Sequence[int], tokens: Iterator[int], stops: Sequence[str]
) -> Iterator[str]:
    """Pieces of text of the conversation's answer to `prompt` as its tokens come, up to the first of the stop texts."""
    stream, guard = tokenizer.stream(prompt), StopText([stops] if isinstance(stops, str) else stops)
    for token in tokens:
        text = guard.push(stream.push(token))
        if text:
            yield text
        if guard.stopped:
            conversation.stats.finish = "stop"
            return
    rest = guard.push(stream.finish()) + guard.finish()
    if guard.stopped:
        conversation.stats.finish = "stop"
    if rest:
        yield rest
