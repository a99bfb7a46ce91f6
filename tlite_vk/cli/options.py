"""Arguments and options that several commands take."""

from __future__ import annotations

import os
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
        help="An ONNX file, the folder of a model.onnx, or a compiled model.tlvk.",
        show_default=False,
        autocompletion=completion.models,
    ),
]
OnnxModel = Annotated[
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


def _lower(context: typer.Context, wanted: str | None) -> str | None:
    """Make the profile the one of this command, and of the processes that it starts."""
    from tlite_vk.limits import VARIABLE, chosen_limits

    if wanted is None or context.resilient_parsing:
        return wanted
    chosen_limits(wanted)
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = wanted
    context.call_on_close(lambda: _restore(VARIABLE, before))
    return wanted


def _restore(variable: str, before: str | None) -> None:
    if before is None:
        os.environ.pop(variable, None)
    else:
        os.environ[variable] = before


Limits = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        rich_help_panel=DEVICE_PANEL,
        callback=_lower,
        help="Take the device for a poorer one: adreno-old, adreno-7xx, mali, least, vulkan-1.1, or a TOML file.",
    ),
]
SubmissionMs = Annotated[
    float | None,
    typer.Option(
        min=0,
        rich_help_panel=DEVICE_PANEL,
        help="Cut steps into submissions of at most so many milliseconds; 0: any. Default: 50 on a GPU, else 0.",
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


def _limit_memory(context: typer.Context, size: str | None) -> str | None:
    """Holds the rest of the command to the size; the command itself need not know."""
    from tlite_vk.budget import limited, parse_bytes

    context.with_resource(limited(None if size is None else parse_bytes(size)))
    return size


MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        metavar="BYTES",
        callback=_limit_memory,
        rich_help_panel=DEVICE_PANEL,
        help="Refuse what takes more, on the device or of the host, e.g. 800M or 2GiB; default: TLITE_VK_MEMORY, "
        "else what they have.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")]

_SAMPLING = "Sampling"
Temperature = Annotated[
    float, typer.Option(rich_help_panel=_SAMPLING, help="0: always the most likely token. Higher: more random.")
]
TopK = Annotated[int, typer.Option(rich_help_panel=_SAMPLING, help="Draw from the k most likely; 0: all.")]
TopP = Annotated[
    float, typer.Option(rich_help_panel=_SAMPLING, help="Draw from the fewest tokens whose probabilities sum to p.")
]
Seed = Annotated[
    int | None,
    typer.Option(rich_help_panel=_SAMPLING, help="The same seed gives the same answer; default: a new one."),
]
RepetitionPenalty = Annotated[
    float, typer.Option(rich_help_panel=_SAMPLING, help="Over 1: tokens already seen become less likely.")
]
Window = Annotated[
    int,
    typer.Option(
        min=0, rich_help_panel=DEVICE_PANEL, help="See only this many tokens back, and never be full; 0: all."
    ),
]
Chunk = Annotated[
    int | None, typer.Option(min=1, rich_help_panel=DEVICE_PANEL, help="Most tokens of the prompt in one step.")
]
