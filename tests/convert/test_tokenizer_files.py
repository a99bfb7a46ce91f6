"""Tokenizers built from GGUF metadata, against the algorithms they stand for."""

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFWriter
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

from tlite_vk.convert.gguf_reader import GgufFile
from tlite_vk.convert.llama_config import read_config
from tlite_vk.convert.pre_tokenizers import KNOWN_STYLES
from tlite_vk.convert.tokenizer_build import Vocabulary, build_tokenizer
from tlite_vk.convert.tokenizer_files import tokenizer_files
from tlite_vk.errors import ModelError

WriteModel = Callable[..., Path]
Built = tuple[Tokenizer, dict[str, Any], dict[str, Any]]

ALPHABET = sorted(ByteLevel.alphabet())  # the visible stand-ins of the 256 bytes
MERGES = ["1 2", "12 3", "123 4", "a b", "Ġ a", "Ġ ab", "Ġ Ġ"]
BYTE_LEVEL = [*ALPHABET, "12", "123", "1234", "ab", "Ġa", "Ġab", "ĠĠ", "whole", "<|end|>", "<|im_end|>", "[tool]"]
TYPES = [1] * (len(BYTE_LEVEL) - 3) + [3, 3, 4]

PIECES = ["\u2581", "a", "b", "c", "\u2581a", "ab", "\u2581ab", "bc", "abc", "aa", "\u2581\u2581", "caa", "b\u2581a"]
SCORES = [-9.0, -8.0, -8.5, -8.7, -1.0, -2.5, -1.5, -2.0, -3.0, -2.2, -4.0, -3.3, -2.7]
SENTENCE_PIECE = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *PIECES]


def build(write_model: WriteModel, add: Callable[[GGUFWriter], None]) -> Built:
    """(tokenizer, tokenizer_config, generation_config) as converted."""
    with GgufFile(write_model(add=add, layers=1)) as gguf:
        texts = tokenizer_files(gguf, read_config(gguf))
    parsed = [json.loads(texts[name]) for name in ("tokenizer_config.json", "generation_config.json")]
    return Tokenizer.from_str(texts["tokenizer.json"]), parsed[0], parsed[1]


def byte_level(pre: str | None, more: Callable[[GGUFWriter], None] | None = None) -> Callable[[GGUFWriter], None]:
    def add(writer: GGUFWriter) -> None:
        writer.add_tokenizer_model("gpt2")
        if pre is not None:
            writer.add_tokenizer_pre(pre)
        writer.add_token_list(BYTE_LEVEL)
        writer.add_token_types(TYPES)
        writer.add_token_merges(MERGES)
        writer.add_bos_token_id(BYTE_LEVEL.index("<|end|>"))
        writer.add_eos_token_id(BYTE_LEVEL.index("<|end|>"))
        if more is not None:
            more(writer)

    return add


