"""Devices in other states than the shared ones."""

from collections.abc import Callable

import pytest

from tlite_vk.device import Device

OpenDriver = Callable[..., Device]


@pytest.fixture(scope="session")
def staged_device(open_driver: OpenDriver) -> Device:
    """Lavapipe without mapped device memory, as a discrete GPU is."""
    return open_driver("lavapipe", staging=True)


@pytest.fixture
def checked_device(open_driver: OpenDriver) -> Device:
    """Lavapipe under the validation layer with its synchronization checks; a device of the test's own."""
    return open_driver("lavapipe", validation=True)


@pytest.fixture
def lavapipe_only(monkeypatch: pytest.MonkeyPatch, lavapipe_file: str) -> None:
    """Lavapipe is the one driver that the loader sees, here and in child processes."""
    monkeypatch.setenv("VK_DRIVER_FILES", lavapipe_file)
    monkeypatch.delenv("TLITE_VK_DEVICE", raising=False)
