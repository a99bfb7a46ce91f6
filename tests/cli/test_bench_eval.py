"""tlite-vk bench and eval."""

import json
import math
from pathlib import Path

import pytest
from support.cli import Cli
from support.gguf_models import write_llama

from tlite_vk import roofline
from tlite_vk.convert import convert

pytestmark = pytest.mark.usefixtures("lavapipe")


@pytest.fixture(autouse=True)
def small_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device's limits need not be right here."""
    monkeypatch.setattr(roofline, "COPY_BYTES", 1 << 20)
    monkeypatch.setattr(roofline, "RUNS", 1)
    monkeypatch.setattr(roofline, "MIN_SECONDS", 0.0)


def test_bench(cli: Cli, model: Path) -> None:
    arguments = ["bench", model, "--prompt", 10, "--gen", 4, "--repeat", 2, "--depth", 3]
    result = cli(*arguments, "--json")
    assert (result.code, result.err) == (0, "")
    found = json.loads(result.out)
    assert (found["prompt"], found["gen"], found["repeat"], found["depth"]) == (10, 4, 2, 3)
    assert found["model"] == str(model / "model.onnx") and "llvmpipe" in found["device"] and "Mesa" in found["driver"]
    for name in (
        "prefill_tokens_per_s", "decode_tokens_per_s", "generate_tokens_per_s", "time_to_first_token_s",
        "peak_device_bytes", "peak_host_bytes", "copy_bytes_per_s", "multiply_adds_per_s",
        "decode_share_of_copy", "prefill_share_of_multiply_adds",
    ):  # fmt: skip
        assert math.isfinite(found[name]) and found[name] > 0, name
    assert [len(values) for values in found["repetitions"].values()] == [2, 2, 2, 2]
    text = cli(*arguments).out
    for part in (
        "prefill 10 tokens",
        "decode 4 tokens after 3",
        "time to first token",
        "peak memory",
        "copy bandwidth",
    ):
        assert part in text


def test_bench_of_too_much(cli: Cli, model: Path) -> None:
    assert "choose at most 4096" in cli("bench", model, "--prompt", 5000).error
    assert "choose smaller --prompt, --gen or --depth" in cli("bench", model, "--context", 32).error
    assert "there is no device" in cli("bench", model, "--device", 9).error


@pytest.fixture(scope="module")
def short_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows 200 positions."""
    folder = tmp_path_factory.mktemp("short")
    return convert(write_llama(folder, context=200), folder / "model.onnx").model


def test_sweep(cli: Cli, short_model: Path, tmp_path: Path) -> None:
    arguments = ["bench", short_model, "--sweep", "--gen", 2, "--repeat", 2]
    result = cli(*arguments, "--json", "--plot", tmp_path / "out.png")
    note = "the model knows 200 positions; left out: 256, 512, 1024, 2048, 4096, 8192\n"
    assert (result.code, result.err) == (0, note)
    found = json.loads(result.out)
    assert [p["tokens"] for p in found["decode"]] == [128]
    assert [p["tokens"] for p in found["prefill"]] == [64, 128]
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    text = cli(*arguments, "--context", 130)
    assert text.err == ""
    for part in ("cached tokens", "prefill, ms", "tokens/s", "memory, MB", "attention must", "one more position"):
        assert part in text.out


def test_sweep_of_what_does_not_fit(cli: Cli, short_model: Path, tmp_path: Path) -> None:
    assert "belong to --sweep" in cli("bench", short_model, "--plot", tmp_path / "out.png").error
    assert "belong to --sweep" in cli("bench", short_model, "--longest", 512).error
    assert "leave out --prompt and --depth" in cli("bench", short_model, "--sweep", "--depth", 5).error
    assert "begins with 128 tokens, only 100" in cli("bench", short_model, "--sweep", "--longest", 100).error
    assert "must end in" in cli("bench", short_model, "--sweep", "--plot", tmp_path / "out.jpeg2").error


def test_eval(cli: Cli, model: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("It was the best of times, it was the worst of times. " * 2, encoding="utf-8")
    result = cli("eval", model, text, "--window", 20, "--windows", 3, "--json")
    assert (result.code, result.err) == (0, "")
    found = json.loads(result.out)
    assert found["predictions"] == 57
    assert found["perplexity"] == pytest.approx(math.exp(found["nll"]))
    assert 50 < found["perplexity"] < 5000  # of 288 tokens that random weights know nothing of
    line = cli("eval", model, text, "--window", 20, "--windows", 3).out
    assert line.startswith(f"perplexity {found['perplexity']:.4f} over 57 predictions")


def test_eval_of_texts_that_do_not_fit(cli: Cli, model: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("short")
    assert "the text has 6 tokens, 4 windows of 512 need 2048" in cli("eval", model, text).error
    assert "choose at most 4096" in cli("eval", model, text, "--window", 5000).error
    assert "no such file" in cli("eval", model, tmp_path / "absent.txt").error
    assert "cannot read" in cli("eval", model, tmp_path).error
    text.write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in cli("eval", model, text).error
