"""Several turns on one ring: what is computed, what is kept, and what a saved chat goes on from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gguf import GGMLQuantizationType as Kind
from support.gguf_models import write_llama

from tlite_vk.chat import Chat
from tlite_vk.chat_file import MAGIC, model_identity
from tlite_vk.convert import convert
from tlite_vk.device import Device
from tlite_vk.errors import DeviceError, InputError
from tlite_vk.generate import Model
from tlite_vk.loading import load
from tlite_vk.ring import Ring
from tlite_vk.sampling import SamplingOptions

GREEDY = SamplingOptions()
MARKED = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
REWRITING = "{{ messages|length }}" + MARKED
"""A template that no prefix survives: nothing may be assumed of templates."""


def folder_of(tmp: Path, template: str = MARKED) -> Path:
    convert(write_llama(tmp, kind=Kind.Q4_1, vocab=261, context=2048, tokenizer=True), tmp / "model" / "model.onnx")
    config = tmp / "model" / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"chat_template": template}))
    return tmp / "model"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def model(device: Device, folder: Path) -> Model:
    return load(folder, device=device, context=400, chunk=16)


@pytest.fixture
def computed(model: Model, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(position, tokens) of each step that is fed, prompts and single tokens alike."""
    fed: list[tuple[int, int]] = []
    feed = model.engine.feed

    def noted(position: int, ids: list[int], ring: Ring | None = None) -> None:
        fed.append((position, len(ids)))
        feed(position, ids, ring)

    monkeypatch.setattr(model.engine, "feed", noted)
    return fed


@pytest.fixture
def chat(model: Model) -> Iterator[Chat]:
    with_ring = model.chat(system="be kind")
    yield with_ring
    with_ring.close()


def say(chat: Chat, text: str, count: int = 12) -> str:
    return "".join(chat.send(text, max_tokens=count))


def rendered(model: Model, chat: Chat, text: str | None = None) -> list[int]:
    messages = chat.messages + ([] if text is None else [{"role": "user", "content": text}])
    assert model.tokenizer is not None
    return model.tokenizer.encode_chat(messages)


def test_past_turns_are_never_computed_again(model: Model, chat: Chat, computed: list[tuple[int, int]]) -> None:
    asked = rendered(model, chat, "hello")
    first = say(chat, "hello")
    assert sum(n for _, n in computed) == len(asked)
    computed.clear()
    whole = rendered(model, chat, "and then?")
    known = chat.conversation.ids
    same = next((i for i, token in enumerate(known) if token != whole[i]), len(known))
    assert same >= len(asked)
    second = say(chat, "and then?")
    assert computed[0][0] == same and sum(n for _, n in computed) == len(whole) - same
    assert (chat.stats.prompt_tokens, chat.stats.cached_tokens) == (len(whole), same)
    assert [m["content"] for m in chat.messages] == ["be kind", "hello", first, "and then?", second]
    assert "".join(model.generate(chat.messages[:-1], max_tokens=12)) == second


def test_ids_that_are_extended_cost_what_is_new(model: Model, computed: list[tuple[int, int]]) -> None:
    conversation, ids = model.conversation(), [1, 5, 6, 7, 8, 9]
    answer = list(conversation.tokens(ids, 4, GREEDY))
    assert conversation.ids[: len(ids)] == ids
    computed.clear()
    more = [*ids, *answer, 77, 78, 79]
    list(conversation.tokens(more, 4, GREEDY))
    assert computed == [(len(ids) + len(answer) - 1, 4)]  # the last token of an answer was in no step
    computed.clear()
    list(conversation.tokens(more, 4, GREEDY))
    assert computed == [(len(more) - 1, 1)]  # the same again: one step for its logits
    conversation.truncate(6)
    assert conversation.ids == ids
    computed.clear()
    assert list(conversation.tokens(more, 4, GREEDY)) == list(model.generate_tokens(more, max_tokens=4))
    assert computed[0] == (6, len(more) - 6)
    conversation.close()


def test_a_prefix_of_another_conversation(model: Model, computed: list[tuple[int, int]]) -> None:
    first, second = model.conversation(), model.conversation()
    prefix = [1, *range(10, 50)]
    list(first.tokens([*prefix, 60, 61], 3, GREEDY))
    second.copy(first, len(prefix))
    computed.clear()
    ids = [*prefix, 70, 71]
    assert list(second.tokens(ids, 5, GREEDY)) == list(model.generate_tokens(ids, max_tokens=5))
    assert computed[0] == (len(prefix), 2)
    first.close()
    second.close()


