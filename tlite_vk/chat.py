"""A chat of several turns over one ring: past turns are never computed again.

chat = model.chat(system="Answer in one sentence.")
for text in chat.send("What is the capital of France?"):
    print(text, end="")
chat.undo()
chat.save("paris.chat")

Each turn renders the whole conversation with the model's template, and the longest common prefix of its tokens with
those that the ring knows is kept. So any template is right, also one that rewrites turns of the past.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .chat_file import ChatFile, model_identity, read_chat, write_chat
from .conversation import Conversation, texts
from .decoding import Progress, Stats
from .errors import InputError
from .sampling import SamplingOptions

if TYPE_CHECKING:
    from .tokenizer import Tokenizer


class Chat:
    """Messages, and the conversation that holds their keys and values. Made by `Model.chat`."""

    def __init__(
        self, conversation: Conversation, tokenizer: Tokenizer, model: Path, system: str | None = None
    ) -> None:
        """model: the file, which a saved chat is bound to."""
        self.conversation, self._tokenizer, self._model = conversation, tokenizer, model
        self.messages: list[dict[str, str]] = []
        """{"role": "system" | "user" | "assistant", "content": text}, in order."""
        self.system = system

    @property
    def system(self) -> str | None:
        """The system message; setting it keeps the turns, which are computed again at the next message."""
        first = self.messages[0] if self.messages else {}
        return first["content"] if first.get("role") == "system" else None

    @system.setter
    def system(self, text: str | None) -> None:
        turns = self.messages[self.system is not None :]
        self.messages = [*([] if text is None else [{"role": "system", "content": text}]), *turns]

    @property
    def stats(self) -> Stats:
        """Of the last answer; `cached_tokens` of its prompt were not computed again."""
        return self.conversation.stats

    def send(
        self,
        text: str,
        *,
        max_tokens: int | None = None,
        sampling: SamplingOptions | None = None,
        stop: Sequence[str] = (),
        progress: Progress | None = None,
        **options: Any,
    ) -> Iterator[str]:
        """Say something; the answer comes in pieces. Arguments as in `Model.generate`.

        An answer that is not read to its end (the iterator is closed, Ctrl-C) is kept as far as it came; with no
        piece of it read, or with an error, the chat is as it was before.
        Raises InputError where the conversation does not fit the context any more.
        """
        chosen = sampling_options(sampling, options)
        asked = [*self.messages, {"role": "user", "content": text}]
        ids = self._tokenizer.encode_chat(asked)
        self._check_room(ids, max_tokens)
        return self._answer(asked, ids, max_tokens, chosen, stop, progress)

    def _answer(
        self,
        asked: list[dict[str, str]],
        ids: list[int],
        max_tokens: int | None,
        sampling: SamplingOptions,
        stop: Sequence[str],
        progress: Progress | None,
    ) -> Iterator[str]:
        tokens = self.conversation.tokens(ids, max_tokens, sampling, progress)
        pieces: list[str] = []
        kept = False
        try:
            for piece in texts(self._tokenizer, self.conversation, ids, tokens, stop):
                pieces.append(piece)
                yield piece
            kept = True
        except (GeneratorExit, KeyboardInterrupt):
            kept = bool(pieces)
            raise
        finally:
            tokens.close()  # type: ignore[attr-defined]
            if kept:
                self.messages = [*asked, {"role": "assistant", "content": "".join(pieces)}]

    def _check_room(self, ids: Sequence[int], max_tokens: int | None) -> None:
        context = self.conversation.context
        if len(ids) > context:
            raise InputError(
                f"the context of {context} tokens is full: this conversation has {len(ids)} with the new message; "
                "undo a turn, reset it, or load the model with a larger context or a window"
            )
        self.conversation.check(ids, max_tokens)

    def undo(self) -> str | None:
        """Take the last message and its answer back; returns the message, or None where there is none."""
        starts = [i for i, message in enumerate(self.messages) if message["role"] == "user"]
        if not starts:
            return None
        text = self.messages[starts[-1]]["content"]
        self.messages = self.messages[: starts[-1]]
        return text

    def reset(self) -> None:
        """Start anew, with the same system message."""
        self.messages = self.messages[: self.system is not None]

    def save(self, path: str | Path) -> None:
        """Write the messages and what the ring holds of them to one file, which `load` goes on from.

        Raises OSError where the file cannot be written.
        """
        conversation, said = self.conversation, list[int]()
        if self.messages:
            said = self._tokenizer.encode_chat(self.messages, add_generation_prompt=False)
        ids = said[: conversation.common(said)]  # nothing of what was taken back
        lowest = min(conversation.ring.lowest, len(ids))
        file = ChatFile(self._binding(), self.messages, ids, lowest, conversation.ring.save(len(ids)))
        write_chat(Path(path), file)

    def load(self, path: str | Path) -> None:
        """Go on with a saved chat in place of this one.

        Raises InputError for a file that is damaged, of another version, model, precision or window, or too long.
        """
        file = read_chat(Path(path), self._binding())
        conversation = self.conversation
        with conversation.alone():
            if len(file.ids) > conversation.context:
                raise InputError(
                    f"{path} holds {len(file.ids)} tokens, the context {conversation.context}; load the model with a "
                    "larger context (--context)"
                )
            conversation.check(file.ids or [0])
            conversation.ring.restore(file.rows, len(file.ids), file.lowest)
            conversation.restore(file.ids)
            self.messages = file.messages

    def _binding(self) -> dict[str, Any]:
        """What a saved cache depends on."""
        half = self.conversation.engine.target.half_cache
        return {
            "model": model_identity(self._model),
            "precision": "fp16" if half else "fp32",
            "window": self.conversation.ring.window,
        }

    def close(self) -> None:
        """Free the memory of its ring."""
        self.conversation.close()


def sampling_options(given: SamplingOptions | None, options: Mapping[str, Any]) -> SamplingOptions:
    """The options that were given in one of two ways. Raises InputError for both at once, or an unknown one."""
    if given is not None and options:
        raise InputError("give either sampling= or single options, not both")
    try:
        return given or SamplingOptions(**options)
    except TypeError as error:
        raise InputError(f"unknown option: {error}") from error
