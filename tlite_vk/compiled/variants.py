"""The targets that a compiled file has programs for, and which of them a device runs.

A device runs a variant that relies on nothing it lacks. Variants are tried in the order of the list, so the first that
fits is the one that uses most of the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from tlite_vk.errors import ModelError
from tlite_vk.target import Target

DESKTOP, PHONE = 1 << 30, 1 << 27  # bytes of a storage range; the second is the least that Vulkan allows
ALIGNMENT = 256
"""Of offsets: the largest that Vulkan lets a device ask for."""

_SWITCHES = ("texel", "matrix", "half", "half_activations")
_LIMITS = ("max_storage_range", "max_storage_buffers", "max_shared_bytes", "max_invocations")


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
        max_invocations=128,
        alignment=ALIGNMENT,
        half_cache=True,
    )


def _gpu(subgroup: int, shared: int, invocations: int, *, half: bool = False, matrix: bool = False) -> Target:
    """subgroup: 0 relies on none. Storage ranges of a desktop's size go with its 48 KiB of shared memory."""
    kind = "matrix" if matrix else "half" if half else "gpu"
    return Target(
        name=f"{kind}-{subgroup}-{shared >> 10}k-{invocations}",
        cpu=False,
        lanes=subgroup or 4,
        texel=False,
        max_texel_elements=1 << 16,
        max_storage_range=DESKTOP if shared > 32768 else PHONE,
        max_storage_buffers=10 if subgroup else 8,
        max_shared_bytes=shared,
        max_invocations=invocations,
        alignment=ALIGNMENT,
        half_cache=True,
        matrix=matrix,
        half=half,
        subgroup=subgroup,
        max_subgroups=invocations // subgroup if subgroup else 1,
        driver="nvidia" if subgroup == 32 and shared > 32768 else "gpu",  # whose tiles: right on any, fast on that
    )


_GPUS = (
    (32, 49152, 1024),
    (64, 32768, 1024),
    (32, 32768, 1024),
    (16, 32768, 512),
    (0, 32768, 1024),
    (0, 32768, 256),
    (0, 16384, 128),
)
"""(subgroup, bytes of shared memory, invocations): desktop, Adreno, Intel, Mali, and those without full subgroups."""


def standard_targets() -> list[Target]:
    """fp16 first, then fp32; within each the most demanding first."""
    cpus = [*(_cpu(lanes, texel=True) for lanes in (16, 8, 4)), _cpu(4, texel=False)]
    matrix = [_gpu(32, shared, 1024, half=True, matrix=True) for shared in (49152, 32768)]
    half, plain = [_gpu(*sizes, half=True) for sizes in _GPUS], [_gpu(*sizes) for sizes in _GPUS]
    return [*cpus, *matrix, *half, *plain, *(_single(target) for target in (*cpus, *plain))]


def _single(target: Target) -> Target:
    """The same with a cache in floats, which --precision fp32 asks for."""
    return Target(**{**asdict(target), "half_cache": False, "name": f"{target.name}-fp32"})


def lacks(variant: Target, device: Target) -> str | None:
    """What the variant relies on and the device has not, in words; "" if it is for another kind, None if it fits."""
    if variant.cpu != device.cpu or variant.half_cache != device.half_cache:
        return ""
    for name in _SWITCHES:
        if getattr(variant, name) and not getattr(device, name):
            return f"it relies on {name}"
    if variant.subgroup not in (0, device.subgroup):
        return f"it relies on subgroups of {variant.subgroup}"
    if variant.alignment % device.alignment:
        return f"its offsets are multiples of {variant.alignment}, not of {device.alignment}"
    limits = list(_LIMITS)
    limits += ["max_texel_elements"] if variant.texel else []
    limits += ["max_subgroups"] if variant.subgroup else []
    limits += ["lanes"] if variant.cpu else []
    short = next((name for name in limits if getattr(variant, name) > getattr(device, name)), None)
    return short and f"it relies on {short} of {getattr(variant, short)}, the device has {getattr(device, short)}"


def choose(variants: Sequence[Target], device: Target) -> int:
    """The number of the variant that the device runs. Raises ModelError where none fits, saying why."""
    reasons = [lacks(variant, device) for variant in variants]
    if None in reasons:
        return reasons.index(None)
    near = [f"{v.name}, asks for least: {why}" for v, why in zip(variants, reasons, strict=True) if why]
    told = near[-1] if near else f"none is for a {'CPU driver' if device.cpu else 'GPU'} at this precision"
    raise ModelError(f"none of the programs in the file runs on {device.name} ({told}); choose another device")


def to_json(target: Target) -> dict[str, Any]:
    return asdict(target)


def from_json(data: Any) -> Target:
    """Raises ModelError for anything that is no target."""
    kinds = {"bool": bool, "int": int, "str": str}
    known = {f.name: kinds[str(f.type)] for f in fields(Target)}
    if not isinstance(data, dict) or data.keys() - known.keys():
        raise ModelError("a compiled file for a target that this tlite-vk does not know; compile the model again")
    least = {"alignment": 1, "lanes": 1}
    wrong = [
        name
        for name, value in data.items()
        if type(value) is not known[name] or (isinstance(value, int) and value < least.get(name, 0))
    ]
    if wrong:
        raise ModelError(f"a compiled file whose target has a malformed {wrong[0]}; compile the model again")
    try:
        return Target(**data)
    except TypeError as error:
        raise ModelError(f"a compiled file whose target is incomplete ({error}); compile the model again") from error
