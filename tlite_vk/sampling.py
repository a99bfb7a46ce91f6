"""Choose the next token from a row of logits: greedily, or at random from a filtered distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tlite_vk.errors import InputError, ModelError

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SamplingOptions:
    """How to sample. The penalty acts first, then top-k, then top-p, and the temperature last, as in llama.cpp.

    Raises InputError for a value outside its range.
    """

    temperature: float = 0.0
    """0: greedy, the most likely token. Otherwise the logits that pass the filters are divided by it."""
    seed: int | None = None
    """The same seed, options and logits give the same tokens; None: different each time."""
    repetition_penalty: float = 1.0
    """Logits of tokens already seen are divided (if positive) or multiplied (if negative) by it; 1: off."""
    top_k: int = 0
    """Keep the k most likely tokens; 0: all."""
    top_p: float = 1.0
    """Keep the fewest most likely tokens whose probabilities sum to at least p (nucleus sampling, arXiv 1904.09751)."""

    def __post_init__(self) -> None:
        rules = (
            (0 <= self.temperature < np.inf, f"temperature must be 0 or more, not {self.temperature}"),
            (self.seed is None or self.seed >= 0, f"seed must be 0 or more, not {self.seed}"),
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


class Sampler:
    """Draws tokens; holds the random state of one generation."""

    def __init__(self, options: SamplingOptions | None = None) -> None:
        self.options = options or SamplingOptions()
        self._random = np.random.default_rng(self.options.seed)

    def __call__(self, logits: npt.NDArray[np.floating], seen: Sequence[int] = ()) -> int:
        """The next token's id from logits [V]; `seen` are the ids that the repetition penalty looks at.

        Raises ModelError if the logits hold NaN or no finite value.
        """
        scores = penalize(np.asarray(logits, np.float32), seen, self.options.repetition_penalty)
        best = int(np.argmax(scores))  # NumPy's argmax returns a NaN where there is one
        if not np.isfinite(scores[best]):
            raise ModelError("the model returned logits that are not finite; run with --device to try another driver")
        if self.options.greedy:
            return best
        filtered = self.options.top_k > 0 or self.options.top_p < 1.0
        ids = candidates(scores, self.options.top_k, self.options.top_p) if filtered else np.arange(len(scores))
        weights = np.exp((scores[ids].astype(np.float64) - float(scores[best])) / self.options.temperature)
        bounds = np.cumsum(weights)
        drawn = np.searchsorted(bounds, self._random.random() * bounds[-1], side="right")
        return int(ids[min(int(drawn), len(ids) - 1)])


def penalize(logits: Floats, seen: Sequence[int], penalty: float) -> Floats:
    """Logits [V] with the tokens in `seen` made less likely (CTRL, arXiv 1909.05858); a copy unless nothing changes."""
    if penalty == 1.0 or not seen:
        return logits
    ids = np.unique(np.asarray(seen, np.int64))
    result = logits.copy()
    result[ids] = np.where(result[ids] > 0, result[ids] / penalty, result[ids] * penalty)
    return result


def candidates(logits: Floats, top_k: int, top_p: float) -> npt.NDArray[np.int64]:
    """Ids that pass the filters, most likely first (equal logits: smallest id first); never empty."""
    ids = np.arange(len(logits), dtype=np.int64)
    if 0 < top_k < len(logits):
        threshold = np.partition(logits, len(logits) - top_k)[len(logits) - top_k]
        ids = _descending(logits, np.flatnonzero(logits >= threshold))[:top_k]
    if top_p == 1.0:
        return _descending(logits, ids)
    weights = np.exp(logits[ids].astype(np.float64) - float(logits.max()))
    total = weights.sum()
    # Tokens less likely than this have less than 1 - p together, so none is in the nucleus: spare sorting them.
    ids = _descending(logits, ids[weights >= 0.999 * (1 - top_p) * total / len(ids)])
    weights = np.exp(logits[ids].astype(np.float64) - float(logits.max()))
    before = np.cumsum(weights) - weights  # probability mass of the more likely ones
    nucleus: npt.NDArray[np.int64] = ids[before < top_p * total]
    return nucleus


def _descending(logits: Floats, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return ids[np.argsort(-logits[ids], kind="stable")]
