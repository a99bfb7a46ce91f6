#!/usr/bin/env python3
"""Compare tlite-vk with llama.cpp's Vulkan backend: same weights, same device, taking turns in one run.

    mkdir peer && cd peer
    pip download --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux_2_35_x86_64 \\
        cyllama-vulkan==0.7.0
    unzip -q cyllama_vulkan-*.whl                    # cyllama_vulkan.libs holds libllama, libggml*, libggml-vulkan
    tools/compare_llama_cpp.py --libdir peer/cyllama_vulkan.libs --bench-script SCRIPT --gguf MODEL.gguf --peer-device 0

SCRIPT is any program that measures what llama-bench does through the libraries of a folder. It is called as
    SCRIPT LIBDIR MODEL.gguf --pp N --tg N -r 1 -t THREADS [--device INDEX]
and prints as its last line one JSON object with "devices" and "results": [{"test": "pp128", "reps_ms": [12.3]}, ...].

Both sides: random tokens, an untimed warm-up, logits of the last token only, a synchronization after every token. One
repetition each per round; the order changes from round to round; the figures are medians of the rounds. "generate" is
our greedy generation, which chooses tokens on the device and sends several at once, against the peer's decode.
Other work on the machine does not fall on both sides alike: "other cores" says how much there was. Compare when idle.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import onnx

METRICS = ("prefill", "decode", "generate")
Figures = dict[str, float]


def arguments() -> argparse.Namespace:
    """The command line."""
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--libdir", type=Path, required=True, help="folder of the peer's shared libraries")
    parser.add_argument("--bench-script", type=Path, required=True, help="the program that measures the peer")
    parser.add_argument("--gguf", type=Path, required=True, help="the model, for both sides")
    parser.add_argument("--model", type=Path, help="the same as ONNX; by default converted into a temporary folder")
    parser.add_argument("--prompt", type=int, default=128, help="tokens (default 128)")
    parser.add_argument("--gen", type=int, default=32, help="tokens (default 32)")
    parser.add_argument("--rounds", type=int, default=5, help="repetitions (default 5)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="host threads of the peer")
    parser.add_argument("--device", help="our device: an index or a part of its name")
    parser.add_argument("--peer-device", help="the peer's device; 0 for a CPU driver, which it skips otherwise")
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    chosen = parser.parse_args()
    for path in (chosen.libdir, chosen.bench_script, chosen.gguf, chosen.model):
        if path is not None and not path.exists():
            parser.error(f"no such file or folder: {path}")
    if min(chosen.prompt, chosen.gen - 1, chosen.rounds) < 1:
        parser.error("--prompt and --rounds must be at least 1, --gen at least 2")
    return chosen


def last_json(command: list[str]) -> dict[str, Any]:
    """Run a command; its last line of output, parsed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        sys.exit(f"{' '.join(command)}\nfailed with code {done.returncode}:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def same_weights(model: Path, gguf: Path) -> None:
    """End the program unless the ONNX file was converted from this very GGUF file."""
    file = model / "model.onnx" if model.is_dir() else model
    facts = {item.key: item.value for item in onnx.load(str(file), load_external_data=False).metadata_props}
    with gguf.open("rb") as source:
        digest = hashlib.file_digest(source, "sha256").hexdigest()
    if facts.get("source_sha256") != digest:
        sys.exit(f"{file} was not converted from {gguf}; convert it again, or leave out --model")


def measure_peer(chosen: argparse.Namespace) -> tuple[Figures, str]:
    """One repetition of the peer: tokens per second, and its device."""
    command = [sys.executable, str(chosen.bench_script), str(chosen.libdir), str(chosen.gguf)]
    command += ["--pp", str(chosen.prompt), "--tg", str(chosen.gen), "-r", "1", "-t", str(chosen.threads)]
    found = last_json(command + (["--device", chosen.peer_device] if chosen.peer_device else []))
    seconds = {result["test"][:2]: result["reps_ms"][0] / 1e3 for result in found["results"]}
    decode = chosen.gen / seconds["tg"]
    devices = ", ".join(" ".join(device) for device in found["devices"])
    return {"prefill": chosen.prompt / seconds["pp"], "decode": decode, "generate": decode}, devices


def measure_ours(chosen: argparse.Namespace, model: Path) -> tuple[Figures, str]:
    """One repetition of ours: tokens per second, and its device."""
    command = [sys.executable, "-m", "tlite_vk", "bench", str(model), "--json", "--repeat", "1"]
    command += ["--prompt", str(chosen.prompt), "--gen", str(chosen.gen)]
    found = last_json(command + (["--device", chosen.device] if chosen.device else []))
    return {name: found[f"{name}_tokens_per_s"] for name in METRICS}, f"{found['device']}, {found['driver']}"


def busy_seconds() -> tuple[float, float]:
    """CPU seconds so far: of the whole machine (Linux; 0 elsewhere), and of our finished child processes."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]
    except OSError:
        return 0.0, 0.0
    ticks = [int(field) for field in fields]
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    machine = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")  # all but idle and waiting
    return machine, children.ru_utime + children.ru_stime


def measured(chosen: argparse.Namespace, model: Path, side: str) -> tuple[Figures, str]:
    """One repetition of a side, with the cores that other work kept busy meanwhile, as other_cores."""
    started, (machine, own) = time.perf_counter(), busy_seconds()
    figures, device = measure_peer(chosen) if side == "peer" else measure_ours(chosen, model)
    seconds, (machine_after, own_after) = time.perf_counter() - started, busy_seconds()
    others = max(0.0, machine_after - machine - (own_after - own)) / seconds
    return figures | {"other_cores": round(others, 2)}, device


def compare(chosen: argparse.Namespace, model: Path) -> dict[str, Any]:
    """All rounds, and the ratios of the medians."""
    rounds: dict[str, list[Figures]] = {"ours": [], "peer": []}
    devices: dict[str, str] = {}
    for number in range(chosen.rounds):
        for side in ("peer", "ours") if number % 2 == 0 else ("ours", "peer"):
            figures, devices[side] = measured(chosen, model, side)
            rounds[side].append(figures)
            text = ", ".join(f"{name} {figures[name]:.2f}" for name in METRICS)
            others = f"other cores {figures['other_cores']}"
            print(f"round {number + 1} {side}: {text} tokens/s ({others})", file=sys.stderr, flush=True)
    medians = {side: {name: median(f[name] for f in found) for name in METRICS} for side, found in rounds.items()}
    return {
        "ratios": {name: medians["ours"][name] / medians["peer"][name] for name in METRICS},
        "medians": medians,
        "other_cores": max(figures["other_cores"] for found in rounds.values() for figures in found),
        "rounds": rounds,
        "devices": devices,
        "prompt": chosen.prompt,
        "gen": chosen.gen,
        "environment": {k: v for k, v in os.environ.items() if k.startswith(("VK_", "LP_", "GGML_VK"))},
    }


def main() -> None:
    """Compare and print."""
    chosen = arguments()
    with tempfile.TemporaryDirectory() as folder:
        model = chosen.model or Path(folder) / "model.onnx"
        if chosen.model is None:
            last = [sys.executable, "-m", "tlite_vk", "convert", str(chosen.gguf), "-o", str(model), "--json"]
            last_json(last)
        same_weights(model, chosen.gguf)
        found = compare(chosen, model)
    if chosen.json:
        print(json.dumps(found))
        return
    for side, device in found["devices"].items():
        print(f"{side}: {device}")
    print(f"other work on the machine: up to {found['other_cores']} cores")
    for name in METRICS:
        ours, peer = (found["medians"][side][name] for side in ("ours", "peer"))
        print(f"{name:9} ours {ours:9.2f}  peer {peer:9.2f} tokens/s  ratio {found['ratios'][name]:.2f}")


if __name__ == "__main__":
    main()
