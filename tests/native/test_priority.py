"""A low global priority is asked for only where it is offered: on made-up lists of extensions, and on the drivers."""

from collections.abc import Callable

import pytest

from tlite_vk._kompute import priority_extension
from tlite_vk.device import Device

KHR, EXT, OTHER = "VK_KHR_global_priority", "VK_EXT_global_priority", "VK_KHR_16bit_storage"


@pytest.mark.parametrize(
    ("offered", "asked"),
    [
        ([], None),
        ([OTHER], None),
        ([f"{KHR}_more", "VK_EXT_global_priority_query"], None),
        ([OTHER, EXT], EXT),
        ([KHR, OTHER], KHR),
        ([EXT, KHR], KHR),
    ],
)
def test_it_is_asked_for_only_where_it_is_offered(offered: list[str], asked: str | None) -> None:
    assert priority_extension(offered) == asked
    assert priority_extension(offered, low_priority=False) is None


def test_a_device_without_it_does_not_get_it(open_driver: Callable[..., Device], main_driver: str) -> None:
    """A profile may leave it out where the driver has it."""
    assert not open_driver(main_driver, limits="least").low_priority
    assert not open_driver("swiftshader", limits="least").low_priority
    assert not open_driver("swiftshader", low_priority=False).low_priority


def test_the_device_tells_whether_it_has_it(any_device: Device) -> None:
    assert any_device.info.features["global_priority"] or not any_device.low_priority
