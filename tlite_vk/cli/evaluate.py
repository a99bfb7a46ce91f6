"""tlite-vk eval: perplexity."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from . import options
from .terminal import print_json, progress


def evaluate(
    model: options.Model,
    text: Annotated[Path, typer.Argument(help="A UTF-8 text file.", show_default=False)],
    window: Annotated[int, typer.Option(min=2, help="Tokens of a window.")] = 512,
    windows: Annotated[int, typer.Option(min=1, help="How many windows, from the start of the text.")] = 4,
    device: options.Device = None,
    limits: options.Limits = None,
    precision: options.Precision = options.PrecisionName.fp32,
    max_memory: options.MaxMemory = None,
    as_json: options.Json = False,
) -> None:
    """Perplexity of the model on a text: exp of the mean negative log-likelihood.

    The whole text is encoded without special tokens; each window starts afresh, with nothing (no BOS) before it; every
    token of a window but the first is scored.
    """
    from tlite_vk.evaluate import perplexity, read_text
    from tlite_vk.loading import load

    content = read_text(text)
    with progress() as advance:
        advance("compile", 0, 0)
        loaded = load(
            model, device=device, context=window, precision=precision.value, scoring=True,
            progress=lambda done, total: advance("load the weights", done, total),
        )  # fmt: skip
        with loaded:
            started = time.perf_counter()
            found = perplexity(
                loaded, content, window=window, windows=windows,
                progress=lambda done, total: advance("score the text", done, total),
            )  # fmt: skip
            seconds = time.perf_counter() - started
            opened = loaded.device.info.name
    if not as_json:
        print(f"perplexity {found.perplexity:.4f} over {found.predictions} predictions ({opened}, {precision.value})")
        return
    print_json({
        "perplexity": found.perplexity, "predictions": found.predictions, "nll": found.nll, "tokens": found.tokens,
        "window": window, "windows": windows, "model": str(loaded.path), "device": opened,
        "precision": precision.value, "seconds": seconds,
    })  # fmt: skip
