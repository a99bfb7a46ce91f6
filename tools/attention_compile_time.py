#!/usr/bin/env python3
"""Time what a driver needs to compile the attention shaders of one head size, for a prompt and for decoding.

    MESA_SHADER_CACHE_DISABLE=1 tools/attention_compile_time.py --head-dim 256 --heads 8 --kv-heads 1

CPU drivers turn a shader into machine code when it first runs: a first and a second run are timed, and the difference
is printed: time on the clock and of the processor. Mesa keeps compiled shaders on disk; the variable turns that off.
See docs/adr/0006-attention-on-cpu-drivers.md.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from tlite_vk import kernels  # noqa: F401  (registers the kernels)
from tlite_vk.binding import Buffers, Pipelines, record
from tlite_vk.book import Book
from tlite_vk.device import Device, open_device
from tlite_vk.expression import evaluate
from tlite_vk.graph import shape as dims
from tlite_vk.graph.infer import make_node
from tlite_vk.graph.ir import Graph, Value
from tlite_vk.lower import Lowering
from tlite_vk.program import Entry, Program
from tlite_vk.step import STEP_BYTES
from tlite_vk.target import Target
from tlite_vk.upload import upload

CAPACITY, TOKENS, POSITIONS = 64, 16, 64


def arguments() -> argparse.Namespace:
    """The command line."""
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--head-dim", type=int, default=64, help="elements of a head (default 64)")
    parser.add_argument("--heads", type=int, default=9, help="query heads (default 9)")
    parser.add_argument("--kv-heads", type=int, default=3, help="key and value heads (default 3)")
    parser.add_argument("--device", help="an index or a part of the device's name")
    return parser.parse_args()


def lower(chosen: argparse.Namespace, target: Target, book: Book, tokens: int) -> Entry:
    """One attention with rotary embedding over a ring, for this many tokens."""
    width, cached = (chosen.heads + 2 * chosen.kv_heads) * chosen.head_dim, chosen.kv_heads * chosen.head_dim
    qkv = Value("qkv", "float32", (1, tokens, width))
    k, v = (Value(name, "float32", (1, dims.symbol("C"), cached)) for name in "kv")
    table = np.ones((POSITIONS, chosen.head_dim // 2), np.float32)
    cos, sin = (Value(name, "float32", table.shape, table) for name in ("cos", "sin"))
    attributes = {
        "heads": chosen.heads, "kv_heads": chosen.kv_heads, "head_dim": chosen.head_dim, "rotary_dim": chosen.head_dim,
        "scale": chosen.head_dim**-0.5, "k_offset": chosen.heads * chosen.head_dim,
        "v_offset": chosen.heads * chosen.head_dim + cached,
    }  # fmt: skip
    node = make_node("RingAttention", [qkv, qkv, qkv, k, v, cos, sin], "y", attributes, output_names=["y", "k2", "v2"])
    graph = Graph("attention", [qkv, k, v], [node], node.outputs)
    low = Lowering(graph, target, book, {}, {k: "k", v: "v"}, {qkv: "qkv"})
    low.run()
    return low.finish("attention", {"y": node.outputs[0]}, None)


def first_run(device: Device, target: Target, chosen: argparse.Namespace, tokens: int) -> tuple[float, float]:
    """What the first run takes longer than the second: seconds on the clock, and of the processor."""
    book = Book(target.half_cache)
    entry = lower(chosen, target, book, tokens)
    program = Program(tuple(book.kernels), {}, (), tuple(book.weights.values()), {}, 0, 0, 0)
    symbols = {"T": tokens, "C": CAPACITY, "W": 0}
    cached = CAPACITY * chosen.kv_heads * chosen.head_dim * 4
    width = (chosen.heads + 2 * chosen.kv_heads) * chosen.head_dim
    named = {"state:k": device.buffer(cached), "state:v": device.buffer(cached), "step": device.buffer(256)}
    named |= {"qkv": device.buffer(4 * tokens * width), "arena": device.buffer(max(16, evaluate(entry.arena, symbols)))}
    named["step"].write(np.array([0, tokens, 0, 0], np.uint32)[: STEP_BYTES // 4])
    named["qkv"].write(np.zeros(tokens * width, np.float32))
    buffers = Buffers(named, upload(device, program.weights, target.alignment))
    clock, processor = time.perf_counter(), time.process_time()
    recording = device.recording()
    record(recording, entry.dispatches, symbols, buffers, Pipelines(device, program))
    recording.end()
    recording.run()
    clock_first, processor_first = time.perf_counter() - clock, time.process_time() - processor
    clock, processor = time.perf_counter(), time.process_time()
    recording.run()
    return clock_first - (time.perf_counter() - clock), processor_first - (time.process_time() - processor)


def main() -> None:
    """Measure and print."""
    chosen = arguments()
    device = open_device(chosen.device)
    target = Target.of(device.info)
    print(f"{device.info.name}: {chosen.heads} heads, {chosen.kv_heads} of keys and values, of {chosen.head_dim}")
    for name, tokens in (("prompt", TOKENS), ("decode", 1)):
        clock, processor = first_run(device, target, chosen, tokens)
        print(f"{name:8} {clock:6.1f} s on the clock, {processor:6.1f} s of the processor", flush=True)


if __name__ == "__main__":
    main()
