"""Devices in other states than the shared ones."""

from collections.abc import Callable

import pytest

from tlite_vk.device import Device

OpenDriver = Callable[..., Device]


@pytest.fixture(scope="session")
def staged_device(open_driver: OpenDriver, main_driver: str) -> Device:
    """A device without mapped device memory, as a discrete GPU is."""
    return open_driver(main_driver, staging=True)


@pytest.fixture
def checked_device(open_driver: OpenDriver, main_driver: str) -> Device:
    """A device of the test's own under the validation layer with its synchronization checks."""
    return open_driver(main_driver, validation=True)


@pytest.fixture
def lavapipe_only(monkeypatch: pytest.MonkeyPatch, lavapipe_file: str) -> None:
    """Lavapipe is the one driver that the loader sees, here and in child processes."""
    monkeypatch.setenv("VK_DRIVER_FILES", lavapipe_file)
    monkeypatch.delenv("TLITE_VK_DEVICE", raising=False)
