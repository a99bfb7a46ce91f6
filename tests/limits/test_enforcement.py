"""The binding holds a device to its profile: what asks for more is refused, by a message that names the limit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.chain import make_pipeline, push, upload

from tlite_vk import spirv
from tlite_vk.device import Device
from tlite_vk.errors import DeviceError

Lowered = Callable[..., Device]
CHAIN = ["storage", "storage"]


@pytest.fixture
def lowered(open_driver: Callable[..., Device], main_driver: str, tmp_path: Path) -> Lowered:
    """A function (text of a profile, driver: the one at hand) -> its device, held to it."""

    def opened(text: str, driver: str = main_driver) -> Device:
        file = tmp_path / "own.toml"
        file.write_text(text)
        return open_driver(driver, limits=file)

    return opened


def refused(message: str, act: Callable[[], object]) -> None:
    with pytest.raises(DeviceError, match=message) as error:
        act()
    assert "\n" not in str(error.value)


def test_workgroups(lowered: Lowered) -> None:
    device = lowered("[limits]\nmax_workgroup_invocations = 128\nmax_workgroup_count = [7, 7, 7]")
    code = spirv.load("test_chain")
    device.pipeline(code, CHAIN, specialization=[128, 1], push_bytes=8)
    refused(
        "129 x 1 x 1 invocations is over", lambda: device.pipeline(code, CHAIN, specialization=[129, 1], push_bytes=8)
    )
    pipeline, recording, span = make_pipeline(device), device.recording(), upload(device, np.zeros(64, np.uint32))
    recording.dispatch(pipeline, [span.window, span.window], (7, 1, 1), push(64, 0))
    refused(
        "workgroup count 8 along x is not in 1..7",
        lambda: recording.dispatch(pipeline, [span.window, span.window], (8, 1, 1), push(64, 0)),
    )


def test_one_side_of_a_workgroup(lowered: Lowered) -> None:
    device = lowered("[limits]\nmax_workgroup_size = [32, 64, 64]")
    code = spirv.load("test_chain")
    refused(
        "64 x 1 x 1 invocations is over", lambda: device.pipeline(code, CHAIN, specialization=[64, 1], push_bytes=8)
    )


def test_shared_memory_counts_what_specialization_makes_of_it(lowered: Lowered) -> None:
    device = lowered("[limits]\nmax_compute_shared_memory = 16384")
    code = spirv.load("linear_split_float32")
    kinds = ["storage"] * 7

    def pipeline(words: int) -> object:
        return device.pipeline(code, kinds, specialization={0: 8, 11: 4, 12: words}, push_bytes=28)

    pipeline(4000)
    refused("bytes of shared memory; .* has 16384", lambda: pipeline(4097))


def test_bindings_and_push_constants(lowered: Lowered) -> None:
    device = lowered(
        "[limits]\nmax_storage_buffers_per_stage = 6\nmax_push_constants = 24\nmax_texel_buffers_per_stage = 1"
    )
    code = spirv.load("linear_split_float32")
    spec = {0: 8, 11: 1, 12: 32}
    refused(
        "7 storage buffers is over", lambda: device.pipeline(code, ["storage"] * 7, specialization=spec, push_bytes=24)
    )
    few = ["storage"] * 6
    refused(
        "28 bytes of push constants is over", lambda: device.pipeline(code, few, specialization=spec, push_bytes=28)
    )
    texels = spirv.load("linear_tile_float32_t")
    kinds = ["texel_rgba32ui", "texel_r32ui", "texel_rgba32ui", "storage", "storage", "storage", "texel_rgba32ui"]
    refused("4 texel buffers is over", lambda: device.pipeline(texels, kinds, push_bytes=24))


def test_windows(lowered: Lowered) -> None:
    device = lowered(
        "[limits]\nmax_storage_buffer_range = 1024\nmin_storage_offset_alignment = 128\nmax_texel_buffer_elements = 64"
    )
    pipeline, recording, buffer = make_pipeline(device), device.recording(), device.buffer(4096)

    def dispatch(offset: int, size: int) -> None:
        recording.dispatch(pipeline, [(buffer, 0, 1024), (buffer, offset, size)], (1, 1, 1), push(1, 0))

    dispatch(1024, 1024)
    refused("1028 bytes is over the device's max_storage_buffer_range, 1024; split it", lambda: dispatch(1024, 1028))
    alignment = device.info.limits["min_storage_offset_alignment"]
    assert alignment >= 128
    refused(f"starts at 1088, not a multiple of {alignment}", lambda: dispatch(1088, 4))
    kinds = ["texel_rgba32ui", "texel_rgba16f", "uniform", "storage"]
    texels = device.pipeline(spirv.load("test_formats"), kinds)
    windows = [(buffer, 0, 16 * 65), (buffer, 0, 128), (buffer, 0, 16), (buffer, 0, 256)]
    refused("max_texel_buffer_elements, 64; split it", lambda: recording.dispatch(texels, windows, (1, 1, 1)))


def test_memory(lowered: Lowered) -> None:
    device = lowered("[limits]\nmax_allocation_count = 3\nmax_allocation_size = 65536\nmax_buffer_size = 131072")
    refused("over the device's limit of 131072", lambda: device.buffer(131073))
    refused("more than it allocates at once", lambda: device.buffer(131072))
    kept = [device.buffer(65536) for _ in range(3)]
    refused("too many buffers", lambda: device.buffer(16))
    kept.pop().close()
    device.buffer(16)


@pytest.mark.parametrize(
    ("feature", "module", "kinds", "push_bytes", "declared"),
    [
        ("float16", "linear_half_int8", 7, 28, "Float16"),
        ("subgroup_arithmetic", "linear_half_int8", 7, 28, "GroupNonUniformArithmetic"),
        ("subgroup_shuffle", "attention_split", 10, 52, "GroupNonUniformShuffle"),
        ("subgroup_basic", "attention_split", 10, 52, "GroupNonUniform"),
    ],
)
def test_a_module_that_declares_what_the_profile_leaves_out(
    lowered: Lowered, feature: str, module: str, kinds: int, push_bytes: int, declared: str
) -> None:
    device = lowered(f"[features]\n{feature} = false", "lavapipe")  # which has all of them
    refused(
        f"declares {declared}, but .* has no {feature}",
        lambda: device.pipeline(spirv.load(module), ["storage"] * kinds, push_bytes=push_bytes),
    )


def test_required_subgroups(lowered: Lowered) -> None:
    device = lowered("[features]\nsubgroup_size_control = false\ncompute_full_subgroups = false")
    code = spirv.load("test_chain")

    def pipeline(size: int, full: bool) -> object:
        return device.pipeline(code, CHAIN, push_bytes=8, subgroup_size=size, full_subgroups=full)

    refused("cannot fix the subgroup size", lambda: pipeline(8, False))
    refused("cannot promise full subgroups", lambda: pipeline(0, True))


def test_timestamps(lowered: Lowered) -> None:
    device = lowered("[limits]\ntimestamp_valid_bits = 0")
    refused("has no timestamps", lambda: device.recording().timestamp())


def test_what_is_left_out_is_not_enabled(open_driver: Callable[..., Device], main_driver: str) -> None:
    """The Khronos layer sees a device that was made without the feature."""
    device = open_driver(main_driver, limits="least", validation=True)
    assert device.info.features == dict.fromkeys(device.info.features, False) | {"subgroup_basic": True}
    x = np.arange(64, dtype=np.uint32)
    span = upload(device, x)
    recording = device.recording()
    recording.dispatch(make_pipeline(device), [span.window, span.window], (1, 1, 1), push(64, 1))
    recording.end()
    recording.run()
    assert np.array_equal(span.read(), x + 1) and device.validation_messages() == []
