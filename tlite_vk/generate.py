"""Text generation: a model file, its tokenizer and an engine. Prompts in padded chunks, then token by token.

model = tlite_vk.load("model.onnx")
for text in model.generate("The capital of France is", max_tokens=32):
    print(text, end="")
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .compile import compile_model
from .device import Device, open_device, save_pipeline_cache
from .engine import Engine, Variant
from .errors import InputError, ModelError
from .graph.passes.ring_attention import LONG
from .program import Program
from .sampling import Sampler, SamplingOptions
from .stop_text import StopText
from .target import Precision, Target
from .tokenizer import Tokenizer

DEFAULT_CONTEXT = 2048
SUBMISSION_SECONDS = 0.05
"""Greedy decoding sends several tokens in one submission while it stays under this, so that text flows smoothly."""
MAX_BATCH = 16
NOT_A_TOKEN = 0xFFFFFFFF

Prompt = str | Sequence[int] | Sequence[Mapping[str, Any]]
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


class Model:
    """A generating model on a device. One generation at a time; two models may run in two threads."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer | None, path: Path) -> None:
        self.engine, self.tokenizer, self.path = engine, tokenizer, path
        self.stats = Stats()
        self._busy = threading.Lock()
        self._closed = False

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
            self.stats = Stats(prompt_tokens=len(ids))
            stops = self.tokenizer.stop_ids if self.tokenizer else frozenset[int]()
            room = self.context - len(ids) + 1  # the last token needs no slot
            limit = room if max_tokens is None else min(max_tokens, room)
            greedy = _on_device(sampling)
            drawn = () if greedy else self._sampled(ids, limit, Sampler(sampling), progress)
            for token in self._greedy(ids, limit, progress) if greedy else drawn:
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
            tokens = self._padded(len(part)) if len(part) > 1 else 1
            entry = "prefill" if tokens > 1 else "decode"
            yield part, Variant(entry, tokens, head=last, pick=last and pick, read=last and not pick)

    def _padded(self, count: int) -> int:
        bucket = self.engine.target.bucket
        return -(-count // bucket) * bucket

    def _greedy(self, ids: list[int], limit: int, progress: Progress | None) -> Iterator[int]:
        """Tokens chosen on the device; as many per submission as keep it short."""
        if limit <= 0:
            return
        started = time.perf_counter()
        self.prefill(ids, progress=progress)
        done, batch = 1, 1
        self.stats.prefill_s = time.perf_counter() - started
        yield self._checked(self.engine.picked(0, 1)[0])
        step = Variant("decode", 1, feed=False, pick=True)
        while done < limit:
            started = time.perf_counter()
            batch = min(batch, limit - done)
            self.engine.run(step, batch)
            seconds = time.perf_counter() - started
            self.stats.decode_s += seconds
            for token in self.engine.picked(done, done + batch):
                yield self._checked(token)
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

    def _checked(self, token: int) -> int:
        if token == NOT_A_TOKEN:
            raise ModelError("the model returned logits that are not finite; try --precision fp32 or another device")
        return token

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
            tokens = self._padded(len(part))
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
        if self.tokenizer is None:
            raise InputError(f"there is no tokenizer.json beside {self.path}; give token ids instead of text")
        return self.tokenizer

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


def _on_device(sampling: SamplingOptions) -> bool:
    return sampling.greedy and sampling.repetition_penalty == 1.0


def _sampling(given: SamplingOptions | None, options: Mapping[str, Any]) -> SamplingOptions:
    if given is not None and options:
        raise InputError("give either sampling= or single options, not both")
    try:
        return given or SamplingOptions(**options)
    except TypeError as error:
        raise InputError(f"unknown option: {error}") from error


def load(
    model: str | Path,
    *,
    device: Device | int | str | None = None,
    context: int | None = None,
    shorten: bool = False,
    window: int = 0,
    precision: Precision = "fp16",
    chunk: int | None = None,
    scoring: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Model:
    """Load a model for generation: compile it, bind it to a device, upload its weights.

    model: an ONNX file with cached keys and values, or the folder of a model.onnx; tokenizer.json lies beside it.
    context: most tokens, prompt and answer together (default: 2048, or what the model allows if that is less).
    shorten: take the longest context that the model knows where it is less than `context`.
    window: make a model with full attention see only this many positions back, and go on past the context.
    precision: "fp16" keeps the KV cache in halves, "fp32" in floats. chunk: most prompt tokens of one step.
    scoring: for `Model.score` instead of generation. progress(done, total): bytes of weights uploaded.
    Raises ModelError or GraphError for the file, InputError for the arguments, DeviceError for the device.
    """
    path = _model_file(Path(model))
    opened = device if isinstance(device, Device) else open_device(device)
    target = Target.of(opened.info, precision)
    entries = ("score",) if scoring else ("decode", "prefill")
    reach = LONG if window else max(context or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    program = compile_model(path, target, entries, positions=reach)
    chunk = chunk or (64 if scoring else 128 if target.cpu else 512)
    if chunk < 1 or window < 0 or (context is not None and context < 1):
        raise InputError("context, window and chunk must be positive")
    chunk = -(-chunk // target.bucket) * target.bucket
    most = program.positions or DEFAULT_CONTEXT
    if context is not None and shorten:
        context = min(context, most)
    if context is not None and context > most:
        raise InputError(
            f"the model knows {most} positions, a context of {context} does not fit; choose at most {most}"
        )
    if window and program.window:
        raise InputError(f"the model has a window of its own ({program.window}); --window is for models without one")
    seen = window or program.window
    capacity = seen + chunk - 1 if seen else min(context or DEFAULT_CONTEXT, most)
    engine = Engine(opened, program, target, capacity=capacity, window=window, chunk=chunk, progress=progress)
    tokenizer = Tokenizer.load(path) if (path.parent / "tokenizer.json").is_file() else None
    return Model(engine, tokenizer, path)


def _model_file(path: Path) -> Path:
    """The ONNX file that is meant. Raises ModelError with the next step where it is none."""
    if path.is_dir():
        path = path / "model.onnx"
    if not path.is_file():
        raise ModelError(f"no such model: {path}")
    with path.open("rb") as file:
        if file.read(4) == b"GGUF":
            raise ModelError(f"{path} is a GGUF file; convert it first: tlite-vk convert {path} -o model.onnx")
    return path
