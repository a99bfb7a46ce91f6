"""The random choice on the device against its twin in numpy: the same token, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from tlite_vk import spirv
from tlite_vk.device import Buffer, Device, Pipeline
from tlite_vk.host_sampler import Sampler
from tlite_vk.kernels.norm import PICKED
from tlite_vk.kernels.sampling import PHASES, sampling_buffers
from tlite_vk.sampling import SamplingOptions

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
