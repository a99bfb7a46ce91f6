"""Texel and uniform buffers, and specialization constants in both of their forms."""

import numpy as np
import pytest
from support.chain import GROUP, push, upload

from tlite_vk import spirv
from tlite_vk.device import Buffer, Device, Pipeline
from tlite_vk.errors import DeviceError

KINDS = ["texel_rgba32ui", "texel_rgba16f", "uniform", "storage"]
COUNT = 33


@pytest.fixture
def pipeline(any_device: Device) -> Pipeline:
    """y[i] = texels[i] + u + halves[i]"""
    return any_device.pipeline(spirv.load("test_formats"), KINDS)


def test_texel_and_uniform_windows(any_device: Device, pipeline: Pipeline) -> None:
    step = 256  # a multiple of every alignment of our drivers
    rng = np.random.default_rng(0)
    texels = rng.integers(0, 2**31, (COUNT, 4), dtype=np.uint32)
    halves = rng.integers(0, 2048, (COUNT, 4)).astype(np.float16)
    uniform = np.array([1, 20, 300, 4000], np.uint32)
    buffer = any_device.buffer(step * 16)
    for offset, part in ((step, texels), (5 * step, halves), (9 * step, uniform)):
        buffer.write(part, offset)
    recording = any_device.recording()
    windows = [(buffer, step, texels.nbytes), (buffer, 5 * step, halves.nbytes), (buffer, 9 * step, 16)]
    recording.dispatch(pipeline, [*windows, (buffer, 10 * step, texels.nbytes)], (COUNT, 1, 1))
    recording.end()
    recording.run()
    result = buffer.read(texels.nbytes, 10 * step).view(np.uint32).reshape(COUNT, 4)
    assert np.array_equal(result, texels + uniform + halves.astype(np.uint32))


def test_one_byte_texels_are_offered(any_device: Device) -> None:
    with pytest.raises(DeviceError, match="binding 0 is a UniformTexelBuffer"):
        any_device.pipeline(spirv.load("test_formats"), ["storage", *KINDS[1:]])
    any_device.pipeline(spirv.load("test_formats"), ["texel_rgba8ui", *KINDS[1:]])


def test_windows_that_texel_and_uniform_bindings_refuse(any_device: Device, pipeline: Pipeline) -> None:
    limits = any_device.info.limits
    recording = any_device.recording()
    buffer = any_device.buffer(limits["max_uniform_buffer_range"] + 4096)

    def dispatch(binding: int, window: tuple[Buffer, int, int]) -> None:
        windows = [(buffer, 0, 1024)] * 4
        windows[binding] = window
        recording.dispatch(pipeline, windows, (1, 1, 1))

    cases = [
        (0, (buffer, 8, 64), "min_texel_offset_alignment"),
        (0, (buffer, 0, 72), "whole texels of 16 bytes"),
        (1, (buffer, 0, 68), "whole texels of 8 bytes"),
        (2, (buffer, 8, 64), "min_uniform_offset_alignment"),
        (2, (buffer, 0, limits["max_uniform_buffer_range"] + 16), "max_uniform_buffer_range"),
    ]
    for binding, window, message in cases:
        with pytest.raises(DeviceError, match=message):
            dispatch(binding, window)


def test_more_texels_than_the_device_allows(swiftshader: Device) -> None:
    most = swiftshader.info.limits["max_texel_buffer_elements"]
    large, small = swiftshader.buffer(16 * (most + 1)), swiftshader.buffer(1024)
    pipeline = swiftshader.pipeline(spirv.load("test_formats"), KINDS)
    rest = [(small, 0, 512)] * 3
    recording = swiftshader.recording()
    with pytest.raises(DeviceError, match=f"max_texel_buffer_elements, {most}; split it"):
        recording.dispatch(pipeline, [(large, 0, 16 * (most + 1)), *rest], (1, 1, 1))
    recording.dispatch(pipeline, [(large, 0, 16 * most), *rest], (1, 1, 1))


@pytest.mark.parametrize("scale", [3, -1, 2**32 - 5])
def test_specialization_as_a_sequence_or_a_mapping(any_device: Device, scale: int) -> None:
    x = np.arange(100, dtype=np.uint32)
    for constants in ([GROUP, scale], {1: scale, 0: GROUP}):
        pipeline = any_device.pipeline(
            spirv.load("test_chain"), ["storage", "storage"], specialization=constants, push_bytes=8
        )
        source, target = upload(any_device, x), upload(any_device, np.zeros_like(x))
        recording = any_device.recording()
        recording.dispatch(pipeline, [source.window, target.window], (2, 1, 1), push(x.size, 4))
        recording.end()
        recording.run()
        assert np.array_equal(target.read(), x * np.uint32(scale % 2**32) + np.uint32(4))


def test_subgroup_size_and_full_subgroups(any_device: Device) -> None:
    low, high = (any_device.info.limits[f"{end}_subgroup_size"] for end in ("min", "max"))
    x = np.arange(64, dtype=np.uint32)
    for size in {low, high}:
        pipeline = any_device.pipeline(
            spirv.load("test_chain"),
            ["storage", "storage"],
            specialization=[GROUP],
            push_bytes=8,
            subgroup_size=size,
            full_subgroups=any_device.info.features["compute_full_subgroups"],
        )
        source, target = upload(any_device, x), upload(any_device, np.zeros_like(x))
        recording = any_device.recording()
        recording.dispatch(pipeline, [source.window, target.window], (1, 1, 1), push(x.size, 7))
        recording.end()
        recording.run()
        assert np.array_equal(target.read(), x + np.uint32(7))
