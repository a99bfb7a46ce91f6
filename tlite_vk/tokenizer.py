"""The tokenizer beside a model: text to token ids and back, chat messages to ids, and where an answer ends."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from tlite_vk.chat_template import ChatTemplate, Message
from tlite_vk.errors import InputError, ModelError
from tlite_vk.text_stream import TextStream

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.jinja",
    "config.json",
)
"""What is looked for beside a model, as Hugging Face names it; only the first must exist."""

_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")
_NO_LIMIT = 10**9  # tokenizer_config.json writes 1e30 for "unknown"


class Tokenizer:
    """Encodes and decodes for one model. Immutable; may be shared between threads."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        """`texts` maps names of TOKENIZER_FILES to their contents. Raises ModelError if one of them is damaged."""
        self.texts = {name: texts[name] for name in TOKENIZER_FILES if name in texts}
        with _library():
            self._core = tokenizers.Tokenizer.from_str(self.texts["tokenizer.json"])
            self._core.no_truncation()  # both may be set in the file, for training
            self._core.no_padding()
        config = self._json("tokenizer_config.json")
        self.special_tokens = {name: text for name in _SPECIAL if (text := _token_text(config.get(name))) is not None}
        self.bos_id = self._core.token_to_id(self.special_tokens.get("bos_token", ""))
        self.stop_ids = self._stop_ids()
        self.context_length = self._context_length(config)
        self._adds_bos = bool(config.get("add_bos_token", False))
        source = self.texts.get("chat_template.jinja") or _default_template(config.get("chat_template"))
        self._template = ChatTemplate(source, self.special_tokens) if source else None

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """From the folder `path`, or the folder of the model file `path`. Raises ModelError without tokenizer.json."""
        folder = path if path.is_dir() else path.parent
        try:
            texts = {n: (folder / n).read_text(encoding="utf-8") for n in TOKENIZER_FILES if (folder / n).is_file()}
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"cannot read the tokenizer files in {folder}: {error}") from error
        if "tokenizer.json" not in texts:
            raise ModelError(f"no tokenizer.json in {folder}; put the model's tokenizer.json beside it")
        return cls(texts)

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids, added tokens included."""
        return int(self._core.get_vocab_size())

    @property
    def has_chat_template(self) -> bool:
        """Whether `encode_chat` works."""
        return self._template is not None

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids of `text`; `special` adds what the model wants around a text (BOS, if anything).

        Raises InputError for text that is not valid Unicode, ModelError where the tokenizer fails over it.
        """
        try:
            text.encode()
        except UnicodeError:  # half of a surrogate pair, from a terminal that is not UTF-8
            raise InputError("the text is not valid Unicode; save or pass it as UTF-8") from None
        with _library():
            return list(self._core.encode(text, add_special_tokens=special).ids)

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """Text of `ids`; control tokens are left out unless `skip_special` is False."""
        with _library():
            return str(self._core.decode(list(ids), skip_special_tokens=skip_special))

    def stream(self, prompt: Sequence[int] = ()) -> TextStream:
        """A decoder for tokens that continue `prompt`, giving text as soon as it is certain."""
        return TextStream(self.decode, prompt)

    def render_chat(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The conversation as the model's template writes it.

        Raises InputError if the model has no template or the template refuses the messages.
        """
        if self._template is None:
            raise InputError("this model has no chat template; leave out --chat and give it a plain prompt")
        return self._template.render(messages, add_generation_prompt=add_generation_prompt)

    def encode_chat(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> list[int]:
        """Token ids of the rendered conversation, with exactly one BOS where the model wants one."""
        ids = self.encode(self.render_chat(messages, add_generation_prompt=add_generation_prompt), special=False)
        if self._adds_bos and self.bos_id is not None and ids[:1] != [self.bos_id]:
            return [self.bos_id, *ids]
        return ids

    # -- settings ---------------------------------------------------------------------------------------------------

    def _json(self, name: str) -> dict[str, Any]:
        try:
            value = json.loads(self.texts.get(name, "{}"))
        except ValueError as error:
            raise ModelError(f"{name} is damaged: {error}") from error
        if not isinstance(value, dict):
            raise ModelError(f"{name} is damaged: it is not a JSON object")
        return value

    def _stop_ids(self) -> frozenset[int]:
        """Ends of sequence from the generation settings, else the model's, else the tokenizer's own."""
        for name in ("generation_config.json", "config.json"):
            ends = self._json(name).get("eos_token_id")
            ends = ends if isinstance(ends, list) else [ends]
            if found := frozenset(end for end in ends if isinstance(end, int)):
                return found
        end = self._core.token_to_id(self.special_tokens.get("eos_token", ""))
        return frozenset() if end is None else frozenset([end])

    def _context_length(self, config: Mapping[str, Any]) -> int | None:
        """Positions the model was made for, or None if no file says."""
        for limit in (self._json("config.json").get("max_position_embeddings"), config.get("model_max_length")):
            if isinstance(limit, int) and 0 < limit < _NO_LIMIT:
                return limit
        return None


@contextlib.contextmanager
def _library() -> Iterator[None]:
    """What the library raises over a damaged file is a ModelError: plain Exceptions, and panics, which derive from
    BaseException."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise  # Ctrl-C
        why = " ".join(str(error).split())[:300]
        raise ModelError(f"tokenizer.json is damaged: {why}") from error


def _token_text(value: object) -> str | None:
    """A special token is written as its text or as an object that holds it."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _default_template(value: object) -> str | None:
    """A chat template is one text, or a list of named ones."""
    if isinstance(value, list):
        named = {item.get("name"): item.get("template") for item in value if isinstance(item, dict)}
        value = named.get("default")
    return value if isinstance(value, str) else None
