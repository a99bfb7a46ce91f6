"""What recordings and pipelines refuse, each with a message that says what is wrong."""

from collections.abc import Callable

import numpy as np
import pytest
from support.chain import GROUP, Span, make_pipeline, push, upload

from tlite_vk import spirv
from tlite_vk.device import Buffer, Device, Pipeline, Recording
from tlite_vk.errors import DeviceError

Dispatch = Callable[..., None]


@pytest.fixture
def span(any_device: Device) -> Span:
    return upload(any_device, np.zeros(1024, np.uint32))


@pytest.fixture
def dispatch(any_device: Device, span: Span) -> Dispatch:
    """Dispatches the chain's pipeline with one argument changed."""
    pipeline = make_pipeline(any_device)
    recording = any_device.recording()

    def run(
        windows: list[tuple[Buffer, int, int]] | None = None,
        groups: tuple[int, int, int] = (1, 1, 1),
        constants: bytes = push(1, 0),
    ) -> None:
        recording.dispatch(pipeline, [span.window, span.window] if windows is None else windows, groups, constants)

    return run


def test_windows_that_do_not_match(dispatch: Dispatch, any_device: Device, span: Span) -> None:
    good, buffer = span.window, span.buffer
    alignment = any_device.info.limits["min_storage_offset_alignment"]
    cases = [
        ([good], "the pipeline has 2 bindings, but 1 windows"),
        ([good] * 3, "the pipeline has 2 bindings, but 3 windows"),
        ([good, (buffer, 0, 4097)], "a window of 4097 bytes at offset 0 does not fit a buffer of 4096 bytes"),
        ([good, (buffer, 4096, 4)], "at offset 4096 does not fit"),
        ([good, (buffer, 4, 4)], f"window 1 starts at 4, not a multiple of {alignment}"),
        ([(buffer, 0, 0), good], "window 0 is empty"),
    ]
    for windows, message in cases:
        with pytest.raises(DeviceError, match=message):
            dispatch(windows)


def test_a_window_over_the_range_of_a_storage_buffer(any_device: Device, dispatch: Dispatch, span: Span) -> None:
    limit = any_device.info.limits["max_storage_buffer_range"]
    if limit == any_device.info.limits["max_buffer_size"]:
        with pytest.raises(DeviceError, match="over the device's limit"):
            any_device.buffer(limit + 1)
        return
    large = any_device.buffer(limit + 16)
    with pytest.raises(DeviceError, match=f"max_storage_buffer_range, {limit}; split it"):
        dispatch([span.window, (large, 0, limit + 4)])
    dispatch([span.window, (large, 0, limit)])


def test_wrong_groups_and_push_constants(any_device: Device, dispatch: Dispatch) -> None:
    most = any_device.info.max_workgroup_count
    for axis in range(3):
        for count in (0, most[axis] + 1):
            groups = [1, 1, 1]
            groups[axis] = count
            if count < 2**32:
                with pytest.raises(DeviceError, match=f"workgroup count {count} along {'xyz'[axis]} is not in 1"):
                    dispatch(groups=tuple(groups))
    for constants in (b"", push(1, 0)[:4], push(1, 0) + bytes(4)):
        with pytest.raises(DeviceError, match=f"takes 8 bytes of push constants, not {len(constants)}"):
            dispatch(constants=constants)


def test_objects_of_two_devices_do_not_mix(device: Device, swiftshader: Device) -> None:
    here, there = upload(device, np.zeros(8, np.uint32)), upload(swiftshader, np.zeros(8, np.uint32))
    recording = device.recording()
    with pytest.raises(DeviceError, match="window 1 lies in a buffer of another device"):
        recording.dispatch(make_pipeline(device), [here.window, there.window], (1, 1, 1), push(1, 0))
    with pytest.raises(DeviceError, match="pipeline belongs to another device"):
        recording.dispatch(make_pipeline(swiftshader), [here.window, here.window], (1, 1, 1), push(1, 0))
    with pytest.raises(DeviceError, match="two buffers of the recording's device"):
        recording.copy(here.buffer, 0, there.buffer, 0, 4)
    with pytest.raises(DeviceError, match="another device"):
        recording.fill(there.buffer, 0, 4, 0)


def test_copies_and_fills_out_of_bounds(any_device: Device, span: Span) -> None:
    recording = any_device.recording()
    buffer = span.buffer
    other = any_device.buffer(16)
    cases: list[tuple[Callable[[], None], str]] = [
        (lambda: recording.copy(buffer, 4090, other, 0, 7), "a copy of 7 bytes at offset 4090 does not fit"),
        (lambda: recording.copy(buffer, 0, other, 10, 7), "a copy of 7 bytes at offset 10 does not fit"),
        (lambda: recording.copy(buffer, 0, other, 0, 0), "at least one byte"),
        (lambda: recording.copy(buffer, 0, buffer, 4, 8), "must not overlap"),
        (lambda: recording.fill(buffer, 4092, 8, 0), "a fill of 8 bytes at offset 4092 does not fit"),
        (lambda: recording.fill(buffer, 2, 4, 0), "multiples of 4, not 2 and 4"),
        (lambda: recording.fill(buffer, 0, 6, 0), "multiples of 4, not 0 and 6"),
        (lambda: recording.fill(buffer, 0, 0, 0), "multiples of 4, not 0 and 0"),
    ]
    for action, message in cases:
        with pytest.raises(DeviceError, match=message):
            action()


