"""Vulkan devices: list them, choose one, open it. The only file that imports the binding of Kompute.

device = open_device()                      # or an index, or a part of the name
x = device.buffer(4096)                     # bytes
pipeline = device.pipeline(spirv.load("test_chain"), ["storage", "storage"], push_bytes=8)
recording = device.recording()
recording.dispatch(pipeline, [(x, 0, 2048), (x, 2048, 2048)], (8, 1, 1), push)
recording.end()
recording.run()
"""

import os
from pathlib import Path

from tlite_vk import _kompute, budget
from tlite_vk._kompute import Buffer, Device, DeviceInfo, Pipeline, Recording
from tlite_vk.cache import cache_folder, read_entry, write_entry
from tlite_vk.errors import DeviceError, InputError, NoDeviceError
from tlite_vk.limits import Limits, chosen_limits

__all__ = [
    "Buffer",
    "Device",
    "DeviceInfo",
    "Pipeline",
    "Recording",
    "choose_device",
    "list_devices",
    "open_device",
    "save_pipeline_cache",
]

_KIND = "pipeline"  # of a cache entry: drivers trust what they are given
_PREFERENCE = ("discrete", "integrated", "virtual", "cpu", "other")


def list_devices(*, limits: str | Path | None = None) -> list[DeviceInfo]:
    """Every Vulkan 1.1 device of every installed driver, lowered to a profile (by default that of TLITE_VK_LIMITS).

    Raises NoDeviceError, saying what to install, if there is no loader, no driver or no device; InputError for an
    unknown profile, DeviceError for one of unknown names or values.
    """
    profile = _profile(chosen_limits(limits))
    try:
        found = _kompute.list_devices()
    except DeviceError as error:
        raise NoDeviceError(str(error)) from None
    return [info if profile is None else info.lowered(profile) for info in found]


def _profile(limits: Limits | None) -> _kompute.Profile | None:
    if limits is None:
        return None
    return _kompute.profile(limits=limits.limits, features=limits.features, integrated=limits.integrated, **limits.axes)


def choose_device(selector: int | str | None = None, *, limits: str | Path | None = None) -> DeviceInfo:
    """The device of an index or of a part of its name (any case); by default TLITE_VK_DEVICE, else the best kind.

    limits: as in list_devices. Raises DeviceError listing the devices if none fits.
    """
    devices = list_devices(limits=limits)
    if selector is None:
        selector = os.environ.get("TLITE_VK_DEVICE") or None
    if selector is None:
        return min(devices, key=lambda info: _PREFERENCE.index(info.device_type))
    if isinstance(selector, str) and selector.lstrip("-").isdecimal():
        selector = int(selector)
    for info in devices:
        if selector == info.index or (isinstance(selector, str) and selector.lower() in info.name.lower()):
            return info
    known = ", ".join(f"{info.index} = {info.name}" for info in devices)
    raise DeviceError(f"there is no device {selector!r}; choose one of: {known}")


def open_device(
    selector: int | str | None = None,
    *,
    low_priority: bool = True,
    validation: bool | None = None,
    staging: bool = False,
    limits: str | Path | None = None,
    memory_limit: int | None = None,
) -> Device:
    """Open the device that choose_device names, with its saved pipeline cache.

    low_priority asks for a queue that yields to the user interface, where the driver offers one. validation turns on
    the Khronos validation layer with its synchronization checks; by default TLITE_VK_VALIDATION does: 1, or a file (its
    name has a dot or a slash) to which messages are appended as well.
    staging never maps device memory, even where the host shares it, as if the device were a discrete GPU. limits: the
    name or the file of a profile (tlite_vk.limits) that lowers what the device offers, and holds it to that; by default
    TLITE_VK_LIMITS says. memory_limit: most bytes of all buffers of the device together, what goes beyond is refused;
    by default what `budget.limited` or TLITE_VK_MEMORY says, else the device's memory is the limit.
    Raises DeviceError if there is no such device, or no validation layer, and for a profile of unknown names;
    InputError for a memory limit below one byte.
    """
    info = choose_device(selector, limits=limits)
    switch = os.environ.get("TLITE_VK_VALIDATION", "") if validation is None else str(int(validation))
    limit = budget.current() if memory_limit is None else memory_limit
    if limit is not None and limit < 1:
        raise InputError(f"a memory limit must be at least one byte, not {limit}")
    device = _kompute.open(
        info.index,
        low_priority=low_priority,
        validation=switch not in ("", "0"),
        validation_log="" if switch.isalnum() else switch,
        staging=staging,
        profile=_profile(chosen_limits(limits)),
        memory_limit=limit or 0,
    )
    saved = read_entry(_cache_file(info), _KIND)
    if saved is not None:
        device.load_pipeline_cache(saved)
    return device


def save_pipeline_cache(device: Device) -> bool:
    """Keep the device's compiled pipelines for the next open_device; False where that is not possible."""
    try:
        if device.lost:
            return False
        file, data = _cache_file(device.info), device.pipeline_cache()
    except DeviceError:  # it was closed before what was made from it
        return False
    try:
        if read_entry(file, _KIND) != data:
            write_entry(file, _KIND, data)
    except OSError:
        return False
    return True


def _cache_file(info: DeviceInfo) -> Path:
    return cache_folder() / "pipelines" / f"{info.vendor_id:04x}-{info.device_id:04x}-{info.pipeline_cache_uuid}.bin"
