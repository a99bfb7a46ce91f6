"""One request on its way: what it asks of the device, and the events that its answer consists of."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tlite_vk.conversation import Conversation
from tlite_vk.decoding import Stats
from tlite_vk.sampling import SamplingOptions, top_logprobs
from tlite_vk.stop_text import StopText
from tlite_vk.tokenizer import Tokenizer

LEAST = -9999.0
"""What stands for the logarithm of 0, which JSON has no number for; OpenAI's server writes the same."""


@dataclass(frozen=True)
class Likelihood:
    """Log-probability (natural) of a token, and the most likely ones in its place, most likely first."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Piece:
    """A piece of the answer's text, with the likelihoods of the tokens since the last one."""

    text: str
    likelihoods: tuple[Likelihood, ...] = ()


@dataclass(frozen=True)
class Done:
    """The answer is complete."""

    stats: Stats


@dataclass(frozen=True)
class Failed:
    """There will be no more of the answer."""

    error: Exception


Event = Piece | Done | Failed


class TookTooLongError(Exception):
    """A request took longer than the server allows."""


@dataclass(eq=False)
class Job:
    """emit: called with each event, on the worker's thread. deadline: by time.monotonic()."""

    ids: list[int]
    max_tokens: int | None
    sampling: SamplingOptions
    stop: Sequence[str]
    top_logprobs: int | None
    emit: Callable[[Event], None]
    deadline: float
    asked: float = field(default_factory=time.monotonic)
    first_token: float | None = None
    _cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """The client went away: no further step is computed for it. From any thread."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def steps(self, conversation: Conversation, tokenizer: Tokenizer, most: int) -> Iterator[None]:
        """Run it; after each submission others may run theirs. most: tokens of a submission."""
        stream, guard = tokenizer.stream(self.ids), StopText(self.stop)
        seen: list[Likelihood] = []
        look = None if self.top_logprobs is None else self._look(seen, self.top_logprobs)
        pending = 0  # of `seen`
        for found in conversation.steps(self.ids, self.max_tokens, self.sampling, look=look, most=most):
            del seen[pending + len(found) :]  # of a token that ended the answer, and is no part of it
            if found and self.first_token is None:
                self.first_token = time.monotonic()
            text = ""
            for token in found:
                text += guard.push(stream.push(token))
                if guard.stopped:
                    break
            if text:
                self.emit(Piece(text, tuple(seen)))
                seen.clear()
            if guard.stopped:
                break
            pending = len(seen)
            yield
        text = "" if guard.stopped else guard.push(stream.finish()) + guard.finish()
        if text or seen:
            self.emit(Piece(text, tuple(seen)))
        if guard.stopped:
            conversation.stats.finish = "stop"
        self.emit(Done(conversation.stats))

    def _look(self, seen: list[Likelihood], count: int) -> Callable[[npt.NDArray[np.float32], int], None]:
        def look(logits: npt.NDArray[np.float32], token: int) -> None:
            seen.append(likelihood(logits, token, count))

        return look


def likelihood(logits: npt.NDArray[np.float32], token: int, count: int) -> Likelihood:
    """Of a token under logits [V], before temperature and filters."""
    top, total = top_logprobs(logits, count)
    return Likelihood(
        token, max(LEAST, float(logits[token]) - total), tuple((other, max(LEAST, p)) for other, p in top)
    )
