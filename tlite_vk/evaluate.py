"""Perplexity of a model on a text: how well it predicts each token from those before it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .errors import InputError
from .generate import Model


@dataclass(frozen=True)
class Perplexity:
    """perplexity = exp(nll), nll the mean negative log-likelihood (natural) over `predictions` tokens."""

    perplexity: float
    nll: float
    predictions: int
    tokens: int  # of the whole text


def perplexity(
    model: Model, text: str, *, window: int = 512, windows: int = 4, progress: Callable[[int, int], None] | None = None
) -> Perplexity:
    """Score the first `windows` windows of `window` tokens, each on its own.

    The whole text is encoded at once, without special tokens; nothing (no BOS) is put before a window; the first token
    of each is not scored. The model must have been loaded with scoring=True. progress(done, total) counts tokens.
    Raises InputError if the text or the model's context is too short, or the model has no tokenizer.
    """
    if window < 2 or windows < 1:
        raise InputError("a window must have at least 2 tokens, and there must be at least 1 window")
    if window > model.context:
        raise InputError(
            f"a window of {window} tokens does not fit a context of {model.context}; choose a smaller --window"
        )
    if model.tokenizer is None:
        raise InputError(f"there is no tokenizer.json beside {model.path}; it is needed to encode the text")
    ids = model.tokenizer.encode(text, special=False)
    if len(ids) < window * windows:
        raise InputError(
            f"the text has {len(ids)} tokens, {windows} windows of {window} need {window * windows}; "
            "choose fewer --windows or a smaller --window"
        )
    total, count = 0.0, 0
    for first in range(0, window * windows, window):
        report = None if progress is None else _shifted(progress, first, window * windows)
        found = model.score(ids[first : first + window], report)
        total -= float(found.sum())
        count += len(found)
    return Perplexity(math.exp(total / count), total / count, count, len(ids))


def _shifted(progress: Callable[[int, int], None], start: int, total: int) -> Callable[[int], None]:
    return lambda done: progress(start + done, total)


def read_text(path: Path) -> str:
    """A UTF-8 text file. Raises InputError, saying what is wrong with it."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}); convert it first") from None
    except FileNotFoundError:
        raise InputError(f"no such file: {path}") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
