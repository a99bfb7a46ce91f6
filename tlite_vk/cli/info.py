"""tlite-vk info: the devices and what will run on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import options
from .terminal import megabytes, print_json, print_table

if TYPE_CHECKING:
    from tlite_vk.device import DeviceInfo
    from tlite_vk.target import Target


def info(limits: options.Limits = None, as_json: options.Json = False) -> None:
    """List the Vulkan devices: drivers, limits, features, and which paths will be used on each."""
    from tlite_vk import __version__
    from tlite_vk.cache import cache_folder
    from tlite_vk.device import choose_device, list_devices

    devices = list_devices()
    default = choose_device().index
    if as_json:
        found = {"version": __version__, "default_device": default, "cache_folder": str(cache_folder())}
        print_json(found | {"devices": [_facts(device) for device in devices]})
        return
    for device in devices:
        mark = " (default)" if device.index == default else ""
        print_table(_rows(_facts(device)), f"device {device.index}{mark}: {device.name}")
    print(f"\ntlite-vk {__version__}, cache folder {cache_folder()}")


def _facts(device: DeviceInfo) -> dict[str, Any]:
    from tlite_vk.target import Target

    return {
        "index": device.index,
        "name": device.name,
        "type": device.device_type,
        "driver": device.driver_name,
        "driver_info": device.driver_info,
        "driver_version": device.driver_version,
        "vulkan": ".".join(str(part) for part in device.api_version),
        "vendor_id": device.vendor_id,
        "device_id": device.device_id,
        "device_bytes": device.device_bytes,
        "host_bytes": device.host_bytes,
        "limits": dict(device.limits),
        "max_workgroup_size": list(device.max_workgroup_size),
        "max_workgroup_count": list(device.max_workgroup_count),
        "timestamp_period_ns": device.timestamp_period,
        "features": dict(device.features),
        "cooperative_matrix_shapes": [list(shape) for shape in device.cooperative_matrix_shapes],
        "paths": paths(Target.of(device)),
    }


def paths(target: Target) -> dict[str, Any]:
    """Which of the ways to compute a target gets, in words that a program may compare."""
    return {
        "kernels": "cpu" if target.cpu else "gpu",
        "reads": "texel" if target.texel else "storage",
        "arithmetic": "fp32",
        "token_products": "fp16" if target.half else "fp32",
        "prompt_products": "fp16" if target.matrix else "fp32",
        "activations": "fp16" if target.half_activations else "fp32",
        "kv_cache": "fp16" if target.half_cache else "fp32",
        "lanes": target.lanes,
    }


_PATHS = {
    ("kernels", "cpu"): "register tiles without communication, for CPU drivers",
    ("kernels", "gpu"): "workgroups that share memory, for GPUs",
    ("reads", "texel"): "through texel buffers",
    ("reads", "storage"): "through storage buffers",
}


def _rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    limits, features, chosen = facts["limits"], facts["features"], facts["paths"]
    subgroups = f"{limits['subgroup_size']} ({limits['min_subgroup_size']} to {limits['max_subgroup_size']})"
    shapes = {"x".join(str(n) for n in shape[:3]) for shape in facts["cooperative_matrix_shapes"]}
    return [
        ("type", facts["type"]),
        ("driver", f"{facts['driver']} {facts['driver_info']}, Vulkan {facts['vulkan']}"),
        ("memory", f"{megabytes(facts['device_bytes'])} of the device, {megabytes(facts['host_bytes'])} of the host"),
        ("storage range", megabytes(limits["max_storage_buffer_range"])),
        ("shared memory", f"{limits['max_compute_shared_memory']} bytes"),
        ("workgroup", f"{limits['max_workgroup_invocations']} invocations"),
        ("subgroups", f"{subgroups} invocations"),
        ("features", ", ".join(sorted(name for name, there in features.items() if there)) or "none"),
        ("missing", ", ".join(sorted(name for name, there in features.items() if not there)) or "none"),
        ("matrix shapes", ", ".join(sorted(shapes)) or "none"),
        ("kernels", _PATHS["kernels", chosen["kernels"]]),
        ("weights", f"{_PATHS['reads', chosen['reads']]}, {chosen['arithmetic']} arithmetic"),
        ("products", f"{chosen['token_products']} for one token, {chosen['prompt_products']} for a prompt"),
        ("KV cache", f"{chosen['kv_cache']} (fp32 with --precision fp32)"),
    ]
