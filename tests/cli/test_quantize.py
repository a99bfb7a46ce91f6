"""tlite-vk quantize."""

import json
from pathlib import Path

import pytest
from support.cli import Cli
from support.products import write_tiny

SETTINGS = ["generation_config.json", "tokenizer.json", "tokenizer_config.json"]


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def test_a_table_of_errors(cli: Cli, tmp_path: Path) -> None:
    source, target = write_tiny(tmp_path / "model.onnx", hidden=64, inner=96), tmp_path / "out" / "small.onnx"
    result = cli("quantize", source, "-o", target, "--group", "64", "--keep", "layer/gemm")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0].split() == [
        "weight",
        "rows",
        "x",
        "columns",
        "format",
        "relative",
        "RMS",
        "max",
        "error",
        "bits",
        "size",
    ]
    assert [line.split()[0] for line in lines[1:4]] == ["table", "up.weight", "down.weight"]
    assert "50 x 64" in lines[1] and "int8, groups of 64" in lines[1] and "8.25" in lines[1]
    assert "64 x 96" in lines[3] and "e0m4, groups of 32" in lines[3] and "5.00" in lines[3]  # 64 does not divide 96
    assert lines[4].startswith("3 weights")
    assert lines[5] == "kept: gemm.weight: as asked for"
    assert lines[6].startswith(f"{target}: ") and lines[6].endswith(" before")
    assert names(target.parent) == ["small.onnx", "small.onnx.data"]


def test_json(cli: Cli, tmp_path: Path) -> None:
    source, target = write_tiny(tmp_path / "model.onnx", tied=False), tmp_path / "out.onnx"
    options = ("--type", "up.*=int8", "--type", "*gemm=fp16", "--head", "e0m4", "--embedding", "keep", "--symmetric")
    found = json.loads(cli("quantize", source, "--output", target, *options, "--json").out)
    assert {t["name"]: (t["format"], t["group"]) for t in found["tensors"]} == {
        "up.weight": ("int8", 32), "down.weight": ("e0m4 symmetric", 32), "gemm.weight": ("fp16", 0),
        "head.T": ("e0m4 symmetric", 32),
    }  # fmt: skip
    assert [(k["name"], k["reason"]) for k in found["kept"]] == [("table", "as asked for")]
    assert found["bytes_after"] < found["bytes_before"]
    assert all(0 < t["relative_rms"] < 0.2 and t["max_error"] > 0 for t in found["tensors"] if t["group"])
    assert (found["model"], found["tokenizer"]) == (str(target), False)


def test_errors_are_one_line(cli: Cli, tmp_path: Path) -> None:
    source, target = write_tiny(tmp_path / "model.onnx"), tmp_path / "out" / "model.onnx"
    cases = {
        "unknown format 'q4'; known: e0m4": ("--format", "q4"),
        "groups of 31 are not supported": ("--group", "31"),
        "unknown method 'best'": ("--method", "best"),
        "the pattern 'nothing*' matches no weight": ("--keep", "nothing*"),
        "'up' is not a pattern and a format": ("--type", "up"),
        "unknown format ''": ("--type", "up="),
        "nothing to quantize": ("--keep", "*"),
    }
    for message, options in cases.items():
        assert message in cli("quantize", source, "-o", target, *options).error
    assert "is not an ONNX file" in cli("quantize", Path(__file__), "-o", target).error
    assert "no such file" in cli("quantize", tmp_path / "nothing.onnx", "-o", target).error
    assert not target.parent.exists()
    assert cli("quantize", source, "-o", target).code == 0
    assert "exists; choose another output name" in cli("quantize", source, "-o", target).error
    assert cli("quantize", source, "-o", target, "--overwrite").code == 0


@pytest.mark.usefixtures("lavapipe")
def test_a_language_model_from_halves(cli: Cli, tiny_gguf: Path, tmp_path: Path) -> None:
    """GGUF to halves to 4 bits, and it still answers; its context and its tokenizer come along."""
    halves, target = tmp_path / "halves" / "model.onnx", tmp_path / "small" / "model.onnx"
    assert cli("convert", tiny_gguf, "-o", halves, "--weights", "float16").code == 0
    result = cli("quantize", halves.parent, "-o", target, "--group", "64")
    assert (result.code, result.err) == (0, "")
    assert "token_embd.weight" in result.out and result.out.endswith("before, with its tokenizer\n")
    assert names(target.parent) == sorted(["model.onnx", "model.onnx.data", *SETTINGS])
    answers = [
        json.loads(cli("run", folder, "a", "--max-tokens", "8", "--json").out)
        for folder in (halves.parent, target.parent)
    ]
    assert [a["generated_tokens"] for a in answers] == [8, 8]
