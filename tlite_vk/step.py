"""The small buffers that the host and the kernels of a step share, apart from any kernel: their sizes."""

STEP_BYTES = 16
"""Step parameters (shaders/lib/step.glsl): position, valid rows, tokens chosen so far, and a word to spare."""

PICKED = 1024
"""Tokens that the device may pick before the host reads them."""
