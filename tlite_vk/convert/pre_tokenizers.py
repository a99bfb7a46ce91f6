"""How text is cut into words before byte-pair merging, by the name that GGUF gives it in `tokenizer.ggml.pre`.

Sources: llama.cpp's pre-tokenizer table (llama-vocab.cpp) for the names, the models' own tokenizer.json for the rules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tokenizers import Regex, pre_tokenizers
from tokenizers.pre_tokenizers import PreTokenizer

_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SYMBOLS_AND_SPACE = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_CONTRACTION}|{_WORD}|\p{{N}}{{1,3}}|{_SYMBOLS_AND_SPACE}"
_QWEN2 = rf"{_CONTRACTION}|{_WORD}|\p{{N}}|{_SYMBOLS_AND_SPACE}"

_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_LEAD = r"[^\r\n\p{L}\p{N}]?"
_SYMBOLS_AND_SLASH = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TEKKEN = rf"{_LEAD}{_UPPER}*{_LOWER}+|{_LEAD}{_UPPER}+{_LOWER}*|\p{{N}}|{_SYMBOLS_AND_SLASH}"

_DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+", r"\p{N}")


@dataclass(frozen=True)
class BpeStyle:
    """One way to split, and the two habits that go with it."""

    splitter: PreTokenizer
    ignore_merges: bool = False  # a word that is a token as a whole is taken as it is
    add_bos: bool = False  # the default where the file does not say


def _gpt2() -> PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _single_digits() -> PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _gpt2()])


def _patterns(*patterns: str) -> PreTokenizer:
    """Split at each pattern in turn, then turn bytes into the visible characters of the vocabulary."""
    splits = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in patterns]
    return pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


_STYLES: tuple[tuple[tuple[str, ...], Callable[[], PreTokenizer], bool], ...] = (
    # names, splitter, whether whole words are taken and BOS is the default
    (("default", "gpt-2", "gpt2", "phi-2", "olmo", "jais", "mpt", "trillion"), _gpt2, False),
    (("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), _single_digits, False),
    (("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"), partial(_patterns, _LLAMA3), True),
    (("dbrx", "smaug-bpe"), partial(_patterns, _LLAMA3), False),
    (("qwen2", "deepseek-r1-qwen", "stablelm2"), partial(_patterns, _QWEN2), False),
    (("tekken",), partial(_patterns, _TEKKEN), True),
    (("deepseek-coder",), partial(_patterns, *_DEEPSEEK_CODER), False),
)

KNOWN_STYLES: tuple[str, ...] = tuple(name for names, _, _ in _STYLES for name in names)
"""Every name that `bpe_style` knows."""


def bpe_style(name: str) -> BpeStyle | None:
    """The style called `name`, or None if it is not known."""
    for names, splitter, whole_words in _STYLES:
        if name in names:
            return BpeStyle(splitter(), ignore_merges=whole_words, add_bos=whole_words)
    return None
