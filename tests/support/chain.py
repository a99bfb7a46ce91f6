"""The test shader: y[i] = x[i] * scale + offset over two windows of unsigned integers, in workgroups of 64."""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tlite_vk import spirv
from tlite_vk.device import Buffer, Device, Pipeline, Recording

GROUP = 64
Values = NDArray[np.uint32]


@dataclass(frozen=True)
class Span:
    """`count` values of a buffer from byte `offset` on."""

    buffer: Buffer
    count: int
    offset: int = 0

    @property
    def window(self) -> tuple[Buffer, int, int]:
        """As a dispatch takes it."""
        return self.buffer, self.offset, 4 * self.count

    def read(self) -> Values:
        """The values now."""
        return self.buffer.read(4 * self.count, self.offset).view(np.uint32)


def make_pipeline(device: Device, scale: int = 1) -> Pipeline:
    """The shader for one scale, which is a specialization constant."""
    code = spirv.load("test_chain")
    return device.pipeline(code, ["storage", "storage"], specialization=[GROUP, scale], push_bytes=8)


def push(count: int, offset: int) -> bytes:
    """The push constants."""
    return struct.pack("<II", count, offset)


def upload(device: Device, values: Values) -> Span:
    """A buffer of its own with these values."""
    buffer = device.buffer(values.nbytes)
    buffer.write(values)
    return Span(buffer, values.size)


def record_link(recording: Recording, pipeline: Pipeline, source: Span, target: Span, offset: int) -> None:
    """One dispatch from source to target."""
    groups = (-(-source.count // GROUP), 1, 1)
    recording.dispatch(pipeline, [source.window, target.window], groups, push(source.count, offset))


def record_chain(device: Device, pipeline: Pipeline, spans: tuple[Span, Span], links: int, barriers: bool) -> Recording:
    """Links back and forth between two spans, each with offset 1; the result lies in spans[links % 2]."""
    recording = device.recording()
    for link in range(links):
        record_link(recording, pipeline, spans[link % 2], spans[(link + 1) % 2], 1)
        if barriers:
            recording.barrier()
    recording.end()
    return recording


def expected_chain(values: Values, scale: int, links: int) -> Values:
    """What record_chain computes: values * scale**links + (1 + scale + ... + scale**(links - 1)), modulo 2**32."""
    factor, offset = 1, 0
    for _ in range(links):
        factor, offset = factor * scale % 2**32, (offset * scale + 1) % 2**32
    return values * np.uint32(factor) + np.uint32(offset)
