"""Text generation: a model file, its tokenizer and an engine. Prompts in padded chunks, then token by token.

model = tlite_vk.load("model.onnx")
for text in model.generate("The capital of France is", max_tokens=32):
    print(text, end="")
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .decoding import Decoder, Progress, Stats
from .device import Device, save_pipeline_cache
from .engine import Engine, Variant
from .errors import InputError
from .program import Program
from .sampling import SamplingOptions
from .stop_text import StopText

if TYPE_CHECKING:
    from .tokenizer import Tokenizer

Prompt = str | Sequence[int] | Sequence[Mapping[str, Any]]


class Model:
    """A generating model on a device. One generation at a time; two models may run in two threads."""

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer | Callable[[], Tokenizer] | None,
        path: Path,
        stop_ids: frozenset[int] | None = None,
    ) -> None:
        """tokenizer: may be a function that makes it when it is first used. stop_ids: where it would not know them."""
        self.engine, self.path = engine, path
        self._given_tokenizer, self._given_stops = tokenizer, stop_ids
        self._decoder = Decoder(engine)
        self._busy = threading.Lock()
        self._closed = False

    @property
    def stats(self) -> Stats:
        """Of the last generation, or of the one under way."""
        return self._decoder.stats

    @property
    def tokenizer(self) -> Tokenizer | None:
        """None where the model came without one. Raises ModelError or InputError where it cannot be made."""
        if callable(self._given_tokenizer):
            self._given_tokenizer = self._given_tokenizer()
        return self._given_tokenizer

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""
        if self._given_stops is not None:
            return self._given_stops
        return self.tokenizer.stop_ids if self.tokenizer else frozenset()

    @property
    def device(self) -> Device:
        return self.engine.device

    @property
    def program(self) -> Program:
        return self.engine.program

    @property
    def context(self) -> int:
        """Most tokens, prompt and answer together. With a window the ring goes on until the rotary table ends."""
        if self.engine.window or self.program.window:
            return self.program.positions or 1 << 31
        return self.engine.capacity

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a text, of chat messages ({"role": ..., "content": ...}), or the ids themselves.

        Raises InputError for an empty prompt, ids outside the vocabulary, or a prompt longer than the context.
        """
        if isinstance(prompt, str):
            ids = self._tokenizer().encode(prompt)
        else:
            messages = [dict(item) for item in prompt if isinstance(item, Mapping)]
            ids = [int(item) for item in prompt if not isinstance(item, Mapping)]
            if messages and ids:
                raise InputError(
                    "a prompt is a text, a list of chat messages, or a list of token ids; this one is mixed"
                )
            ids = self._tokenizer().encode_chat(messages) if messages else ids
        if not ids:
            raise InputError("the prompt is empty; give it at least one token")
        if min(ids) < 0 or max(ids) >= self.program.vocabulary:
            raise InputError(
                f"token ids must lie in [0, {self.program.vocabulary}); the prompt has {min(ids)} to {max(ids)}"
            )
        if len(ids) > self.context:
            raise InputError(
                f"the prompt has {len(ids)} tokens, the context holds {self.context}; "
                "shorten it or load the model with a larger context (--context)"
            )
        return ids

    def generate(
        self,
        prompt: Prompt,
        *,
        max_tokens: int | None = None,
        sampling: SamplingOptions | None = None,
        stop: Sequence[str] = (),
        progress: Progress | None = None,
        **options: Any,
    ) -> Iterator[str]:
        """Pieces of text as they come; control tokens are left out.

        max_tokens: at most this many new tokens (None: until the model stops or the context is full).
        stop: texts that end the answer and are not part of it. Options as in SamplingOptions (temperature, top_k,
        top_p, seed, repetition_penalty); greedy by default. progress counts the prompt's tokens.
        Raises InputError for a prompt or option that does not fit, DeviceError if the device fails.
        """
        ids = self.encode(prompt)
        chosen = _sampling(sampling, options)
        return self._text(ids, self._tokens(ids, max_tokens, chosen, progress), stop)

    def _text(self, ids: list[int], tokens: Iterator[int], stop: Sequence[str]) -> Iterator[str]:
        stream, guard = self._tokenizer().stream(ids), StopText(stop)
        for token in tokens:
            text = guard.push(stream.push(token))
            if text:
                yield text
            if guard.stopped:
                self.stats.finish = "stop"
                return
        rest = guard.push(stream.finish()) + guard.finish()
        if guard.stopped:
            self.stats.finish = "stop"
        if rest:
            yield rest

    def generate_tokens(
        self,
        prompt: Prompt,
        *,
        max_tokens: int | None = None,
        sampling: SamplingOptions | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> Iterator[int]:
        """Token ids as they come, without the stop token; arguments and errors as in `generate`."""
        return self._tokens(self.encode(prompt), max_tokens, _sampling(sampling, options), progress)

    def _tokens(
        self, ids: list[int], max_tokens: int | None, sampling: SamplingOptions, progress: Progress | None
    ) -> Iterator[int]:
        if max_tokens is not None and max_tokens < 0:
            raise InputError(f"max_tokens must be 0 or more, not {max_tokens}")
        if self._closed:
            raise InputError("the model is closed; load it again")
        if not self._busy.acquire(blocking=False):
            raise InputError(
                "this model is generating already; finish or close that generation, or load a second model"
            )
        try:
            self._decoder.stats = Stats(prompt_tokens=len(ids))
            stops = self.stop_ids
            room = self.context - len(ids) + 1  # the last token needs no slot
            limit = room if max_tokens is None else min(max_tokens, room)
            for token in self._decoder.tokens(ids, limit, sampling, progress):
                if token in stops:
                    self.stats.finish = "stop"
                    return
                self.stats.generated_tokens += 1
                yield token
            self.stats.finish = "length" if limit == max_tokens else "context"
        finally:
            self._busy.release()

    def prefill(
        self, ids: Sequence[int], *, start: int = 0, pick: bool = True, progress: Progress | None = None
    ) -> None:
        """Run tokens at positions start, start + 1, ...; the last chunk leaves logits, or its choice with `pick`."""
        self._decoder.prefill(ids, start=start, pick=pick, progress=progress)

    def chunks(self, count: int, pick: bool = True) -> Iterator[tuple[range, Variant]]:
        """The steps that a prompt of `count` tokens takes: which of its tokens, and how they run."""
        return self._decoder.chunks(count, pick)

    def score(self, ids: Sequence[int], progress: Callable[[int], None] | None = None) -> npt.NDArray[np.float64]:
        """Log-likelihood (natural) of each token but the first given all before it: float64 [len(ids) - 1].

        The model must have been loaded with scoring=True. `progress` is called with the tokens done.
        """
        if "score" not in self.program.entries:
            raise InputError("load the model with scoring=True to score texts")
        known = self.encode(list(ids))
        found: list[npt.NDArray[np.float64]] = []
        for first in range(0, len(known), self.engine.chunk):
            part = known[first : first + self.engine.chunk]
            tokens = self._decoder.padded(len(part))
            self.engine.feed(first, part)
            self.engine.run(Variant("score", tokens, read=True))
            following = known[first + 1 : first + 1 + len(part)]
            rows = self.engine.logits(tokens)[: len(following)].astype(np.float64)
            top = rows.max(axis=1, keepdims=True)
            total = top[:, 0] + np.log(np.exp(rows - top).sum(axis=1))
            found.append(rows[np.arange(len(following)), following] - total)
            if progress is not None:
                progress(first + len(part))
        return np.concatenate(found)

    def _tokenizer(self) -> Tokenizer:
        tokenizer = self.tokenizer
        if tokenizer is None:
            raise InputError(f"there is no tokenizer.json beside {self.path}; give token ids instead of text")
        return tokenizer

    def close(self) -> None:
        """Free the device memory; a closed model cannot be used."""
        if not self._closed:
            self._closed = True
            save_pipeline_cache(self.device)
            self.engine.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _sampling(given: SamplingOptions | None, options: Mapping[str, Any]) -> SamplingOptions:
    if given is not None and options:
        raise InputError("give either sampling= or single options, not both")
    try:
        return given or SamplingOptions(**options)
    except TypeError as error:
        raise InputError(f"unknown option: {error}") from error
