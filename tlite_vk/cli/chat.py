"""tlite-vk chat: talk with a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .terminal import progress


def chat(
    model: options.Model,
    system: Annotated[str | None, typer.Option(help="A system message before the first turn.")] = None,
    load_file: Annotated[
        Path | None, typer.Option("--load", help="Go on with a chat that /save wrote.", show_default=False)
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Most tokens of an answer; default: until the model or the context ends.")
    ] = None,
    temperature: options.Temperature = 0.0,
    top_k: options.TopK = 0,
    top_p: options.TopP = 1.0,
    seed: options.Seed = None,
    repetition_penalty: options.RepetitionPenalty = 1.0,
    device: options.Device = None,
    limits: options.Limits = None,
    context: options.Context = None,
    window: options.Window = 0,
    precision: options.Precision = options.PrecisionName.fp16,
    chunk: options.Chunk = None,
    submission_ms: options.SubmissionMs = None,
    max_memory: options.MaxMemory = None,
) -> None:
    """Talk with a model: several turns, of which none is computed twice.

    Answers stream as they come; Ctrl-C stops one. A line that ends in a backslash goes on in the next, and a block
    between lines of three quotes is one message. /help lists the commands; Ctrl-D leaves.
    """
    from tlite_vk.errors import InputError
    from tlite_vk.loading import load
    from tlite_vk.sampling import SamplingOptions

    from .chat_loop import ChatLoop

    if system is not None and load_file is not None:
        raise InputError("a saved chat has its own system message; leave --system out, or type /system after --load")
    sampling = SamplingOptions(
        temperature=temperature, seed=seed, repetition_penalty=repetition_penalty, top_k=top_k, top_p=top_p
    )
    with progress() as advance:
        advance("compile", 0, 0)
        loaded = load(
            model, device=device, context=context, window=window, precision=precision.value, chunk=chunk,
            submission_ms=submission_ms, progress=lambda done, total: advance("load the weights", done, total),
        )  # fmt: skip
    with loaded:
        talk = loaded.chat(system, ring=loaded.engine.main)
        if load_file is not None:
            talk.load(load_file)
        ChatLoop(talk, max_tokens=max_tokens, sampling=sampling).run()
