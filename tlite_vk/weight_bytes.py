"""The bytes of weights, as shaders read them, from what a graph carries: packed, interleaved, 32-bit words."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import DeviceError, InputError, ModelError
from .graph.evaluate import constant_array
from .kernels.linear import PackedBlock
from .packing import pack
from .program import WeightPlan
from .stored import release_pages

Array = npt.NDArray[Any]


def fill(target: Array, plan: WeightPlan) -> None:
    """Write one weight into `target` uint8 [plan.size]. Raises ModelError where its values have no place there."""
    try:
        _fill(target, plan)
    except InputError as error:
        raise ModelError(f"tensor {plan.name!r}: {error}") from error


def _fill(target: Array, plan: WeightPlan) -> None:
    if plan.kind == "packed":
        _fill_packed(target, plan.source)
    elif plan.kind == "rotary":
        arrays = [np.asarray(a, np.float32).reshape(-1) for a in plan.source]
        pairs = [np.stack(arrays[i : i + 2], axis=-1) for i in range(0, len(arrays), 2)]
        _copy(target, np.concatenate(pairs))
    elif plan.kind == "array":
        _copy(target, device_array(plan.source))
    elif plan.kind == "value":
        _copy(target, device_array(constant_array(plan.source)))
    else:
        raise DeviceError(f"unknown kind of weight {plan.kind!r}")


def _fill_packed(target: Array, source: PackedBlock) -> None:
    packing, rows = source.packing, source.block.rows
    codes, scales = packing.code_bytes(rows), packing.scale_bytes(rows)
    if source.part == "codes":
        pack(source.weight, packing, list(source.block.ranges), codes=target[:codes].view(np.uint32), scales=None)
    else:
        pack(source.weight, packing, list(source.block.ranges), codes=None, scales=target[:scales])
    _release(source.weight)


def _release(weight: Any) -> None:
    """Give the pages of a memory-mapped weight back to the system: its bytes are elsewhere now."""
    for part in getattr(weight, "parts", (weight,)):
        for array in (getattr(part, "codes", part), getattr(part, "scale", None)):
            if isinstance(array, np.ndarray):
                release_pages(array)


def _copy(target: Array, array: Array) -> None:
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    target[: data.size] = data


def device_array(array: Array) -> Array:
    """As shaders see it: floats in float32, integers and booleans in 32-bit words.

    Raises InputError for an integer that does not fit 32 bits.
    """
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
        return np.asarray(array, np.float32)
    if array.dtype.itemsize == 8 and array.size and array.dtype.kind in "iu":
        low, high = (0, 2**32 - 1) if array.dtype.kind == "u" else (-(2**31), 2**31 - 1)
        if int(array.min()) < low or int(array.max()) > high:
            raise InputError(f"{array.dtype} values outside of {low}..{high} are not supported on the device")
    return np.asarray(array, np.int64 if array.dtype.kind != "u" else np.uint64).astype(np.uint32).view(np.int32)
