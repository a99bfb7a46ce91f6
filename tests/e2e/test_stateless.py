"""Converted models through a Session, caches in and caches out, against onnxruntime on the same file."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from gguf import GGMLQuantizationType as Kind
from support.gguf_models import write_llama

from tlite_vk.convert import convert
from tlite_vk.device import Device
from tlite_vk.fetch import fetch
from tlite_vk.session import Session

Arrays = dict[str, npt.NDArray[Any]]


class Pair:
    """Our session and onnxruntime's, each fed with its own caches; `step` compares what they give."""

    def __init__(self, path: Path, device: Device, batch: int, capacity: int) -> None:
        self.ours = Session(path, device)
        self.theirs = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.names = [value.name for value in self.theirs.get_outputs()]
        caches = {
            value.name: np.zeros((batch, capacity, value.shape[2]), np.float32)
            for value in self.theirs.get_inputs()
            if value.name.startswith("past_key_values.")
        }
        self.caches = [caches, caches]

    def step(self, ids: npt.NDArray[np.int64], start: npt.NDArray[np.int64], tolerance: float) -> None:
        """ids [B, T] at the positions from start [B] on."""
        count = ids.shape[1]
        common: Arrays = {
            "input_ids": ids,
            "position_ids": start[:, None] + np.arange(count),
            "write_indices": start,
            "nonpad_kv_seqlen": start + count,
        }
        got = self.ours.run(common | self.caches[0])
        want = dict(zip(self.names, self.theirs.run(None, common | self.caches[1]), strict=True))
        assert list(got) == self.names
        for name in self.names:
            assert np.abs(got[name] - want[name]).max() <= tolerance, name
        self.caches = [
            {k.replace("present.", "past_key_values."): np.asarray(v) for k, v in outputs.items() if k != "logits"}
            for outputs in (got, want)
        ]


@pytest.mark.parametrize("kind", [Kind.F32, Kind.F16, Kind.Q8_0, Kind.Q4_1], ids=lambda k: k.name)
def test_small_models_of_every_storage(device: Device, tmp_path: Path, kind: Kind) -> None:
    source = write_llama(tmp_path, kind=kind)
    pair = Pair(convert(source, tmp_path / "model" / "model.onnx").model, device, batch=2, capacity=16)
    ids = np.random.default_rng(3).integers(0, 288, (2, 8))
    pair.step(ids[:, :5], np.array([0, 0]), 2e-3)
    pair.step(ids[:, 5:6], np.array([5, 5]), 2e-3)
    pair.step(ids[:, 6:8], np.array([6, 3]), 2e-3)  # the second sequence goes back and overwrites


def test_smollm2(device: Device, tmp_path: Path) -> None:
    path = convert(fetch("smollm2-135m"), tmp_path / "model.onnx").model
    pair = Pair(path, device, batch=1, capacity=32)
    pair.step(np.array([[504, 3575, 282, 4649, 314]]), np.array([0]), 1e-3)
    pair.step(np.array([[7042]]), np.array([5]), 1e-3)
    pair.step(np.array([[30]]), np.array([6]), 1e-3)
