"""tlite-vk run: answers, prompts, ends, and everything that can be wrong with its input."""

import json
from pathlib import Path

import pytest
from support.cli import Cli

import tlite_vk

pytestmark = pytest.mark.usefixtures("lavapipe")


def expected(folder: Path, prompt: str, count: int) -> str:
    """The greedy answer through the Python interface."""
    with tlite_vk.load(folder) as model:
        return "".join(model.generate(prompt, max_tokens=count))


def test_streams_the_answer(cli: Cli, model: Path) -> None:
    text = expected(model, "hello", 12)
    assert text
    for path in (model, model / "model.onnx"):
        result = cli("run", path, "hello", "--max-tokens", 12)
        assert (result.code, result.out, result.err) == (0, f"{text}\n", "")


def test_prompts_from_a_pipe(cli: Cli, model: Path) -> None:
    direct = cli("run", model, "héllo", "--max-tokens", 6).out
    for arguments in ([], ["-"]):
        assert cli("run", model, *arguments, "--max-tokens", 6, stdin="héllo\n".encode()).out == direct
    assert "not UTF-8" in cli("run", model, stdin=b"h\xffllo").error
    assert "not valid Unicode" in cli("run", model, "h\udcffllo").error


def test_json_and_stats(cli: Cli, model: Path) -> None:
    result = cli("run", model, "abc", "--max-tokens", 5, "--json", "--stats")
    found = json.loads(result.out)
    assert found["text"] == expected(model, "abc", 5)
    assert (found["finish"], found["generated_tokens"]) == ("length", 5)
    assert result.err.startswith(f"prompt {found['prompt_tokens']} tokens in ")
    assert "answer 5 tokens" in result.err and "peak memory: device " in result.err


def test_chat_and_system(cli: Cli, model: Path) -> None:
    plain = json.loads(cli("run", model, "user: hi\n", "--max-tokens", 4, "--json").out)
    chat = json.loads(cli("run", model, "hi", "--chat", "--max-tokens", 4, "--json").out)
    system = json.loads(cli("run", model, "hi", "--system", "be kind", "--max-tokens", 4, "--json").out)
    assert chat["text"] == plain["text"]
    assert system["prompt_tokens"] == plain["prompt_tokens"] + len("system: be kind\n")
    config = model / "tokenizer_config.json"
    config.write_text(json.dumps({k: v for k, v in json.loads(config.read_text()).items() if k != "chat_template"}))
    assert "no chat template" in cli("run", model, "hi", "--chat").error


def test_sampling_is_reproducible(cli: Cli, model: Path) -> None:
    def draw(seed: int, *more: object) -> str:
        return cli("run", model, "abc", "--max-tokens", 8, "--temperature", 2, "--seed", seed, *more).out

    assert draw(1) == draw(1) != draw(2)
    assert draw(1, "--top-k", 1) == cli("run", model, "abc", "--max-tokens", 8).out == draw(2, "--top-p", 1e-9)
    assert cli("run", model, "abc", "--max-tokens", 8, "--repetition-penalty", 9.0).code == 0
    fresh = json.loads(cli("run", model, "abc", "--max-tokens", 8, "--temperature", 2, "--json").out)
    assert draw(fresh["seed"]) == fresh["text"] + "\n"


def test_stop_text(cli: Cli, model: Path) -> None:
    text = expected(model, "hello", 12)
    stop = text[3:5]
    result = cli("run", model, "hello", "--max-tokens", 12, "--stop", stop)
    assert result.out == text[: text.index(stop)] + "\n"


def test_a_full_context_is_told(cli: Cli, model: Path) -> None:
    result = cli("run", model, "hello", "--context", 16)
    assert result.code == 0
    assert result.err == (
        "note: the context of 16 tokens is full; the answer ends here. A larger --context, or a --window, goes on.\n"
    )
    found = json.loads(cli("run", model, "hello", "--context", 16, "--json").out)
    assert found["finish"] == "context"
    assert found["prompt_tokens"] + found["generated_tokens"] == 17  # the last token needs no slot
    longer = json.loads(cli("run", model, "hello", "--window", 8, "--max-tokens", 40, "--json").out)
    assert (longer["finish"], longer["generated_tokens"]) == ("length", 40)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--context", "5"], "shorten it or load the model with a larger context"),
        (["--context", "5000"], "choose at most 4096"),
        (["--device", "7"], "there is no device 7; choose one of: 0 = llvmpipe"),
        (["--device", "-1"], "there is no device -1"),
        (["--device", "no such"], "there is no device 'no such'"),
        (["--temperature", "-1"], "temperature must be 0 or more"),
        (["--temperature", "nan"], "temperature must be 0 or more"),
        (["--top-k", "-1"], "top-k must be"),
        (["--top-p", "0"], "top-p must be"),
        (["--seed", "-1"], "seed must be 0 or more"),
        (["--repetition-penalty", "0"], "repetition penalty must be over 0"),
    ],
)
def test_options_that_do_not_fit(cli: Cli, model: Path, arguments: list[str], message: str) -> None:
    assert message in cli("run", model, "a long prompt", *arguments).error


def test_no_driver(cli: Cli, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VK_DRIVER_FILES", "/nonexistent")
    assert "no Vulkan driver was found" in cli("run", model, "hello").error


def test_a_model_without_tokenizer(cli: Cli, model: Path) -> None:
    (model / "tokenizer.json").unlink()
    assert "no tokenizer.json beside" in cli("run", model, "hello").error
    assert cli("bench", model, "--prompt", 3, "--gen", 2, "--repeat", 1).code == 0
