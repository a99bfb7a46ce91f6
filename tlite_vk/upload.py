"""Weights into device memory: pooled into few buffers, written in place where the memory is mapped.

Where it is not, neighbours go together in pieces of tens of megabytes: while one piece is copied to the device, threads
make the next. Weights of a compiled file come straight from its memory map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .device import Buffer, Device
from .program import WeightPlan
from .stored import THREADS, StoredWeight

Array = npt.NDArray[Any]
Location = tuple[Buffer, int]
Progress = Callable[[int, int], None]
POOL_BYTES = 1 << 28
PIECE_BYTES = 1 << 26


def upload(
    device: Device, plans: Sequence[WeightPlan], alignment: int, progress: Progress | None = None
) -> dict[str, Location]:
    """Upload every weight; returns (buffer, offset) by name. `progress(done, total)` counts bytes.

    Raises DeviceError where the device has not enough memory, ModelError for a weight that cannot be read; whatever
    ends it early, nothing stays allocated.
    """
    locations, pools = _place(plans, alignment)
    buffers: list[Buffer] = []
    total, done = sum(p.size for p in plans), 0
    with ThreadPoolExecutor(THREADS) as threads:
        try:
            for size in pools:
                buffers.append(device.buffer(size))
            for size in _write_all(threads, plans, locations, buffers):
                done += size
                if progress is not None:
                    progress(done, total)
        except BaseException:
            threads.shutdown(cancel_futures=True)
            for buffer in buffers:
                buffer.close()
            raise
    return {plan.name: (buffers[pool], offset) for plan in plans for pool, offset in (locations[plan.name],)}


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


@dataclass
class _Piece:
    """Neighbours in one pool, from byte `start` to byte `stop` of it."""

    pool: int
    start: int
    stop: int
    plans: list[WeightPlan]


def _pieces(plans: Sequence[WeightPlan], locations: dict[str, tuple[int, int]]) -> list[_Piece]:
    found: list[_Piece] = []
    for plan in plans:
        pool, offset = locations[plan.name]
        if not found or found[-1].pool != pool or offset + plan.size - found[-1].start > PIECE_BYTES:
            found.append(_Piece(pool, offset, offset, []))
        found[-1].plans.append(plan)
        found[-1].start = min(found[-1].start, offset)  # weights of one name share a place
        found[-1].stop = max(found[-1].stop, offset + plan.size)
    return found


def _write_all(
    threads: ThreadPoolExecutor,
    plans: Sequence[WeightPlan],
    locations: dict[str, tuple[int, int]],
    buffers: list[Buffer],
) -> Iterator[int]:
    """Write everything, in order; yields the bytes of each weight or piece when it is on the device."""
    mapped = [buffer.mapped for buffer in buffers]
    started: list[tuple[_Piece, Array | None, list[Future[int]]]] = []
    for piece in _pieces(plans, locations):
        memory = mapped[piece.pool]
        staged = None if memory is not None else np.zeros(piece.stop - piece.start, np.uint8)
        base = 0 if staged is None else piece.start
        target: Array = staged if memory is None else memory  # type: ignore[assignment]
        offsets = [locations[plan.name][1] - base for plan in piece.plans]
        futures = [
            threads.submit(_fill, target[at : at + plan.size], plan)
            for plan, at in zip(piece.plans, offsets, strict=True)
        ]
        started.append((piece, staged, futures))
        if len(started) > 1:
            yield from _finish(*started.pop(0), buffers)
    for waiting in started:
        yield from _finish(*waiting, buffers)


def _finish(piece: _Piece, staged: Array | None, futures: list[Future[int]], buffers: list[Buffer]) -> Iterator[int]:
    sizes = [future.result() for future in futures]
    if staged is not None:
        buffers[piece.pool].write(staged, piece.start)
    yield from sizes


def _fill(target: Array, plan: WeightPlan) -> int:
    """The bytes of one weight into `target` uint8 [plan.size]; returns how many."""
    if isinstance(plan.source, StoredWeight):
        plan.source.fill(target)
        plan.source.release()
    else:
        from .weight_bytes import fill  # with all that compiles, which a compiled file does without

        fill(target, plan)
    return plan.size
