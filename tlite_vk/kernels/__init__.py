"""Kernels: for each operator, which shader runs on which windows with which grid. One file per family."""

from . import attention, linear, norm

__all__ = ["attention", "linear", "norm"]
