"""tlite-vk bench --sweep: how cost grows with length, as tables and as a plot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .terminal import note, print_columns, print_json, progress

if TYPE_CHECKING:
    from tlite_vk.sweep import Growth, Memory, Point, SweepReport
    from tlite_vk.target import Precision

MEMORY = ("ring, MB", "memory, MB", "ms of each")


def sweep(
    model: Path,
    *,
    longest: int,
    gen: int,
    repeat: int,
    device: str | None,
    precision: Precision,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Measure at the lengths up to `longest`, print, draw."""
    from tlite_vk.sweep import SweepPlan
    from tlite_vk.sweep import sweep as measure
    from tlite_vk.sweep_plot import check, draw

    if plot is not None:
        check(plot)
    plan = SweepPlan(gen=gen, repeat=repeat).up_to(longest)
    with progress() as advance:
        advance("compile", 0, 0)
        report = measure(model, plan, device=device, precision=precision, progress=advance)
    if report.left_out:
        lengths = ", ".join(str(n) for n in report.left_out)
        note(f"the model knows {report.positions} positions; left out: {lengths}")
    if as_json:
        print_json(report.as_json())
    else:
        _print(report)
    if plot is not None:
        draw(report, plot)


def _print(r: SweepReport) -> None:
    title = f"{r.model} on {r.device} ({r.driver})"
    decode = [(str(p.tokens), f"{p.ms:.2f}", f"{1e3 / p.ms:.2f}", *_rest(p)) for p in r.decode]
    print_columns(("cached tokens", "decode, ms/token", "tokens/s", *MEMORY), decode, title)
    prefill = [(str(p.tokens), f"{p.ms:.1f}", f"{1e3 * p.tokens / p.ms:.1f}", *_rest(p)) for p in r.prefill]
    print_columns(("prompt", "prefill, ms", "tokens/s", *MEMORY), prefill, "")
    print(f"decode   {_growth(r.decode_growth, r.decode, 'a + b P')}")
    print(f"prefill  {_growth(r.prefill_growth, r.prefill, 'a T + b T^2')}")
    memory = r.decode[0].memory
    print(f"memory   {_fixed(memory)}; one more position: {r.ring_bytes_per_token:,.0f} bytes")


def _rest(point: Point) -> tuple[str, str, str]:
    memory = point.memory
    repetitions = ", ".join(f"{ms:.{0 if ms >= 1000 else 1}f}" for ms in point.repetitions)
    return f"{memory.ring / 1e6:.1f}", f"{memory.total / 1e6:.1f}", repetitions


def _growth(g: Growth, points: list[Point], formula: str) -> str:
    fit = f"{formula} with a = {g.factors[0]:.3g} ms, b = {g.factors[1]:.3g} ms"
    if g.exponent is None or g.allowed is None:
        return f"{fit}; one length shows no growth"
    verdict = "faster than attention must" if g.faster else "no faster than attention must"
    return (
        f"{fit}; from {points[-2].tokens} to {points[-1].tokens} it grows with the power {g.exponent:.2f}, "
        f"the fit with {g.allowed:.2f}: {verdict}"
    )


def _fixed(memory: Memory) -> str:
    return f"weights {memory.weights / 1e6:.1f} MB, activations {memory.arena / 1e6:.1f} MB"
