"""Render a conversation with the model's own chat template, which comes from a stranger's file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tlite_vk import chat_sandbox
from tlite_vk.errors import InputError, ModelError

Message = Mapping[str, str]
"""One turn: {"role": "system" | "user" | "assistant", "content": text}."""


class ChatTemplate:
    """A template that was checked. Raises ModelError if `source` is not valid Jinja."""

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        self._source, self._special_tokens = source, dict(special_tokens)
        try:
            chat_sandbox.check(source)
        except chat_sandbox.RefusedError as error:
            raise ModelError(f"the model's chat template is not valid: {error}") from error

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The text to give to the model; with `add_generation_prompt` it ends where the assistant's turn begins.

        Raises InputError with the template's own words if it refuses the messages, or takes too much time or memory.
        """
        values = {
            "messages": [dict(message) for message in messages],
            "tools": None,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            **self._special_tokens,
        }
        try:
            return chat_sandbox.render(self._source, values)
        except (chat_sandbox.RefusedError, TypeError, ValueError) as error:
            raise InputError(f"the model's chat template refuses these messages: {error}") from error
