"""Build a Hugging Face tokenizer from a GGUF vocabulary: byte-level BPE (gpt2) or SentencePiece-style BPE (llama)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, processors
from tokenizers.models import BPE

from tlite_vk.convert.gguf_reader import GgufFile, shown
from tlite_vk.convert.pre_tokenizers import KNOWN_STYLES, bpe_style
from tlite_vk.errors import ModelError

_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4  # GGUF token types that stand outside the merges
_SPACE = "\u2581"  # SentencePiece's visible space


@dataclass(frozen=True)
class Vocabulary:
    """The token lists of a GGUF file; index is the token id. bos, eos, unk and pad are ids."""

    tokens: list[str]
    types: list[int]
    scores: list[float]
    merges: list[str]
    bos: int | None = None
    eos: int | None = None
    unk: int | None = None
    pad: int | None = None

    @cached_property
    def ids(self) -> dict[str, int]:
        """Token -> id; where a token occurs twice, its first id."""
        return {token: i for i, token in reversed(list(enumerate(self.tokens)))}


def build_tokenizer(vocabulary: Vocabulary, gguf: GgufFile) -> tuple[Tokenizer, bool, bool]:
    """(tokenizer, whether it puts BOS before a text, whether EOS after). Raises ModelError for an unknown kind."""
    kind = gguf.metadata["tokenizer.ggml.model"]
    if kind == "gpt2":
        tokenizer, adds_bos = _byte_level(vocabulary, gguf)
    elif kind == "llama":
        tokenizer, adds_bos = _sentence_piece(vocabulary, gguf), True
    else:
        raise ModelError(f"{gguf.path}: tokenizer kind {shown(kind)} is not supported; 'gpt2' and 'llama' are")
    adds_bos = bool(gguf.metadata.get("tokenizer.ggml.add_bos_token", adds_bos))
    adds_eos = bool(gguf.metadata.get("tokenizer.ggml.add_eos_token", False))
    _add_special_tokens(tokenizer, vocabulary)
    tokenizer.post_processor = _frame(vocabulary, adds_bos, adds_eos)
    return tokenizer, adds_bos, adds_eos


def _byte_level(vocabulary: Vocabulary, gguf: GgufFile) -> tuple[Tokenizer, bool]:
    name = str(gguf.metadata.get("tokenizer.ggml.pre", "default"))
    style = bpe_style(name)
    if style is None:
        known = ", ".join(KNOWN_STYLES)
        raise ModelError(f"{gguf.path}: pre-tokenizer {shown(name)} is not supported; supported: {known}")
    merges = [_pair(merge, gguf) for merge in vocabulary.merges]
    tokenizer = Tokenizer(_bpe(gguf, vocab=vocabulary.ids, merges=merges, ignore_merges=style.ignore_merges))
    tokenizer.pre_tokenizer = style.splitter
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, style.add_bos


def _sentence_piece(vocabulary: Vocabulary, gguf: GgufFile) -> Tokenizer:
    merges = [_pair(m, gguf) for m in vocabulary.merges] or _merges_by_score(vocabulary)
    unknown = None if vocabulary.unk is None else vocabulary.tokens[vocabulary.unk]
    model = _bpe(gguf, vocab=vocabulary.ids, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    prefix = bool(gguf.metadata.get("tokenizer.ggml.add_space_prefix", True))
    replace = normalizers.Replace(" ", _SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), replace]) if prefix else replace
    steps = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefix else steps)
    return tokenizer


def _bpe(gguf: GgufFile, **arguments: Any) -> BPE:
    try:
        return BPE(**arguments)
    except Exception as error:  # the library raises plain Exception for a merge of tokens that do not exist
        raise ModelError(f"{gguf.path}: the tokenizer is contradictory: {str(error).splitlines()[0]}") from error


def _pair(merge: str, gguf: GgufFile) -> tuple[str, str]:
    at = merge.find(" ", 1)  # a token may begin with a space, but holds no other
    if at < 0 or at + 1 == len(merge):
        raise ModelError(f"{gguf.path}: the tokenizer's merge {shown(merge)} is not two tokens")
    return merge[:at], merge[at + 1 :]


def _merges_by_score(vocabulary: Vocabulary) -> list[tuple[str, str]]:
    """SentencePiece merges the pair whose result scores best; as BPE: every split of every token, best result first."""
    ids, ranked = vocabulary.ids, []
    for token, index in ids.items():
        splits = ((token[:i], token[i:]) for i in range(1, len(token)))
        known = [(left, right) for left, right in splits if left in ids and right in ids]
        ranked += [(-vocabulary.scores[index], ids[left], ids[right], left, right) for left, right in known]
    return [(left, right) for _, _, _, left, right in sorted(ranked)]


def _add_special_tokens(tokenizer: Tokenizer, vocabulary: Vocabulary) -> None:
    """Control tokens are found in text as they are and left out of decoded text; user-defined ones are kept."""
    kinds = list(zip(vocabulary.tokens, vocabulary.types, strict=True))
    control = [t for t, kind in kinds if kind in (_UNKNOWN, _CONTROL)]
    defined = [t for t, kind in kinds if kind == _USER_DEFINED]
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in control if t])
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=False) for t in defined if t])


def _frame(vocabulary: Vocabulary, adds_bos: bool, adds_eos: bool) -> processors.PostProcessor:
    """The post-processor that adds BOS and EOS."""
    before = vocabulary.bos if adds_bos else None
    after = vocabulary.eos if adds_eos else None
    ends = [(vocabulary.tokens[i], i) for i in (before, after) if i is not None]
    single = [vocabulary.tokens[before]] if before is not None else []
    single += ["$A"] + ([vocabulary.tokens[after]] if after is not None else [])
    return processors.TemplateProcessing(single=single, pair=None, special_tokens=ends)
