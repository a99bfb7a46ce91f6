"""What conversion leaves in the folder: everything, or nothing; and what it refuses."""

import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFWriter

from tlite_vk.convert import convert
from tlite_vk.errors import ModelError

WriteModel = Callable[..., Path]


def add_tokenizer(writer: GGUFWriter) -> None:
    tokens = [b"<unk>", b"<s>", b"</s>", *(b"<0x%02X>" % i for i in range(256)), "\u2581".encode(), b"a"]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([2, 3, 3, *[6] * 256, 1, 1])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template("{{ messages[0].content }}")


def add_tokenizer_without_bos(writer: GGUFWriter) -> None:
    add_tokenizer(writer)
    writer.add_add_bos_token(False)


ALL_FILES = ["generation_config.json", "model.onnx", "model.onnx.data", "tokenizer.json", "tokenizer_config.json"]


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def test_writes_the_model_and_its_settings(write_model: WriteModel, tmp_path: Path) -> None:
    source = write_model(add=add_tokenizer, kind=Kind.Q4_1)
    out = tmp_path / "new" / "folder"
    seen: list[tuple[int, int]] = []
    report = convert(source, out / "model.onnx", lambda done, total: seen.append((done, total)))
    assert names(out) == ALL_FILES
    assert (report.model, report.data) == (out / "model.onnx", out / "model.onnx.data")
    assert report.data_bytes == report.data.stat().st_size
    assert (report.tokenizer, report.layers, report.context_length) == (True, 2, 128)
    assert report.source_sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    totals = {total for _, total in seen}
    assert len(totals) == 1 and seen[-1] == (totals.copy().pop(),) * 2
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_facts_go_into_the_model(write_model: WriteModel, tmp_path: Path) -> None:
    source = write_model()
    report = convert(source, tmp_path / "model.onnx")
    model = onnx.load(str(tmp_path / "model.onnx"), load_external_data=False)
    facts = {item.key: item.value for item in model.metadata_props}
    assert facts == {
        "context_length": "128",
        "architecture": "llama",
        "source_format": "GGUF",
        "source_file": "tiny.gguf",
        "source_sha256": report.source_sha256,
        "name": "Tiny",
        "license": "apache-2.0",
    }
    assert model.producer_name == "tlite-vk"


def test_settings_beside_the_model(write_model: WriteModel, tmp_path: Path) -> None:
    convert(write_model(add=add_tokenizer), tmp_path / "model.onnx")
    generation = json.loads((tmp_path / "generation_config.json").read_text())
    assert generation == {"max_length": 128, "bos_token_id": 1, "eos_token_id": [2]}
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert settings["chat_template"] == "{{ messages[0].content }}"
    assert (settings["bos_token"], settings["eos_token"], settings["unk_token"]) == ("<s>", "</s>", "<unk>")
    assert (settings["add_bos_token"], settings["model_max_length"]) == (True, 128)


def test_without_a_tokenizer_only_the_model_is_written(write_model: WriteModel, tmp_path: Path) -> None:
    report = convert(write_model(), tmp_path / "out" / "model.onnx")
    assert names(tmp_path / "out") == ["model.onnx", "model.onnx.data"]
    assert not report.tokenizer


def test_converting_twice_gives_the_same_files(write_model: WriteModel, tmp_path: Path) -> None:
    source = write_model(add=add_tokenizer)
    for folder in ("a", "b"):
        convert(source, tmp_path / folder / "model.onnx")
    convert(source, tmp_path / "b" / "model.onnx")
    for name in ALL_FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


# -- nothing half-written -------------------------------------------------------------------------------------------


