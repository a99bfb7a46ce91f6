"""Weights into device memory: pooled into few buffers, written in place where the memory is mapped."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .device import Buffer, Device
from .errors import DeviceError, InputError, ModelError
from .graph.evaluate import constant_array
from .kernels.linear import PackedBlock
from .packing import pack
from .program import WeightPlan

Array = npt.NDArray[Any]
Location = tuple[Buffer, int]
POOL_BYTES = 1 << 28


def upload(
    device: Device, plans: Sequence[WeightPlan], alignment: int, progress: Callable[[int, int], None] | None = None
) -> dict[str, Location]:
    """Upload every weight; returns (buffer, offset) by name. `progress(done, total)` counts bytes.

    Raises DeviceError where the device has not enough memory.
    """
    locations, pools = _place(plans, alignment)
    buffers = [device.buffer(size) for size in pools]
    total, done = sum(p.size for p in plans), 0
    placed: dict[str, Location] = {}
    for plan in plans:
        pool, offset = locations[plan.name]
        placed[plan.name] = (buffers[pool], offset)
        _write(buffers[pool], offset, plan)
        done += plan.size
        if progress is not None:
            progress(done, total)
    return placed


def _place(plans: Sequence[WeightPlan], alignment: int) -> tuple[dict[str, tuple[int, int]], list[int]]:
    """Pools of about POOL_BYTES: a weight larger than that gets its own."""
    pools: list[int] = []
    locations: dict[str, tuple[int, int]] = {}
    for plan in plans:
        size = -(-plan.size // alignment) * alignment
        if not pools or pools[-1] + size > POOL_BYTES:
            pools.append(0)
        locations[plan.name] = (len(pools) - 1, pools[-1])
        pools[-1] += size
    return locations, pools


def _write(buffer: Buffer, offset: int, plan: WeightPlan) -> None:
    try:
        _write_to(buffer, offset, plan)
    except InputError as error:
        raise ModelError(f"tensor {plan.name!r}: {error}") from error


def _write_to(buffer: Buffer, offset: int, plan: WeightPlan) -> None:
    mapped = buffer.mapped
    if mapped is not None:
        target = mapped[offset : offset + plan.size]
        _fill(target, plan)
        return
    staged = np.zeros(plan.size, np.uint8)
    _fill(staged, plan)
    buffer.write(staged, offset)


def _fill(target: Array, plan: WeightPlan) -> None:
    """The bytes of one weight into `target` uint8 [plan.size]."""
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
    release(source.weight)


def release(weight: Any) -> None:
    """Give the pages of a memory-mapped weight back to the system: they are on the device now."""
    for part in getattr(weight, "parts", (weight,)):
        for array in (getattr(part, "codes", part), getattr(part, "scale", None)):
            base = array
            while isinstance(base, np.ndarray) and not isinstance(base.base, mmap.mmap) and base.base is not None:
                base = base.base
            mapping = getattr(base, "base", None)
            if isinstance(mapping, mmap.mmap):
                mapping.madvise(mmap.MADV_DONTNEED)


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
