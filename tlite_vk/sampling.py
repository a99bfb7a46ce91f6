"""How to choose the next token: the options, and the words in which the device reads them (shaders/sample.comp)."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tlite_vk.errors import InputError

Words = npt.NDArray[np.uint32]

SETTING_WORDS = 8
"""Words of the settings before the bits of the tokens seen."""
LOG2_E = np.float32(1.44269504)
_LEAST, _MOST = 1e-30, 1e30  # factors stay within, so that no product of theirs is 0 times infinity


@dataclass(frozen=True)
class SamplingOptions:
    """How to sample. The penalty acts first, then top-k, then top-p, and the temperature last, as in llama.cpp.

    Raises InputError for a value outside its range.
    """

    temperature: float = 0.0
    """0: greedy, the most likely token. Otherwise the logits that pass the filters are divided by it."""
    seed: int | None = None
    """Below 2^64. The same seed, options and logits give the same tokens; None: different each time."""
    repetition_penalty: float = 1.0
    """Logits of tokens already seen are divided (if positive) or multiplied (if negative) by it; 1: off."""
    top_k: int = 0
    """Keep the k most likely tokens; 0: all."""
    top_p: float = 1.0
    """Keep the fewest most likely tokens whose probabilities sum to at least p (nucleus sampling, arXiv 1904.09751)."""

    def __post_init__(self) -> None:
        rules = (
            (_whole(self.seed or 0), f"seed must be a whole number, not {self.seed!r}"),
            (_whole(self.top_k), f"top-k must be a whole number, not {self.top_k!r}"),
            (0 <= self.temperature < np.inf, f"temperature must be 0 or more, not {self.temperature}"),
            (self.seed is None or 0 <= self.seed < 1 << 64, f"seed must be 0 or more, below 2^64, not {self.seed}"),
            (0 < self.repetition_penalty < np.inf, f"repetition penalty must be over 0, not {self.repetition_penalty}"),
            (self.top_k >= 0, f"top-k must be 0 (all tokens) or more, not {self.top_k}"),
            (0 < self.top_p <= 1, f"top-p must be above 0 and at most 1, not {self.top_p}"),
        )
        for holds, message in rules:
            if not holds:
                raise InputError(message)

    @property
    def greedy(self) -> bool:
        """Whether no random number is drawn."""
        return self.temperature == 0


def _whole(value: object) -> bool:
    return isinstance(value, int | np.integer)


@dataclass(frozen=True)
class Settings:
    """Options as the arithmetic takes them; floats are float32. `words` is what the device reads."""

    top_k: int
    """0: all."""
    top_p: int
    """In 2^-32; 0: all."""
    scale: np.float32
    """log2(e) / temperature: a token that lies d below the largest logit has the mass 2^(d scale)."""
    penalty: np.float32
    inverse_penalty: np.float32
    seed: int

    @staticmethod
    def of(options: SamplingOptions) -> Settings:
        """Without a temperature, of the most likely token only; without a seed, with a fresh one from the system."""
        share = max(1, round(options.top_p * 2**32))
        penalty = min(max(options.repetition_penalty, _LEAST), _MOST)
        return Settings(
            1 if options.greedy else min(options.top_k, 0xFFFFFFFF),
            0 if options.greedy or share >> 32 else share,
            LOG2_E if options.greedy else np.float32(min(max(float(LOG2_E) / options.temperature, _LEAST), _MOST)),
            np.float32(penalty),
            np.float32(1 / penalty),
            secrets.randbits(64) if options.seed is None else options.seed,
        )

    def words(self, seen: Sequence[int], vocabulary: int) -> Words:
        """The settings, then a bit for each token that was seen: uint32 [SETTING_WORDS + ceil(V / 32)]."""
        floats = np.array([self.scale, self.penalty, self.inverse_penalty], np.float32).view(np.uint32)
        seeds = [int(self.seed) & 0xFFFFFFFF, int(self.seed) >> 32]
        head = np.array([self.top_k, self.top_p, *floats, 0, *seeds], np.uint32)
        flags = np.zeros(-(-vocabulary // 32) * 32, np.uint8)
        flags[np.asarray(seen, np.int64)] = 1
        return np.concatenate([head, np.packbits(flags, bitorder="little").view("<u4").astype(np.uint32)])


def top_logprobs(logits: npt.NDArray[np.floating[Any]], count: int) -> tuple[list[tuple[int, float]], float]:
    """The `count` most likely tokens of logits [V] as (id, natural log of its probability), most likely first, of
    equals the smallest id; and the log of the sum of exponentials: the log-probability of token i is logits[i] minus
    it. At temperature 1, without filters.

    Raises InputError for a negative count.
    """
    if count < 0:
        raise InputError(f"the number of log-probabilities must be 0 or more, not {count}")
    values = np.asarray(logits, np.float64)
    largest = float(values.max())
    total = largest + float(np.log(np.exp(values - largest).sum()))
    ids = np.arange(len(values))
    if 0 < count < len(values):
        ids = np.flatnonzero(values >= np.partition(values, len(values) - count)[len(values) - count])
    ids = ids[np.argsort(-values[ids], kind="stable")][:count]
    return [(int(i), float(values[i]) - total) for i in ids], total
