"""tlite-vk bench: speed and memory, beside what the device can do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .terminal import megabytes, print_json, print_table, progress

if TYPE_CHECKING:
    from tlite_vk.bench import Report

SWEEP_PANEL = "How cost grows"
LONGEST = 8192


def bench(
    model: options.Model,
    prompt: Annotated[int, typer.Option(min=1, help="Tokens of the prompt.")] = 128,
    gen: Annotated[int, typer.Option(min=1, help="Tokens to decode.")] = 32,
    repeat: Annotated[int, typer.Option(min=1, help="Timed repetitions; medians are reported.")] = 3,
    depth: Annotated[int, typer.Option(min=0, help="Tokens in the cache before decoding.")] = 0,
    sweep: Annotated[
        bool,
        typer.Option(
            "--sweep",
            rich_help_panel=SWEEP_PANEL,
            help="Decode behind 128 to 8192 cached tokens, prompts of 64 to 4096, each twice the one before.",
        ),
    ] = False,
    longest: Annotated[
        int | None,
        typer.Option(min=1, rich_help_panel=SWEEP_PANEL, help="With --sweep: no longer than this; --context likewise."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=SWEEP_PANEL, help="With --sweep: draw it into this .png, .svg or .pdf (needs Matplotlib)."
        ),
    ] = None,
    device: options.Device = None,
    limits: options.Limits = None,
    context: options.Context = None,
    precision: options.Precision = options.PrecisionName.fp16,
    submission_ms: options.SubmissionMs = None,
    max_memory: options.MaxMemory = None,
    as_json: options.Json = False,
) -> None:
    """Measure prefill and decode as llama-bench does: random tokens, an untimed warm-up, medians.

    prefill: a prompt from an empty cache until the logits of its last token are there. decode: one token per
    submission, its logits on the host before the next one starts. generate: what `run` does at temperature 0, tokens
    chosen on the device, several per submission. The limits are measured in the same run: copy counts bytes read plus
    written; multiply-adds are fp32. With --sweep: how time and memory grow with the length, beside what attention must
    cost.
    """
    from tlite_vk.bench import Plan
    from tlite_vk.bench import bench as measure
    from tlite_vk.errors import InputError

    from .sweep import sweep as measure_growth

    if not sweep and (longest is not None or plot is not None):
        raise InputError("--longest and --plot belong to --sweep")
    if sweep:
        if prompt != Plan.prompt or depth != Plan.depth:
            raise InputError("--sweep chooses its own lengths; leave out --prompt and --depth")
        most = min(longest or LONGEST, context or LONGEST)
        measure_growth(
            model, longest=most, gen=gen, repeat=repeat, device=device, precision=precision.value, plot=plot,
            as_json=as_json,
        )  # fmt: skip
        return

    plan = Plan(prompt, gen, repeat, depth)
    with progress() as advance:
        advance("compile", 0, 0)
        report = measure(
            model, plan, device=device, context=context, precision=precision.value, submission_ms=submission_ms,
            progress=advance,
        )  # fmt: skip
    if as_json:
        print_json(report.as_json())
    else:
        print_table(_rows(report), f"{report.model} on {report.device} ({report.driver})")


def _rows(r: Report) -> list[tuple[str, str]]:
    prompt, at = f"{r.prompt} tokens", f" after {r.depth}" if r.depth else ""
    seconds, rates = r.repetitions, r.generate_tokens_per_s
    prefills = _list([r.prompt / s for s in seconds.prefill_s])
    decodes = _list([r.gen / s for s in seconds.decode_s])
    generated = "-" if rates is None else f"{rates:.2f} tokens/s  {_list(seconds.generate_tokens_per_s)}"
    return [
        (f"prefill {prompt}", f"{r.prefill_tokens_per_s:.2f} tokens/s  {prefills}"),
        ("", f"{100 * r.prefill_share_of_multiply_adds:.1f} % of the device's multiply-adds"),
        (f"decode {r.gen} tokens{at}", f"{r.decode_tokens_per_s:.2f} tokens/s  {decodes}"),
        ("", f"{100 * r.decode_share_of_copy:.1f} % of the device's copy bandwidth"),
        ("generate, greedy", generated),
        ("time to first token", f"{r.time_to_first_token_s:.3f} s  (loading before that: {r.load_s:.2f} s)"),
        ("longest submission", f"{1000 * r.longest_submission_s:.1f} ms"),
        ("peak memory", f"device {megabytes(r.peak_device_bytes)}, host {megabytes(r.peak_host_bytes)}"),
        ("weights", megabytes(r.weight_bytes)),
        ("copy bandwidth", f"{r.copy_bytes_per_s / 1e9:.2f} GB/s read and written"),
        ("multiply-adds", f"{r.multiply_adds_per_s / 1e9:.1f} G/s, fp32"),
    ]


def _list(values: list[float]) -> str:
    return f"({', '.join(f'{v:.2f}' for v in values)})"
