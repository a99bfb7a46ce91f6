"""Buffers: round trips through mapped memory and through the staging buffer, views, and what they refuse."""

import numpy as np
import pytest

from tlite_vk.device import Device
from tlite_vk.errors import DeviceError

MIB = 1 << 20


def random_bytes(nbytes: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.random.default_rng(nbytes).integers(0, 256, nbytes, dtype=np.uint8)


@pytest.mark.parametrize("host", [False, True])
@pytest.mark.parametrize("nbytes", [1, 3, 127, 257, 4096, 70001])
def test_round_trip(any_device: Device, nbytes: int, host: bool) -> None:
    data = random_bytes(nbytes)
    buffer = any_device.buffer(nbytes, host)
    buffer.write(data)
    assert np.array_equal(buffer.read(), data)
    assert buffer.nbytes == nbytes


@pytest.mark.parametrize("nbytes", [1, 257, 65537, 16 * MIB + 3, 33 * MIB])
def test_round_trip_through_the_staging_buffer(staged_device: Device, nbytes: int) -> None:
    data = random_bytes(nbytes)
    buffer = staged_device.buffer(nbytes)
    assert buffer.mapped is None
    buffer.write(data)
    assert np.array_equal(buffer.read(), data)


def test_the_staging_buffer_stays_small(staged_device: Device) -> None:
    buffer = staged_device.buffer(40 * MIB)
    before = staged_device.memory_used
    buffer.write(np.zeros(40 * MIB, np.uint8))
    assert staged_device.memory_used - before <= 16 * MIB


def test_parts_are_written_and_read_in_place(any_device: Device, staged_device: Device) -> None:
    for device in (any_device, staged_device):
        buffer = device.buffer(100)
        buffer.write(bytes(100))
        buffer.write(b"abcde", 3)
        buffer.write(np.array([1.5, -2.0], np.float16), offset=50)
        target = np.zeros(5, np.uint8)
        buffer.read_into(target, 3)
        assert target.tobytes() == b"abcde"
        assert buffer.read(4, 50).view(np.float16).tolist() == [1.5, -2.0]
        assert buffer.read(offset=98).tolist() == [0, 0]
        assert buffer.read(0, 100).size == 0


def test_a_mapped_view_is_the_memory_and_outlives_everything(any_device: Device) -> None:
    buffer = any_device.buffer(64, host=True)
    buffer.write(bytes(range(64)))
    view = buffer.mapped
    assert view is not None
    view[5] = 99
    assert buffer.read(1, 5).tolist() == [99]
    buffer.close()
    assert view[:6].tolist() == [0, 1, 2, 3, 4, 99]


def test_memory_is_counted(any_device: Device) -> None:
    before = any_device.memory_used
    buffer = any_device.buffer(3 * MIB)
    assert any_device.memory_used - before >= 3 * MIB
    assert any_device.memory_peak >= any_device.memory_used
    buffer.close()
    assert any_device.memory_used == before


@pytest.mark.parametrize(("offset", "nbytes"), [(0, 65), (60, 5), (65, 0), (2**63, 1), (1, 2**64 - 1)])
def test_out_of_range(any_device: Device, offset: int, nbytes: int) -> None:
    buffer = any_device.buffer(64)
    with pytest.raises(DeviceError, match="does not fit a buffer of 64 bytes"):
        buffer.read(nbytes, offset)
    if nbytes <= 65:
        with pytest.raises(DeviceError, match="does not fit a buffer of 64 bytes"):
            buffer.write(bytes(nbytes), offset)
        with pytest.raises(DeviceError, match="does not fit a buffer of 64 bytes"):
            buffer.read_into(bytearray(nbytes), offset)


def test_arrays_must_be_contiguous_and_writable(any_device: Device) -> None:
    buffer = any_device.buffer(64)
    with pytest.raises(DeviceError, match="C-contiguous"):
        buffer.write(np.zeros((4, 4), np.float32)[:, ::2])
    frozen = np.zeros(4, np.uint8)
    frozen.flags.writeable = False
    with pytest.raises(DeviceError, match="writable"):
        buffer.read_into(frozen)


def test_impossible_sizes(any_device: Device) -> None:
    with pytest.raises(DeviceError, match="at least one byte"):
        any_device.buffer(0)
    with pytest.raises(DeviceError, match=r"1099511627776 bytes .*bytes are in use"):
        any_device.buffer(1 << 40)
    heap = any_device.info.device_bytes
    if heap < any_device.info.limits["max_buffer_size"]:
        with pytest.raises(DeviceError, match=r"cannot allocate .* bytes are in use and the heap has"):
            any_device.buffer(heap + 4096)


def test_a_closed_buffer_says_so(any_device: Device) -> None:
    buffer = any_device.buffer(64)
    buffer.close()
    buffer.close()
    for use in (buffer.read, lambda: buffer.mapped, lambda: buffer.write(b"a"), lambda: buffer.nbytes):
        with pytest.raises(DeviceError, match="this buffer is closed"):
            use()
    assert repr(buffer) == "<Buffer, closed>"
