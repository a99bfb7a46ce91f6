"""A tiny model, a device of the test's own, and a cache folder that nobody else uses."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType as Kind
from support.gguf_models import write_llama

from tlite_vk.convert import convert
from tlite_vk.device import Device
from tlite_vk.generate import Model
from tlite_vk.loading import load

OpenDriver = Callable[..., Device]
PROMPT, COUNT = list(range(3, 23)), 12


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TLITE_VK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TLITE_VK_MEMORY", raising=False)
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of random weights with a tokenizer of bytes: two layers, 288 tokens, 4096 positions."""
    return write_llama(tmp_path_factory.mktemp("gguf"), kind=Kind.Q4_1, context=4096, tokenizer=True)


@pytest.fixture(scope="session")
def tiny(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of that model as ONNX."""
    folder = tmp_path_factory.mktemp("tiny")
    convert(tiny_gguf, folder / "model.onnx")
    return folder


@pytest.fixture
def fresh(open_driver: OpenDriver, main_driver: str) -> Iterator[Device]:
    """A device of the test's own; when the test ends, nothing may be left on it."""
    opened = open_driver(main_driver)
    yield opened
    gc.collect()
    assert opened.memory_used == 0


@pytest.fixture(scope="session")
def expected(tiny: Path, device: Device) -> list[int]:
    """The tokens that the model gives after PROMPT."""
    with load(tiny, device=device) as model:
        return answer(model)


def answer(model: Model) -> list[int]:
    return list(model.generate_tokens(PROMPT, max_tokens=COUNT))
