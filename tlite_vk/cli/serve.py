"""tlite-vk serve: the OpenAI API over a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .terminal import progress

_ACCESS, _BOUNDS = "Access", "Bounds"


def serve(
    model: options.Model,
    host: Annotated[
        str, typer.Option(rich_help_panel=_ACCESS, help="Address to listen on; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, rich_help_panel=_ACCESS, help="0: any that is free.")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="TLITE_VK_API_KEY",
            rich_help_panel=_ACCESS,
            help="A token that requests must bring; better set TLITE_VK_API_KEY: no list of processes shows it.",
            show_default=False,
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel=_ACCESS,
            help="A name the server may be called by; default: local ones, or any where --host is not local.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="The model's name for clients; default: its file's, or its folder's.", show_default=False),
    ] = None,
    parallel: Annotated[
        int, typer.Option(min=1, rich_help_panel=_BOUNDS, help="Requests that take turns, each with a ring of its own.")
    ] = 4,
    queue: Annotated[
        int, typer.Option(min=0, rich_help_panel=_BOUNDS, help="Requests that wait for a ring; more get status 429.")
    ] = 64,
    timeout: Annotated[
        float, typer.Option(min=1, rich_help_panel=_BOUNDS, help="Seconds of a request, waiting included.")
    ] = 300,
    max_body: Annotated[int, typer.Option(min=1, rich_help_panel=_BOUNDS, help="Bytes of a request's body.")] = 1 << 20,
    grace: Annotated[
        int, typer.Option(min=0, rich_help_panel=_BOUNDS, help="Seconds that answers under way have when it is ended.")
    ] = 30,
    device: options.Device = None,
    limits: options.Limits = None,
    context: options.Context = None,
    window: options.Window = 0,
    precision: options.Precision = options.PrecisionName.fp16,
    chunk: options.Chunk = None,
    submission_ms: options.SubmissionMs = None,
    max_memory: options.MaxMemory = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log each request.")] = False,
) -> None:
    """Serve the OpenAI API, and a page to chat on, until SIGTERM or Ctrl-C.

    On this machine only unless --host says otherwise. Needs `pip install 'tlite-vk[serve]'`.
    """
    from tlite_vk.errors import InputError
    from tlite_vk.loading import load

    try:
        from tlite_vk.server.running import serve as run
        from tlite_vk.server.settings import Settings
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is missing; run: pip install 'tlite-vk[serve]'") from error
    if api_key is not None and not api_key.strip():
        raise InputError("the key is empty; give it one, or leave it out")
    with progress() as advance:
        advance("compile", 0, 0)
        loaded = load(
            model, device=device, context=context, window=window, precision=precision.value, chunk=chunk,
            submission_ms=submission_ms, progress=lambda done, total: advance("load the weights", done, total),
        )  # fmt: skip
    local = host in ("127.0.0.1", "localhost", "::1")
    hosts = tuple(allow_host) if allow_host else Settings.hosts if local else ("*",)
    settings = Settings(name or default_name(loaded.path), api_key, parallel, queue, max_body, timeout, hosts=hosts)
    with loaded:
        run(loaded, settings, host=host, port=port, grace=grace, verbose=verbose)


def default_name(path: Path) -> str:
    """What clients call a model: its file's name, or its folder's where the file is called model, as most are."""
    path = path.resolve()
    return path.parent.name if path.stem == "model" else path.stem
