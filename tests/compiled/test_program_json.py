"""Programs as JSON: what is written comes back equal; what is malformed is refused, never run."""

import json
import random
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tlite_vk.compile import compile_variants
from tlite_vk.compiled.program_json import from_json, to_json
from tlite_vk.compiled.reader import CompiledFile
from tlite_vk.compiled.variants import standard_targets
from tlite_vk.errors import ModelError
from tlite_vk.expression import evaluate
from tlite_vk.program import Program
from tlite_vk.stored import Section

ENTRIES = ("decode", "prefill", "score")


@pytest.fixture(scope="module")
def program(tiny_onnx: Path) -> Program:
    return compile_variants(tiny_onnx, standard_targets()[:1], ENTRIES, positions=2048)[0]


def section(name: str) -> Section:
    return Section("file", name, np.zeros(1 << 20, np.uint8), 0)


def written(program: Program) -> bytes:
    shaders = {kernel.shader: f"spirv/{kernel.shader}" for kernel in program.kernels}
    sizes = {w.name: ["s", [1, 1, 16, [[0, 1]]]] for w in program.weights}
    return to_json(program, sizes, shaders)


def test_every_program_of_a_file_is_the_one_that_was_compiled(tiny_onnx: Path, tiny_compiled: Path) -> None:
    targets = standard_targets()
    file = CompiledFile(tiny_compiled)
    assert file.targets == targets
    for number, compiled in enumerate(compile_variants(tiny_onnx, targets, ENTRIES, positions=2048)):
        stored = file.programs(number)
        assert stored.entries.keys() == compiled.entries.keys()
        for name, entry in compiled.entries.items():
            assert _tuples(astuple(stored.entries[name])) == _tuples(astuple(entry))
        assert stored.kernels == compiled.kernels
        assert stored.weights == compiled.weights
        assert [s.name for s in stored.states] == [s.name for s in compiled.states]
        assert (stored.vocabulary, stored.window, stored.positions) == (
            compiled.vocabulary, compiled.window, compiled.positions,
        )  # fmt: skip


def _tuples(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_tuples(v) for v in value)
    return {k: _tuples(v) for k, v in value.items()} if isinstance(value, dict) else value


def test_a_program_keeps_floats_apart_from_whole_numbers(program: Program) -> None:
    read = from_json(written(program), section, lambda name: b"")
    kinds = [type(w) for d in program.entries["decode"].dispatches for w in d.push]
    assert [type(w) for d in read.entries["decode"].dispatches for w in d.push] == kinds
    assert float in kinds


def test_only_an_entry_brings_only_its_weights(program: Program) -> None:
    decode = program.only(("decode",))
    assert list(decode.entries) == ["decode"]
    names = {w.buffer for d in decode.entries["decode"].dispatches for w in d.windows}
    assert {f"weight:{w.name}" for w in decode.weights} <= names
    with pytest.raises(KeyError):
        program.only(("run",))


JUNK: tuple[Any, ...] = (-1, 1 << 60, "", "Q", None, [], {}, True, 1.5, ["floordiv", 1, 0], ["*"], [[0]])


def _places(value: Any) -> list[tuple[Any, Any]]:
    keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
    found = [(value, key) for key in keys]
    return found + [p for key in keys if isinstance(value[key], dict | list) for p in _places(value[key])]


def test_what_is_malformed_is_refused_in_one_line(program: Program) -> None:
    text, draw, refused = written(program), random.Random(5), 0
    for _ in range(300):
        data = json.loads(text)
        holder, key = draw.choice(_places(data))
        holder[key] = draw.choice(JUNK)
        try:
            read = from_json(json.dumps(data).encode(), section, lambda name: b"")
        except ModelError as error:
            assert "\n" not in str(error)
            refused += 1
            continue
        for entry in read.entries.values():  # what is let through can be evaluated
            for dispatch in entry.dispatches:
                for window in dispatch.windows:
                    window.resolve({"T": 8, "C": 64, "W": 0})
                dispatch.push_words({"T": 8, "C": 64, "W": 0})
            evaluate(entry.arena, {"T": 8, "C": 64, "W": 0})
    assert refused > 100


@pytest.mark.parametrize(
    "place", [("kernels", 0, 3), ("kernels", 0, 4), ("kernels", 0, 2, 0, 0), ("kernels", 0, 2, 0, 1), ("vocabulary",)]
)
def test_numbers_that_no_device_takes_are_refused(program: Program, place: tuple[Any, ...]) -> None:
    data = json.loads(written(program))
    holder = data
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = 1 << 40
    with pytest.raises(ModelError, match="malformed"):
        from_json(json.dumps(data).encode(), section, lambda name: b"")


def test_text_that_is_no_json_is_refused() -> None:
    for text in (b"", b"[", b"[]", b"\xff", b"[" * 100_000):
        with pytest.raises(ModelError):
            from_json(text, section, lambda name: b"")
