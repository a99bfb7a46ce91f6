"""The tokenizer beside a model: settings from several files, chat templates, and text that comes piece by piece."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Core
from tokenizers.processors import TemplateProcessing

from tlite_vk.errors import InputError, ModelError
from tlite_vk.tokenizer import Tokenizer

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
CHATML = (
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


def byte_level(**merged: str) -> Core:
    """A tokenizer whose tokens are bytes, a few merges, and three control tokens."""
    merges = [("Ã", "©"), ("t", "h"), ("Ġ", "th"), ("ð", "Ł"), ("ðŁ", "ĺ")]
    tokens = [*ALPHABET, *(left + right for left, right in merges)]
    core = Core(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(t, special=True) for t in ("<|bos|>", "<|start|>", "<|end|>")])
    return core


def sentence_piece() -> Core:
    """Pieces with a visible space, and bytes as a fallback."""
    tokens = ["<unk>", "<s>", *(f"<0x{i:02X}>" for i in range(256)), "▁", "a", "b", "▁a"]
    merges = [("▁", "a")]
    ids = {token: i for i, token in enumerate(tokens)}
    core = Core(models.BPE(vocab=ids, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    core.add_special_tokens([AddedToken("<s>", special=True)])
    return core


def made(core: Core | None = None, **files: Any) -> Tokenizer:
    """A tokenizer from a core and settings, given as file name without .json = contents."""
    texts = {f"{name}.json": json.dumps(content) for name, content in files.items()}
    return Tokenizer(texts | {"tokenizer.json": (core or byte_level()).to_str()})


# -- loading --------------------------------------------------------------------------------------------------------


def test_loads_from_the_folder_of_a_model(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(byte_level().to_str(), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": CHATML}))
    for path in (tmp_path, tmp_path / "model.onnx"):
        tokenizer = Tokenizer.load(path)
        assert tokenizer.has_chat_template
        assert tokenizer.decode(tokenizer.encode("é the 😀")) == "é the 😀"
    again = Tokenizer(tokenizer.texts)
    assert again.encode("the") == tokenizer.encode("the")
    assert tokenizer.vocabulary_size == 256 + 5 + 3


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no tokenizer\.json in"):
        Tokenizer.load(tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=r"tokenizer\.json is damaged"):
        Tokenizer({"tokenizer.json": "{}"})
    for text in ("[1]", "{"):
        with pytest.raises(ModelError, match=r"tokenizer_config\.json is damaged"):
            Tokenizer({"tokenizer.json": byte_level().to_str(), "tokenizer_config.json": text})
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match="cannot read the tokenizer files"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"generation_config": {"eos_token_id": [7, 9]}}, {7, 9}),
        ({"generation_config": {"eos_token_id": 7}, "config": {"eos_token_id": 8}}, {7}),
        ({"config": {"eos_token_id": 8}}, {8}),
        ({"tokenizer_config": {"eos_token": "<|end|>"}}, {263}),
        ({"tokenizer_config": {"eos_token": {"content": "<|end|>"}}}, {263}),
        ({}, set()),
    ],
)
def test_where_an_answer_ends(files: dict[str, Any], expected: set[int]) -> None:
    assert made(**files).stop_ids == expected


def test_context_length() -> None:
    assert made().context_length is None
    assert made(tokenizer_config={"model_max_length": 10**30}).context_length is None
    assert made(tokenizer_config={"model_max_length": 2048}).context_length == 2048
    both = made(tokenizer_config={"model_max_length": 2048}, config={"max_position_embeddings": 4096})
    assert both.context_length == 4096


def test_text_that_is_not_unicode() -> None:
    with pytest.raises(InputError, match="not valid Unicode"):
        made().encode("a\ud800")


def test_training_settings_do_not_cut_text() -> None:
    core = byte_level()
    core.enable_truncation(4)
    core.enable_padding(length=32)
    assert len(made(core).encode("a" * 20)) == 20


# -- chat -----------------------------------------------------------------------------------------------------------

HELLO = [{"role": "user", "content": "hi"}]


def test_renders_and_encodes_a_conversation() -> None:
    tokenizer = made(tokenizer_config={"chat_template": CHATML})
    assert tokenizer.render_chat(HELLO) == "<|start|>user\nhi<|end|>\n<|start|>assistant\n"
    assert tokenizer.render_chat(HELLO, add_generation_prompt=False) == "<|start|>user\nhi<|end|>\n"
    ids = tokenizer.encode_chat(HELLO)
    assert ids == tokenizer.encode(tokenizer.render_chat(HELLO), special=False)
    assert ids[0] == 262


@pytest.mark.parametrize("template", ["{{ bos_token }}{{ messages[0].content }}", "{{ messages[0].content }}"])
def test_exactly_one_bos(template: str) -> None:
    core = byte_level()
    core.post_processor = TemplateProcessing(single="<|bos|> $A", special_tokens=[("<|bos|>", 261)])
    tokenizer = made(core, tokenizer_config={"chat_template": template, "bos_token": "<|bos|>", "add_bos_token": True})
    assert tokenizer.encode("hi")[0] == tokenizer.bos_id == 261
    assert tokenizer.encode_chat(HELLO) == tokenizer.encode("hi")


def test_templates_from_other_places() -> None:
    named = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]
    assert made(tokenizer_config={"chat_template": named}).render_chat(HELLO) == "plain"
    texts = {"tokenizer.json": byte_level().to_str(), "chat_template.jinja": "own file"}
    assert Tokenizer(texts).render_chat(HELLO) == "own file"


def test_what_templates_use() -> None:
    cases = {
        "{{ raise_exception('no system please') }}": "refuses these messages: no system please",
        "{{ 1 / 0 }}": "refuses these messages: division by zero",
        "{{ messages[7].content.x }}": "refuses these messages",
        "{{ messages.append(1) }}": "refuses these messages",
        "{{ ''.__class__.__mro__ }}": "refuses these messages",
    }
    for template, message in cases.items():
        with pytest.raises(InputError, match=message) as caught:
            made(tokenizer_config={"chat_template": template}).render_chat(HELLO)
        assert "\n" not in str(caught.value)
    texts = {
        "{{ {'é': 1} | tojson }}": '{"é": 1}',
        "{% for m in messages %}{{ m.role }}{% break %}{% endfor %}": "user",
        "{% generation %}{{ messages[0].content }}{% endgeneration %}": "hi",
        "{{ strftime_now('%%') }}{{ tools }}{{ eos_token }}": "%None<|end|>",
    }
    for template, text in texts.items():
        settings = {"chat_template": template, "eos_token": "<|end|>"}
        assert made(tokenizer_config=settings).render_chat(HELLO) == text


def test_a_broken_template_and_none_at_all() -> None:
    with pytest.raises(ModelError, match="chat template is not valid"):
        made(tokenizer_config={"chat_template": "{% for %}"})
    tokenizer = made()
    assert not tokenizer.has_chat_template
    with pytest.raises(InputError, match="no chat template"):
        tokenizer.encode_chat(HELLO)


# -- streaming ------------------------------------------------------------------------------------------------------

UNFINISHED = "\N{REPLACEMENT CHARACTER}"


def streamed(tokenizer: Tokenizer, ids: list[int], prompt: list[int] | None = None) -> list[str]:
    stream = tokenizer.stream(prompt or [])
    return [*(stream.push(i) for i in ids), stream.finish()]


@pytest.mark.parametrize("core", [byte_level, sentence_piece])
def test_characters_are_never_cut(core: Callable[[], Core]) -> None:
    tokenizer = made(core())

    @given(text=st.text(max_size=30))
    @example(text="é😀日本 a  b\n")
    def whole(text: str) -> None:
        text = text.replace(UNFINISHED, "").lstrip()  # that character cannot be told from an unfinished one
        pieces = streamed(tokenizer, tokenizer.encode(text))
        assert "".join(pieces) == tokenizer.decode(tokenizer.encode(text))
        assert not any(UNFINISHED in piece for piece in pieces)

    whole()


@given(ids=st.lists(st.integers(0, 263), max_size=30))
def test_any_tokens_give_the_decoded_text(ids: list[int]) -> None:
    tokenizer = made()
    assert "".join(streamed(tokenizer, ids)) == tokenizer.decode(ids)


def test_pieces_come_as_soon_as_they_are_certain() -> None:
    tokenizer = made()
    ids = tokenizer.encode("aé😂b")
    pieces = streamed(tokenizer, ids)
    assert [piece for piece in pieces if piece] == ["a", "é", "😂", "b"]
    assert pieces[-1] == ""


def test_an_unfinished_character_shows_at_the_end() -> None:
    tokenizer = made()
    euro = tokenizer.encode("€")
    assert streamed(tokenizer, euro[:2]) == ["", "", UNFINISHED]


def test_bytes_that_are_no_text_come_out_some_time() -> None:
    tokenizer = made()
    stray = tokenizer.encode("€")[1]
    assert UNFINISHED in "".join(streamed(tokenizer, [stray] * 200)[:-1])


def test_spaces_depend_on_what_stands_before() -> None:
    tokenizer = made(sentence_piece())
    a, space, bos = (tokenizer.encode("a")[0], 258, 1)
    assert tokenizer.decode([a]) == "a"
    assert streamed(tokenizer, [a, a]) == ["a", " a", ""]
    assert streamed(tokenizer, [a], prompt=[bos, a]) == [" a", ""]
    assert streamed(tokenizer, [a], prompt=[bos]) == ["a", ""]
    mixed = [a, bos, a, space, space, a]  # a control token in the middle is no text, and not the start of one either
    assert "".join(streamed(tokenizer, mixed)) == tokenizer.decode(mixed) == "a a   a"
