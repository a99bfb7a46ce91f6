"""The targets that a compiled file has programs for, and which of them a device runs.

A device runs a variant that relies on nothing it lacks. Variants are tried in the order of the list, so the first that
fits is the one that uses most of the device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from tlite_vk.errors import ModelError
from tlite_vk.target import Target

DESKTOP, PHONE = 1 << 30, 1 << 27  # bytes of a storage range; the second is the least that Vulkan allows
ALIGNMENT = 256
"""Of offsets: the largest that Vulkan lets a device ask for."""


def _cpu(lanes: int, texel: bool) -> Target:
    return Target(
        name=f"cpu-{'texel-' if texel else ''}{lanes}",
        cpu=True,
        lanes=lanes,
        texel=texel,
        max_texel_elements=1 << 27 if texel else 1 << 16,
        max_storage_range=PHONE,
        max_storage_buffers=8,
        max_shared_bytes=16384,
        max_invocations=256,
        alignment=ALIGNMENT,
        half_cache=True,
    )


def _gpu(name: str, subgroup: int, shared: int, invocations: int, **more: Any) -> Target:
    """subgroup: 0 relies on none. Storage ranges of a desktop's size go with its 48 KiB of shared memory."""
    desktop = shared > 32768
    return Target(
        name=f"{name}-{subgroup}-{shared >> 10}k" if subgroup else f"{name}-{shared >> 10}k",
        cpu=False,
        lanes=subgroup or 4,
        texel=False,
        max_texel_elements=1 << 16,
        max_storage_range=DESKTOP if desktop else PHONE,
        max_storage_buffers=10 if subgroup else 8,
        max_shared_bytes=shared,
        max_invocations=invocations,
        alignment=ALIGNMENT,
        half_cache=True,
        subgroup=subgroup,
        max_subgroups=invocations // subgroup if subgroup else 1,
        **more,
    )


def standard_targets() -> list[Target]:
    """fp16 first, then fp32; within each the most demanding first."""
    cpus = [*(_cpu(lanes, texel=True) for lanes in (16, 8, 4)), _cpu(4, texel=False)]
    plain = [
        _gpu("gpu", 32, 49152, 1024),
        *(_gpu("gpu", size, 32768, 512) for size in (64, 32, 16)),
        _gpu("gpu", 0, 32768, 256),
        _gpu("gpu", 0, 16384, 128),
    ]
    half = [
        _gpu("matrix", 32, 49152, 1024, matrix=True, half=True),
        _gpu("matrix", 32, 32768, 512, matrix=True, half=True),
        _gpu("half", 32, 49152, 1024, half=True),
        *(_gpu("half", size, 32768, 512, half=True) for size in (64, 32, 16)),
        _gpu("half", 0, 16384, 128, half=True),
    ]
    return [*cpus, *half, *plain, *(_single(target) for target in (*cpus, *plain))]


def _single(target: Target) -> Target:
    """The same with a cache in floats, which --precision fp32 asks for."""
    return Target(**{**asdict(target), "half_cache": False, "name": f"{target.name}-fp32"})


def lacks(variant: Target, device: Target) -> str:
    """What the variant relies on and the device has not, or "" if it can run there."""
    if variant.cpu != device.cpu or variant.half_cache != device.half_cache:
        return "kind"
    for name in ("texel", "matrix", "half", "half_activations"):
        if getattr(variant, name) and not getattr(device, name):
            return name
    if variant.subgroup not in (0, device.subgroup):
        return "subgroup"
    if device.alignment and variant.alignment % device.alignment:
        return "alignment"
    limits = ["max_storage_range", "max_storage_buffers", "max_shared_bytes", "max_invocations"]
    limits += ["max_texel_elements"] if variant.texel else []
    limits += ["max_subgroups"] if variant.subgroup else []
    limits += ["lanes"] if variant.cpu else []
    return next((name for name in limits if getattr(variant, name) > getattr(device, name)), "")


def choose(variants: Sequence[Target], device: Target) -> int:
    """The number of the variant that the device runs. Raises ModelError where none fits, saying why."""
    reasons = [lacks(variant, device) for variant in variants]
    if "" in reasons:
        return reasons.index("")
    near = [f"{v.name} ({why})" for v, why in zip(variants, reasons, strict=True) if why != "kind"]
    told = f"it lacks what they need: {', '.join(near)}" if near else "none is for its kind and precision"
    raise ModelError(f"no program of this file runs on {device.name}: {told}; load the ONNX model there instead")


def to_json(target: Target) -> dict[str, Any]:
    return asdict(target)


def from_json(data: Mapping[str, Any]) -> Target:
    """Raises ModelError for anything that is no target."""
    kinds = {"bool": bool, "int": int, "str": str}
    known = {f.name: kinds[str(f.type)] for f in fields(Target)}
    if not isinstance(data, dict) or data.keys() - known.keys():
        raise ModelError("a compiled file for a target that this tlite-vk does not know; compile the model again")
    if any(
        type(value) is not known[name] or (value is not True and value < 0)
        for name, value in data.items()
        if name != "name"
    ):
        raise ModelError("a compiled file whose target is malformed; compile the model again")
    try:
        return Target(**data)
    except TypeError as error:
        raise ModelError(f"a compiled file whose target is incomplete ({error}); compile the model again") from error
