"""tlite-vk compile: does a model compile, and what becomes of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .terminal import megabytes, print_json, print_table, progress

if TYPE_CHECKING:
    from tlite_vk.compile import Compiled
    from tlite_vk.graph.ir import Graph
    from tlite_vk.program import Program

LENGTHS = (1, 64, 512)  # tokens of a step at which memory is told
CAPACITY = 2048


def compile_(
    model: options.Model,
    report: Annotated[
        bool, typer.Option("--report", help="Also print what each pass matched, and why it left other places alone.")
    ] = False,
    dump: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the graph after each pass into this folder, as text.")
    ] = None,
    device: options.Device = None,
    precision: options.Precision = options.PrecisionName.fp16,
    as_json: options.Json = False,
) -> None:
    """Compile a generating model for a device, without running it, and tell what became of it.

    For each entry (decode: one token; prefill: T tokens; score: T tokens with all logits): nodes after fusion,
    dispatches, barriers, and the bytes that activations need, beside what no plan could undercut and the sum without
    reuse.
    """
    from tlite_vk.compile import compile_model
    from tlite_vk.device import choose_device
    from tlite_vk.errors import ModelError
    from tlite_vk.target import Target

    path = model / "model.onnx" if model.is_dir() else model
    if not path.is_file():
        raise ModelError(f"no such model: {path}")
    info = choose_device(device)
    seen: list[Compiled] = []
    started = time.perf_counter()
    with progress() as advance:
        advance("compile", 0, 0)
        dumper = _dumper(dump) if dump is not None else None
        program = compile_model(path, Target.of(info, precision.value), observe=seen.append, dump=dumper)
    found = _facts(program, seen) | {"model": str(path), "device": info.name, "seconds": time.perf_counter() - started}
    if as_json:
        print_json(found)
    else:
        _print(found, report)


def _dumper(folder: Path) -> Callable[[str, str, Graph], None]:
    """Writes FOLDER/ENTRY/NN-pass.txt."""
    from tlite_vk.cache import write_atomic
    from tlite_vk.graph.dump import dump

    numbers: dict[str, int] = {}

    def write(entry: str, rule: str, graph: Graph) -> None:
        numbers[entry] = numbers.get(entry, 0) + 1
        write_atomic(folder / entry / f"{numbers[entry]:02}-{rule}.txt", dump(graph).encode())

    return write


def _facts(program: Program, seen: list[Compiled]) -> dict[str, Any]:
    return {
        "kernels": len(program.kernels),
        "weight_bytes": program.weight_bytes,
        "cache_bytes": {str(CAPACITY): _cache_bytes(program)},
        "entries": {compiled.entry.name: _entry_facts(compiled) for compiled in seen},
    }


def _cache_bytes(program: Program) -> int:
    from tlite_vk.expression import evaluate

    return sum(evaluate(state.size, {"C": CAPACITY}) for state in program.states)


def _entry_facts(compiled: Compiled) -> dict[str, Any]:
    from tlite_vk.hazards import Barrier, schedule

    entry, plan, passes = compiled.entry, compiled.plan, compiled.report
    lengths = (1,) if entry.name == "decode" else LENGTHS
    steps = schedule(entry.dispatches, {"T": lengths[-1], "C": CAPACITY, "W": 0})
    return {
        "nodes": len(compiled.graph.nodes),
        "dispatches": len(entry.dispatches),
        "barriers": sum(isinstance(step, Barrier) for step in steps),
        "memory": {
            str(t): {
                "arena_bytes": plan.bytes({"T": t}),
                "lower_bound_bytes": plan.lower_bound({"T": t}),
                "without_reuse_bytes": plan.without_reuse({"T": t}),
            }
            for t in lengths
        },
        "passes": {rule: {"matched": yes, "rejected": no} for rule, (yes, no) in passes.counts().items()},
        "rejections": [{"pass": f.rule, "node": f.node, "why": f.detail} for f in passes.rejections()],
    }


def _print(found: dict[str, Any], report: bool) -> None:
    rows = [
        ("device", found["device"]),
        ("pipelines", str(found["kernels"])),
        ("weights", megabytes(found["weight_bytes"])),
        (f"KV cache, {CAPACITY} positions", megabytes(found["cache_bytes"][str(CAPACITY)])),
    ]
    for name, entry in found["entries"].items():
        counts = f"{entry['nodes']} nodes, {entry['dispatches']} dispatches, {entry['barriers']} barriers"
        rows.append((name, counts))
        for t, m in entry["memory"].items():
            size, least, most = (m[f"{key}_bytes"] for key in ("arena", "lower_bound", "without_reuse"))
            rows.append((f"  activations, T={t}", f"{size} bytes (at least {least}, without reuse {most})"))
    print_table(rows, f"{found['model']}, compiled in {found['seconds']:.2f} s")
    for name, entry in found["entries"].items() if report else ():
        passes = [(rule, f"{n['matched']} matched, {n['rejected']} rejected") for rule, n in entry["passes"].items()]
        print_table(passes, f"\npasses of {name}")
        print_table(_grouped(entry["rejections"]), f"\nleft alone in {name}")


def _grouped(rejections: list[dict[str, str]]) -> list[tuple[str, str]]:
    """(pass, why and where), the same reason once with its first node."""
    nodes: dict[tuple[str, str], list[str]] = {}
    for finding in rejections:
        nodes.setdefault((finding["pass"], finding["why"]), []).append(finding["node"])
    more = {key: f" and {len(found) - 1} more" if len(found) > 1 else "" for key, found in nodes.items()}
    return [(key[0], f"{found[0]}{more[key]}: {key[1]}") for key, found in nodes.items()]
