"""Turn generated tokens into text as they come, without ever cutting a character in two."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what decoders show for bytes that are not (yet) a character
_MAX_HELD = 32  # tokens held back, so that a run of bytes that are no text comes out some time
_MAX_WINDOW = 64  # tokens of context


class TextStream:
    """Decodes a growing list of tokens piece by piece: the pieces and `finish()` together are the decoded text.

    Tokenizers decode in context (a leading space depends on what stands before it), so each piece is the difference of
    two decodings over a short window, which starts within the last text that was given out.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], prompt: Sequence[int] = ()) -> None:
        """`decode` turns ids into text; `prompt` is what the new tokens continue (its end serves as context)."""
        self._decode = decode
        self._window = list(prompt[-_MAX_WINDOW:])  # ids: first those already given out, then those held back
        self._given = len(self._window)

    def push(self, token: int) -> str:
        """Add one token; returns the text that is now certain, which may be empty."""
        self._window.append(token)
        text = self._decode(self._window)
        held = len(self._window) - self._given
        if text.endswith(_UNFINISHED) and held < _MAX_HELD:
            return ""
        return self._give()

    def finish(self) -> str:
        """The rest, when no token will follow; bytes that never became a character show as U+FFFD."""
        return self._give() if len(self._window) > self._given else ""

    def _give(self) -> str:
        before = self._decode(self._window[: self._given])
        text = self._decode(self._window)
        fresh = self._window[self._given :]
        piece = text[len(before) :] if text.startswith(before) else self._decode(fresh)
        # Tokens without text (control tokens) are no context: then the window keeps what it had.
        self._window = fresh if piece else self._window[-_MAX_WINDOW:]
        self._given = len(self._window)
        return piece
