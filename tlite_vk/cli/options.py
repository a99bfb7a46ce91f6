"""Arguments and options that several commands take."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from . import completion


class PrecisionName(StrEnum):
    """How the KV cache is stored, and whether a GPU may multiply halves."""

    fp16 = "fp16"
    fp32 = "fp32"


DEVICE_PANEL = "Device and memory"

Model = Annotated[
    Path,
    typer.Argument(
        help="An ONNX file, or the folder of a model.onnx.", show_default=False, autocompletion=completion.models
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=DEVICE_PANEL,
        autocompletion=completion.devices,
        help="Index of a device, or a part of its name; default: TLITE_VK_DEVICE, else the best kind.",
    ),
]
Context = Annotated[
    int | None,
    typer.Option(
        min=1,
        rich_help_panel=DEVICE_PANEL,
        help="Most tokens, prompt and answer together; default: 2048, or less if the model has less.",
    ),
]
Precision = Annotated[
    PrecisionName,
    typer.Option(
        rich_help_panel=DEVICE_PANEL,
        help="fp16: a KV cache in halves, and products of halves on GPUs that have them.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")]
