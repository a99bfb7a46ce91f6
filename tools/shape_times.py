#!/usr/bin/env python3
"""How long a model's shapes, passes and memory plan take: one row of a table per ONNX file.

To see how that grows, export one architecture with several numbers of layers:
    for n in 2 4 8 16 32; do tools/export_model.py llama --layers $n -o /tmp/llama-$n; done
    tools/shape_times.py /tmp/llama-*/model.onnx
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tlite_vk.book import Book
from tlite_vk.compile import lower_run
from tlite_vk.graph.infer import infer
from tlite_vk.graph.memory import plan_memory
from tlite_vk.graph.onnx_load import load_model
from tlite_vk.graph.pipeline import optimize
from tlite_vk.target import Target

T = TypeVar("T")
TARGET = Target("any", True, 8, True, 1 << 27, 1 << 27, 16, 1 << 15, 1024, 64, False)


def timed(work: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


def row(path: Path) -> tuple[object, ...]:
    """(file, nodes, seconds: load, shapes, shapes and passes, lowering, memory plan; nodes left)"""
    graph, load = timed(lambda: load_model(path))
    _, shapes = timed(lambda: infer(graph))
    (fused, _), passes = timed(lambda: optimize(graph, generate=False))
    low, lower = timed(lambda: lower_run(fused, TARGET, Book(half_states=False)))
    outputs = [v for v in fused.outputs if not v.known]
    _, plan = timed(lambda: plan_memory(low.lifetimes(outputs), alignment=TARGET.alignment))
    return (path, len(graph.nodes), *(f"{s:.2f}" for s in (load, shapes, passes, lower, plan)), len(fused.nodes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    models = parser.parse_args().models
    print("| file | nodes | load, s | shapes, s | shapes and passes, s | lowering, s | memory plan, s | nodes left |")
    print("|---" * 8 + "|")
    for path in sorted(models, key=lambda p: p.stat().st_size):
        print("| " + " | ".join(str(cell) for cell in row(path)) + " |")


if __name__ == "__main__":
    main()
