"""An ONNX model on a device by way of the cache: what was compiled before is opened, else it is compiled and kept.

A cached file that is damaged, or of other sources than those at hand, is made anew without a word. A warm start imports
nothing of the compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from .compiled import store
from .compiled.reader import CompiledFile
from .engine import Engine
from .errors import ModelError
from .program import Program
from .target import Target


def engine_of(
    path: Path,
    target: Target,
    entries: Sequence[str],
    positions: int | None,
    make: Callable[[Program, Target], Engine],
) -> Engine:
    """positions: how far computed rotary tables must reach; None: as far as a window may take a sequence.

    make: binds a program to the device and uploads its weights. Raises what it raises, and what compiling raises.
    """
    name = store.key(path, target, entries, positions)
    engine = _from_cache(store.find(name, path), target, entries, make)
    if engine is not None:
        return engine
    from .compile import compile_model
    from .graph.passes.ring_attention import LONG

    made_from = store.sources(path)  # now: whatever changes from here on may or may not be in the program
    program = compile_model(path, target, tuple(entries), positions=LONG if positions is None else positions)
    engine = _from_cache(store.keep(name, path, made_from, target, program), target, entries, make)
    return make(program, target) if engine is None else engine


def _from_cache(
    file: CompiledFile | None, target: Target, entries: Sequence[str], make: Callable[[Program, Target], Engine]
) -> Engine | None:
    """None without a file, and where it is damaged: it is removed."""
    if file is None:
        return None
    try:
        return make(*file.program(target, entries))
    except ModelError:
        store.discard(file.path)
        return None
