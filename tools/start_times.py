#!/usr/bin/env python3
"""How long a model takes from the start of a process until it is ready, and until its first token.

Each start is a process of its own. The prefill, which is taken off the time to the first token, is that of a second
prompt of the same length in the same process, so that making pipelines counts as a part of starting. With an ONNX
model, empty the cache folder (TLITE_VK_CACHE) for a cold start first; the second is a warm one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

STARTED = "START_TIMES_STARTED"
PLACES = ("ready", "first token", "of it prefill", "first token without prefill")


def once(model: Path, tokens: int) -> None:
    """In the process that is measured: print seconds since it was started."""
    import tlite_vk

    started = float(os.environ[STARTED])
    with tlite_vk.load(model) as loaded:
        ready = time.time() - started
        ids = [100 + i for i in range(tokens)]
        next(loaded.generate_tokens(ids))
        first = time.time() - started
        list(loaded.generate_tokens(ids, max_tokens=1))
        prefill = loaded.stats.prefill_s
        print(loaded.device.info.name, ready, first, prefill, first - prefill, sep="\t")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="an ONNX file, its folder, or a compiled model")
    parser.add_argument("--tokens", type=int, default=37, help="of the prompt (default 37)")
    parser.add_argument("--starts", type=int, default=5, help="processes (default 5)")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.once:
        once(chosen.model, chosen.tokens)
        return
    rows: list[list[float]] = []
    name = ""
    for _ in range(chosen.starts):
        command = [sys.executable, __file__, str(chosen.model), "--tokens", str(chosen.tokens), "--once"]
        environment = {**os.environ, STARTED: str(time.time())}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=False)
        if done.returncode:
            sys.exit(done.returncode)
        name, *seconds = done.stdout.strip().split("\t")
        rows.append([float(s) for s in seconds])
    print(f"{chosen.model} on {name}, seconds, median of {chosen.starts}:")
    for place, values in zip(PLACES, zip(*rows, strict=True), strict=True):
        print(f"{place:28}  {median(values):.3f}  ({', '.join(f'{v:.3f}' for v in values)})")


if __name__ == "__main__":
    main()
