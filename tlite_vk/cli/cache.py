"""tlite-vk cache: the compiled models that make the next start quick."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from . import options
from .terminal import megabytes, print_columns, print_json


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove them all.")] = False, as_json: options.Json = False
) -> None:
    """List the models that were compiled for a device and kept, so that they start quickly; or remove them.

    They are made again when they are needed. TLITE_VK_CACHE_BYTES bounds what they take (default 8 GiB; 0 keeps none):
    those that were not used for longest make room.
    """
    from tlite_vk.compiled import store

    if clear:
        freed = store.clear()
        if as_json:
            print_json({"folder": str(store.folder()), "freed_bytes": freed})
        else:
            print(f"{megabytes(freed)} freed in {store.folder()}")
        return
    entries = store.entries()
    if as_json:
        listed = [{"file": str(e.path), "bytes": e.size, "used": e.used, "model": e.model} for e in entries]
        print_json({"folder": str(store.folder()), "limit_bytes": store.limit(), "entries": listed})
        return
    rows = [(megabytes(e.size), time.strftime("%Y-%m-%d %H:%M", time.localtime(e.used)), e.model) for e in entries]
    total = megabytes(sum(e.size for e in entries))
    print_columns(("size", "last used", "model"), rows, f"{store.folder()}: {total} of {megabytes(store.limit())}")
