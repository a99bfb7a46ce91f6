"""shaders/sample.comp in numpy: bit for bit the same choice, for logits that are on the host, and to test it against.

Probability mass is counted in integers, 40 bits behind the point, and the exponential takes only operations that IEEE
754 rounds correctly. So sums do not depend on their order, and the same logits, options, seed and token number give the
same token on every device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import ModelError
from .sampling import LOG2_E, SamplingOptions, Settings

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
Masses = npt.NDArray[np.uint64]

_POLYNOMIAL = tuple(
    np.float32(c) for c in (0.000217017252, 0.00124483928, 0.00967676379, 0.0554850884, 0.240229234, 0.693147063, 1.0)
)


class Sampler:
    """Draws tokens; counts them, as each takes a random number of its own."""

    def __init__(self, options: SamplingOptions | None = None) -> None:
        self.options = options or SamplingOptions()
        self.settings = Settings.of(self.options)
        self._number = 0

    def __call__(self, logits: npt.NDArray[np.floating[Any]], seen: Sequence[int] = ()) -> int:
        """The next token's id from logits [V]; `seen` are the ids that the repetition penalty looks at.

        Raises ModelError if the logits hold NaN or no finite value.
        """
        scores = penalize(np.asarray(logits, np.float32), seen, self.settings)
        largest = scores.max()  # NaN where there is one
        if not np.isfinite(largest):
            raise ModelError("the model returned logits that are not finite; run with --device to try another driver")
        kept = np.sort(candidates(scores, self.settings.top_k, self.settings.top_p))
        sums = np.cumsum(masses(scores[kept], largest, self.settings.scale))
        point = philox(self._number, self.settings.seed) * int(sums[-1]) >> 64
        self._number += 1
        return int(kept[np.searchsorted(sums, np.uint64(point), side="right")])


def penalize(logits: Floats, seen: Sequence[int], settings: Settings) -> Floats:
    """Logits [V] with the tokens in `seen` made less likely (CTRL, arXiv 1909.05858); a copy unless nothing changes."""
    if settings.penalty == 1.0 or not seen:
        return logits
    ids = np.unique(np.asarray(seen, np.int64))
    result, old = logits.copy(), logits[ids]
    with np.errstate(over="ignore", under="ignore"):
        result[ids] = old * np.where(old > 0, settings.inverse_penalty, settings.penalty)
    return result


def candidates(logits: Floats, top_k: int, top_p: int) -> Ids:
    """Ids that pass the filters, most likely first (equal logits: smallest id first); never empty.

    top_p: in 2^-32; 0 for all.
    """
    ids = np.arange(len(logits), dtype=np.int64)
    if 0 < top_k < len(logits):
        threshold = np.partition(logits, len(logits) - top_k)[len(logits) - top_k]
        ids = _descending(logits, np.flatnonzero(logits >= threshold))[:top_k]
    if not top_p:
        return _descending(logits, ids)
    weights = masses(logits[ids], logits.max(), LOG2_E)
    total = int(weights.sum())
    goal = (total * top_p + 0xFFFFFFFF) >> 32
    # Tokens less likely than this have less than 1 - p together, so none is in the nucleus: spare sorting them.
    ids = _descending(logits, ids[weights >= np.uint64(int(0.999 * (total - goal)) // len(ids))])
    sums = np.cumsum(masses(logits[ids], logits.max(), LOG2_E))
    return ids[: np.searchsorted(sums, np.uint64(goal), side="left") + 1]


def masses(logits: Floats, largest: np.float32, scale: np.float32) -> Masses:
    """2^((logits - largest) scale) in 2^-40, rounded down; 0 below 2^-41. Largest relative error 8e-8."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        y = (logits - largest) * scale
    y = np.where(y > -41.0, y, np.float32(-41.0))
    whole = np.floor(y)
    f = y - whole
    p = np.full_like(f, _POLYNOMIAL[0])
    for coefficient in _POLYNOMIAL[1:]:
        p = p * f + coefficient  # numpy contracts nothing
    mantissa = (p * np.float32(1 << 23)).astype(np.uint64)
    left = 17 + whole.astype(np.int64)
    found: Masses = np.where(
        left < 0, mantissa >> np.maximum(-left, 0).astype(np.uint64), mantissa << np.maximum(left, 0).astype(np.uint64)
    )
    return np.where(y > -41.0, found, np.uint64(0))


def philox(counter: int, key: int) -> int:
    """Philox4x32-10: 64 random bits, number `counter` of the stream `key` (Salmon et al. 2011)."""
    c, k, mask = (counter, 0, 0, 0), (key & 0xFFFFFFFF, key >> 32), 0xFFFFFFFF
    for _ in range(10):
        first, second = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = ((second >> 32) ^ c[1] ^ k[0], second & mask, (first >> 32) ^ c[3] ^ k[1], first & mask)
        k = ((k[0] + 0x9E3779B9) & mask, (k[1] + 0xBB67AE85) & mask)
    return c[0] | c[1] << 32


def _descending(logits: Floats, ids: Ids) -> Ids:
    return ids[np.argsort(-logits[ids], kind="stable")]
