"""The loop of `tlite-vk chat`: messages, commands, answers that can be stopped."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from .message_input import MessageInput
from .terminal import megabytes, note, progress

if TYPE_CHECKING:
    from tlite_vk.chat import Chat
    from tlite_vk.sampling import SamplingOptions

HELP = """\
/system [TEXT]  show the system message, or set it; the turns stay and are computed again
/reset          start anew, with the same system message
/undo           take the last message and its answer back
/save FILE      write the chat with its cache to a file
/load FILE      go on with a chat that was saved
/stats          tokens, speed and memory
/help           this list
/quit           leave; so does Ctrl-D
A line that ends in \\ goes on in the next; lines between two of \"\"\" are one message; // begins a message with a /.
Ctrl-C stops an answer."""


class ChatLoop:
    """Reads messages until the input ends. What goes wrong with one is told in a line, and the chat goes on."""

    def __init__(self, chat: Chat, *, max_tokens: int | None, sampling: SamplingOptions) -> None:
        self._chat, self._max_tokens, self._sampling = chat, max_tokens, sampling
        self._commands: dict[str, Callable[[str], None]] = {
            "system": self._system,
            "reset": self._reset,
            "undo": self._undo,
            "save": self._save,
            "load": self._load,
            "stats": self._stats,
            "help": lambda _: print(HELP, flush=True),
        }

    def run(self) -> None:
        """Raises KeyboardInterrupt after a second Ctrl-C at the prompt, DeviceError where the device fails."""
        from tlite_vk.cache import cache_folder

        reconfigure = getattr(sys.stdout, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")  # a terminal that is not UTF-8 shows ? instead of failing
        if sys.stdin is not None and sys.stdin.isatty():
            note("Type a message; /help lists the commands, Ctrl-D leaves.")
        warned = False
        with MessageInput(cache_folder() / "chat_history") as source:
            while True:
                try:
                    text = source.message()
                except KeyboardInterrupt:
                    if warned:
                        raise
                    warned = True
                    note("\nCtrl-C again leaves; so do Ctrl-D and /quit.")
                    continue
                warned = False
                if text is None or text.strip() == "/quit":
                    return
                if text.strip():
                    self._take(text)

    def _take(self, text: str) -> None:
        """One message or command."""
        from tlite_vk.errors import InputError

        try:
            if not text.startswith("/"):
                self._answer(text)
            elif text.startswith("//"):
                self._answer(text[1:])
            else:
                name, _, rest = text[1:].partition(" ")
                if name.strip() not in self._commands:
                    raise InputError(f"there is no command /{name.strip()}; /help lists them")
                self._commands[name.strip()](rest.strip())
        except (InputError, OSError) as error:
            if isinstance(error, BrokenPipeError):
                raise
            note(f"error: {' '.join(str(error).split())}")

    def _answer(self, text: str) -> None:
        """Stream an answer; Ctrl-C stops it."""
        wrote = False
        try:
            with progress() as advance:
                pieces = self._chat.send(
                    text,
                    max_tokens=self._max_tokens,
                    sampling=self._sampling,
                    progress=lambda done, total: advance("read the conversation", done, total),
                )
                first = next(pieces, "")
            with closing(pieces):  # type: ignore[type-var]
                print(first, end="", flush=True)
                wrote = bool(first)
                for piece in pieces:
                    print(piece, end="", flush=True)
            print(flush=True)
        except KeyboardInterrupt:
            print(flush=True)
            note("stopped; what came is kept" if wrote else "stopped")
            return
        if self._chat.stats.finish == "context":
            context = self._chat.conversation.context
            note(f"note: the context of {context} tokens is full; /undo, /reset, or start with a larger --context")

    def _system(self, text: str) -> None:
        if text:
            self._chat.system = text
        else:
            print(self._chat.system or "there is no system message", flush=True)

    def _reset(self, _: str) -> None:
        self._chat.reset()
        note("started anew")

    def _undo(self, _: str) -> None:
        text = self._chat.undo()
        note("there is nothing to take back" if text is None else f"took back: {text.partition(chr(10))[0]}")

    def _save(self, name: str) -> None:
        path = _file(name, "/save")
        if path.is_dir():
            from tlite_vk.errors import InputError

            raise InputError(f"{path} is a folder; name a file in it: /save {path / 'talk.chat'}")
        self._chat.save(path)
        note(f"saved to {path} ({megabytes(path.stat().st_size)})")

    def _load(self, name: str) -> None:
        self._chat.load(_file(name, "/load"))
        turns = sum(message["role"] == "user" for message in self._chat.messages)
        note(f"loaded {turns} turn{'s' * (turns != 1)}, {len(self._chat.conversation.ids)} tokens")

    def _stats(self, _: str) -> None:
        s, ring = self._chat.stats, self._chat.conversation.ring
        computed = s.prompt_tokens - s.cached_tokens
        print(f"prompt     {s.prompt_tokens} tokens, {computed} computed{_rate(computed, s.prefill_s)}")
        print(f"answer     {s.generated_tokens} tokens{_rate(s.generated_tokens - 1, s.decode_s)}")
        print(f"ring       {ring.position} tokens of {ring.capacity} rows, {megabytes(ring.nbytes)}")
        print(f"device     {megabytes(self._chat.conversation.engine.device.memory_used)} used", flush=True)


def _file(name: str, command: str) -> Path:
    from tlite_vk.errors import InputError

    if not name:
        raise InputError(f"name a file: {command} FILE")
    return Path(name).expanduser()


def _rate(tokens: int, seconds: float) -> str:
    return f" in {seconds:.2f} s ({tokens / seconds:.1f} tokens/s)" if tokens > 0 and seconds > 0 else ""
