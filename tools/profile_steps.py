#!/usr/bin/env python3
"""Where the time of a step goes: timestamps around every dispatch of one entry, summed by kernel and place.

    tools/profile_steps.py smollm2 --entry decode --position 128
    tools/profile_steps.py smollm2 --entry prefill --tokens 512

Each dispatch has a barrier before and after it here, so the sum is a little more than the step takes. The fastest of
several runs of each dispatch counts.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from tlite_vk.binding import record
from tlite_vk.expression import evaluate
from tlite_vk.generate import Model, load

WARM_UP = 0.5
"""Seconds; on a device that is slow, `runs` are enough."""


def profile(model: Model, entry_name: str, tokens: int, position: int, runs: int) -> dict[str, float]:
    """Seconds per "shader, place": the smallest of `runs` for each dispatch, summed over the layers."""
    engine, program = model.engine, model.program
    entry = program.entries[entry_name]
    symbols, buffers = engine._symbols(tokens), engine._with_arena(entry)
    recording, names = model.device.recording(), []
    recording.copy(engine._inbox, 0, buffers.named["step"], 0, 16)
    recording.barrier()
    recording.timestamp()
    for dispatch in entry.dispatches:
        if not all(evaluate(group, symbols) for group in dispatch.groups):
            continue
        record(recording, [dispatch], symbols, buffers, engine._pipelines)
        recording.barrier()
        recording.timestamp()
        place = ".".join(part for part in dispatch.label.split(".") if not part.isdigit())
        names.append(f"{program.kernels[dispatch.kernel].shader}, {place}")
    recording.end()
    best = np.full(len(names), np.inf)
    started, done = time.perf_counter(), 0
    while done < runs or time.perf_counter() - started < WARM_UP:  # a GPU that was idle runs slowly at first
        engine.feed(position, [i % program.vocabulary for i in range(tokens)])
        recording.run()
        done += 1
        best = np.minimum(best, np.diff(recording.timestamps()))
    recording.close()
    totals: dict[str, float] = defaultdict(float)
    for name, seconds in zip(names, best, strict=True):
        totals[name] += float(seconds)
    return totals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="an ONNX file with caches, or its folder")
    parser.add_argument("--entry", choices=("decode", "prefill"), default="decode")
    parser.add_argument("--tokens", type=int, default=128, help="of a prefill step (default 128)")
    parser.add_argument("--position", type=int, default=0, help="tokens cached before the step (default 0)")
    parser.add_argument("--runs", type=int, default=8, help="repetitions (default 8)")
    parser.add_argument("--device", help="an index or a part of the name")
    options = parser.parse_args()
    tokens = 1 if options.entry == "decode" else options.tokens
    with load(options.model, device=options.device, chunk=max(tokens, 16)) as model:
        totals = profile(model, options.entry, tokens, options.position, options.runs)
    whole = sum(totals.values())
    print(f"{options.entry} of {tokens} behind {options.position}: {whole * 1e3:.3f} ms")
    for name, seconds in sorted(totals.items(), key=lambda item: -item[1]):
        print(f"{seconds * 1e3:10.3f} ms  {seconds / whole:6.1%}  {name}")


if __name__ == "__main__":
    main()
