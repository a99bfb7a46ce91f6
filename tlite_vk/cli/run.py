"""tlite-vk run: answer a prompt."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .terminal import megabytes, note, print_json, progress

if TYPE_CHECKING:
    from tlite_vk.generate import Model, Prompt

_LENGTH = "Length"


def run(
    model: options.Model,
    prompt: Annotated[
        str | None,
        typer.Argument(help="The text to go on from; '-', or nothing, reads it from a pipe.", show_default=False),
    ] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="The prompt is a message; use the model's chat template.")
    ] = False,
    system: Annotated[str | None, typer.Option(help="A system message before it (implies --chat).")] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            min=0, rich_help_panel=_LENGTH, help="Most new tokens; default: until the model or the context ends."
        ),
    ] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(rich_help_panel=_LENGTH, help="End the answer before this text; may be given several times."),
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
    submission_ms: options.SubmissionMs = None,
    chunk: options.Chunk = None,
    max_memory: options.MaxMemory = None,
    stats: Annotated[bool, typer.Option("--stats", help="Print tokens, times and memory on standard error.")] = False,
    as_json: options.Json = False,
) -> None:
    """Answer a prompt: text streams to standard output as it comes.

    Greedy (temperature 0) unless asked otherwise. It ends where the model stops, at --max-tokens, or when the context
    is full, which a note on standard error tells. Ctrl-C ends it cleanly.
    """
    text = _prompt_text(prompt)
    from tlite_vk.loading import load
    from tlite_vk.sampling import SamplingOptions

    sampling = SamplingOptions(
        temperature=temperature, seed=seed, repetition_penalty=repetition_penalty, top_k=top_k, top_p=top_p
    )
    request: Prompt = _messages(text, system) if chat or system is not None else text
    with progress() as advance:
        advance("compile", 0, 0)
        loaded = load(
            model, device=device, context=context, window=window, precision=precision.value, chunk=chunk,
            submission_ms=submission_ms,
            progress=lambda done, total: advance("load the weights", done, total),
        )  # fmt: skip
    answer = _Answer(loaded, quiet=as_json)
    try:
        answer.stream(request, max_tokens=max_tokens, sampling=sampling, stop=stop or ())
    finally:
        if stats:
            note(answer.summary())
        loaded.close()
    if as_json:
        print_json(answer.as_json())
    elif loaded.stats.finish == "context":
        note(answer.full())


def _prompt_text(prompt: str | None) -> str:
    """The prompt, from standard input where it is '-' or missing."""
    from tlite_vk.errors import InputError

    if prompt is not None and prompt != "-":
        return prompt
    if sys.stdin is None or (prompt is None and sys.stdin.isatty()):
        raise InputError("there is no prompt; give it after the model, or pipe it in")
    try:
        return sys.stdin.buffer.read().decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"the prompt is not UTF-8 text (byte {error.start}); convert it first") from None


def _messages(text: str, system: str | None) -> list[dict[str, str]]:
    first = [] if system is None else [{"role": "system", "content": system}]
    return [*first, {"role": "user", "content": text}]


class _Answer:
    """One generation: streams it, then tells what it took."""

    def __init__(self, model: Model, quiet: bool) -> None:
        self._model, self._quiet = model, quiet
        self._pieces: list[str] = []

    def stream(self, request: Prompt, **arguments: Any) -> None:
        """Write the text as it comes. A progress bar shows a long prompt being read, until the first token."""
        reconfigure = getattr(sys.stdout, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")  # a terminal that is not UTF-8 shows ? instead of failing
        with progress() as advance:
            read = lambda done, total: advance("read the prompt", done, total)  # noqa: E731
            pieces = self._model.generate(request, progress=read, **arguments)
            first = next(pieces, "")
        try:
            self._write(first)
            for piece in pieces:
                self._write(piece)
        finally:
            if not self._quiet and not "".join(self._pieces).endswith("\n"):
                print(flush=True)

    def _write(self, piece: str) -> None:
        self._pieces.append(piece)
        if not self._quiet:
            print(piece, end="", flush=True)

    def summary(self) -> str:
        from tlite_vk.bench import peak_host_bytes

        s = self._model.stats
        read = f"prompt {s.prompt_tokens} tokens in {s.prefill_s:.2f} s" + _rate(s.prompt_tokens, s.prefill_s)
        wrote = f"answer {s.generated_tokens} tokens, then {s.decode_s:.2f} s" + _rate(
            s.generated_tokens - 1, s.decode_s
        )
        device, host = megabytes(self._model.device.memory_peak), megabytes(peak_host_bytes())
        return f"{read}; {wrote}; peak memory: device {device}, host {host}"

    def full(self) -> str:
        where = f"the context of {self._model.context} tokens is full; the answer ends here."
        return f"note: {where} A larger --context, or a --window, goes on."

    def as_json(self) -> dict[str, Any]:
        s = self._model.stats
        return {
            "text": "".join(self._pieces),
            "finish": s.finish,
            "seed": s.seed,
            "prompt_tokens": s.prompt_tokens,
            "generated_tokens": s.generated_tokens,
            "prefill_s": s.prefill_s,
            "decode_s": s.decode_s,
        }


def _rate(tokens: int, seconds: float) -> str:
    return f" ({tokens / seconds:.1f} tokens/s)" if tokens > 0 and seconds > 0 else ""
