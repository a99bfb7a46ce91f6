"""The devices: whether there are any, may be used, can do what matters, and compute what they should."""

from __future__ import annotations

import os
from typing import Any

from . import child
from .finding import Finding, ok, problem, warning
from .system import System

MATTERS = {
    "storage16": "a KV cache and weights in halves",
    "float16": "products of halves",
    "cooperative_matrix": "matrix units for prompts",
    "subgroup_arithmetic": "sums across a subgroup",
    "subgroup_size_control": "attention split over workgroups",
    "global_priority": "work that yields to the screen",
}
"""Features that make models faster, and what for. None is needed."""


def nodes(system: System) -> list[Finding]:
    """Device files of GPUs that this user may not open."""
    folder = system.root / "dev" / "dri"
    found = sorted(folder.glob("renderD*")) if folder.is_dir() else []
    denied = [node for node in found if not os.access(node, os.R_OK | os.W_OK)]
    if denied:
        names = ", ".join(str(node) for node in denied)
        return [
            warning(
                "permission",
                f"{names}: this user may not open it, so its GPU is not found",
                "run: sudo usermod -aG render,video $USER, then log in again",
            )
        ]
    if found:
        return [ok("permission", f"{', '.join(str(node) for node in found)}: may be opened")]
    return []


def devices(system: System) -> list[Finding]:
    """What the drivers offer, and a small kernel on each device."""
    try:
        found = child.probe(system, "devices")
    except child.ChildError as error:
        return [problem("device", f"no device: {error}", "mend what stands above, then run tlite-vk doctor again")]
    findings = [finding for info in found for finding in (_features(info), _kernel(system, info))]
    return [*findings, *_chosen(system, found)]


def _features(info: dict[str, Any]) -> Finding:
    missing = [why for name, why in MATTERS.items() if not info["features"].get(name)]
    text = f"{info['index']} = {info['name']} ({info['type']}, {info['driver']}, Vulkan {info['vulkan']})"
    return ok("device", f"{text}; it does without {', '.join(missing)}" if missing else text)


def _kernel(system: System, info: dict[str, Any]) -> Finding:
    """The kernel's answer on one device."""
    advice = f"update the driver ({info['driver']}), or choose another device with --device"
    try:
        ran = child.probe(system, "run", str(info["index"]))
    except child.ChildError as error:
        return problem("kernel", f"device {info['index']}: a small kernel fails: {error}", advice)
    if ran["wrong"]:
        return problem("kernel", f"device {info['index']}: {ran['wrong']} of {ran['of']} values are wrong", advice)
    return ok("kernel", f"device {info['index']}: {ran['of']} values as they should be")


def _chosen(system: System, found: list[dict[str, Any]]) -> list[Finding]:
    """Whether TLITE_VK_DEVICE is one of them."""
    chosen = system.environment.get("TLITE_VK_DEVICE", "")
    fits = [i for i in found if chosen == str(i["index"]) or chosen.lower() in i["name"].lower()]
    if not chosen or fits:
        return []
    names = ", ".join(f"{info['index']} = {info['name']}" for info in found)
    return [problem("environment", f"TLITE_VK_DEVICE={chosen} is no device", f"choose one of: {names}; or unset it")]


def validation(system: System) -> list[Finding]:
    """The validation layer, which only TLITE_VK_VALIDATION=1 needs."""
    wanted = system.environment.get("TLITE_VK_VALIDATION", "") not in ("", "0")
    try:
        child.probe(system, "validation")
    except child.ChildError as error:
        if wanted:
            return [problem("layers", f"TLITE_VK_VALIDATION is set, but {error}", system.install("validation"))]
        return [ok("layers", "no validation layer; only TLITE_VK_VALIDATION=1 needs it")]
    return [ok("layers", "VK_LAYER_KHRONOS_validation can be used")]
