"""Errors say what to do next: those that a user meets first, as commands print them, and all others by rule."""

from pathlib import Path

import pytest
from support.cli import Cli

from tlite_vk.cli.next_step import STEPS, advised
from tlite_vk.errors import DeviceError, InputError, ModelError, NoDeviceError
from tlite_vk.graph.errors import GraphError


@pytest.mark.usefixtures("lavapipe")
@pytest.mark.parametrize(
    ("arguments", "step"),
    [
        (["run", "nowhere", "hello"], "check the path"),
        (["chat", "nowhere"], "check the path"),
        (["bench", "empty"], "check the path"),
        (["run", "text.txt", "hello"], "give a .onnx file or the folder of a model.onnx"),
        (["run", "model.gguf", "hello"], "convert it first: tlite-vk convert model.gguf -o model.onnx"),
        (["convert", "text.txt", "-o", "out.onnx"], "give a .gguf file"),
        (["convert", "nowhere.gguf", "-o", "out.onnx"], "check the path"),
        (["convert", "model.gguf", "-o", "empty"], "name the file to write"),
        (["quantize", "text.txt", "-o", "out.onnx"], "give a .onnx file"),
        (["quantize", "model", "-o", "out.onnx", "--format", "int3"], "known: e0m4"),
        (["eval", "model", "nowhere.txt"], "check the path"),
        (["run", "model", "hello", "--device", "adreno"], "choose one of: 0 = llvmpipe"),
        (["compile", "model", "--entry", "back", "--svg", "x.svg"], "it has decode"),
        (["fetch", "gpt5"], "known: smollm2-135m"),
        (["runn"], "Did you mean 'run'"),
        (["run", "model", "hi", "--tokens", "3"], "see tlite-vk run --help"),
    ],
)
def test_what_a_newcomer_meets(
    cli: Cli, arguments: list[str], step: str, converted: Path, tiny_gguf: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").symlink_to(converted)
    (tmp_path / "model.gguf").symlink_to(tiny_gguf)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("hello")
    assert step in cli(*arguments).error


@pytest.mark.parametrize(
    ("error", "step"),
    [
        (NoDeviceError("no driver"), "tlite-vk doctor"),
        (GraphError("m.onnx: tensor 'w': its data file m.data does not exist"), "copy it beside the model"),
        (ModelError("m.gguf: the metadata are contradictory"), "download or copy it again"),
        (GraphError("Foo 'x': this operator has no kernel"), "docs/operators.md"),
        (GraphError("a cycle"), "docs/models.md"),
        (ModelError("tokenizer.json is damaged: x"), "copy it again"),
    ],
)
def test_a_message_without_a_step_gets_one(error: Exception, step: str) -> None:
    assert advised(error).startswith(f"{error}; ") and step in advised(error)


def test_a_message_with_a_step_stays() -> None:
    for text in ("no tokenizer; give token ids", "unknown format 'x'; known: a", "try --precision fp32"):
        assert advised(ModelError(text)) == text
    assert advised(InputError("the message is empty")) == "the message is empty"
    assert advised(DeviceError("the device is lost")) == "the device is lost"
    assert all(step and not step.endswith(".") for _, step in STEPS)
