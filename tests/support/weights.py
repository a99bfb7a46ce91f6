"""Random weights in every packed format, for the tests of kernels."""

from __future__ import annotations

import numpy as np

from tlite_vk.graph.ir import Value, constant
from tlite_vk.graph.ops.dtypes import numpy_dtype
from tlite_vk.graph.weights import AffineWeight, QuantizedRows


def make_weight(form: str, rows: int, columns: int, rng: np.random.Generator) -> Value:
    """A random weight [rows, columns] in one of the packed formats, `_group64` and the like in groups of that size."""
    form, _, size = form.partition("_group")
    if form == "bfloat16":
        values = (rng.standard_normal((rows, columns)) / np.sqrt(columns)).astype(numpy_dtype(form))
        return Value("w", "float32", (rows, columns), values)
    if form.startswith("float"):
        return constant("w", (rng.standard_normal((rows, columns)) / np.sqrt(columns)).astype(form))
    group = min(int(size or {"int8_f32": 16}.get(form, 32)), columns)
    scale = rng.uniform(0.5, 1.5, (rows, columns // group)) / np.sqrt(columns)
    dtype = np.float32 if form == "int8_f32" else np.float16
    minimum = (-scale * rng.uniform(4, 12, scale.shape)).astype(dtype) if form == "e0m4_affine" else None
    if form.startswith("int8"):
        codes, bits = rng.integers(-128, 128, (rows, columns), np.int8), 8
        codes = codes.view(np.uint8) if form == "int8_unsigned" else codes
        scale /= 16
    else:
        codes, bits = rng.integers(0, 256, (rows, columns // 2), np.uint8), 4
    zero = {"e0m4_symmetric": 8, "e0m4_zero_point": 5, "int8_unsigned": 128}.get(form, 0)
    part = QuantizedRows(
        codes, scale.astype(dtype), minimum, bits, signed=form in ("int8", "int8_f32", "e0m4_signed"), zero=zero
    )
    return Value("w", "float32", (rows, columns), AffineWeight((part,)))
