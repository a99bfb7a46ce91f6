"""How attention of one token is split over workgroups of a GPU (shaders/attention_split.comp).

A choice is (lanes of a workgroup, workgroups in all, keys that are worth a workgroup): docs/adr/0008, 0012.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product as every

from tlite_vk.choices import Attention, Choice
from tlite_vk.lower import TICKETS
from tlite_vk.target import Target

KERNEL = "attention_split"
NORM_BYTES = 68
"""Shared memory for the norm of one head: 16 partial sums and the result (shaders/lib/attention.glsl)."""
_DEFAULTS: dict[str, Choice] = {
    "nvidia": (512, 256, 256),  # measured on an H100
    "gpu": (256, 256, 256),
}


@dataclass(frozen=True)
class Split:
    """share: lanes that share a key. subgroups: of a workgroup. shares: most, of the cache. least: keys of a share."""

    share: int
    subgroups: int
    shares: int
    least: int

    @staticmethod
    def of(target: Target, a: Attention) -> Split | None:
        """The tuned split, else the default; None where the device cannot run the kernel."""
        tuned = target.tuned(a, KERNEL)
        found = split(target, a, tuned) if tuned in candidates(target, a) and tuned is not None else None
        return found or split(target, a, default(target))


def default(target: Target) -> Choice:
    """What a driver does best in general."""
    return _DEFAULTS["nvidia" if target.driver == "nvidia" else "gpu"]


def candidates(target: Target, a: Attention) -> list[Choice]:
    """The default first, then the others that this device's limits allow; none where it cannot run the kernel."""
    first = default(target)
    others = [c for c in every((128, 256, 512), (128, 256, 512), (64, 128, 256)) if c != first]
    return [c for c in (first, *others) if split(target, a, c) is not None]


def split(target: Target, a: Attention, choice: Choice) -> Split | None:
    """A choice in numbers of the shader; None where the device cannot run it."""
    lanes, workgroups, least = choice
    share = 1 << (a.head_dim // 8 - 1).bit_length()
    if target.cpu or target.max_storage_buffers < 10 or not target.subgroup or target.subgroup % share:
        return None
    subgroups = min(max(1, min(lanes, target.max_invocations) // target.subgroup), target.max_subgroups)
    found = Split(share, subgroups, max(1, min(64, workgroups // a.heads)), least)
    shared = 4 * (a.head_dim + found.shares) + subgroups * (4 * a.head_dim + 8) + 16 * a.head_dim + 2 * NORM_BYTES
    return found if shared <= target.max_shared_bytes - 16 and a.heads <= TICKETS else None
