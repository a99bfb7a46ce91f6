"""Listing, choosing and opening devices; what is missing is said, with what to install."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.chain import Span, make_pipeline, push

from tlite_vk import _kompute
from tlite_vk import device as devices
from tlite_vk.device import Device
from tlite_vk.errors import DeviceError

PROGRAM = """
from tlite_vk.device import list_devices, open_device
from tlite_vk.errors import DeviceError
for action in (list_devices, lambda: open_device(0), lambda: open_device(0, validation=True)):
    try:
        print(action())
    except DeviceError as error:
        print(error)
"""


def run_program(**environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_a_description_has_everything(any_device: Device) -> None:
    info = any_device.info
    assert info.device_type in {"cpu", "integrated", "discrete", "virtual", "other"}
    assert info.name in repr(info)
    assert info.driver_name
    assert info.api_version >= (1, 1, 0)
    assert len(bytes.fromhex(info.pipeline_cache_uuid)) == 16
    assert info.timestamp_period > 0
    assert info.device_bytes == sum(size for size, own in info.heaps if own) > 0
    assert info.host_bytes == sum(size for size, own in info.heaps if not own)
    assert all(count >= 65535 for count in info.max_workgroup_count)
    # What Vulkan promises of every device.
    least = {
        "max_storage_buffer_range": 1 << 27,
        "max_uniform_buffer_range": 1 << 14,
        "max_texel_buffer_elements": 1 << 16,
        "max_compute_shared_memory": 1 << 14,
        "max_workgroup_invocations": 128,
        "max_push_constants": 128,
        "max_storage_buffers_per_stage": 4,
        "max_allocation_count": 4096,
        "max_allocation_size": 1 << 30,
        "max_buffer_size": 1 << 30,
        "min_subgroup_size": 1,
    }
    for name, value in least.items():
        assert info.limits[name] >= value, name
    limits = info.limits
    assert limits["min_subgroup_size"] <= limits["subgroup_size"] <= limits["max_subgroup_size"]
    assert info.features["subgroup_basic"]


def test_the_two_drivers_differ(open_driver: Callable[..., Device], swiftshader: Device) -> None:
    device = open_driver("lavapipe")
    assert device.info.limits["subgroup_size"] == 8
    assert swiftshader.info.limits["subgroup_size"] == 4
    assert device.info.features["float16"]
    assert device.info.features["storage16"]
    assert not swiftshader.info.features["float16"]
    assert not swiftshader.info.features["storage16"]
    assert device.info.pipeline_cache_uuid != swiftshader.info.pipeline_cache_uuid


def test_choosing(lavapipe_only: None) -> None:
    assert devices.choose_device().index == 0
    for selector in (0, "0", "LLVMpipe"):
        assert devices.choose_device(selector).name == devices.list_devices()[0].name
    for selector in (7, -1, "7", "-1", "adreno"):
        with pytest.raises(DeviceError, match=r"there is no device .*; choose one of: 0 = llvmpipe"):
            devices.open_device(selector)


def test_the_environment_chooses(lavapipe_only: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLITE_VK_DEVICE", "adreno")
    with pytest.raises(DeviceError, match="no device 'adreno'"):
        devices.open_device()
    assert devices.choose_device(0).index == 0
    monkeypatch.setenv("TLITE_VK_DEVICE", "llvm")
    assert devices.choose_device().index == 0


def test_the_binding_checks_the_index_itself(lavapipe_only: None) -> None:
    for index in (1, -1, 2**40):
        with pytest.raises(DeviceError, match=f"there is no device {index}; choose one of: 0 = llvmpipe"):
            _kompute.open(index)


def test_a_missing_driver() -> None:
    lines = run_program(VK_DRIVER_FILES="/nonexistent.json")
    assert len(lines) == 3
    assert all("apt-get install mesa-vulkan-drivers" in line for line in lines)


def test_a_missing_loader(tmp_path: Path) -> None:
    for name in ("libvulkan.so", "libvulkan.so.1"):
        (tmp_path / name).write_bytes(b"no library")
    lines = run_program(LD_LIBRARY_PATH=str(tmp_path))
    assert len(lines) == 3
    assert all("apt-get install libvulkan1" in line for line in lines)


def test_a_missing_validation_layer(tmp_path: Path, lavapipe_only: None) -> None:
    lines = run_program(VK_LAYER_PATH=str(tmp_path), TLITE_VK_VALIDATION="0")
    assert lines[1].startswith("<Device llvmpipe")
    assert "apt-get install vulkan-validationlayers" in lines[2]


def test_priority_is_asked_for_and_survives_a_refusal(swiftshader: Device, lavapipe_only: None) -> None:
    assert swiftshader.info.features["global_priority"]
    assert not swiftshader.low_priority  # it offers the extension, but medium only
    assert not devices.open_device(low_priority=False).low_priority


def test_out_of_memory_names_both_numbers(lavapipe_only: None) -> None:
    program = """
import resource
from tlite_vk.device import open_device
from tlite_vk.errors import DeviceError
device = open_device()
held = device.buffer(1 << 20)
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
try:
    many = [device.buffer(1 << 28) for _ in range(16)]
except DeviceError as error:
    print(error)
assert device.memory_used >= 1 << 20
held.write(bytes(1 << 20))
"""
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert f"cannot allocate {1 << 28} bytes (out of" in done.stdout
    assert "bytes are in use" in done.stdout


def test_destruction_in_any_order(lavapipe_only: None) -> None:
    """Every order of giving up device, buffer, pipeline and recording, with the recording still right at its end."""
    orders = ["dbpr", "rpbd", "bdrp", "prdb", "dpbr"]
    for order in orders:
        own = devices.open_device()
        buffer = own.buffer(512)
        buffer.write(np.arange(128, dtype=np.uint32))
        pipeline, recording = make_pipeline(own, 2), own.recording()
        view = buffer.mapped
        assert view is not None
        source, target = Span(buffer, 64), Span(buffer, 64, 256)
        recording.dispatch(pipeline, [source.window, target.window], (1, 1, 1), push(64, 1))
        recording.end()
        recording.submit()
        close = {"d": own.close, "b": buffer.close, "p": pipeline.close, "r": recording.close}
        for name in order:
            close[name]()
        del own, buffer, pipeline, recording, source, target, close
        assert np.array_equal(view[256:].view(np.uint32), np.arange(64) * 2 + 1), order