def sentence_piece(writer: GGUFWriter) -> None:
    writer.add_tokenizer_model("llama")
    writer.add_token_list(SENTENCE_PIECE)
    writer.add_token_scores([0.0] * 259 + SCORES)
    writer.add_token_types([2, 3, 3, *[6] * 256, *[1] * len(PIECES)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    return list(tokenizer.encode(text, add_special_tokens=False).tokens)


# -- byte level -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pre", "digits"),
    [
        (None, ["1234"]),
        ("gpt-2", ["1234"]),
        ("smollm", ["1", "2", "3", "4"]),
        ("llama-bpe", ["123", "4"]),
        ("qwen2", ["1", "2", "3", "4"]),
        ("tekken", ["1", "2", "3", "4"]),
        ("deepseek-coder", ["1", "2", "3", "4"]),
    ],
)
def test_digits_are_split_as_the_style_says(write_model: WriteModel, pre: str | None, digits: list[str]) -> None:
    tokenizer, _, _ = build(write_model, byte_level(pre))
    assert pieces(tokenizer, "1234") == digits
    assert pieces(tokenizer, "ab ab") == ["ab", "Ġab"]


def test_whole_words_skip_the_merges_where_the_style_says(write_model: WriteModel) -> None:
    for pre, expected in (("llama-bpe", ["whole"]), ("gpt-2", list("whole"))):
        assert pieces(build(write_model, byte_level(pre))[0], "whole") == expected


def test_bos_by_default_and_as_the_file_says(write_model: WriteModel) -> None:
    end = BYTE_LEVEL.index("<|end|>")
    a = BYTE_LEVEL.index("a")
    cases: list[tuple[str, bool | None, list[int]]] = [
        ("smollm", None, [a]),
        ("llama-bpe", None, [end, a]),
        ("llama-bpe", False, [a]),
        ("smollm", True, [end, a]),
    ]
    for pre, says, expected in cases:
        more = None if says is None else (lambda writer, flag=says: writer.add_add_bos_token(flag))
        tokenizer, settings, _ = build(write_model, byte_level(pre, more))
        assert tokenizer.encode("a").ids == expected
        assert settings["add_bos_token"] == (len(expected) == 2)


def test_special_tokens_are_found_in_text_and_left_out_of_text(write_model: WriteModel) -> None:
    tokenizer, _, generation = build(write_model, byte_level("smollm"))
    ids = tokenizer.encode("a<|im_end|>b[tool]", add_special_tokens=False).ids
    assert ids == [BYTE_LEVEL.index(token) for token in ("a", "<|im_end|>", "b", "[tool]")]
    assert tokenizer.decode(ids) == "ab[tool]"  # a user-defined token is text
    assert generation["eos_token_id"] == [BYTE_LEVEL.index("<|end|>"), BYTE_LEVEL.index("<|im_end|>")]


@pytest.mark.parametrize("pre", KNOWN_STYLES)
def test_every_style_keeps_every_byte(write_model: WriteModel, pre: str) -> None:
    tokenizer, _, _ = build(write_model, byte_level(pre))

    @given(text=st.text(max_size=40))
    def keeps(text: str) -> None:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text

    keeps()


def test_ids_stay_where_the_file_puts_them(write_model: WriteModel) -> None:
    tokenizer, _, _ = build(write_model, byte_level("smollm"))
    assert [tokenizer.id_to_token(i) for i in range(len(BYTE_LEVEL))] == BYTE_LEVEL


# -- SentencePiece --------------------------------------------------------------------------------------------------


def merge_by_score(text: str) -> list[str]:
    """SentencePiece's BPE, literally: merge the neighbours whose union scores best (leftmost first) to the end."""
    score = dict(zip(PIECES, SCORES, strict=True))
    parts = list("\u2581" + text.replace(" ", "\u2581"))
    while True:
        unions = [(score[a + b], -i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in score]
        if not unions:
            return [piece for part in parts for piece in spelled(part)]
        at = -max(unions)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


def spelled(part: str) -> Sequence[str]:
    return [part] if part in PIECES else [f"<0x{byte:02X}>" for byte in part.encode()]


def test_merges_as_sentence_piece_does(write_model: WriteModel) -> None:
    tokenizer, _, _ = build(write_model, sentence_piece)

    @given(text=st.text(alphabet="abc é日\n", min_size=1, max_size=24))
    def agrees(text: str) -> None:
        assert pieces(tokenizer, text) == merge_by_score(text)
        assert tokenizer.decode(tokenizer.encode(text).ids) == text

    agrees()


def test_sentence_piece_frame(write_model: WriteModel) -> None:
    tokenizer, settings, generation = build(write_model, sentence_piece)
    assert tokenizer.encode("a").tokens == ["<s>", "\u2581a"]
    assert tokenizer.encode("").tokens == ["<s>"]
    assert (settings["add_bos_token"], settings["add_eos_token"]) == (True, False)
    assert generation["eos_token_id"] == [2]


def test_without_the_space_in_front(write_model: WriteModel) -> None:
    def add(writer: GGUFWriter) -> None:
        sentence_piece(writer)
        writer.add_add_space_prefix(False)

    tokenizer, _, _ = build(write_model, add)
    assert pieces(tokenizer, "a b") == ["a", "\u2581", "b"]
    assert tokenizer.decode(tokenizer.encode(" a b").ids) == " a b"


# -- refused --------------------------------------------------------------------------------------------------------


def changed(key: str, value: object) -> Callable[[GGUFWriter], None]:
    def add(writer: GGUFWriter) -> None:
        byte_level("smollm")(writer)
        writer.kv_data[0].pop(f"tokenizer.ggml.{key}", None)
        if isinstance(value, str):
            writer.add_string(f"tokenizer.ggml.{key}", value)
        elif isinstance(value, int):
            writer.add_uint32(f"tokenizer.ggml.{key}", value)
        elif isinstance(value, list):
            writer.add_array(f"tokenizer.ggml.{key}", value)

    return add


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model", "bert", "tokenizer kind 'bert' is not supported"),
        ("pre", "unheard-of", "pre-tokenizer 'unheard-of' is not supported; supported: default, gpt-2"),
        ("tokens", None, "tokens' is missing"),
        ("tokens", [1, 2], "not a list of strings"),
        ("tokens", ["x"] * 289, "289 tokens, the embedding only 288 rows"),
        ("token_type", [1, 1], "token_type' does not have one entry for each token"),
        ("merges", ["ab"], "merge 'ab' is not two tokens"),
        ("merges", ["a z9"], "the tokenizer is contradictory"),
        ("merges", 5, "merges' is not a list"),
        ("eos_token_id", 5000, "eos_token_id' is 5000, outside"),
    ],
)
def test_refuses(write_model: WriteModel, key: str, value: object, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        build(write_model, changed(key, value))
    assert "\n" not in str(caught.value)


def test_a_token_that_occurs_twice_keeps_its_first_id(write_model: WriteModel) -> None:
    vocabulary = Vocabulary(["a", "b", "a"], [1, 1, 1], [0.0] * 3, [])
    assert vocabulary.ids == {"a": 0, "b": 1}
    with GgufFile(write_model(add=lambda w: w.add_tokenizer_model("gpt2"))) as gguf:
        tokenizer, _, _ = build_tokenizer(vocabulary, gguf)
    assert tokenizer.token_to_id("a") == 0
