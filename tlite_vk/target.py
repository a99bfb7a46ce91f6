"""What lowering may assume of a device: its limits and the choices that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .choices import Choice, Task, choices_in, driver_of
from .errors import InputError

if TYPE_CHECKING:
    from .device import DeviceInfo

Precision = Literal["fp32", "fp16"]


MATRIX_FEATURES = (
    "cooperative_matrix",
    "vulkan_memory_model",
    "float16",
    "subgroup_shuffle",
    "subgroup_size_control",
    "compute_full_subgroups",
)
HALF_FEATURES = ("float16", "subgroup_arithmetic")


@dataclass(frozen=True)
class Target:
    """Limits in bytes or elements; see `Target.of` for how a device maps to one.

    cpu: few cores and slow loads, so that register tiles without communication win.
    texel: read-only operands go through texel buffers where they fit `max_texel_elements`.
    matrix: products of many tokens run on cooperative matrices, 16 x 16 x 16, fp16 operands and fp32 sums.
    half: products of one token are computed with halves where their weights are 4 or 8 bits wide.
    subgroup: invocations of a subgroup that a kernel may require, with all subgroups full; 0 where none may be.
    max_subgroups: subgroups that a workgroup of such a kernel may have.
    fuse, reuse: merge operators into fewer kernels, let activations share memory; off only to measure what that brings.
    driver: whose column of the tables of defaults counts. tuning: what was measured to be faster (tlite_vk.tuned).
    half_cache, half_activations: store the KV cache, the inputs of matrix products, as halves; arithmetic is fp32.
    """

    name: str
    cpu: bool
    lanes: int
    texel: bool
    max_texel_elements: int
    max_storage_range: int
    max_storage_buffers: int
    max_shared_bytes: int
    max_invocations: int
    alignment: int
    half_cache: bool
    matrix: bool = False
    half: bool = False
    subgroup: int = 0
    max_subgroups: int = 1
    fuse: bool = True
    reuse: bool = True
    driver: str = "gpu"
    tuning: str = ""
    half_activations: bool = False  # measured: no faster on lavapipe, and the larger part of fp16's error

    @property
    def bucket(self) -> int:
        """Steps of several tokens are padded to a multiple of this."""
        return 16 if self.matrix else 8

    def tuned(self, task: Task, kernel: str) -> Choice | None:
        """What was measured to be fastest for a task on a kernel; None where nothing was."""
        return choices_in(self.tuning).get((task, kernel)) if self.tuning else None

    @staticmethod
    def of(info: DeviceInfo, precision: Precision = "fp16") -> Target:
        """The target for a device; "fp16" keeps the KV cache in halves and multiplies halves on a GPU.

        Raises InputError for an unknown precision.
        """
        if precision not in ("fp32", "fp16"):
            raise InputError(f"precision must be fp32 or fp16, not {precision!r}")
        limits = info.limits
        cpu = info.device_type == "cpu"
        alignment = max(limits["min_storage_offset_alignment"], limits["min_texel_offset_alignment"], 16)
        return Target(
            name=info.name,
            cpu=cpu,
            lanes=max(4, limits["subgroup_size"]),
            texel=cpu and limits["max_texel_buffer_elements"] >= 1 << 24,
            max_texel_elements=limits["max_texel_buffer_elements"],
            max_storage_range=limits["max_storage_buffer_range"],
            max_storage_buffers=limits["max_storage_buffers_per_stage"],
            max_shared_bytes=limits["max_compute_shared_memory"],
            max_invocations=limits["max_workgroup_invocations"],
            alignment=alignment,
            half_cache=precision == "fp16",
            matrix=precision == "fp16" and not cpu and _has_matrices(info),
            half=precision == "fp16" and not cpu and has_half_arithmetic(info),
            subgroup=_subgroup(info),
            max_subgroups=max(1, limits["max_workgroup_subgroups"]),
            driver=driver_of(info),
        )


def has_half_arithmetic(info: DeviceInfo) -> bool:
    """Whether shaders/linear_half.comp can run."""
    return all(info.features.get(name, False) for name in HALF_FEATURES)


def _subgroup(info: DeviceInfo) -> int:
    """The size to require: 32 where the device has it, else its largest; 0 where it must not be relied on."""
    needed = ("subgroup_shuffle", "subgroup_size_control", "compute_full_subgroups")
    if not all(info.features.get(name, False) for name in needed):
        return 0
    least, most = info.limits["min_subgroup_size"], info.limits["max_subgroup_size"]
    return min(max(32, least), most)


def _has_matrices(info: DeviceInfo) -> bool:
    """Whether shaders/linear_matrix.comp can run: its shape, subgroups of exactly 32, room for its tiles."""
    shape = (16, 16, 16, "float16", "float16", "float32", "float32", "subgroup")
    features, limits = info.features, info.limits
    return (
        shape in info.cooperative_matrix_shapes
        and all(features.get(name, False) for name in MATRIX_FEATURES)
        and limits["min_subgroup_size"] <= 32 <= limits["max_subgroup_size"]
        and limits["max_workgroup_invocations"] >= 256
        and limits["max_compute_shared_memory"] >= 20480
    )
