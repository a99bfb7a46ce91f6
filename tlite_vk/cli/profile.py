"""tlite-vk profile: where the time of a step goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .terminal import note, print_columns, print_json, progress

if TYPE_CHECKING:
    from tlite_vk.profile import Profile, Step

HEADER = ("count", "ms", "% time", "GB/s", "% copy", "GMAC/s", "% MAC", "nearer", "kernel, place")
NEARER = {"bandwidth": "copy", "multiply-adds": "MAC"}


def profile(
    model: options.Model,
    prompt: Annotated[int, typer.Option(min=1, help="Tokens of the prompt.")] = 128,
    repeat: Annotated[int, typer.Option(min=1, help="Timed repetitions; medians are reported.")] = 5,
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a trace (JSON) that https://ui.perfetto.dev opens.")
    ] = None,
    device: options.Device = None,
    limits: options.Limits = None,
    context: options.Context = None,
    precision: options.Precision = options.PrecisionName.fp16,
    max_memory: options.MaxMemory = None,
    as_json: options.Json = False,
) -> None:
    """Time each kernel of a prompt, and of a decode step behind it, on the device itself.

    Every dispatch runs alone between two timestamps. Beside its time stand the bytes it must move and the multiply-adds
    (MAC) it must do, as shares of what the device can do at most: the bandwidth of a copy (read plus written) and the
    rate of fp32 multiply-adds, both measured in the same run. Data that is still in a cache, and products of halves,
    may exceed them.
    """
    from tlite_vk.cache import write_atomic
    from tlite_vk.profile import profile as measure

    with progress() as advance:
        advance("compile", 0, 0)
        found = measure(
            model, prompt=prompt, repeat=repeat, device=device, context=context, precision=precision.value,
            progress=advance,
        )  # fmt: skip
    if trace is not None:
        write_atomic(trace, json.dumps(found.as_trace(), allow_nan=False).encode())
        note(f"{trace} is written; open it at https://ui.perfetto.dev")
    if as_json:
        print_json(found.as_json())
        return
    copies, rate = found.limits.copy_bytes_per_s / 1e9, found.limits.multiply_adds_per_s / 1e9
    print(f"{found.model} on {found.device} ({found.driver})")
    print(f"limits: {copies:.2f} GB/s read and written by a copy, {rate:.1f} GMAC/s (multiply-adds) in fp32")
    for step in found.steps:
        print()
        print_columns(HEADER, _rows(found, step), _title(step))


def _title(step: Step) -> str:
    tokens = "1 token" if step.tokens == 1 else f"{step.tokens} tokens"
    whole, plain = (f"{1e3 * seconds:.3f} ms" for seconds in (step.seconds, step.as_run_s))
    return f"{step.name}, {tokens} behind {step.position}: {whole} one by one, {plain} as it runs"


def _rows(found: Profile, step: Step) -> list[tuple[str, ...]]:
    rows = [
        (
            str(row.dispatches), f"{1e3 * row.seconds:.3f}", f"{100 * row.share:.1f}",
            f"{row.bytes_per_s / 1e9:.2f}", f"{100 * row.share_of_copy:.1f}",
            f"{row.multiply_adds_per_s / 1e9:.2f}" if row.multiply_adds else "",
            f"{100 * row.share_of_multiply_adds:.1f}" if row.multiply_adds else "",
            NEARER[row.nearer_limit], f"{row.shader}, {row.place}",
        )
        for row in step.rows(found.limits)
    ]  # fmt: skip
    share = step.gaps_s / step.seconds if step.seconds else 0.0
    gaps = ("", f"{1e3 * step.gaps_s:.3f}", f"{100 * share:.1f}", "", "", "", "", "", "barriers and gaps")
    return [*rows, gaps]
