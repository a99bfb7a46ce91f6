"""Messages from a terminal or a pipe: several lines as one, with the terminal's editing and a history."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

BLOCK = '"""'
FIRST, MORE = ">>> ", "... "
HISTORY_LINES = 1000


class MessageInput:
    """Reads messages. On a terminal lines can be edited, and those of earlier sessions come back with the arrows."""

    def __init__(self, history: Path) -> None:
        self._history = history
        self._terminal = sys.stdin is not None and sys.stdin.isatty()

    def __enter__(self) -> MessageInput:
        if self._terminal:
            with contextlib.suppress(ImportError, OSError):
                import readline

                readline.set_history_length(HISTORY_LINES)
                readline.read_history_file(self._history)
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal:
            with contextlib.suppress(ImportError, OSError):
                import readline

                self._history.parent.mkdir(parents=True, exist_ok=True)
                self._history.touch(mode=0o600)
                readline.write_history_file(self._history)

    def message(self) -> str | None:
        """The next message; None where the input ends. Ctrl-C raises KeyboardInterrupt.

        A backslash at the end of a line is a new line; lines between two that are three quotes are taken as they are.
        """
        line = self._line(FIRST)
        if line is None:
            return None
        if line.strip().startswith(BLOCK):
            return self._block(line.strip().removeprefix(BLOCK))
        lines = []
        while line is not None and line.endswith("\\"):
            lines.append(line[:-1])
            line = self._line(MORE)
        return "\n".join([*lines, *([] if line is None else [line])])

    def _block(self, line: str | None) -> str:
        """What follows the opening quotes, up to a line that ends in quotes, or to the end of the input."""
        lines: list[str] = []
        while line is not None and not line.rstrip().endswith(BLOCK):
            lines.append(line)
            line = self._line(MORE)
        if line is not None:
            lines.append(line.rstrip().removesuffix(BLOCK))
        return "\n".join(lines).strip("\n")

    def _line(self, prompt: str) -> str | None:
        try:
            return input(prompt if self._terminal else "")
        except EOFError:
            return None
