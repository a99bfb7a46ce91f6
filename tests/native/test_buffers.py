"""Buffers: round trips, windows of bytes, and what they refuse."""

import numpy as np
import pytest

from tlite_vk.device import Device
from tlite_vk.errors import DeviceError


@pytest.mark.parametrize("host", [False, True])
@pytest.mark.parametrize("nbytes", [1, 3, 127, 257, 4096, 70001])
def test_round_trip(any_device: Device, nbytes: int, host: bool) -> None:
    data = np.random.default_rng(nbytes).integers(0, 256, nbytes, dtype=np.uint8)
    buffer = any_device.buffer(nbytes, host)
    buffer.write(data)
    assert np.array_equal(buffer.read(), data)
