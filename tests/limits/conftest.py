"""One driver at a time, without a profile from outside."""

import pytest

from tlite_vk.limits import VARIABLE


@pytest.fixture
def lavapipe(monkeypatch: pytest.MonkeyPatch, lavapipe_file: str) -> None:
    """Lavapipe is the one driver that the loader sees."""
    monkeypatch.setenv("VK_DRIVER_FILES", lavapipe_file)
    monkeypatch.delenv("TLITE_VK_DEVICE", raising=False)
    monkeypatch.delenv(VARIABLE, raising=False)
