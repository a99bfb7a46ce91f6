#!/usr/bin/env python3
"""Fuzz the readers of files that come from strangers. Exit code 1 where an input breaks a property, 0 otherwise.

    tools/fuzz.py all --seconds 60        # every target, two at a time
    tools/fuzz.py onnx --seconds 3600     # one of them
    tools/fuzz.py onnx --input FILE       # run one input again, with a traceback

An input that breaks something is written to .fuzz/TARGET/; put it into tests/fuzz/corpus/TARGET/ once it is fixed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CORPUS, FOUND = ROOT / "tests" / "fuzz" / "corpus", ROOT / ".fuzz"
HANG = 60  # seconds of one input; times differ between machines
NAMES = ("onnx", "gguf", "tokenizer", "caches", "compiled", "shapes", "graphs")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=["all", *NAMES])
    parser.add_argument("--seconds", type=int, default=60, help="of each target")
    parser.add_argument("--jobs", type=int, default=2, help="targets at a time")
    parser.add_argument("--seed", type=int, default=0, help="the same inputs each time; 0: others")
    parser.add_argument("--input", type=Path, help="run this file only")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.input is not None:
        _run_one(options.target, options.input.read_bytes())
        return 0
    if options.child:
        _fuzz(options.target, options.seconds, options.seed)
    names = NAMES if options.target == "all" else (options.target,)
    with ThreadPoolExecutor(options.jobs) as pool:
        codes = list(pool.map(lambda name: _in_a_process(name, options.seconds, options.seed), names))
    return int(any(codes))


def _in_a_process(name: str, seconds: int, seed: int) -> int:
    """The fuzzer ends the process that it runs in. Returns its exit code; prints how it went."""
    (FOUND / name).mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, name, "--seconds", str(seconds), "--seed", str(seed), "--child"]
    environment = os.environ | ({"PYTHONHASHSEED": str(seed)} if seed else {})
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, env=environment)
    text = done.stdout.decode(errors="replace")
    lines = text.splitlines()
    runs = next((line for line in reversed(lines) if line.startswith("stat::number_of_executed_units")), "")
    if done.returncode:
        print(f"{name}: FAILED (exit code {done.returncode})\n" + "\n".join(lines[-60:]), flush=True)
    else:
        print(f"{name}: {runs.rpartition(' ')[2] or '?'} inputs in {seconds} s, nothing found", flush=True)
    return done.returncode


def _run_one(name: str, data: bytes) -> None:
    from fuzzing import guard
    from fuzzing.targets import TARGETS

    guard.install()
    _one(name, TARGETS[name], data)


def _one(name: str, target: object, data: bytes) -> None:
    from fuzzing.guard import guarded

    assert callable(target)
    with tempfile.TemporaryDirectory(prefix="tlite-fuzz-", dir=_scratch()) as folder:
        path = Path(folder)
        os.environ["TLITE_VK_CACHE"] = str(path / "cache")
        with guarded(path):
            target(data, path)


def _scratch() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _instrument() -> None:
    """Have the fuzzer see which branches of ours an input takes; imports of an editable install are not seen to."""
    import inspect

    import atheris

    for name, module in list(sys.modules.items()):
        if not name.startswith("tlite_vk.") or name.endswith("chat_sandbox"):
            continue
        classes = [c for _, c in inspect.getmembers(module, inspect.isclass) if c.__module__ == name]
        for owner in (module, *classes):
            for function in vars(owner).values():
                if inspect.isfunction(function) and function.__module__ == name:
                    atheris.instrument_func(function)  # pyright: ignore[reportAttributeAccessIssue]


def _fuzz(name: str, seconds: int, seed: int) -> None:
    import atheris
    from fuzzing import guard
    from fuzzing.targets import TARGETS

    _instrument()
    target = TARGETS[name]
    guard.install()
    guard.bound_memory()
    folders = [str(FOUND / name)] + ([str(CORPUS / name)] if (CORPUS / name).is_dir() else [])
    flags = [
        f"-max_total_time={seconds}",
        f"-timeout={HANG}",
        "-max_len=65536",
        "-print_final_stats=1",
        f"-seed={seed}",
    ]
    flags += ["-rss_limit_mb=3072", f"-artifact_prefix={FOUND / name}/"]
    atheris.Setup([sys.argv[0], *flags, *folders], lambda data: _one(name, target, data))
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
