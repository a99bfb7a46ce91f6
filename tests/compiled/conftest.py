"""A tiny Llama with a tokenizer: as ONNX, and compiled for every device. Both are made once and not to be changed."""

from pathlib import Path

import pytest
from gguf import GGMLQuantizationType as Kind
from support.gguf_models import write_llama

from tlite_vk.compiled.writer import compile_to_file
from tlite_vk.convert import convert


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    source = write_llama(folder, kind=Kind.Q4_1, embedding=Kind.Q8_0, context=512, tokenizer=True)
    (folder / "model").mkdir()
    (folder / "model" / "LICENSE.txt").write_text("Do as you like.\n")
    return convert(source, folder / "model" / "model.onnx").model


@pytest.fixture(scope="session")
def tiny_compiled(tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compiled") / "tiny.tlvk"
    compile_to_file(tiny_onnx, path, licence="none", source="a test")
    return path
