"""Several rings of one engine: interleaved, copied, rewound, saved; each as if it were alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from gguf import GGMLQuantizationType as Kind
from support.gguf_models import write_llama

from tlite_vk.convert import convert
from tlite_vk.decoding import Decoder
from tlite_vk.device import Device
from tlite_vk.engine import MAX_RECORDINGS, MORE_RECORDINGS
from tlite_vk.errors import InputError
from tlite_vk.generate import Model
from tlite_vk.loading import load
from tlite_vk.ring import Ring
from tlite_vk.sampling import SamplingOptions

GREEDY = SamplingOptions()
WINDOW, CHUNK = 16, 8


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    return convert(write_llama(folder, kind=Kind.Q4_1, context=256), folder / "model.onnx").model


@pytest.fixture(scope="module")
def model(device: Device, path: Path) -> Model:
    return load(path, device=device, context=96, chunk=16)


@pytest.fixture(scope="module")
def windowed(device: Device, path: Path) -> Model:
    """Sees 16 positions; its rings have 23 rows."""
    return load(path, device=device, window=WINDOW, chunk=CHUNK)


def ids_of(seed: int, count: int) -> list[int]:
    return [int(i) for i in np.random.default_rng(seed).integers(0, 288, count)]


def alone(model: Model, ids: list[int], count: int) -> list[int]:
    """The tokens that follow `ids` in the engine's own ring."""
    return list(Decoder(model.engine).tokens(ids, count, GREEDY))


def last_logits(model: Model, ring: Ring, ids: list[int], start: int = 0) -> npt.NDArray[np.float32]:
    Decoder(model.engine, ring).prefill(ids[start:], start=start, pick=False)
    return np.array(model.engine.logits()[0])


@pytest.mark.parametrize("sampling", [GREEDY, SamplingOptions(temperature=1.0, seed=3)], ids=["greedy", "sampled"])
def test_interleaved_sequences_are_as_if_alone(model: Model, sampling: SamplingOptions) -> None:
    prompts = [ids_of(seed, count) for seed, count in ((1, 5), (2, 40), (3, 17))]
    want = [list(Decoder(model.engine).tokens(ids, 20, sampling)) for ids in prompts]
    rings = [model.engine.ring() for _ in prompts]
    steps = [Decoder(model.engine, r).steps(ids, 20, sampling) for r, ids in zip(rings, prompts, strict=True)]
    got: list[list[int]] = [[] for _ in prompts]
    running = set(range(len(prompts)))
    while running:
        for i in sorted(running):
            found = next(steps[i], None)
            if found is None:
                running.remove(i)
            else:
                got[i] += found
    assert got == want
    assert [ring.position for ring in rings] == [len(ids) + 19 for ids in prompts]  # the last token is in none
    for ring in rings:
        ring.close()


def test_a_prompt_is_read_one_chunk_a_step(model: Model) -> None:
    steps = list(Decoder(model.engine).steps(ids_of(1, 40), 1, GREEDY))
    assert [len(found) for found in steps] == [0, 0, 1]


def test_going_on_from_a_prefix_computes_only_the_rest(model: Model) -> None:
    ids, ring = ids_of(4, 50), model.engine.ring()
    whole = last_logits(model, ring, ids)
    ring.rewind(33)
    assert ring.position == 33
    seen: list[tuple[int, int]] = []
    tokens = list(Decoder(model.engine, ring).tokens(ids, 5, GREEDY, lambda *p: seen.append(p), start=33))
    assert seen == [(16, 17), (17, 17)]
    assert tokens == alone(model, ids, 5) and tokens[0] == int(whole.argmax())
    ring.close()


def test_a_copied_prefix(model: Model) -> None:
    prefix, source, ring = ids_of(5, 30), model.engine.ring(), model.engine.ring()
    last_logits(model, source, prefix + ids_of(6, 9))
    ring.fill(0x7FC07FC0)  # NaN as a float and as two halves: nothing but the copy may be read
    ring.copy(source, 30)
    assert (ring.position, ring.lowest) == (30, 0)
    ids = prefix + ids_of(7, 9)
    got = last_logits(model, ring, ids, start=30)
    want = last_logits(model, model.engine.main, ids)
    np.testing.assert_allclose(got, want, atol=2e-2)  # chunks are cut elsewhere; the cache has halves
    source.close()
    assert list(Decoder(model.engine, ring).tokens(ids, 4, GREEDY, start=30)) == alone(model, ids, 4)
    ring.close()


def test_saved_and_restored(model: Model) -> None:
    ids, ring = ids_of(8, 37), model.engine.ring()
    last_logits(model, ring, ids)
    rows = ring.save(36)
    assert sum(array.nbytes for array in rows.values()) == 36 * ring.row_bytes
    ring.fill(0x7FC07FC0)
    ring.restore(rows, 36, 0)
    assert list(Decoder(model.engine, ring).tokens(ids, 6, GREEDY, start=36)) == alone(model, ids, 6)
    assert all(array.size == 0 for array in ring.save(0).values())
    name = next(iter(rows))
    for damaged in ({}, rows | {name: rows[name][:-1]}, rows | {name: rows[name][:, :-1]}):
        with pytest.raises(InputError, match="does not fit this model's"):
            ring.restore(damaged, 36, 0)
    with pytest.raises(InputError, match="does not fit"):
        ring.restore(rows, 37, 0)
    ring.close()


def test_how_far_a_wrapped_ring_goes_back(windowed: Model) -> None:
    """A chunk's length is the difference between the rows and the window: so far, and no further."""
    ids, ring = ids_of(9, 60), windowed.engine.ring()
    last_logits(windowed, ring, ids)
    assert (ring.position, ring.lowest, ring.capacity) == (60, 37, WINDOW + CHUNK - 1)
    assert ring.holds(0) and ring.holds(60) and ring.holds(60 - CHUNK) and not ring.holds(60 - CHUNK - 1)
    other = windowed.engine.ring()
    with pytest.raises(InputError, match="not in the ring any more"):
        other.copy(ring, 51)
    other.copy(ring, 52)
    ring.rewind(52)
    rows = ring.save(52)
    want = last_logits(windowed, windowed.engine.main, ids)
    for again in (ring, other):
        np.testing.assert_allclose(last_logits(windowed, again, ids, start=52), want, atol=2e-2)
    other.fill(0)
    other.restore(rows, 52, 37)
    np.testing.assert_allclose(last_logits(windowed, other, ids, start=52), want, atol=2e-2)
    ring.rewind(0)
    assert (ring.position, ring.lowest) == (0, 0)
    ring.close()
    other.close()


def test_memory_and_recordings_go_with_a_ring(model: Model) -> None:
    engine, before = model.engine, model.device.memory_used
    rings = [engine.ring() for _ in range(3)]
    assert model.device.memory_used - before == sum(ring.nbytes for ring in rings)
    assert rings[0].nbytes > 96 * rings[0].row_bytes
    for ring in rings:
        for count in range(1, 17):
            last_logits(model, ring, ids_of(1, count))
            last_logits(model, ring, ids_of(1, 96))
            list(Decoder(engine, ring).tokens(ids_of(1, count), 2, GREEDY))
    assert len(engine._recordings) <= MAX_RECORDINGS + 3 * MORE_RECORDINGS
    for ring in rings:
        ring.close()
        ring.close()
    assert model.device.memory_used == before
    assert len({key for key, _ in engine._recordings}) <= 1
