"""The commands, by name."""

from __future__ import annotations

from typing import Annotated

import typer

from . import (
    ablate,
    bench,
    cache,
    chat,
    compile,
    convert,
    doctor,
    evaluate,
    fetch,
    info,
    profile,
    quantize,
    run,
    serve,
    tune,
)

app = typer.Typer(
    name="tlite-vk",
    help="Transformer models on any Vulkan device: ONNX in, text out, computed by GLSL shaders.",
    epilog="First steps: tlite-vk fetch smollm2-135m, then convert, then run.",
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from tlite_vk import __version__

        typer.echo(f"tlite-vk {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


app.command("info")(info.info)
app.command("doctor")(doctor.doctor)
app.command("fetch")(fetch.fetch)
app.command("convert")(convert.convert)
app.command("quantize")(quantize.quantize)
app.command("run")(run.run)
app.command("chat")(chat.chat)
app.command("serve")(serve.serve)
app.command("bench")(bench.bench)
app.command("profile")(profile.profile)
app.command("ablate")(ablate.ablate)
app.command("tune")(tune.tune)
app.command("eval")(evaluate.evaluate)
app.command("compile")(compile.compile_)
app.command("cache")(cache.cache)