def test_a_template_that_rewrites_the_past(device: Device, tmp_path: Path) -> None:
    with load(folder_of(tmp_path, REWRITING), device=device, context=300, chunk=16) as model:
        chat = model.chat()
        for text in ("one", "two", "three"):
            answer = say(chat, text)
            assert answer == "".join(model.generate(chat.messages[:-1], max_tokens=12))
        assert chat.stats.cached_tokens <= 2  # BOS and the space before a text


def test_undo_reset_and_system(model: Model, chat: Chat, computed: list[tuple[int, int]]) -> None:
    say(chat, "one")
    after_one = list(chat.messages)
    second = say(chat, "two")
    assert chat.undo() == "two" and chat.messages == after_one
    computed.clear()
    assert say(chat, "two") == second
    assert computed[0][0] > len(rendered(model, chat)) // 2
    chat.reset()
    assert [m["role"] for m in chat.messages] == ["system"] and chat.undo() is None
    chat.system = None
    assert chat.messages == []
    say(chat, "one")
    chat.system = "be brief"
    assert [m["role"] for m in chat.messages] == ["system", "user", "assistant"]
    assert say(chat, "two") == "".join(model.generate(chat.messages[:-1], max_tokens=12))


def test_an_answer_that_is_stopped_is_kept_as_far_as_it_came(model: Model, chat: Chat) -> None:
    answer = chat.send("hello")
    pieces = [next(answer), next(answer)]
    answer.close()  # type: ignore[attr-defined]
    assert chat.messages[-1] == {"role": "assistant", "content": "".join(pieces)}
    assert say(chat, "go on") == "".join(model.generate(chat.messages[:-1], max_tokens=12))
    before = list(chat.messages)
    unread = chat.send("hello")
    unread.close()  # type: ignore[attr-defined]
    assert chat.messages == before


def test_an_interrupt_while_the_prompt_is_read(model: Model, chat: Chat) -> None:
    say(chat, "hello")
    before = list(chat.messages)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(chat.send("a much longer message than one chunk", progress=interrupt))
    assert chat.messages == before
    assert say(chat, "again") == "".join(model.generate(chat.messages[:-1], max_tokens=12))


def test_a_full_context(model: Model) -> None:
    chat = model.chat()
    say(chat, "x" * 300)
    with pytest.raises(InputError, match=r"the context of 400 tokens is full: .* undo a turn, reset it, or load"):
        chat.send("y" * 300)
    assert len(chat.messages) == 2
    assert "".join(chat.send("short"))
    assert chat.stats.finish in ("context", "stop")
    chat.close()


def test_a_window_goes_on(device: Device, folder: Path) -> None:
    with load(folder, device=device, window=64, chunk=32) as model:
        chat = model.chat()
        for number in range(8):
            say(chat, f"message {number}", 20)
        assert chat.conversation.ring.position > 2 * model.engine.capacity
        assert chat.undo() == "message 7" and chat.undo() == "message 6"
        answer = say(chat, "message 6", 20)  # too far back for the ring: computed anew
        assert chat.stats.cached_tokens == 0
        assert answer == "".join(model.generate(chat.messages[:-1], max_tokens=20))


@pytest.mark.parametrize("window", [0, 64])
def test_save_and_load(device: Device, folder: Path, tmp_path: Path, window: int) -> None:
    file = tmp_path / "deep" / "one.chat"
    with load(folder, device=device, window=window, chunk=32) as model:
        chat = model.chat(system="be kind")
        for number in range(4):
            say(chat, f"message {number}", 20)
        chat.save(file)
        want = say(chat, "what now?")
        cached = chat.stats.cached_tokens
    with load(folder, device=device, window=window, chunk=32) as model:
        again = model.chat()
        again.load(file)
        assert say(again, "what now?") == want and again.stats.cached_tokens == cached > 100
        assert again.messages == chat.messages


def test_what_was_taken_back_is_not_saved(model: Model, chat: Chat, tmp_path: Path) -> None:
    say(chat, "hello")
    kept = len(rendered(model, chat))
    say(chat, "a secret")
    chat.undo()
    chat.save(tmp_path / "file")
    assert b"secret" not in (tmp_path / "file").read_bytes()
    chat.load(tmp_path / "file")
    assert 0 < len(chat.conversation.ids) <= kept
    chat.reset()
    chat.system = None
    chat.save(tmp_path / "file")
    chat.load(tmp_path / "file")
    assert (chat.messages, chat.conversation.ids) == ([], [])


