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

from .chat import Chat, sampling_options
from .conversation import Conversation, texts
from .decoding import Progress, Stats
from .device import Device, save_pipeline_cache
from .engine import Engine, Variant
from .errors import InputError
from .program import Program
from .ring import Ring
from .sampling import SamplingOptions

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
        self._busy = threading.Lock()
        self._closed = False
        self._main = self.conversation(engine.main)

    @property
    def stats(self) -> Stats:
        """Of the last generation, or of the one under way."""
        return self._main.stats

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
        self._check_open()
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
        self._main.check(ids)
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
        chosen = sampling_options(sampling, options)
        tokens = self._main.tokens(ids, max_tokens, chosen, progress, anew=True)
        return texts(self._tokenizer(), self._main, ids, tokens, stop)

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
        ids, chosen = self.encode(prompt), sampling_options(sampling, options)
        return self._main.tokens(ids, max_tokens, chosen, progress, anew=True)

    def conversation(self, ring: Ring | None = None) -> Conversation:
        """A sequence that goes on, over token ids; with a ring of its own, which takes memory until it is closed."""
        self._check_open()
        return Conversation(self.engine, self.stop_ids, self.context, self._busy, ring)

    def chat(self, system: str | None = None, *, ring: Ring | None = None) -> Chat:
        """A chat of several turns, on a ring of its own, or on `model.engine.main` where nothing else is generated.

        Raises InputError where the model has no tokenizer or no chat template, DeviceError where memory is short.
        """
        self._check_open()
        tokenizer = self._tokenizer()
        if not tokenizer.has_chat_template:
            raise InputError("this model has no chat template; give it plain prompts (tlite-vk run)")
        return Chat(self.conversation(ring), tokenizer, self.path, system)

    def prefill(
        self, ids: Sequence[int], *, start: int = 0, pick: bool = True, progress: Progress | None = None
    ) -> None:
        """Run tokens at positions start, start + 1, ...; the last chunk leaves logits, or its choice with `pick`."""
        self._check_open()
        with self._main.alone(), self.engine.using:
            self._main.decoder.prefill(ids, start=start, pick=pick, progress=progress)

    def chunks(self, count: int, pick: bool = True) -> Iterator[tuple[range, Variant]]:
        """The steps that a prompt of `count` tokens takes: which of its tokens, and how they run."""
        return self._main.decoder.chunks(count, pick)

    def score(self, ids: Sequence[int], progress: Callable[[int], None] | None = None) -> npt.NDArray[np.float64]:
        """Log-likelihood (natural) of each token but the first given all before it: float64 [len(ids) - 1].

        The model must have been loaded with scoring=True. `progress` is called with the tokens done.
        """
        self._check_open()
        if "score" not in self.program.entries:
            raise InputError("load the model with scoring=True to score texts")
        known = self.encode(list(ids))
        with self._main.alone(), self.engine.using:
            return self._scores(known, progress)

    def _scores(self, known: list[int], progress: Callable[[int], None] | None) -> npt.NDArray[np.float64]:
        found: list[npt.NDArray[np.float64]] = []
        for first in range(0, len(known), self.engine.chunk):
            part = known[first : first + self.engine.chunk]
            tokens = self._main.decoder.padded(len(part))
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
        """Free the device memory; a closed model cannot be used. A step under way in another thread ends first."""
        with self.engine.using:
            if self._closed:
                return
            self._closed = True
            try:
                save_pipeline_cache(self.device)
            finally:
                self.engine.close()

    def _check_open(self) -> None:
        if self._closed:
            raise InputError("the model is closed; load it again")

    def __enter__(self) -> Model:
        self._check_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