def test_the_order_of_calls(any_device: Device, span: Span) -> None:
    recording = any_device.recording()
    with pytest.raises(DeviceError, match=r"end\(\) the recording before submitting"):
        recording.submit()
    recording.fill(span.buffer, 0, 4096, 1)
    recording.end()
    for late in (recording.barrier, recording.end, recording.timestamp, lambda: recording.fill(span.buffer, 0, 4, 0)):
        with pytest.raises(DeviceError, match="this recording has ended"):
            late()
    with pytest.raises(DeviceError, match=r"submit\(\) the recording first"):
        recording.wait()
    for repeat in (0, 1 << 17):
        with pytest.raises(DeviceError, match=f"not {repeat}"):
            recording.submit(repeat)
    recording.submit()
    with pytest.raises(DeviceError, match="submitted already"):
        recording.submit()
    with pytest.raises(DeviceError, match="timestamps are there after"):
        recording.timestamps()
    assert recording.wait()
    recording.close()
    for use in (recording.submit, recording.wait, recording.run, recording.timestamps):
        with pytest.raises(DeviceError, match="this recording is closed"):
            use()


def test_closed_pipelines_devices_and_buffers(open_driver: Callable[..., Device], main_driver: str) -> None:
    own = open_driver(main_driver)
    pipeline, recording = make_pipeline(own), own.recording()
    span = upload(own, np.zeros(8, np.uint32))
    pipeline.close()
    with pytest.raises(DeviceError, match="this pipeline is closed"):
        recording.dispatch(pipeline, [span.window, span.window], (1, 1, 1), push(1, 0))
    again = make_pipeline(own)
    own.close()
    for use in (lambda: own.buffer(4), own.recording, lambda: own.info, own.pipeline_cache):
        with pytest.raises(DeviceError, match="this device is closed"):
            use()
    assert repr(own) == "<Device, closed>"
    recording.dispatch(again, [span.window, span.window], (1, 1, 1), push(8, 5))
    span.buffer.close()
    with pytest.raises(DeviceError, match="this buffer is closed"):
        recording.dispatch(again, [span.window, span.window], (1, 1, 1), push(8, 5))


CHAIN_BINDINGS = ["storage", "storage"]


@pytest.mark.parametrize(
    ("bindings", "options", "message"),
    [
        (["storage", "image"], {}, "unknown binding 'image'; use one of storage, uniform, texel_r8ui"),
        (["storage"], {}, "uses binding 1, but the pipeline declares 1 bindings"),
        (["storage", "uniform"], {}, "binding 1 is a StorageBuffer in the shader, but declared as a UniformBuffer"),
        (CHAIN_BINDINGS, {"push_bytes": 4}, "reads 8 bytes of push constants, but the pipeline declares 4"),
        (CHAIN_BINDINGS, {"push_bytes": 10}, "multiple of 4 bytes, not 10"),
        (CHAIN_BINDINGS, {"push_bytes": 4096}, "4096 bytes of push constants is over the limit"),
        (CHAIN_BINDINGS, {"specialization": [0]}, "a workgroup of 0 x 1 x 1 invocations is over the limit"),
        (CHAIN_BINDINGS, {"specialization": [1 << 20]}, "a workgroup of 1048576 x 1 x 1 invocations is over"),
        (CHAIN_BINDINGS, {"specialization": {0: 1 << 33}}, "does not fit 32 bits"),
        (CHAIN_BINDINGS, {"subgroup_size": 12}, "subgroup size 12 is not a power of two from"),
        (CHAIN_BINDINGS, {"subgroup_size": 1024}, "subgroup size 1024 is not a power of two from"),
    ],
)
def test_pipelines(any_device: Device, bindings: list[str], options: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"specialization": [GROUP], "push_bytes": 8, **options}
    make: Callable[..., Pipeline] = any_device.pipeline
    with pytest.raises(DeviceError, match=message):
        make(spirv.load("test_chain"), bindings, **arguments)


def test_more_bindings_than_the_device_has(any_device: Device) -> None:
    count = any_device.info.limits["max_storage_buffers_per_stage"] + 1
    with pytest.raises(DeviceError, match=f"a shader with {count} storage buffers is over the limit"):
        any_device.pipeline(spirv.load("test_chain"), ["storage"] * count, push_bytes=8)


def test_code_that_is_not_a_whole_spirv_module(any_device: Device) -> None:
    code = spirv.load("test_chain")
    cases = [
        (b"", "wrong magic number"),
        (b"\x7fELF" * 16, "wrong magic number"),
        (code[:-2], "whole number of 4-byte words"),
        (code[:-4], "damaged"),
        (code[:20] + bytes(len(code) - 20), "damaged"),
    ]
    for damaged, message in cases:
        with pytest.raises(DeviceError, match=message):
            any_device.pipeline(damaged, CHAIN_BINDINGS, push_bytes=8)


def test_more_shared_memory_than_the_device_has(any_device: Device) -> None:
    have = any_device.info.limits["max_compute_shared_memory"]
    make = any_device.pipeline
    fits = make(spirv.load("test_shared"), ["storage"], specialization={0: have // 16})
    assert fits.bindings == 1
    with pytest.raises(DeviceError, match=f"needs {have + 16} bytes of shared memory; .* has {have}"):
        make(spirv.load("test_shared"), ["storage"], specialization={0: have // 16 + 1})


def test_an_unknown_shader_is_named() -> None:
    with pytest.raises(DeviceError, match=r"no shader 'nonsense'; declare it in shaders/variants\.txt"):
        spirv.load("nonsense")
    assert {"test_chain", "test_formats", "test_shared"} <= set(spirv.names())


def test_a_recording_left_behind_under_way_is_harmless(any_device: Device, span: Span) -> None:
    recording: Recording | None = any_device.recording()
    assert recording is not None
    for value in range(200):
        recording.fill(span.buffer, 0, 4096, value)
        recording.barrier()
    recording.end()
    recording.submit()
    recording = None
    assert set(span.read().tolist()) == {199}
