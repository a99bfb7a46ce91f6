"""Element types: our names, numpy's types, and ONNX's numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tlite_vk.graph.errors import GraphError

# ONNX's TensorProto.DataType by number.
ONNX_NUMBERS = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    8: "string",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    16: "bfloat16",
    21: "uint4",
    22: "int4",
}
FLOATS = frozenset({"float32", "float16", "bfloat16", "float64"})
INTEGERS = frozenset({"int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "int4", "uint4"})
INDICES = frozenset({"int64", "int32"})
_NUMPY: dict[str, Any] = {"bool": np.bool_, "uint4": np.uint8, "int4": np.int8, "string": np.object_}
_BITS = {"uint4": 4, "int4": 4}


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The numpy type that holds one element; 4-bit elements are unpacked into bytes."""
    if name == "bfloat16":
        import ml_dtypes

        half: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return half
    if name not in _NUMPY and name not in FLOATS | INTEGERS:
        raise GraphError(f"element type {name} is not supported")
    result: np.dtype[Any] = np.dtype(_NUMPY.get(name, name))
    return result


def from_onnx(number: int) -> str:
    if number not in ONNX_NUMBERS:
        raise GraphError(f"ONNX element type {number} is not supported")
    return ONNX_NUMBERS[number]


def bits(name: str) -> int:
    """Bits an element takes in memory."""
    return _BITS.get(name) or np.dtype(numpy_dtype(name)).itemsize * 8


def unpack4(packed: npt.NDArray[Any], count: int, signed: bool) -> npt.NDArray[Any]:
    """`count` 4-bit elements (the first in the low nibble) as one byte each."""
    raw = np.asarray(packed).reshape(-1).view(np.uint8)
    codes = np.empty((raw.size, 2), np.uint8)
    codes[:, 0], codes[:, 1] = raw & 15, raw >> 4
    flat = codes.reshape(-1)[:count]
    return ((flat ^ 8).astype(np.int8) - np.int8(8)) if signed else flat
