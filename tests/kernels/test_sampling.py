"""The random choice on the device against its twin in numpy: the same token, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tlite_vk import spirv
from tlite_vk.device import Buffer, Device, Pipeline
from tlite_vk.errors import ModelError
from tlite_vk.host_sampler import Sampler
from tlite_vk.kernels.sampling import PHASES, sampling_buffers
from tlite_vk.sampling import SamplingOptions
from tlite_vk.step import PICKED

Floats = npt.NDArray[np.float32]
NOT_A_TOKEN = 0xFFFFFFFF


class OnDevice:
    """shaders/sample.comp over logits of one size, in `groups` workgroups of `lanes` invocations."""

    def __init__(self, device: Device, rows: int, lanes: int, groups: int) -> None:
        self.rows, self.groups = rows, groups
        sizes = {"logits": 4 * rows, "ids": 4, "picked": 4 * PICKED, "step": 16} | sampling_buffers(rows)
        sizes["tickets"] = 4
        self._sizes = sizes
        self._buffers: dict[str, Buffer] = {name: device.buffer(max(256, size)) for name, size in sizes.items()}
        self._buffers["tickets"].write(np.zeros(64, np.uint32))
        self._buffers["sampler"].write(np.full(sizes["sampler"] // 4, 0xA5A5A5A5, np.uint32))
        self._recording = device.recording()
        pipeline = self._pipeline(device, lanes)
        windows = [(self._buffers[name], 0, size) for name, size in sizes.items()]
        for phase in range(len(PHASES)):
            self._recording.barrier()
            push = np.array([rows, PICKED, phase], np.uint32).tobytes()
            self._recording.dispatch(pipeline, windows, (groups, 1, 1), push)
        self._recording.end()

    @staticmethod
    def _pipeline(device: Device, lanes: int, made: dict[tuple[int, int], tuple[Device, Pipeline]] = {}) -> Pipeline:  # noqa: B006
        if (id(device), lanes) not in made:
            pipeline = device.pipeline(spirv.load("sample"), ["storage"] * 7, specialization={0: lanes}, push_bytes=12)
            made[id(device), lanes] = (device, pipeline)
        return made[id(device), lanes][1]

    def begin(self, sampler: Sampler, seen: Sequence[int] = ()) -> None:
        self._buffers["sampling"].write(sampler.settings.words(seen, self.rows))
        self._buffers["step"].write(np.array([10, 3, 0, 0], np.uint32))

    def __call__(self, logits: Floats) -> int:
        """The next token's id; fails unless it is passed on in every way."""
        before = self._words("step")
        self._buffers["logits"].write(logits.astype(np.float32))
        self._recording.run()
        token, number = int(self._words("ids")[0]), int(before[2])
        assert int(self._words("picked")[number % PICKED]) == token
        assert self._words("step").tolist() == [before[0] + before[1], 1, number + 1, 0]
        assert not self._words("tickets").any()
        assert token == NOT_A_TOKEN or self._words("sampling")[8 + token // 32] >> (token % 32) & 1
        return token

    def many(self, logits: Floats, count: int) -> list[int]:
        """Tokens drawn in one submission."""
        self._buffers["logits"].write(logits.astype(np.float32))
        self._recording.run(count)
        return [int(i) for i in self._words("picked")[:count]]

    def _words(self, name: str) -> npt.NDArray[np.uint32]:
        return self._buffers[name].read(self._sizes[name]).view(np.uint32)


def check(device: Device, logits: Floats, options: SamplingOptions, lanes: int, groups: int, draws: int = 4) -> None:
    """Fail unless device and twin draw the same tokens, one after the other, each of which is then seen."""
    twin, seen = Sampler(options), [int(i) for i in range(0, len(logits), 3)]
    on_device = OnDevice(device, len(logits), lanes, groups)
    on_device.begin(twin, seen)
    for _ in range(draws):
        token = on_device(logits)
        assert token == twin(logits, seen)
        seen.append(token)


GRIDS = [(4, 1), (5, 3), (64, 2), (128, 7)]


@settings(max_examples=60)
@given(
    data=st.data(),
    rows=st.integers(1, 700),
    spread=st.sampled_from([0.0, 0.01, 1.0, 4.0, 40.0]),
    steps=st.sampled_from([0, 2, 64]),
    top_k=st.sampled_from([0, 1, 2, 5, 40, 257, 700]),
    top_p=st.sampled_from([1.0, 0.95, 0.5, 1e-9]),
    temperature=st.sampled_from([0.0, 1e-30, 0.3, 1.0, 7.0, 1e30]),
    penalty=st.sampled_from([1.0, 1.3, 0.5]),
    grid=st.sampled_from(GRIDS),
)
def test_the_device_draws_what_its_twin_draws(
    any_device: Device,
    data: st.DataObject,
    rows: int,
    spread: float,
    steps: int,
    top_k: int,
    top_p: float,
    temperature: float,
    penalty: float,
    grid: tuple[int, int],
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    logits = (spread * rng.standard_normal(rows) + rng.uniform(-30, 30)).astype(np.float32)
    if steps:
        logits = (np.round(logits * steps) / steps).astype(np.float32)  # many equal ones
    logits[rng.random(rows) < 0.1] = -np.inf
    logits[rng.integers(rows)] = 1.0
    options = SamplingOptions(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        repetition_penalty=penalty,
        seed=data.draw(st.integers(0, 2**64 - 1)),
    )
    check(any_device, logits, options, *grid)


@pytest.mark.parametrize("rows", [1, 2, 3, 63, 257, 6000])
@pytest.mark.parametrize(
    ("top_k", "top_p"), [(0, 1.0), (1, 1.0), (2, 1.0), (5000, 0.9), (0, 0.25), (0, 1e-9), (9999, 1.0)]
)
def test_equal_logits(any_device: Device, rows: int, top_k: int, top_p: float) -> None:
    options = SamplingOptions(temperature=0.7, top_k=top_k, top_p=top_p, seed=rows)
    for value in (0.0, -0.0, -1e38):
        check(any_device, np.full(rows, value, np.float32), options, 16, 3, draws=2)


@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (40, 0.95), (0, 0.95), (100_000, 0.999)])
@pytest.mark.parametrize(("rows", "spread"), [(49_152, 3.0), (151_937, 0.3), (262_144, 0.0)])
def test_real_vocabularies(device: Device, rows: int, spread: float, top_k: int, top_p: float) -> None:
    logits = (spread * np.random.default_rng(rows).standard_normal(rows)).astype(np.float32)
    options = SamplingOptions(temperature=0.8, top_k=top_k, top_p=top_p, repetition_penalty=1.1, seed=1)
    check(device, logits, options, 64, 64, draws=2)


