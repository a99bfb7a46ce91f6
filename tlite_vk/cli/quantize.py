"""tlite-vk quantize: fewer bits for the weights of an ONNX model."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import completion, options
from .terminal import megabytes, print_json, progress

if TYPE_CHECKING:
    from tlite_vk.quantize import QuantizeReport, TensorReport

Patterns = list[str]
FORMATS = completion.one_of("e0m4", "int4", "int8", "fp16", "keep")


def quantize(
    model: options.OnnxModel,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT.onnx", help="The ONNX file to write.", show_default=False)
    ],
    form: Annotated[
        str, typer.Option("--format", autocompletion=FORMATS, help="Of products: e0m4, int4, int8, fp16 or keep.")
    ] = "e0m4",
    group: Annotated[int, typer.Option(help="Weights that share a step: 32, 64 or 128.")] = 32,
    embedding: Annotated[
        str, typer.Option(autocompletion=FORMATS, help="Format of tables that Gather reads.")
    ] = "int8",
    head: Annotated[
        str, typer.Option(autocompletion=FORMATS, help="Format of products whose result becomes an output.")
    ] = "int8",
    keep: Annotated[
        Patterns | None, typer.Option(metavar="GLOB", help="Weights, or nodes that read them, to leave as they are.")
    ] = None,
    kind: Annotated[
        Patterns | None, typer.Option("--type", metavar="GLOB=FORMAT", help="Another format for these weights.")
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            autocompletion=completion.one_of("least-squares", "minmax"),
            help="How steps are found: least-squares or minmax.",
        ),
    ] = "least-squares",
    symmetric: Annotated[bool, typer.Option("--symmetric", help="e0m4 without a minimum per group.")] = False,
    hold_zero: Annotated[
        bool, typer.Option("--hold-zero", help="e0m4: give 0 a code, in groups where that is no worse than minmax.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
    max_memory: options.MaxMemory = None,
    as_json: options.Json = False,
) -> None:
    """Quantize the weights of any ONNX model, into standard operators that any runtime runs.

    Matrices that MatMul, Gemm or Gather read, in float32, float16 or bfloat16. Everything else of the graph stays as it
    is; the tokenizer's files are copied beside the output. Prints the error of each weight. --keep and --type may be
    given several times, with patterns as in a shell; the last --type that matches counts, and --keep above all.
    """
    from tlite_vk.quantize import Options, quantize_model

    chosen = Options(
        format=form, group=group, method=method, symmetric=symmetric, hold_zero=hold_zero,
        embedding=embedding, head=head, keep=keep or [], types=[_pair(text) for text in kind or []],
    )  # fmt: skip
    with progress() as advance:
        report = quantize_model(
            model, output, chosen, overwrite=overwrite,
            progress=lambda done, total: advance(f"quantize {model.name}", done, total),
        )  # fmt: skip
    if as_json:
        print_json(_as_json(report))
    else:
        _print(report)


def _pair(text: str) -> tuple[str, str]:
    glob, equals, name = text.rpartition("=")
    if not equals or not glob:
        raise typer.BadParameter(
            f"'{text}' is not a pattern and a format, such as '*.ffn_down.*=int8'", param_hint="--type"
        )
    return glob, name


def _as_json(report: QuantizeReport) -> dict[str, object]:
    return {
        "model": str(report.model), "data": str(report.data), "tokenizer": report.tokenizer,
        "bytes_before": report.bytes_before, "bytes_after": report.bytes_after, "bits": report.bits,
        "relative_rms": report.relative_rms, "max_error": report.max_error,
        "tensors": [
            {
                "name": t.name, "readers": list(t.readers), "role": t.role, "shape": list(t.shape), "format": t.format,
                "group": t.group, "relative_rms": t.relative_rms, "max_error": t.max_error, "bits": t.bits,
                "bytes_before": t.bytes_before, "bytes_after": t.bytes_after,
            }
            for t in report.tensors
        ],
        "kept": [{"name": k.name, "shape": list(k.shape), "bytes": k.nbytes, "reason": k.reason} for k in report.kept],
    }  # fmt: skip


def _print(report: QuantizeReport) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), show_footer=True)
    sizes = megabytes(report.bytes_before), megabytes(report.bytes_after)
    footers = (
        f"{len(report.tensors)} weights", "", "", f"{report.relative_rms:.4f}", f"{report.max_error:.4f}",
        f"{report.bits:.2f}", " to ".join(sizes),
    )  # fmt: skip
    headers = ("weight", "rows x columns", "format", "relative RMS", "max error", "bits", "size")
    for header, footer in zip(headers, footers, strict=True):
        table.add_column(header, footer=footer, justify="left" if header in ("weight", "format") else "right")
    for t in report.tensors:
        table.add_row(*(Text(cell) for cell in _row(t)))
    Console(soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 200).print(table)
    for reason, count in Counter(k.reason for k in report.kept).items():
        names = [k.name for k in report.kept if k.reason == reason]
        print(f"kept: {', '.join(names[:3])}{f' and {count - 3} more' if count > 3 else ''}: {reason}")
    tokenizer = ", with its tokenizer" if report.tokenizer else ""
    print(f"{report.model}: {sizes[1]} of weights, {sizes[0]} before{tokenizer}")


def _row(t: TensorReport) -> tuple[str, ...]:
    name = t.name if t.name in t.readers or "." in t.name else f"{t.name} ({t.readers[0]})"
    return (
        name, f"{t.shape[0]} x {t.shape[1]}", f"{t.format}, groups of {t.group}" if t.group else t.format,
        f"{t.relative_rms:.4f}", f"{t.max_error:.2g}", f"{t.bits:.2f}",
        f"{megabytes(t.bytes_before)} to {megabytes(t.bytes_after)}",
    )  # fmt: skip
