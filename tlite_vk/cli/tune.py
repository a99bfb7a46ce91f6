"""tlite-vk tune: what this device is fastest with, for a model's shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .terminal import note, print_columns, print_json, progress

if TYPE_CHECKING:
    from tlite_vk.tuning import Finding

HEADER = ("default, us", "best, us", "ratio", "default", "best", "kernel", "task")


def tune(
    model: options.Model,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to measure, compiling not counted.")] = 20.0,
    device: options.Device = None,
    precision: options.Precision = options.PrecisionName.fp16,
    as_json: options.Json = False,
) -> None:
    """Measure which tiles and splits a device is fastest with for a model's products and attention; keep the result.

    Each shape is timed alone with every choice that the device's limits allow, in turns, over weights that no cache
    holds. Whoever loads a model with the same shapes on this device and driver afterwards runs with what was found;
    where nothing was measured, the defaults of the driver count.
    """
    from tlite_vk.device import open_device
    from tlite_vk.tuned import cache_file
    from tlite_vk.tuning import tune as measure

    opened = open_device(device)
    with progress() as advance:
        advance("compile", 0, 0)
        found = measure(model, opened, precision=precision.value, seconds=seconds, progress=advance)
    if as_json:
        print_json({"device": opened.info.name, "driver": opened.info.driver_name, "tasks": [_facts(f) for f in found]})
        return
    print_columns(HEADER, [_row(f) for f in found], f"{model} on {opened.info.name} ({opened.info.driver_name})")
    left = sum(f.left for f in found)
    if left:
        note(f"there was no time for {left} choices; a larger --seconds measures them too")
    note(f"kept in {cache_file(opened.info)}")


def _row(f: Finding) -> tuple[str, ...]:
    before, after = (f"{1e6 * f.seconds[c]:.1f}" for c in (f.default, f.best))
    default, best = (" ".join(map(str, c)) for c in (f.default, f.best))
    return before, after, f"{f.ratio:.2f}", default, best, f.kernel, str(f.task)


def _facts(f: Finding) -> dict[str, object]:
    seconds = [{"choice": list(choice), "seconds": s} for choice, s in f.seconds.items()]
    facts = {"task": str(f.task), "kernel": f.kernel, "shader": f.shader, "ratio": f.ratio, "left": f.left}
    return facts | {"default": list(f.default), "best": list(f.best), "choices": seconds}
