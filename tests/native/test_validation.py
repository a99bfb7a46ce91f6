"""The Khronos layer is silent about what we do right, and its synchronization check catches a missing barrier."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.chain import make_pipeline, record_chain, upload

from tlite_vk import spirv
from tlite_vk.device import Device

CHAIN = """
import numpy as np
from support.chain import *
from tlite_vk.device import open_device
device = open_device()
spans = upload(device, np.zeros(64, np.uint32)), upload(device, np.zeros(64, np.uint32))
record_chain(device, make_pipeline(device), spans, 4, barriers=False).run()
print(len(device.validation_messages()))
"""


def test_a_chain_with_barriers_is_silent_and_right(checked_device: Device) -> None:
    x = np.arange(300, dtype=np.uint32)
    spans = upload(checked_device, x), upload(checked_device, np.zeros_like(x))
    record_chain(checked_device, make_pipeline(checked_device), spans, 4, barriers=True).run(repeat=2)
    assert np.array_equal(spans[0].read(), x + 8)
    assert checked_device.validation_messages() == []


def test_a_chain_without_barriers_is_caught(checked_device: Device) -> None:
    x = np.arange(300, dtype=np.uint32)
    spans = upload(checked_device, x), upload(checked_device, np.zeros_like(x))
    record_chain(checked_device, make_pipeline(checked_device), spans, 2, barriers=False)
    messages = checked_device.validation_messages()
    assert any("READ_AFTER_WRITE" in message for message in messages)
    checked_device.clear_validation_messages()
    assert checked_device.validation_messages() == []


def test_independent_dispatches_need_no_barrier(checked_device: Device) -> None:
    x = np.arange(64, dtype=np.uint32)
    pipeline, recording = make_pipeline(checked_device), checked_device.recording()
    buffer = checked_device.buffer(4096)
    for part in range(4):  # four pairs of windows of one buffer
        windows = [(buffer, 512 * part, 256), (buffer, 512 * part + 256, 256)]
        recording.dispatch(pipeline, windows, (1, 1, 1), np.array([x.size, 1], np.uint32).tobytes())
    recording.end()
    recording.run()
    assert checked_device.validation_messages() == []


def test_everything_else_is_silent(open_driver: Callable[..., Device]) -> None:
    """Staged transfers, texels, fills, copies, timestamps, repeated submission, on the poorest device."""
    device = open_driver("swiftshader", validation=True, staging=True)
    kinds = ["texel_rgba32ui", "texel_rgba16f", "uniform", "storage"]
    pipeline = device.pipeline(spirv.load("test_formats"), kinds)
    buffer, other = device.buffer(4096), device.buffer(4096, host=True)
    buffer.write(bytes(4096))
    recording = device.recording()
    recording.timestamp()
    recording.fill(buffer, 0, 256, 1)
    recording.barrier()
    windows = [(buffer, 0, 256), (buffer, 256, 128), (buffer, 512, 16), (other, 0, 256)]
    recording.dispatch(pipeline, windows, (16, 1, 1))
    recording.barrier()
    recording.copy(other, 0, buffer, 1024, 256)
    recording.timestamp()
    recording.end()
    recording.run(repeat=3)
    assert set(buffer.read(256, 1024).view(np.uint32).tolist()) == {1}
    assert len(recording.timestamps()) == 2
    assert device.load_pipeline_cache(device.pipeline_cache())
    assert device.validation_messages() == []


@pytest.mark.parametrize(("switch", "found"), [("1", True), ("true", True), ("0", False), (None, False)])
def test_the_environment_turns_it_on(
    open_driver: Callable[..., Device], main_driver: str, switch: str | None, found: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if switch is None:
            patch.delenv("TLITE_VK_VALIDATION", raising=False)
        else:
            patch.setenv("TLITE_VK_VALIDATION", switch)
        device = open_driver(main_driver)
    x = np.arange(64, dtype=np.uint32)
    spans = upload(device, x), upload(device, x)
    record_chain(device, make_pipeline(device), spans, 2, barriers=False)
    assert bool(device.validation_messages()) == found


def run_chain(switch: str) -> "subprocess.CompletedProcess[str]":
    """CHAIN in a process of its own, with TLITE_VK_VALIDATION as given."""
    environment = {**os.environ, "TLITE_VK_VALIDATION": switch, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-P", "-c", CHAIN], env=environment, capture_output=True, text=True, check=False
    )


def test_nothing_is_printed() -> None:
    """Neither the layer nor Kompute writes to the terminal."""
    done = run_chain("1")
    assert int(done.stdout) > 0
    assert done.stderr == ""


def test_messages_go_to_a_file_too(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("from before\n")
    done = run_chain(str(log))
    lines = log.read_text().splitlines()
    assert lines[0] == "from before"
    assert int(done.stdout) > 0 and any("READ_AFTER_WRITE" in line for line in lines)
    assert done.stderr == ""


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    done = run_chain(str(tmp_path / "none" / "log"))
    assert "cannot write validation messages to" in done.stderr.splitlines()[-1]