def full_disk(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def interrupt(done: int, total: int) -> None:
    if done > total * 0.8:
        raise KeyboardInterrupt


def test_a_full_disk_leaves_nothing(write_model: WriteModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_model()
    monkeypatch.setattr(os, "posix_fallocate", full_disk)
    with pytest.raises(ModelError, match=r"no space left for .*model\.onnx"):
        convert(source, tmp_path / "x" / "y" / "model.onnx")
    assert names(tmp_path) == ["tiny.gguf"]


def test_a_disk_that_fills_up_at_the_end_leaves_nothing(
    write_model: WriteModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_model(add=add_tokenizer)
    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(ModelError, match="no space left"):
        convert(source, tmp_path / "out" / "model.onnx")
    assert names(tmp_path) == ["tiny.gguf"]


def test_an_interrupted_conversion_leaves_nothing(write_model: WriteModel, tmp_path: Path) -> None:
    source = write_model()
    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "out" / "model.onnx", interrupt)
    assert names(tmp_path) == ["tiny.gguf"]


def test_an_interrupted_conversion_keeps_the_former_one(write_model: WriteModel, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(write_model(add=add_tokenizer), out / "model.onnx")
    before = {name: (out / name).read_bytes() for name in names(out)}
    with pytest.raises(KeyboardInterrupt):
        convert(write_model(name="other.gguf", hidden=32, add=add_tokenizer), out / "model.onnx", interrupt)
    assert {name: (out / name).read_bytes() for name in names(out)} == before


def test_a_truncated_file_leaves_nothing(write_model: WriteModel, tmp_path: Path) -> None:
    source = write_model()
    source.write_bytes(source.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="cut off"):
        convert(source, tmp_path / "out" / "model.onnx")
    assert names(tmp_path) == ["tiny.gguf"]


def test_unusable_destinations(write_model: WriteModel, tmp_path: Path) -> None:
    source = write_model()
    with pytest.raises(ModelError, match="is a folder"):
        convert(source, tmp_path)
    with pytest.raises(ModelError, match="overwritten by its own conversion"):
        convert(source, source)
    with pytest.raises(ModelError, match="cannot write"):
        convert(source, source / "model.onnx")
    assert names(tmp_path) == ["tiny.gguf"]


def test_another_models_tokenizer_is_not_overwritten(write_model: WriteModel, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(write_model(add=add_tokenizer), out / "one.onnx")
    other = write_model(name="other.gguf", add=add_tokenizer_without_bos)
    with pytest.raises(ModelError, match="choose another folder"):
        convert(other, out / "two.onnx")
    convert(other, out / "one.onnx")  # its own files may be replaced


# -- models that are refused ----------------------------------------------------------------------------------------


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "architecture": ({"architecture": "gemma"}, "architecture 'gemma' is not supported"),
    "weight type": ({"kind": Kind.IQ4_NL}, r"'token_embd.weight' has the unsupported type IQ4_NL; supported: F32, F16"),
    "missing tensor": ({"without": ["blk.1.ffn_up.weight"]}, r"'blk\.1\.ffn_up\.weight' is missing"),
    "missing embedding": ({"without": ["token_embd.weight"]}, r"'token_embd\.weight' is missing"),
    "unknown tensor": (
        {"tensors": {"blk.0.attn_q_norm.weight": np.ones(16, np.float32)}},
        r"'blk\.0\.attn_q_norm\.weight' belongs to no Llama model",
    ),
    "wrong shape": (
        {"without": ["output_norm.weight"], "tensors": {"output_norm.weight": np.ones(65, np.float32)}},
        r"'output_norm\.weight' has shape \(65,\), its metadata say \(64,\)",
    ),
    "one part of several": ({"add": lambda w: w.add_uint16("split.count", 3)}, "one part of a split model"),
    "experts": ({"add": lambda w: w.add_expert_count(8)}, "llama.expert_count"),
    "rope scaling": ({"add": lambda w: w.add_string("llama.rope.scaling.type", "yarn")}, "rope scaling 'yarn'"),
    "heads": ({"heads": 4, "kv_heads": 3, "head_dim": 16}, "4 heads cannot share 3"),
    "huge size": ({"add": lambda w: w.add_uint32("llama.feed_forward_length", 2**31)}, "a size is outside"),
    "huge context": ({"context": 2**31}, "context_length 2147483648 is outside"),
    "heads by layer": ({"add": lambda w: w.add_array("llama.attention.head_count", [4, 4])}, "is not an integer"),
    "no context": ({"add": lambda w: w.kv_data[0].pop("llama.context_length")}, "'llama.context_length' is missing"),
    "bad factors": ({"rope_factors": [0.0] * 8}, "a factor that is not positive"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", REFUSED)
def test_refuses(write_model: WriteModel, tmp_path: Path, case: str) -> None:
    options, message = REFUSED[case]
    source = write_model(**options)
    with pytest.raises(ModelError, match=message) as caught:
        convert(source, tmp_path / "out" / "model.onnx")
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["tiny.gguf"]
