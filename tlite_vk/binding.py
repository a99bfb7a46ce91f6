"""From a Program's plain data to a device's objects: windows become ranges, kernels pipelines, steps commands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from . import spirv
from .device import Buffer, Device, Pipeline, Recording
from .expression import evaluate
from .hazards import Barrier, Step, schedule
from .program import Dispatch, Program, Window


@dataclass(frozen=True)
class Buffers:
    """Buffers by the names that windows use; weights share pools, so they come with an offset."""

    named: dict[str, Buffer]  # filled while they are made
    weights: Mapping[str, tuple[Buffer, int]]

    def bind(self, window: Window, symbols: Mapping[str, int]) -> tuple[Buffer, int, int]:
        name, offset, size = window.resolve(symbols)
        if name.startswith("weight:"):
            buffer, base = self.weights[name.removeprefix("weight:")]
            return buffer, base + offset, size
        return self.named[name], offset, size


class Pipelines:
    """The pipelines of a Program, each made when it is first needed."""

    def __init__(self, device: Device, program: Program) -> None:
        self._device, self._program = device, program
        self._made: dict[int, Pipeline] = {}

    def __getitem__(self, number: int) -> Pipeline:
        if number not in self._made:
            kernel = self._program.kernels[number]
            generated = self._program.modules.get(kernel.shader)
            self._made[number] = self._device.pipeline(
                spirv.load(kernel.shader) if generated is None else generated,
                list(kernel.bindings),
                specialization=dict(kernel.specialization),
                push_bytes=kernel.push_bytes,
                subgroup_size=kernel.subgroup_size,
                full_subgroups=kernel.subgroup_size > 0,
            )
        return self._made[number]

    def close(self) -> None:
        for pipeline in self._made.values():
            pipeline.close()
        self._made.clear()


def present(dispatches: Iterable[Dispatch], symbols: Mapping[str, int]) -> tuple[Dispatch, ...]:
    """The dispatches that have workgroups at these lengths; one over an empty tensor has none."""
    return tuple(d for d in dispatches if all(evaluate(g, symbols) for g in d.groups))


def record(
    recording: Recording,
    dispatches: Iterable[Dispatch],
    symbols: Mapping[str, int],
    buffers: Buffers,
    pipelines: Pipelines,
) -> None:
    """Record the dispatches for these lengths, with a barrier wherever byte ranges conflict.

    A dispatch of no workgroups (a tensor that is empty at these lengths) is left out.
    """
    record_steps(recording, schedule(present(dispatches, symbols), symbols), symbols, buffers, pipelines)


def record_steps(
    recording: Recording,
    steps: Iterable[Step],
    symbols: Mapping[str, int],
    buffers: Buffers,
    pipelines: Pipelines,
) -> None:
    """Record dispatches, each of which has workgroups, and barriers as they are."""
    for step in steps:
        if isinstance(step, Barrier):
            recording.barrier()
            continue
        x, y, z = (evaluate(g, symbols) for g in step.groups)
        windows = [buffers.bind(window, symbols) for window in step.windows]
        recording.dispatch(pipelines[step.kernel], windows, (x, y, z), step.push_words(symbols))
