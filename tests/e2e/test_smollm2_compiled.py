"""The real model, compiled: its size, its pipelines, its answer; and a damaged byte in the middle of its weights."""

from __future__ import annotations

from pathlib import Path

import pytest

import tlite_vk
from tlite_vk.compiled.reader import CompiledFile
from tlite_vk.convert import convert
from tlite_vk.device import Device
from tlite_vk.errors import ModelError
from tlite_vk.fetch import fetch

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smollm2")
    model = convert(fetch("smollm2-135m"), folder / "model" / "model.onnx").model
    tlite_vk.compile_to_file(model, folder / "smollm2.tlvk")
    return folder / "smollm2.tlvk"


def test_it_is_at_most_100_megabytes(path: Path) -> None:
    assert path.stat().st_size <= 100_000_000


def test_at_most_25_pipelines_on_any_device(path: Path) -> None:
    file = CompiledFile(path)
    for number in range(len(file.targets)):
        program = file.programs(number)
        for entries in (("decode", "prefill"), ("score",)):
            chosen = program.only(entries).entries.values()
            assert len({d.kernel for e in chosen for d in (*e.dispatches, *e.sampling)}) <= 25


def test_the_exact_tokens(device: Device, path: Path) -> None:
    with tlite_vk.load(path, device=device) as model:
        assert list(model.generate_tokens(QUESTION)) == [504, 3575, 282, 4649, 314, 7042, 30]
        assert "".join(model.generate(QUESTION)) == "The capital of France is Paris."


def test_a_changed_byte_is_refused(device: Device, path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(50_000_000)
        byte = file.read(1)
        file.seek(50_000_000)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(ModelError, match=r"is damaged \(weights/"):
        tlite_vk.load(path, device=device)
