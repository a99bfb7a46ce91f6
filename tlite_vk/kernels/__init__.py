"""Kernels: for each operator, which shader runs on which windows with which grid. One file per family."""

from . import attention, elementwise, gather, linear, movement, norm, reduction, softmax

__all__ = ["attention", "elementwise", "gather", "linear", "movement", "norm", "reduction", "softmax"]
