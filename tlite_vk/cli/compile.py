"""tlite-vk compile: does a model compile, and what becomes of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import completion, options
from .compile_file import compile_file
from .terminal import megabytes, print_columns, print_json, print_table, progress

if TYPE_CHECKING:
    from tlite_vk.compile import Compiled
    from tlite_vk.graph.ir import Graph
    from tlite_vk.program import Program

LENGTHS = (1, 64, 512)  # tokens of a step at which memory is told
CAPACITY = 2048
FILE_PANEL = "With -o"


def compile_(
    model: options.OnnxModel,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write a model.tlvk that runs on any device, without ONNX."
        ),
    ] = None,
    licence: Annotated[
        str | None, typer.Option(rich_help_panel=FILE_PANEL, help="Of the weights; default: what the ONNX file says.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(rich_help_panel=FILE_PANEL, help="Where they come from; default likewise.")
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            min=1,
            rich_help_panel=FILE_PANEL,
            help="Most positions, where the graph computes its rotary tables; default: 2048.",
        ),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Also print what each pass matched, and why it left other places alone.")
    ] = False,
    dump: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the graph after each pass into this folder, as text.")
    ] = None,
    svg: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the final graph with its kernels. Needs Graphviz's dot.")
    ] = None,
    entry: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What --svg draws: decode (default), prefill, score or run.",
            autocompletion=completion.one_of("decode", "prefill", "score", "run"),
        ),
    ] = None,
    all_layers: Annotated[
        bool, typer.Option("--all-layers", help="--svg draws every layer, not one of those that are alike.")
    ] = False,
    device: options.Device = None,
    limits: options.Limits = None,
    precision: options.Precision = options.PrecisionName.fp16,
    max_memory: options.MaxMemory = None,
    as_json: options.Json = False,
) -> None:
    """Compile a model for a device, without running it, and tell what became of it; or, with -o, for every device.

    With -o one file holds programs for every kind of device, their SPIR-V, packed weights, tokenizer and licence:
    `run`, `bench` and `eval` take it, and need no ONNX, no compiler and no waiting.

    A model that generates has the entries decode (one token), prefill (T tokens) and score (T tokens with all logits);
    any other graph has one, run. For each: nodes after fusion, dispatches, barriers, and the bytes that activations
    need, beside what no plan could undercut and the sum without reuse.
    """
    from tlite_vk.device import choose_device
    from tlite_vk.errors import InputError, ModelError
    from tlite_vk.target import Target

    if output is not None:
        if report or dump or svg or entry or all_layers or device is not None or limits is not None:
            raise InputError("-o compiles for all devices; ask what becomes of the model in a command of its own")
        compile_file(model, output, context=context, licence=licence, source=source, as_json=as_json)
        return
    if licence is not None or source is not None or context is not None:
        raise InputError("--licence, --source and --context belong to -o FILE")
    path = model / "model.onnx" if model.is_dir() else model
    if not path.is_file():
        raise ModelError(f"no such model: {path}")
    info = choose_device(device)
    started = time.perf_counter()
    with progress() as advance:
        advance("compile", 0, 0)
        dumper = _dumper(dump) if dump is not None else None
        program, seen, why = _compiled(path, Target.of(info, precision.value), dumper)
    found = _facts(program, seen) | {"model": str(path), "device": info.name, "seconds": time.perf_counter() - started}
    if why:
        found["does_not_generate"] = why
    if svg is not None:
        _draw(seen, program, entry, svg, all_layers)
    if as_json:
        print_json(found)
        return
    _print(found)
    for name, facts in found["entries"].items() if report else ():
        _print_passes(name, facts)


def _compiled(
    path: Path, target: Any, dump: Callable[[str, str, Graph], None] | None
) -> tuple[Program, list[Compiled], str]:
    """(program, its entries, why it does not generate): as one that generates, else as any graph."""
    from tlite_vk.compile import compile_model, compile_run
    from tlite_vk.errors import ModelError
    from tlite_vk.graph.errors import GraphError

    seen: list[Compiled] = []
    try:
        return compile_model(path, target, observe=seen.append, dump=dump), seen, ""
    except (GraphError, ModelError) as error:
        seen.clear()
        return compile_run(path, target, observe=seen.append, dump=dump), seen, str(error)


def _dumper(folder: Path) -> Callable[[str, str, Graph], None]:
    """Writes FOLDER/ENTRY/NN-pass.txt."""
    from tlite_vk.cache import write_atomic
    from tlite_vk.graph.dump import dump

    numbers: dict[str, int] = {}

    def write(entry: str, rule: str, graph: Graph) -> None:
        numbers[entry] = numbers.get(entry, 0) + 1
        write_atomic(folder / entry / f"{numbers[entry]:02}-{rule}.txt", dump(graph).encode())

    return write


def _draw(seen: list[Compiled], program: Program, entry: str | None, path: Path, all_layers: bool) -> None:
    from tlite_vk.cache import write_atomic
    from tlite_vk.drawing import draw
    from tlite_vk.errors import InputError

    names = [compiled.entry.name for compiled in seen]
    if entry is not None and entry not in names:
        raise InputError(f"the model has no entry {entry!r}; it has {', '.join(names)}")
    chosen = seen[names.index(entry) if entry is not None else 0]
    write_atomic(path, draw(chosen, program, all_layers=all_layers))


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
    bound = {t: compiled.lengths(t) for t in lengths}
    steps = schedule(entry.dispatches, {"T": lengths[-1], "C": CAPACITY, "W": 0, **compiled.every_length(lengths[-1])})
    return {
        "nodes": len(compiled.graph.nodes),
        "dispatches": len(entry.dispatches),
        "barriers": sum(isinstance(step, Barrier) for step in steps),
        "lengths": compiled.long,
        "fixed": dict(compiled.short),
        "memory": {
            str(t): {
                "arena_bytes": plan.bytes(values),
                "lower_bound_bytes": plan.lower_bound(values),
                "without_reuse_bytes": plan.without_reuse(values),
            }
            for t, values in bound.items()
        },
        "passes": {rule: {"matched": yes, "rejected": no} for rule, (yes, no) in passes.all_counts().items()},
        "matches": [{"pass": f.rule, "node": f.node, "what": f.detail} for f in passes.findings if f.matched],
        "rejections": [{"pass": f.rule, "node": f.node, "why": f.detail} for f in passes.rejections()],
    }


def _print(found: dict[str, Any]) -> None:
    rows = [
        ("device", found["device"]),
        ("pipelines", str(found["kernels"])),
        ("weights", megabytes(found["weight_bytes"])),
    ]
    if cache := found["cache_bytes"][str(CAPACITY)]:
        rows.append((f"KV cache, {CAPACITY} positions", megabytes(cache)))
    if why := found.get("does_not_generate"):
        rows.append(("does not generate", why))
    for name, entry in found["entries"].items():
        rows.append((name, f"{entry['nodes']} nodes, {entry['dispatches']} dispatches, {entry['barriers']} barriers"))
    print_table(rows, f"{found['model']}, compiled in {found['seconds']:.2f} s")
    print()
    fixed = {f"{name}={n}": None for e in found["entries"].values() for name, n in e["fixed"].items()}
    print_columns(
        ("entry", "T", "arena", "lower bound", "ratio", "without reuse"),
        [row for name, entry in found["entries"].items() for row in _memory_rows(name, entry)],
        f"bytes of activations{' at ' + ', '.join(fixed) if fixed else ''}",
    )


def _memory_rows(name: str, entry: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for t, memory in entry["memory"].items():
        size, least, most = (memory[f"{key}_bytes"] for key in ("arena", "lower_bound", "without_reuse"))
        rows.append((name, t, f"{size:,}", f"{least:,}", f"{size / max(least, 1):.3f}", f"{most:,}"))
    return rows


def _print_passes(name: str, entry: dict[str, Any]) -> None:
    found = {rule: n for rule, n in entry["passes"].items() if n["matched"] or n["rejected"]}
    places = _grouped(entry["matches"], "what")
    print()
    print_columns(
        ("pass", "matched", "rejected", "matched where"),
        [(rule, str(n["matched"]), str(n["rejected"]), places.get(rule, [("",)])[0][0]) for rule, n in found.items()],
        f"passes of {name}",
    )
    print("found nothing:", ", ".join(rule for rule in entry["passes"] if rule not in found) or "-")
    reasons = _grouped(entry["rejections"], "why")
    if reasons:
        print()
        rows = [(rule, *pair) for rule, pairs in reasons.items() for pair in pairs]
        print_columns(("pass", "where", "why it was left alone"), rows, f"left alone in {name}")


def _grouped(findings: list[dict[str, str]], text: str) -> dict[str, list[tuple[str, str]]]:
    """pass: (where, text), the same text once with its first node; for matches all in one."""
    nodes: dict[tuple[str, str], list[str]] = {}
    for finding in findings:
        nodes.setdefault((finding["pass"], finding[text] if text == "why" else ""), []).append(finding["node"])
    grouped: dict[str, list[tuple[str, str]]] = {}
    for (rule, why), found in nodes.items():
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        grouped.setdefault(rule, []).append((f"{found[0]}{more}", why))
    return grouped
