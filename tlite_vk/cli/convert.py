"""tlite-vk convert: GGUF to ONNX."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from . import completion, options
from .terminal import megabytes, print_json, progress


class WeightsName(StrEnum):
    """How the matrices are stored."""

    keep = "keep"
    float16 = "float16"


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SRC.gguf",
            help="A GGUF file of a Llama model.",
            show_default=False,
            autocompletion=completion.gguf_files,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="model.onnx", help="The ONNX file to write.", show_default=False)
    ],
    weights: Annotated[
        WeightsName,
        typer.Option(help="keep: the bits of the file. float16: quantized matrices as halves, e.g. to quantize anew."),
    ] = WeightsName.keep,
    max_memory: options.MaxMemory = None,
    as_json: options.Json = False,
) -> None:
    """Convert a GGUF file to ONNX, without quantizing again: the weights keep their values, bit for bit.

    Beside the ONNX file go its weights (model.onnx.data), tokenizer.json, tokenizer_config.json with the chat
    template, and generation_config.json. Either all of them appear or none.
    """
    from tlite_vk.convert import convert as convert_model

    with progress() as advance:
        report = convert_model(
            source, output, lambda done, total: advance(f"convert {source.name}", done, total),
            halves=weights is WeightsName.float16,
        )  # fmt: skip
    if as_json:
        print_json({
            "model": str(report.model), "data": str(report.data), "tokenizer": report.tokenizer,
            "architecture": report.architecture, "name": report.name, "layers": report.layers,
            "parameters": report.parameters, "data_bytes": report.data_bytes,
            "context_length": report.context_length, "source_sha256": report.source_sha256,
        })  # fmt: skip
        return
    tokenizer = "with its tokenizer" if report.tokenizer else "without a tokenizer: the source has none"
    print(
        f"{report.model}: {report.name}, {report.layers} layers, {report.parameters / 1e6:.1f} M parameters, "
        f"{megabytes(report.data_bytes)}, {tokenizer}"
    )