def test_files_that_are_refused(device: Device, model: Model, chat: Chat, folder: Path, tmp_path: Path) -> None:
    file, bad = tmp_path / "good", tmp_path / "bad"
    say(chat, "hello")
    chat.save(file)
    data = file.read_bytes()
    before = list(chat.messages)

    def refused(content: bytes, message: str, by: Chat = chat) -> None:
        bad.write_bytes(content)
        with pytest.raises(InputError, match=message) as found:
            by.load(bad)
        assert "\n" not in str(found.value)

    for at in (20, 60, len(data) // 2, len(data) - 1):
        refused(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], "damaged: its checksum is wrong")
        refused(data[:at], "damaged")
    refused(data + b"x", "damaged")
    refused(b"PK" + data, "is no saved chat")
    refused(MAGIC + b"\2" + data[9:], "has version 2 of the format, this program reads 1")
    with pytest.raises(InputError, match="cannot read"):
        chat.load(tmp_path / "none")
    assert chat.messages == before and say(chat, "on")
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    weights = other / "model.onnx.data"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    cases: tuple[tuple[Path, dict[str, Any], str], ...] = (
        (other, {}, "saved with another model"),
        (folder, {"precision": "fp32"}, "another precision .fp16, here fp32."),
        (folder, {"window": 64}, "another window .0, here 64."),
        (folder, {"context": 24}, "--context"),
    )
    for path, options, message in cases:
        with load(path, device=device, chunk=16, **options) as different:
            refused(data, message, different.chat())


def test_models_that_cannot_chat(device: Device, folder: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(folder, tmp_path / "bare"))
    config = bare / "tokenizer_config.json"
    config.write_text(json.dumps({k: v for k, v in json.loads(config.read_text()).items() if k != "chat_template"}))
    with load(bare, device=device) as model, pytest.raises(InputError, match="no chat template"):
        model.chat()


def test_a_saved_chat_knows_weights_under_any_name(device: Device, folder: Path, tmp_path: Path) -> None:
    """An ONNX file names its data files itself; a renamed model keeps the old names."""
    path = Path(shutil.copytree(folder, tmp_path / "renamed")) / "model.onnx"
    path = path.rename(path.with_name("small.onnx"))
    weights, file = path.with_name("model.onnx.data"), tmp_path / "file"
    with load(path, device=device, context=400) as model:
        chat = model.chat()
        say(chat, "hello")
        chat.save(file)
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with load(path, device=device, context=400) as model, pytest.raises(InputError, match="saved with another model"):
        model.chat().load(file)
    weights.unlink()
    with pytest.raises(InputError, match="cannot read"):
        model_identity(path)


def test_a_wrapped_ring_is_saved_empty_after_a_reset(device: Device, folder: Path, tmp_path: Path) -> None:
    with load(folder, device=device, window=16, chunk=16) as model:
        chat = model.chat()
        say(chat, "hello", 60)
        assert chat.conversation.ring.lowest > 0
        chat.reset()
        chat.save(tmp_path / "file")
        again = model.chat()
        again.load(tmp_path / "file")
        assert (again.messages, again.conversation.ids) == ([], [])
        assert say(again, "hi") == "".join(model.generate(again.messages[:-1], max_tokens=12))


def test_an_error_leaves_the_chat_as_it_was(model: Model, chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    say(chat, "hello")
    before, run = list(chat.messages), model.engine.run
    answer = chat.send("and then?", max_tokens=40)
    assert next(answer)

    def lost(*arguments: Any, **options: Any) -> None:
        raise DeviceError("lost")

    monkeypatch.setattr(model.engine, "run", lost)
    with pytest.raises(DeviceError):
        list(answer)
    monkeypatch.setattr(model.engine, "run", run)
    assert chat.messages == before
    assert say(chat, "again") == "".join(model.generate(chat.messages[:-1], max_tokens=12))


def test_a_chat_of_a_closed_model_is_not_saved(device: Device, folder: Path, tmp_path: Path) -> None:
    with load(folder, device=device, context=400) as model:
        chat = model.chat()
        say(chat, "hello")
    with pytest.raises(InputError, match="the model is closed"):
        chat.save(tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_one_stop_text_is_not_taken_for_its_letters(model: Model) -> None:
    whole = "".join(model.generate("hello", max_tokens=30))
    assert "".join(model.generate("hello", max_tokens=30, stop=whole[5] + "!never")) == whole
