"""tlite-vk fetch and convert."""

import json
import sys
from pathlib import Path

import pytest
from support.cli import Cli

from tlite_vk.fetch import MODELS, Source, models_folder

SETTINGS = ["generation_config.json", "tokenizer.json", "tokenizer_config.json"]


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def pip_that(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    """Run a shell script in place of Python when pip is called."""
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


def test_fetch_prints_the_path(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  # of b"hello"
    monkeypatch.setitem(MODELS, "tiny", Source("tiny-model", "1.0", "tiny/model.gguf", 5, digest, 5))
    target = models_folder() / "tiny" / "model.gguf"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"hello")
    result = cli("fetch", "tiny")
    assert (result.code, result.out, result.err) == (0, f"{target}\n", "")
    found = json.loads(cli("fetch", "tiny", "--json").out)
    assert found == {"name": "tiny", "path": str(target), "bytes": 5, "sha256": digest}


def test_fetch_of_an_unknown_name(cli: Cli) -> None:
    assert cli("fetch", "huge").error == "unknown model 'huge'; known: smollm2-135m"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'ERROR: [Errno 28] No space left on device'; exit 1", "no space left in"),
        ("echo 'Retrying after connection broken by NewConnectionError'; exit 1", "check the network connection"),
    ],
)
def test_fetch_without_disk_or_network(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    pip_that(monkeypatch, tmp_path, script)
    assert message in cli("fetch", "smollm2-135m").error
    assert [p for p in models_folder().rglob("*") if p.is_file()] == []


def test_convert(cli: Cli, tiny_gguf: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "model.onnx"
    result = cli("convert", tiny_gguf, "-o", target)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"{target}: Tiny, 2 layers, 0.1 M parameters, ")
    assert names(target.parent) == sorted(["model.onnx", "model.onnx.data", *SETTINGS])
    found = json.loads(cli("convert", tiny_gguf, "--output", target, "--json").out)
    assert (found["model"], found["layers"], found["tokenizer"]) == (str(target), 2, True)


def test_convert_of_what_is_no_model_leaves_nothing(cli: Cli, tiny_gguf: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    data = tiny_gguf.read_bytes()
    cases = {
        "missing": (None, "no such file"),
        "text": (b"hello", "is not a GGUF file"),
        "empty": (b"", "is not a GGUF file"),
        "header": (data[:100], "is damaged or incomplete"),
        "half": (data[: len(data) // 2], "is damaged or incomplete"),
    }
    for name, (content, message) in cases.items():
        source = tmp_path / f"{name}.gguf"
        if content is not None:
            source.write_bytes(content)
        assert message in cli("convert", source, "-o", out / "model.onnx").error, name
        assert not out.exists()
    assert "Is a directory" in cli("convert", tmp_path, "-o", out / "model.onnx").error


def test_convert_to_where_nothing_can_be_written(cli: Cli, tiny_gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot write" in cli("convert", tiny_gguf, "-o", tmp_path / "file" / "model.onnx").error
    assert "is a folder" in cli("convert", tiny_gguf, "-o", tmp_path).error
