"""Answers in the shapes of OpenAI's API: whole, or as the chunks of a stream."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from typing import Any

from tlite_vk.decoding import Stats
from tlite_vk.tokenizer import Tokenizer

from .job import Likelihood
from .requests import Request


class Answer:
    """Writes one request's answer."""

    def __init__(self, request: Request, model: str, tokenizer: Tokenizer) -> None:
        self._request, self._model, self._tokenizer = request, model, tokenizer
        self._id = f"{'chatcmpl' if request.chat else 'cmpl'}-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._offset = 0

    def whole(self, text: str, likelihoods: Sequence[Likelihood], stats: Stats) -> dict[str, Any]:
        """The answer in one object."""
        said: dict[str, Any] = {"message": {"role": "assistant", "content": text, "refusal": None}}
        if not self._request.chat:
            said = {"text": text}
        choice = {"index": 0, **said, "logprobs": self._logprobs(likelihoods), "finish_reason": finish_reason(stats)}
        kind = "chat.completion" if self._request.chat else "text_completion"
        return {**self._about(kind), "choices": [choice], "usage": usage(stats)}

    def opening(self) -> str:
        """The first event of a stream: the role in a chat, else nothing."""
        return self._chunk({"role": "assistant", "content": ""}) if self._request.chat else ""

    def piece(self, text: str, likelihoods: Sequence[Likelihood]) -> str:
        """The event of a piece of text."""
        return self._chunk({"content": text} if self._request.chat else text, self._logprobs(likelihoods))

    def closing(self, stats: Stats) -> str:
        """The last events of a stream."""
        last = self._chunk({} if self._request.chat else "", finish=finish_reason(stats))
        if self._request.usage:
            last += event({**self._about(self._kind()), "choices": [], "usage": usage(stats)})
        return last + "data: [DONE]\n\n"

    def _kind(self) -> str:
        return "chat.completion.chunk" if self._request.chat else "text_completion"

    def _about(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._model}

    def _chunk(self, said: Any, logprobs: Any = None, finish: str | None = None) -> str:
        choice = {"index": 0, "delta" if self._request.chat else "text": said}
        choice |= {"logprobs": logprobs, "finish_reason": finish}
        more = {"usage": None} if self._request.usage else {}
        return event({**self._about(self._kind()), "choices": [choice], **more})

    def _logprobs(self, likelihoods: Sequence[Likelihood]) -> dict[str, Any] | None:
        if self._request.top_logprobs is None:
            return None
        if self._request.chat:
            return {"content": [self._chat_entry(found) for found in likelihoods], "refusal": None}
        return self._completion_entries(likelihoods)

    def _chat_entry(self, found: Likelihood) -> dict[str, Any]:
        top = [self._token(token, logprob) for token, logprob in found.top]
        return {**self._token(found.token, found.logprob), "top_logprobs": top}

    def _token(self, token: int, logprob: float) -> dict[str, Any]:
        text = self._text(token)
        return {"token": text, "logprob": logprob, "bytes": list(text.encode("utf-8", "replace"))}

    def _completion_entries(self, likelihoods: Sequence[Likelihood]) -> dict[str, Any]:
        tokens = [self._text(found.token) for found in likelihoods]
        offsets = []
        for text in tokens:
            offsets.append(self._offset)
            self._offset += len(text)
        return {
            "tokens": tokens,
            "token_logprobs": [found.logprob for found in likelihoods],
            "top_logprobs": [{self._text(token): p for token, p in found.top} for found in likelihoods],
            "text_offset": offsets,
        }

    def _text(self, token: int) -> str:
        return self._tokenizer.decode([token], skip_special=False)


def event(data: Any) -> str:
    """A server-sent event."""
    return f"data: {json.dumps(data, ensure_ascii=False, allow_nan=False)}\n\n"


def finish_reason(stats: Stats) -> str:
    """A full context is a length, too."""
    return "stop" if stats.finish == "stop" else "length"


def usage(stats: Stats) -> dict[str, Any]:
    """Tokens of the prompt, of which some were cached, and of the answer."""
    return {
        "prompt_tokens": stats.prompt_tokens,
        "completion_tokens": stats.generated_tokens,
        "total_tokens": stats.prompt_tokens + stats.generated_tokens,
        "prompt_tokens_details": {"cached_tokens": stats.cached_tokens},
    }
