"""What tuning decides, and what for: plain data that names a product or an attention and a choice for it.

A choice is a few numbers. What they mean, which there are and what is taken where nothing was measured is said where
the kernel is: tlite_vk/kernels/tiles.py and split_attention.py. Measuring is tlite_vk/tuning.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from .device import DeviceInfo

Choice = tuple[int, ...]
Driver = Literal["nvidia", "lavapipe", "swiftshader", "gpu", "cpu"]
"""Drivers with a column in the tables of defaults; "gpu" and "cpu" stand for all others."""


@dataclass(frozen=True)
class Product:
    """A product with packed weights [outputs, columns], twice the outputs where gated; of one token, or of many.

    normed: the inputs are normalized inside. biased: a bias is added.
    """

    format: str
    outputs: int
    columns: int
    one: bool
    gated: bool = False
    normed: bool = False
    biased: bool = False

    def __str__(self) -> str:
        shape = f"{'2 x ' if self.gated else ''}{self.outputs} x {self.columns}"
        return f"{shape} {self.format}{', norm' if self.normed else ''}, {'1 token' if self.one else 'many tokens'}"


@dataclass(frozen=True)
class Attention:
    """Attention of one token."""

    heads: int
    kv_heads: int
    head_dim: int
    half_cache: bool

    def __str__(self) -> str:
        return f"attention, {self.heads} heads of {self.head_dim}, {self.kv_heads} of keys, 1 token"


Task = Product | Attention


def task_fields(task: Task) -> dict[str, Any]:
    """A task as JSON has it."""
    return {"kind": "attention" if isinstance(task, Attention) else "product", **asdict(task)}


def task_of(fields: Mapping[str, Any]) -> Task:
    """The task of such fields. Raises KeyError or TypeError for others."""
    values = {name: value for name, value in fields.items() if name != "kind"}
    return Attention(**values) if fields["kind"] == "attention" else Product(**values)


def text_of(choices: Mapping[tuple[Task, str], Choice]) -> str:
    """Choices by (task, kernel) as text: equal choices, equal texts."""
    return json.dumps(sorted(([task_fields(t), k, list(c)] for (t, k), c in choices.items()), key=str))


@cache
def choices_in(text: str) -> Mapping[tuple[Task, str], Choice]:
    """What `text_of` wrote."""
    return {(task_of(fields), kernel): tuple(choice) for fields, kernel, choice in json.loads(text)}


def driver_of(info: DeviceInfo) -> Driver:
    """Which column of the defaults is a device's."""
    name = f"{info.driver_name} {info.name}".lower()
    if "nvidia" in name:
        return "nvidia"
    if "llvmpipe" in name:
        return "lavapipe"
    if "swiftshader" in name:
        return "swiftshader"
    return "cpu" if info.device_type == "cpu" else "gpu"
