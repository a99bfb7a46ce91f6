"""What quantizing did: the error and the size of each tensor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class TensorReport:
    """One quantized weight.

    shape [rows, columns] with the reduction last; readers: the nodes that use it. format as in the options, with
    "symmetric" where there is no minimum. relative_rms: sqrt(sum of squared errors / sum of squared weights);
    max_error: the largest absolute one. Sizes in bytes, steps and minimums included.
    """

    name: str
    readers: tuple[str, ...]
    role: str
    shape: tuple[int, int]
    format: str
    group: int  # 0: none
    squared_error: float
    squared_weights: float
    max_error: float
    bytes_before: int
    bytes_after: int

    @property
    def bits(self) -> float:
        """Bits per weight, steps and minimums included."""
        return 8 * self.bytes_after / (self.shape[0] * self.shape[1])

    @property
    def relative_rms(self) -> float:
        return _ratio(self.squared_error, self.squared_weights)


@dataclass(frozen=True)
class Kept:
    """A float matrix, or a tensor of higher rank, that stayed as it was, and why."""

    name: str
    shape: tuple[int, ...]
    nbytes: int
    reason: str


@dataclass(frozen=True)
class QuantizeReport:
    """What was written, tensor by tensor. Sizes in bytes, of all weights of the model, the kept ones included."""

    model: Path
    data: Path
    tokenizer: bool  # whether tokenizer files were copied
    tensors: tuple[TensorReport, ...]
    kept: tuple[Kept, ...]
    bytes_before: int
    bytes_after: int

    @property
    def relative_rms(self) -> float:
        """Over all quantized weights together."""
        return _ratio(sum(t.squared_error for t in self.tensors), sum(t.squared_weights for t in self.tensors))

    @property
    def max_error(self) -> float:
        return max(t.max_error for t in self.tensors)

    @property
    def bits(self) -> float:
        """Bits per quantized weight."""
        weights = sum(t.shape[0] * t.shape[1] for t in self.tensors)
        return 8 * sum(t.bytes_after for t in self.tensors) / weights


def _ratio(error: float, weights: float) -> float:
    return math.sqrt(error / weights) if weights else math.sqrt(error)


class ErrorSum:
    """Adds up errors over blocks of a tensor."""

    def __init__(self) -> None:
        self.squared_error = self.squared_weights = self.max_error = 0.0

    def add(self, weights: npt.NDArray[np.float32], values: npt.NDArray[np.float32]) -> None:
        """Two arrays of the same shape."""
        difference = (values - weights).astype(np.float64)
        self.squared_error += float(np.vdot(difference, difference))
        wide = weights.astype(np.float64)
        self.squared_weights += float(np.vdot(wide, wide))
        self.max_error = max(self.max_error, float(np.abs(difference).max(initial=0.0)))
