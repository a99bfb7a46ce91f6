"""tlite-vk compile -o, what takes its file, and tlite-vk cache."""

import json
from pathlib import Path

import pytest
from support.cli import Cli

pytestmark = pytest.mark.usefixtures("lavapipe")


@pytest.fixture(scope="module")
def compiled(converted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tlite_vk

    path = tmp_path_factory.mktemp("file") / "tiny.tlvk"
    tlite_vk.compile_to_file(converted, path)
    return path


def test_it_says_what_is_in_the_file(cli: Cli, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "tiny.tlvk"
    told = cli("compile", model, "-o", path, "--licence", "CC0", "--source", "a test")
    assert (told.code, told.err) == (0, "")
    for words in ("weights", "kinds of devices", "tokenizer  in it", "CC0", "a test"):
        assert words in told.out
    facts = json.loads(cli("compile", model, "-o", path, "--json").out)
    assert facts["file_bytes"] == path.stat().st_size > facts["weight_bytes"]
    assert facts["tokenizer"] and "cpu-texel-8" in facts["targets"]


def test_options_that_belong_elsewhere(cli: Cli, model: Path, tmp_path: Path) -> None:
    assert "-o compiles for all devices" in cli("compile", model, "-o", tmp_path / "m.tlvk", "--report").error
    assert "-o compiles for all devices" in cli("compile", model, "-o", tmp_path / "m.tlvk", "--limits", "least").error
    assert "belong to -o FILE" in cli("compile", model, "--licence", "CC0").error
    assert "no such model" in cli("compile", tmp_path / "none.onnx", "-o", tmp_path / "m.tlvk").error


def test_commands_take_it(cli: Cli, model: Path, compiled: Path, tmp_path: Path) -> None:
    wanted = cli("run", model, "hello", "--max-tokens", 6)
    assert cli("run", compiled, "hello", "--max-tokens", 6) == wanted
    assert json.loads(cli("bench", compiled, "--prompt", 8, "--gen", 2, "--repeat", 1, "--json").out)["weight_bytes"]
    assert cli("profile", compiled, "--prompt", 8).code == 0
    text = tmp_path / "text.txt"
    text.write_text("Some words to score, and some more.")
    scores = [json.loads(cli("eval", m, text, "--window", 8, "--json").out)["perplexity"] for m in (model, compiled)]
    assert scores[0] == scores[1]


def test_a_damaged_file_is_one_line(cli: Cli, compiled: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.tlvk"
    path.write_bytes(compiled.read_bytes()[:-1])
    assert "truncated or damaged" in cli("run", path, "hello").error
    path.write_bytes(b"hello")
    assert "is not a compiled model" in cli("run", path, "hello").error


def test_the_cache_is_listed_and_cleared(cli: Cli, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLITE_VK_CACHE_BYTES", "100000000")
    assert cli("cache").code == 0
    assert cli("run", model, "hello", "--max-tokens", 1).code == 0
    (entry,) = json.loads(cli("cache", "--json").out)["entries"]
    assert entry["model"] == str(model / "model.onnx") and entry["bytes"] > 0
    listed = cli("cache").out
    assert "100.0 MB" in listed and "model.onnx" in listed.replace("\n", "")
    assert "freed" in cli("cache", "--clear").out
    assert json.loads(cli("cache", "--json").out)["entries"] == []
