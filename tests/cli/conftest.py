"""Commands run in this process, a tiny converted model, and a cache folder of the test's own."""

import io
import shutil
import sys
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType as Kind
from support.cli import Cli, Result
from support.gguf_models import write_llama

from tlite_vk.cli import main
from tlite_vk.convert import convert


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is kept from one test to the next, nor is the user's cache touched."""
    monkeypatch.setenv("TLITE_VK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TLITE_VK_DEBUG", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """A function (*arguments, stdin=bytes) that runs the command line in this process."""

    def run(*arguments: object, stdin: bytes = b"") -> Result:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def lavapipe(monkeypatch: pytest.MonkeyPatch, lavapipe_file: str) -> None:
    """Lavapipe is the one driver that the loader sees, here and in child processes."""
    monkeypatch.setenv("VK_DRIVER_FILES", lavapipe_file)
    monkeypatch.delenv("TLITE_VK_DEVICE", raising=False)


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of random weights with a tokenizer of bytes: two layers, 288 tokens, 4096 positions."""
    return write_llama(tmp_path_factory.mktemp("gguf"), kind=Kind.Q4_1, context=4096, tokenizer=True)


@pytest.fixture(scope="session")
def converted(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of that model as ONNX. Not to be changed: see `model`."""
    folder = tmp_path_factory.mktemp("tiny")
    convert(tiny_gguf, folder / "model.onnx")
    return folder


@pytest.fixture
def model(converted: Path, tmp_path: Path) -> Path:
    """A copy of the folder, of the test's own."""
    return Path(shutil.copytree(converted, tmp_path / "model"))