@pytest.mark.parametrize("bad", [[0.0, np.nan, 1.0], [np.inf, 0.0], [-np.inf, -np.inf], [np.nan] * 5])
@pytest.mark.parametrize(
    "options", [SamplingOptions(temperature=1.0, top_k=1, top_p=0.5), SamplingOptions(temperature=1.0)]
)
def test_logits_that_are_not_finite_are_reported(
    any_device: Device, bad: list[float], options: SamplingOptions
) -> None:
    sampler, logits = Sampler(options), np.array(bad, np.float32)
    on_device = OnDevice(any_device, len(bad), 4, 2)
    on_device.begin(sampler)
    assert on_device(logits) == NOT_A_TOKEN
    with pytest.raises(ModelError, match="not finite"):
        sampler(logits)
    assert on_device(np.zeros(len(bad), np.float32)) < len(bad)  # nothing is left behind


def test_draws_follow_the_distribution(any_device: Device) -> None:
    """Chi-square over 4000 draws against the probabilities by definition, in float64. The seed is fixed."""
    logits = np.log(np.array([0.05, 0.3, 0.02, 0.2, 0.25, 0.08, 0.1]))
    kept, temperature = [1, 4, 3, 6], 1.5  # top-k 5 leaves 0.93 of the mass; 0.85 of it are the first four
    weights = np.exp(logits[kept] / temperature)
    expected = 4000 * weights / weights.sum()
    on_device = OnDevice(any_device, len(logits), 4, 2)
    found: list[int] = []
    for seed in range(4):
        on_device.begin(Sampler(SamplingOptions(temperature=temperature, top_k=5, top_p=0.85, seed=seed)))
        found += on_device.many(logits, 1000)
    drawn = np.bincount(found, minlength=len(logits))
    assert drawn.sum() == drawn[kept].sum()
    assert ((drawn[kept] - expected) ** 2 / expected).sum() < 16.27  # 3 degrees of freedom: p = 0.001
