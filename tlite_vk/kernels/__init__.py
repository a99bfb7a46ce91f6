"""Kernels: for each operator, which shader runs on which windows with which grid. One file per family."""

from . import (
    attention,
    attention_generic,
    convolution,
    elementwise,
    gather,
    linear,
    matmul,
    movement,
    norm,
    normalization,
    quantization,
    reduction,
    rotary,
    softmax,
)

__all__ = [
    "attention",
    "attention_generic",
    "convolution",
    "elementwise",
    "gather",
    "linear",
    "matmul",
    "movement",
    "norm",
    "normalization",
    "quantization",
    "reduction",
    "rotary",
    "softmax",
]
