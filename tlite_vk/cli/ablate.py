"""tlite-vk ablate: what each idea brings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .terminal import megabytes, note, print_columns, print_json, progress

if TYPE_CHECKING:
    from tlite_vk.ablation import Ablation, AblationReport, Row

HEADER = ("what", "here", "instead", "ratio", "of each round")


def ablate(
    model: options.Model,
    prompt: Annotated[int, typer.Option(min=1, help="Tokens of the prompt.")] = 128,
    gen: Annotated[int, typer.Option(min=1, help="Tokens to decode, in each round.")] = 16,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds, in which both sides take turns; medians.")] = 7,
    cached: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Positions that a decoded token sees; may be repeated: 128, 512 and 2048."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Tokens of a submission, where several are sent.")] = 16,
    only: Annotated[
        list[str] | None, typer.Option(help="int4, concat, unfused, unplanned or single; may be repeated: all.")
    ] = None,
    device: options.Device = None,
    context: options.Context = None,
    precision: options.Precision = options.PrecisionName.fp16,
    as_json: options.Json = False,
) -> None:
    """Take each idea back and measure what it brought, both ways in turns in one run.

    int4: nibbles to integers to floats, zero point and step applied to each weight, in the same kernels. concat: the
    past is copied into a new cache at each step. unfused: norms, the three projections, gates, residuals and the rotary
    embedding each by a kernel of their own. unplanned: no two activations share memory. single: one token per
    submission. The ratio says how many times as long, or as large, it is instead: the median of the rounds' ratios.
    """
    from tlite_vk.ablation import AblationPlan
    from tlite_vk.ablation import ablate as measure

    chosen = {"cached": tuple(cached)} if cached else {}
    ideas = {"ideas": tuple(dict.fromkeys(only))} if only else {}
    plan = AblationPlan(prompt=prompt, gen=gen, rounds=rounds, batch=batch, **chosen, **ideas)  # type: ignore[arg-type]
    with progress() as advance:
        advance("compile", 0, 0)
        report = measure(model, plan, device=device, context=context, precision=precision.value, progress=advance)
    if report.left_out:
        note(f"the context is too short for {', '.join(str(n) for n in report.left_out)} cached tokens; left out")
    if as_json:
        print_json(report.as_json())
    else:
        _print(report)


def _print(report: AblationReport) -> None:
    print(f"{report.model} on {report.device} ({report.driver})")
    for ablation in report.ablations:
        print()
        title = f"{ablation.name}: {ablation.baseline} / {ablation.variant}"
        print_columns(HEADER, [_cells(row) for row in ablation.rows], title)
        print(_agreement(ablation))


def _cells(row: Row) -> tuple[str, ...]:
    if row.unit == "bytes":
        return ("memory", megabytes(row.baseline), megabytes(row.variant), f"{row.ratio:.2f}", "")
    what = f"decode behind {row.tokens}" if row.what == "decode" else f"prefill {row.tokens}"
    times = (f"{ms:.{3 if ms < 100 else 0}f} ms" for ms in (row.baseline, row.variant))
    return (what, *times, f"{row.ratio:.2f}", ", ".join(f"{ratio:.2f}" for ratio in row.ratios))


def _agreement(ablation: Ablation) -> str:
    same = f"the same token in {ablation.same_tokens} of {ablation.steps} steps"
    return same if ablation.name == "single" else f"{same}, logits within {ablation.logit_difference:.2g}"
