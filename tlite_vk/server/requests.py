"""Bodies of requests, checked: what the API knows and this server does not is refused, and never ignored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tlite_vk.errors import InputError
from tlite_vk.sampling import SamplingOptions

from .errors import ApiError, wrong

MOST_STOPS, MOST_TOP_LOGPROBS = 16, 20
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
# What is not supported may be given as what means "off".
_OFF: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "response_format": ({"type": "text"},),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "modalities": (["text"],),
    "audio": (),
}


@dataclass(frozen=True)
class Request:
    """prompt: messages, a text or token ids. top_logprobs: None for no log-probabilities."""

    prompt: Any
    chat: bool
    max_tokens: int | None
    sampling: SamplingOptions
    stop: tuple[str, ...]
    stream: bool
    usage: bool
    top_logprobs: int | None


def parse(body: Any, chat: bool, model: str) -> Request:
    """A body of /v1/chat/completions (chat) or /v1/completions. Raises ApiError."""
    if not isinstance(body, dict):
        raise wrong("the body must be a JSON object")
    fields = _Fields(body)
    named = fields.text("model", model)
    if named != model:
        raise ApiError(404, f"there is no model {named!r} here, only {model!r}", param="model", code="model_not_found")
    for name, off in _OFF.items():
        if body.get(name) is not None and body[name] not in off:
            raise wrong(f"{name} is not supported here; leave it out", name, "unsupported_parameter")
    longest = fields.whole("max_completion_tokens", None, 1) if chat else None
    longest = fields.whole("max_tokens", None if chat else 16, 1) if longest is None else longest
    stream = fields.flag("stream")
    about = {} if body.get("stream_options") is None else body["stream_options"]
    if not isinstance(about, dict):
        raise wrong("stream_options must be an object", "stream_options")
    return Request(
        prompt=_messages(body.get("messages")) if chat else _prompt(body.get("prompt")),
        chat=chat,
        max_tokens=longest,
        sampling=_sampling(fields),
        stop=_stop(body.get("stop")),
        stream=stream,
        usage=_Fields(about).flag("include_usage"),
        top_logprobs=_logprobs(fields, chat),
    )


class _Fields:
    """Typed values of an object; null means that a field is not given."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self.body = body

    def _get(self, name: str, default: Any, what: str, kinds: tuple[type, ...]) -> Any:
        value = self.body.get(name)
        if value is None:
            return default
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise wrong(f"{name} must be {what}", name)
        return value

    def text(self, name: str, default: str) -> str:
        return str(self._get(name, default, "a string", (str,)))

    def flag(self, name: str) -> bool:
        return bool(self._get(name, False, "true or false", (bool,)))

    def number(self, name: str, default: float) -> float:
        return float(self._get(name, default, "a number", (int, float)))

    def whole(self, name: str, default: int | None, least: int, most: int = 1 << 31) -> int | None:
        value = self._get(name, default, "an integer", (int,))
        if value is not None and not least <= value <= most:
            raise wrong(f"{name} must lie between {least} and {most}", name)
        return None if value is None else int(value)


def _sampling(fields: _Fields) -> SamplingOptions:
    seed = fields.whole("seed", None, -(1 << 63), (1 << 64) - 1)
    try:
        return SamplingOptions(
            temperature=fields.number("temperature", 1.0),
            top_p=fields.number("top_p", 1.0),
            top_k=fields.whole("top_k", 0, 0) or 0,  # not of the API, but many servers have it
            seed=None if seed is None else seed % (1 << 64),
        )
    except (InputError, OverflowError) as error:
        raise wrong(str(error)) from error


def _logprobs(fields: _Fields, chat: bool) -> int | None:
    if not chat:
        return fields.whole("logprobs", None, 0, MOST_TOP_LOGPROBS)
    wanted, top = fields.flag("logprobs"), fields.whole("top_logprobs", None, 0, MOST_TOP_LOGPROBS)
    if top is not None and not wanted:
        raise wrong("top_logprobs needs logprobs to be true", "top_logprobs")
    return (top or 0) if wanted else None


def _stop(value: Any) -> tuple[str, ...]:
    stops = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(text, str) and text for text in stops):
        raise wrong("stop must be a text or a list of texts", "stop")
    if len(stops) > MOST_STOPS:
        raise wrong(f"stop has {len(stops)} texts; at most {MOST_STOPS} are taken", "stop")
    return tuple(stops)


def _messages(value: Any) -> list[dict[str, str]]:
    if not isinstance(value, list) or not value:
        raise wrong("messages must be a list of at least one message", "messages")
    found = []
    for i, message in enumerate(value):
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(role, str) or role not in _ROLES:
            raise wrong(f"messages[{i}] needs a role: {', '.join(_ROLES)}", f"messages[{i}].role")
        found.append({"role": _ROLES[role], "content": _content(message.get("content"), f"messages[{i}].content")})
    return found


def _content(value: Any, name: str) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, list):
        texts = [part.get("text") for part in value if isinstance(part, dict) and part.get("type") == "text"]
        if len(texts) == len(value) and all(isinstance(text, str) for text in texts):
            return "".join(str(text) for text in texts)
    raise wrong(f"{name} must be a text, or a list of parts of type text", name)


def _prompt(value: Any) -> str | list[int]:
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str | list):
        value = value[0]
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(type(item) is int for item in value):
        return list(value)
    raise wrong("prompt must be one text or one list of token ids", "prompt")
