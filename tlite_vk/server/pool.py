"""The rings of a server: each request goes where most of its prompt is known already, or gets a copy of it."""

from __future__ import annotations

from collections.abc import Sequence

from tlite_vk.conversation import Conversation
from tlite_vk.generate import Model

WORTH_A_COPY = 16
"""Tokens of a prefix from which on it is copied from another ring."""


class Pool:
    """A fixed number of conversations, so that memory does not grow. For one thread."""

    def __init__(self, model: Model, count: int) -> None:
        """Raises DeviceError where the device has no memory for `count` rings; one of them is the engine's own."""
        self.conversations = [model.conversation(model.engine.main)]
        self.conversations += [model.conversation() for _ in range(count - 1)]
        self._idle = list(self.conversations)  # that used least recently comes first

    @property
    def idle(self) -> int:
        """Conversations that are free."""
        return len(self._idle)

    def take(self, ids: Sequence[int]) -> Conversation:
        """A free conversation for a prompt, with as much of it as any ring holds. There must be a free one.

        One that the prompt goes on from is taken as it is. Otherwise the one used least recently is given up, and takes
        the longest prefix of the prompt that another ring holds, busy or not.
        """
        known = {id(c): c.shared(ids) for c in self.conversations}
        best = max(self.conversations, key=lambda c: known[id(c)])
        own = max(self._idle, key=lambda c: known[id(c)])  # the first of equals: the least recently used
        goes_on = 2 * known[id(own)] >= len(own.ids) > 0
        chosen = own if goes_on else self._idle[0]
        if known[id(best)] >= known[id(chosen)] + WORTH_A_COPY:
            chosen.copy(best, known[id(best)])
        self._idle.remove(chosen)
        return chosen

    def give_back(self, conversation: Conversation) -> None:
        """It keeps its tokens for whoever goes on from them."""
        self._idle.append(conversation)

    def close(self) -> None:
        """Free the rings, but the engine's own."""
        for conversation in self.conversations[1:]:
            conversation.close()
