"""Programs in which one idea is taken back: INT4 instead of E0M4, a past that is copied instead of a ring.

They are plain data, so each is another Program; nothing in the compiler or the engine knows of it. Without fusion, and
without shared memory, a model is compiled anew: `Target.fuse`, `Target.reuse`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tlite_vk.decoding import Decoder
from tlite_vk.engine import Engine, Variant
from tlite_vk.errors import InputError
from tlite_vk.expression import evaluate
from tlite_vk.program import Dispatch, Entry, Kernel, Program, State, Window
from tlite_vk.step import STEP_BYTES
from tlite_vk.target import Target

ODD = ".odd"
"""What the second of two entries is called, which reads what the first one writes."""
OTHER = ".other"
"""What the second of two caches is called."""
GROUPS, CPU_GROUPS = 1024, 32
"""Workgroups of a copy: enough for any device's bandwidth, few enough to cost nothing where the past is short."""
_CAPACITY = 1 << 12  # at which the bytes of a row are read from a state's size


def int4(program: Program) -> Program:
    """The same with kernels that unpack 4-bit weights as usual: to an integer, to a float, minus the zero point, times
    the step. The layout of the weights stays.

    Raises InputError where the model has no such weights.
    """
    kernels = tuple(replace(k, shader=int4_shader(k.shader)) for k in program.kernels)
    if kernels == program.kernels:
        raise InputError("the model has no products with 4-bit weights whose steps are halves; leave out int4")
    return replace(program, kernels=kernels)


def int4_shader(shader: str) -> str:
    known = shader.startswith("linear_") and any(f"_e0m4_{form}" in shader for form in ("affine", "symmetric"))
    return shader.replace("_e0m4_", "_int4_") if known else shader


def copied_past(program: Program, target: Target) -> Program:
    """The same with two caches for each one: a step copies all cached rows from one to the other, adds its own there
    and attends to it, as graphs do whose caches are inputs and longer outputs.

    Each entry comes twice; steps take turns (see `Alternating`).
    """
    texel = target.texel
    kernel = Kernel(
        "concat_past_t" if texel else "concat_past",
        ("texel_rgba32ui" if texel else "storage", "storage", "storage"),
        ((0, target.lanes if target.cpu else min(256, target.max_invocations)),),
        8,
    )
    groups = CPU_GROUPS if target.cpu else GROUPS
    entries: dict[str, Entry] = {}
    for name, entry in program.entries.items():
        entries[name] = _with_copies(program, entry, groups, "", OTHER)
        entries[name + ODD] = replace(_with_copies(program, entry, groups, OTHER, ""), name=name + ODD)
    states = [State(s.name + suffix, s.size) for suffix in ("", OTHER) for s in program.states]
    return replace(program, kernels=(*program.kernels, kernel), entries=entries, states=tuple(states))


def _with_copies(program: Program, entry: Entry, groups: int, past: str, present: str) -> Entry:
    """The entry over caches whose names end in `present`, each copied before the first dispatch that touches it."""
    sizes = {f"state:{s.name}": s for s in program.states}
    made: list[Dispatch] = []
    where: list[int] = []  # of each dispatch of the entry
    copied: set[str] = set()
    for dispatch in entry.dispatches:
        for name in dict.fromkeys(w.buffer for w in dispatch.windows if w.buffer in sizes):
            if name not in copied:
                copied.add(name)
                made.append(_copy(len(program.kernels), groups, sizes[name], name + past, name + present))
        where.append(len(made))
        windows = (replace(w, buffer=w.buffer + present) if w.buffer in sizes else w for w in dispatch.windows)
        made.append(replace(dispatch, windows=tuple(windows)))
    where.append(len(made))
    return replace(entry, dispatches=tuple(made), head=where[entry.head], pick=where[entry.pick])


def _copy(kernel: int, groups: int, state: State, past: str, present: str) -> Dispatch:
    row = evaluate(state.size, {"C": _CAPACITY, "T": 1, "W": 0}) // _CAPACITY
    windows = (
        Window(past, 0, state.size, "read"),
        Window(present, 0, state.size, "write"),
        Window("step", 0, STEP_BYTES, "read"),
    )
    return Dispatch(kernel, windows, (groups, 1, 1), (row // 16, "C"), f"{state.name}.concat")


class Alternating(Decoder):
    """Steps of a Program of `copied_past`: each reads the caches that the one before wrote."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._odd = False

    def chunks(self, count: int, pick: bool = True, sample: bool = False) -> Iterator[tuple[range, Variant]]:
        for part, variant in super().chunks(count, pick, sample):
            yield part, replace(variant, entry=variant.entry + (ODD if self._odd else ""))
            self._odd = not self._odd
