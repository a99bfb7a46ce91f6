#!/usr/bin/env python3
"""Time one packed matrix product on a device, its operands read through texel buffers or through storage buffers.

    tools/bench_linear.py                                     # a decode step's product: one token
    tools/bench_linear.py --rows 1536 --columns 576 --tokens 32 --format e0m4_affine

Several products with weights of their own run in one submission, so that nothing stays in the caches that would not in
a model. The two ways take turns. The figure is multiply-adds per second; --cpu-time counts the processor time of this
process, divided by the number of cores, instead of the time on the clock: on a CPU driver that is what the figure would
be on a machine without other work. See docs/adr/0002-texel-buffers.md.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import numpy as np

from tlite_vk.device import Device, open_device
from tlite_vk.graph.infer import make_node
from tlite_vk.graph.ir import Graph, Value, constant
from tlite_vk.graph.weights import AffineWeight, QuantizedRows
from tlite_vk.session import Session
from tlite_vk.target import Target

FORMATS = ("e0m4_affine", "e0m4_symmetric", "int8", "float16", "float32")
GROUP = 32
MIN_SECONDS = 0.2


def arguments() -> argparse.Namespace:
    """The command line."""
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=4096, help="outputs (default 4096)")
    parser.add_argument("--columns", type=int, default=2048, help="inputs (default 2048)")
    parser.add_argument("--tokens", type=int, default=1, help="rows of activations (default 1)")
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0], help=f"of the weights (default {FORMATS[0]})")
    parser.add_argument("--products", type=int, default=8, help="products in one submission (default 8)")
    parser.add_argument("--rounds", type=int, default=7, help="medians of this many (default 7)")
    parser.add_argument("--cpu-time", action="store_true", help="count processor time, for a CPU driver")
    parser.add_argument("--device", help="an index or a part of the device's name")
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    chosen = parser.parse_args()
    if min(chosen.rows, chosen.tokens, chosen.products, chosen.rounds) < 1 or chosen.columns % GROUP:
        parser.error(f"counts must be at least 1, --columns a multiple of {GROUP}")
    return chosen


def weight(name: str, form: str, rows: int, columns: int, rng: np.random.Generator) -> Value:
    """A random weight [rows, columns] in a packed format."""
    if form.startswith("float"):
        return constant(name, (rng.standard_normal((rows, columns)) / np.sqrt(columns)).astype(form))
    bits = 8 if form == "int8" else 4
    codes = rng.integers(0, 256, (rows, columns * bits // 8), np.uint8)
    scale = rng.uniform(0.5, 1.5, (rows, columns // GROUP)).astype(np.float16)
    minimum = (-8 * scale).astype(np.float16) if form == "e0m4_affine" else None
    part = QuantizedRows(
        codes.view(np.int8) if bits == 8 else codes, scale, minimum, bits,
        signed=bits == 8, zero=8 if form == "e0m4_symmetric" else 0,
    )  # fmt: skip
    return Value(name, "float32", (rows, columns), AffineWeight((part,)))


def products(chosen: argparse.Namespace) -> Graph:
    """x [tokens, columns] -> y0, y1, ... [tokens, rows], each by a weight of its own."""
    rng = np.random.default_rng(1)
    x = Value("x", "float32", (chosen.tokens, chosen.columns))
    nodes = [
        make_node("Linear", [x, weight(f"w{i}", chosen.format, chosen.rows, chosen.columns, rng)], f"y{i}")
        for i in range(chosen.products)
    ]
    return Graph("products", [x], nodes, [node.output for node in nodes])


def timer(session: Session, x: np.ndarray[tuple[int, ...], np.dtype[np.float32]], cpu: bool) -> Callable[[], float]:
    """A function that runs the products for MIN_SECONDS or longer and returns the seconds of one run."""
    cores = len(os.sched_getaffinity(0))

    def measure() -> float:
        clock, process, runs = time.perf_counter(), time.process_time(), 0
        while runs == 0 or time.perf_counter() - clock < MIN_SECONDS:
            session.run({"x": x}, outputs=())
            runs += 1
        return ((time.process_time() - process) / cores if cpu else time.perf_counter() - clock) / runs

    measure()  # the pipelines are compiled
    return measure


def compare(chosen: argparse.Namespace, device: Device) -> dict[str, float]:
    """Multiply-adds per second by the way of reading."""
    graph, target = products(chosen), Target.of(device.info, "fp32")
    x = np.random.default_rng(2).standard_normal((chosen.tokens, chosen.columns)).astype(np.float32)
    texels = chosen.tokens * chosen.columns // 4  # of x; weights are split where they exceed the limit
    ways = ["storage"] + (["texel"] if target.cpu and texels <= target.max_texel_elements else [])
    timers = {
        way: timer(Session(graph, device, target=replace(target, texel=way == "texel")), x, chosen.cpu_time)
        for way in ways
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(chosen.rounds):
        for way, measure in timers.items():
            seconds[way].append(measure())
    work = chosen.rows * chosen.columns * chosen.tokens * chosen.products
    return {way: work / median(found) for way, found in seconds.items()}


def main() -> None:
    """Measure and print."""
    chosen = arguments()
    device = open_device(chosen.device)
    rates = compare(chosen, device)
    if chosen.json:
        facts = {key: getattr(chosen, key) for key in ("rows", "columns", "tokens", "format", "cpu_time")}
        print(json.dumps({**facts, "device": device.info.name, "multiply_adds_per_s": rates}))
        return
    print(f"{device.info.name}: {chosen.rows} x {chosen.columns}, {chosen.format}, tokens: {chosen.tokens}")
    for way, rate in rates.items():
        print(f"{way:8} {rate / 1e9:6.1f} G multiply-adds/s")


if __name__ == "__main__":
    main()
