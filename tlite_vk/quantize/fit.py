"""Codes, steps and minimums for groups of weights: plain min/max, and the best fit in the least-squares sense.

All functions take groups as float32 [M, g] and return a `Fit`; steps and minimums are already rounded to fp16, and the
codes are chosen for the rounded values. Least squares alternates two exact steps, as in Lloyd's algorithm: the nearest
codes for a step and a minimum, then the regression of the weights on those codes. It starts from several ranges, keeps
the best result of each group, and min/max is among the candidates: no group comes out worse than with min/max.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int8]
Halves = npt.NDArray[np.float16]

ROUNDS = 4  # of codes and regression, for the best start of each group
# How much of the range to cut off below and above, as parts of it: a few outliers may cost less than coarser steps.
_CUTS = tuple((low, high) for low in (0.0, 0.05, 0.12) for high in (0.0, 0.05, 0.12))
_SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7)  # of a step without minimum


@dataclass(frozen=True)
class Fit:
    """codes [M, g], step [M], and minimum [M] or integer zero point [M] where the form has one.

    w = step * code + minimum, or step * (code - zero); `error` [M] is the sum of squared differences of each group.
    """

    codes: Codes
    step: Halves
    error: npt.NDArray[np.float64]
    minimum: Halves | None = None
    zero: Codes | None = None

    def values(self) -> Floats:
        """The weights that the fit stands for, float32 [M, g], evaluated as ONNX does."""
        codes = self.codes if self.zero is None else self.codes - self.zero[:, None]
        return _values(codes.astype(np.float32), self.step, self.minimum)


def _values(codes: Floats, step: Halves, minimum: Halves | None) -> Floats:
    scaled = codes * step.astype(np.float32)[:, None]
    return scaled if minimum is None else scaled + minimum.astype(np.float32)[:, None]


def _error(w: Floats, codes: Floats, step: Halves, minimum: Halves | None) -> npt.NDArray[np.float64]:
    difference = w - _values(codes, step, minimum)
    return np.asarray(np.einsum("mg,mg->m", difference, difference), np.float64)


def _nearest(w: Floats, step: Floats, low: float | Floats, high: float | Floats) -> Floats:
    """The codes in [low, high] that come nearest to w / step, as floats [M, g]; 0 or `low` where the step is 0."""
    inverse = np.divide(1.0, step, out=np.zeros_like(step), where=step != 0)
    codes = w * inverse[:, None]
    np.rint(codes, out=codes)
    return np.asarray(np.clip(codes, low, high, out=codes), np.float32)


def _half(x: npt.NDArray[np.floating]) -> Halves:
    """Rounded to fp16; what is too large is limited, so that a start that is no good stays a number."""
    limit = float(np.finfo(np.float16).max)
    return np.asarray(np.clip(x, -limit, limit), np.float16)


# -- with a minimum: w = d * q + m, 0 <= q <= 15 ----------------------------------------------------------------------


def affine(w: Floats, *, least_squares: bool = True, hold_zero: bool = False) -> Fit:
    """4-bit codes with a step and a minimum per group.

    hold_zero: where a fit with a code for 0 is no worse than min/max, the best such fit, else the best of all.
    """
    low, high = w.min(axis=1), w.max(axis=1)
    best = _Best(w)
    best.try_affine((high - low) / 15, low)
    zero = _fits_with_zero(w, best.error) if hold_zero else None
    if least_squares:
        for cut_low, cut_high in _CUTS[1:]:
            span = high - low
            best.try_affine(span * ((1 - cut_low - cut_high) / 15), low + cut_low * span)
        for _ in range(ROUNDS):
            best.try_affine(*_regression(w, best.codes))
        best.try_affine(best.step.astype(np.float32), _mean_minimum(w, best))
    if zero is not None:
        best.replace(zero)
    return best.fit()


def _fits_with_zero(w: Floats, limit: npt.NDArray[np.float64]) -> _Best:
    """Fits with minimum -z * step, z an integer; the error is infinite where none stays within `limit` [M]."""
    low, high = np.minimum(w.min(axis=1), 0), np.maximum(w.max(axis=1), 0)
    around = np.rint(-low / np.maximum(high - low, np.finfo(np.float32).tiny) * 15)
    best = _Best(w)
    for shift in (-1, 0, 1):
        z = np.clip(around + shift, 0, 15)
        below = np.divide(-low, z, out=np.zeros_like(low), where=z > 0)
        above = np.divide(high, 15 - z, out=np.zeros_like(high), where=z < 15)
        for part in (1.0, 0.97):
            step = _half(np.maximum(below, above) * np.float32(part)).astype(np.float32)
            best.try_affine(step, -z * step)
    best.error[best.error > limit] = np.inf
    return best


def _regression(w: Floats, codes: Floats) -> tuple[Floats, Floats]:
    """The step and the minimum [M] that fit w best with these codes; where all codes are the same, step 0 and mean."""
    mean_q, mean_w = codes.mean(axis=1), w.mean(axis=1)
    centred = codes - mean_q[:, None]
    below = np.einsum("mg,mg->m", centred, centred)
    above = np.einsum("mg,mg->m", centred, w)
    step = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return step, mean_w - step * mean_q


def _mean_minimum(w: Floats, best: _Best) -> Floats:
    """The best minimum for the rounded steps."""
    return np.asarray((w - best.codes * best.step.astype(np.float32)[:, None]).mean(axis=1), np.float32)


class _Best:
    """The best fit of each group among those tried."""

    def __init__(self, w: Floats) -> None:
        self.w = w
        self.codes: Floats = np.zeros_like(w)
        self.step: Halves = np.zeros(len(w), np.float16)
        self.minimum: Halves = np.zeros(len(w), np.float16)
        self.error = np.full(len(w), np.inf)

    def try_affine(self, step: Floats, minimum: Floats) -> None:
        d, m = _half(step), _half(minimum)
        codes = _nearest(self.w - m.astype(np.float32)[:, None], d.astype(np.float32), 0, 15)
        self._keep(codes, d, m, _error(self.w, codes, d, m))

    def try_scaled(self, step: Floats, low: float | Floats, high: float | Floats) -> None:
        d = _half(step)
        codes = _nearest(self.w, d.astype(np.float32), low, high)
        self._keep(codes, d, None, _error(self.w, codes, d, None))

    def _keep(self, codes: Floats, step: Halves, minimum: Halves | None, error: npt.NDArray[np.float64]) -> None:
        better = error < self.error
        self.codes[better], self.step[better], self.error[better] = codes[better], step[better], error[better]
        if minimum is not None:
            self.minimum[better] = minimum[better]

    def replace(self, other: _Best) -> None:
        """Take the fits of another, wherever it has one."""
        there = np.isfinite(other.error)
        self.codes[there], self.step[there] = other.codes[there], other.step[there]
        self.minimum[there], self.error[there] = other.minimum[there], other.error[there]

    def fit(self) -> Fit:
        return Fit(self.codes.astype(np.int8), self.step, self.error, minimum=self.minimum)


# -- without: w = d * (q - z) -----------------------------------------------------------------------------------------


def symmetric(w: Floats, bits: int, *, least_squares: bool = True) -> Fit:
    """Signed codes of 4 or 8 bits with a step per group and no minimum."""
    top = float(2 ** (bits - 1) - 1)
    largest = np.abs(w).max(axis=1)
    best = _Best(w)
    best.try_scaled(largest / top, -top, top)
    if least_squares:
        # The code -2^(bits-1) has no counterpart: give it to the weight that is largest, whatever its sign.
        peak = np.take_along_axis(w, np.abs(w).argmax(axis=1)[:, None], axis=1)[:, 0]
        starts: Iterable[Floats] = [s * x for s in _SHRINKS for x in (-peak / (top + 1), largest / top)]
        _scaled_least_squares(best, starts, -top - 1, top)
    return Fit(best.codes.astype(np.int8), best.step, best.error)


def zero_point(w: Floats, *, least_squares: bool = True) -> Fit:
    """4-bit codes 0..15 with a step and an integer zero point per group, over a range that holds 0: the usual INT4."""
    low, high = np.minimum(w.min(axis=1), 0), np.maximum(w.max(axis=1), 0)
    step = _half((high - low) / 15).astype(np.float32)
    inverse = np.divide(1.0, step, out=np.zeros_like(step), where=step != 0)
    zero = np.clip(np.rint(-low * inverse), 0, 15).astype(np.float32)
    best = _Best(w)
    bounds = -zero[:, None], 15 - zero[:, None]
    best.try_scaled(step, *bounds)
    if least_squares:
        _scaled_least_squares(best, [s * step for s in _SHRINKS[1:]], *bounds)
    return Fit((best.codes + zero[:, None]).astype(np.int8), best.step, best.error, zero=zero.astype(np.int8))


def _scaled_least_squares(best: _Best, starts: Iterable[Floats], low: float | Floats, high: float | Floats) -> None:
    for start in starts:
        best.try_scaled(start, low, high)
    for _ in range(ROUNDS):
        below = np.einsum("mg,mg->m", best.codes, best.codes)
        above = np.einsum("mg,mg->m", best.codes, best.w)
        best.try_scaled(np.divide(above, below, out=np.zeros_like(above), where=below > 0), low, high)
