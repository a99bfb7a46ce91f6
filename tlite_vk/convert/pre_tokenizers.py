"""How text is cut into words before byte-pair merging, by the name that GGUF gives it in `tokenizer.ggml.pre`.

Source: the pre-tokenizer table of llama.cpp (llama-vocab.cpp) for the names, the models' own tokenizer.json for the rules.
"""

from __future__ import annotations

from dataclasses import dataclass

from tokenizers import Regex, pre_tokenizers
from tokenizers.pre_tokenizers import PreTokenizer

_LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = _LETTERS + r"|\p{N}{1,3}" + _REST
_QWEN2 = _LETTERS + r"|\p{N}" + _REST
_CASED_HEAD = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
_CASED_TAIL = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
_CASED_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TEKKEN = f"{_CASED_HEAD}|{_CASED_TAIL}" + r"|\p{N}" + _CASED_REST


@dataclass(frozen=True)
class BpeStyle:
    """One way to split, and the two habits that go with it."""

    splitter: PreTokenizer
    ignore_merges: bool = False  # a word that is a token as a whole is taken as it is
    add_bos: bool = False  # the default where the file does not say


def _gpt2() -> PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _digits() -> PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _gpt2()])


def _regex(pattern: str) -> PreTokenizer:
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False)
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def bpe_style(name: str) -> BpeStyle | None:
    """The style called `name`, or None if it is not known."""
    if name in ("gpt-2", "gpt2", "default", "phi-2", "olmo", "jais", "mpt", "dbrx-gpt2"):
        return BpeStyle(_gpt2())
    if name in ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"):
        return BpeStyle(_digits())
    if name in ("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "dbrx", "smaug-bpe"):
        return BpeStyle(_regex(_LLAMA3), ignore_merges=name in _TAKES_WHOLE_WORDS, add_bos=name in _TAKES_WHOLE_WORDS)
    if name in ("qwen2", "stablelm2", "hunyuan"):
        return BpeStyle(_regex(_QWEN2))
    if name == "tekken":
        return BpeStyle(_regex(_TEKKEN), ignore_merges=True, add_bos=True)
    return None


KNOWN_STYLES = ("gpt-2", "smollm", "starcoder", "refact", "command-r", "llama-bpe", "qwen2", "tekken", "dbrx", "smaug-bpe")
"""Names for error messages."""

_TAKES_WHOLE_WORDS = ("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral")
