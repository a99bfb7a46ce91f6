"""Nothing grows faster than attention must, by what a Program says it does: dispatches, barriers, workgroups, bytes,
multiply-adds and memory at many lengths, exactly. No device, no clock: `bench --sweep` measures the same in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType as Kind
from support.gguf_models import write_llama

from tlite_vk.binding import present
from tlite_vk.compile import compile_model
from tlite_vk.convert import convert
from tlite_vk.expression import evaluate
from tlite_vk.hazards import schedule
from tlite_vk.program import Dispatch, Program
from tlite_vk.target import Target
from tlite_vk.workload import Lengths, Workload

CACHED = (128, 256, 512, 1024, 2048, 4096, 8192)
TOKENS = (64, 128, 256, 512, 1024, 2048, 4096)
LAYERS, WIDTH, ROW = 3, 4 * 16, 2 * 2 * 16 * 2  # heads times their size; bytes of a layer's keys and values, in halves
CAPACITY = 8192

CPU = Target(
    name="cpu", cpu=True, lanes=8, texel=True, max_texel_elements=1 << 27, max_storage_range=1 << 27,
    max_storage_buffers=16, max_shared_bytes=32768, max_invocations=1024, alignment=64, half_cache=True,
)  # fmt: skip
GPU = replace(CPU, name="gpu", cpu=False, lanes=32, texel=False, half=True)
TARGETS = (CPU, GPU, replace(GPU, matrix=True, subgroup=32, max_subgroups=32))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("growth")
    source = write_llama(folder, kind=Kind.Q4_0, embedding=Kind.Q8_0, layers=LAYERS, context=CAPACITY)
    return convert(source, folder / "model.onnx").model


@pytest.fixture(scope="module", params=TARGETS, ids=["cpu", "gpu", "gpu with matrices"])
def program(request: pytest.FixtureRequest, model: Path) -> Program:
    return compile_model(model, request.param, ("decode", "prefill"))


def symbols(tokens: int, capacity: int = CAPACITY) -> dict[str, int]:
    return {"T": tokens, "C": capacity, "W": 0}


def is_attention(program: Program, dispatch: Dispatch) -> bool:
    return program.kernels[dispatch.kernel].shader.startswith("attention")


def groups(dispatch: Dispatch, at: dict[str, int]) -> int:
    x, y, z = (evaluate(g, at) for g in dispatch.groups)
    return x * y * z


def no_more_than_doubles(values: Sequence[int]) -> bool:
    """Of lengths that double."""
    return all(b <= 2 * a for a, b in pairwise(values))


def test_dispatches_and_barriers_are_as_many_at_any_length(program: Program) -> None:
    for name, lengths in (("decode", [1]), ("prefill", TOKENS)):
        dispatches = program.entries[name].dispatches
        for tokens in lengths:
            found = {
                (len(present(dispatches, at)), len(schedule(present(dispatches, at), at)))
                for at in (symbols(tokens, capacity) for capacity in CACHED)
            }
            assert len(found) == 1 and found.pop()[0] == len(dispatches)
        counts = {len(schedule(dispatches, symbols(n))) for n in lengths}
        assert len(counts) == 1, f"barriers of {name} depend on the length: {counts}"


def test_a_decode_step_grows_by_the_cached_rows_that_attention_reads(program: Program) -> None:
    work, steps = Workload(program), [Lengths(symbols(1), position, 1) for position in CACHED]
    attentions = [d for d in program.entries["decode"].dispatches if is_attention(program, d)]
    assert len(attentions) == LAYERS
    for d in program.entries["decode"].dispatches:
        moved = [work.bytes_of(d, at) for at in steps]
        multiplied = [work.multiply_adds_of(d, at, 1) for at in steps]
        if d in attentions:
            assert [b - a for a, b in pairwise(moved)] == [ROW * (q - p) for p, q in pairwise(CACHED)]
            assert multiplied == [2 * WIDTH * (position + 1) for position in CACHED]
        else:
            assert len(set(moved)) == len(set(multiplied)) == 1, d.label
        assert len({groups(d, symbols(1, capacity)) for capacity in CACHED}) == 1, d.label


def test_a_prompt_grows_linearly_but_for_what_attention_multiplies(program: Program) -> None:
    """In steps of one chunk each and as a whole: T rows of everything, T (T + 1) / 2 pairs of attention."""
    work = Workload(program)
    entry = program.entries["prefill"]
    for i, d in enumerate(entry.dispatches):
        steps = [Lengths(symbols(tokens), 0, tokens) for tokens in TOKENS]
        assert no_more_than_doubles([work.bytes_of(d, at) for at in steps]), d.label
        assert no_more_than_doubles([groups(d, at.symbols) for at in steps]), d.label
        multiplied = [work.multiply_adds_of(d, at, 1 if i >= entry.head else at.count) for at in steps]
        if is_attention(program, d):
            # The last layer's is over all rows: it comes before the last row is taken.
            assert multiplied == [WIDTH * n * (n + 1) for n in TOKENS], d.label
        elif i >= entry.head:
            assert len(set(multiplied)) == 1, d.label
        else:
            assert multiplied == [multiplied[0] * n // TOKENS[0] for n in TOKENS], d.label
    totals = [work.prefill_multiply_adds(tokens) for tokens in TOKENS]
    rest = [total - LAYERS * WIDTH * n * (n + 1) for total, n in zip(totals, TOKENS, strict=True)]
    per_token = (rest[1] - rest[0]) // (TOKENS[1] - TOKENS[0])
    assert [b - a for a, b in pairwise(rest)] == [per_token * (q - p) for p, q in pairwise(TOKENS)]


def test_chunks_behind_more_and_more_cached_ones_grow_by_what_attention_reads(program: Program) -> None:
    work, chunk = Workload(program), 128
    steps = [Lengths(symbols(chunk), position, chunk) for position in range(0, 4096, chunk)]
    for d in program.entries["prefill"].dispatches:
        moved = [b - a for a, b in pairwise([work.bytes_of(d, at) for at in steps])]
        multiplied = [b - a for a, b in pairwise([work.multiply_adds_of(d, at, chunk) for at in steps])]
        if is_attention(program, d):
            assert set(moved) == {ROW * chunk} and set(multiplied) == {2 * WIDTH * chunk * chunk}, d.label
        else:
            assert set(moved) == set(multiplied) == {0}, d.label


def test_memory_grows_with_what_it_holds(program: Program) -> None:
    """The ring by its rows; activations with the tokens of a step, whatever is cached; those of a decode step never."""
    for state in program.states:
        assert {evaluate(state.size, symbols(t, c)) / c for c in CACHED for t in TOKENS} == {ROW / 2}
    for name, entry in program.entries.items():
        arenas = [evaluate(entry.arena, symbols(tokens)) for tokens in TOKENS]
        assert [{evaluate(entry.arena, symbols(t, c)) for c in CACHED} for t in TOKENS] == [{a} for a in arenas]
        assert no_more_than_doubles(arenas)
        assert name != "decode" or len(set(arenas)) == 1
    for size in program.inputs.values():
        assert no_more_than_doubles([evaluate(size, symbols(tokens)) for tokens in TOKENS])


def test_what_grows_faster_would_be_seen(program: Program) -> None:
    square = ["*", "T", "T"]
    entry = program.entries["prefill"]
    first = replace(entry.dispatches[0], groups=(square, 1, 1))
    many = replace(entry, dispatches=(first, *entry.dispatches[1:]))
    for changed, check in (
        (replace(entry, arena=square), test_memory_grows_with_what_it_holds),
        (many, test_a_prompt_grows_linearly_but_for_what_attention_multiplies),
    ):
        with pytest.raises(AssertionError):
            check(replace(program, entries={**program.entries, "prefill": changed}))
