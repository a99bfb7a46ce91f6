"""From a compiled file to a Program for a device. Needs neither onnx nor sympy nor a GLSL compiler."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tlite_vk.errors import ModelError
from tlite_vk.program import Program
from tlite_vk.target import Target

from . import program_json, variants
from .archive import ABOUT, Archive


class CompiledFile:
    """An open compiled file. Weights stay mapped until they are uploaded."""

    def __init__(self, path: Path) -> None:
        """Raises ModelError, in one line, for a file that is foreign, of another version, truncated or damaged."""
        self.path = path
        self._archive = Archive(path)
        about = self._json(ABOUT)
        try:
            self._members = [str(variant["program"]) for variant in about["variants"]]
            self.targets = [variants.from_json(variant["target"]) for variant in about["variants"]]
            self.facts = {str(key): str(value) for key, value in about["facts"].items()}
            stops = about["stop_ids"]
            self.stop_ids = None if stops is None else frozenset(int(stop) for stop in stops)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"{path} is malformed ({ABOUT}: {error}); compile the model again") from error
        self.about = about

    def program(self, device: Target, entries: Sequence[str]) -> tuple[Program, Target]:
        """The program of the variant that a device runs, and the variant. Raises ModelError where none fits."""
        number = variants.choose(self.targets, device)
        program = self.programs(number)
        missing = [name for name in entries if name not in program.entries]
        if missing:
            raise ModelError(f"{self.path} has no {' and no '.join(missing)}; compile the model again")
        return program.only(entries), self.targets[number]

    def programs(self, number: int) -> Program:
        """The whole program of a variant, by its number in `targets`."""
        name = self._members[number]
        text = self._archive.read(name)
        return program_json.from_json(text, self._archive.section, self._archive.read, f"{self.path} ({name})")

    def texts(self, folder: str) -> dict[str, str]:
        """Text members of a folder ("tokenizer/", "licence/"), by their names in it."""
        found = {name.removeprefix(folder): self._archive.read(name) for name in self._archive.names(folder)}
        try:
            return {name: content.decode() for name, content in found.items()}
        except UnicodeDecodeError as error:
            raise ModelError(f"{self.path} is malformed ({folder}: {error}); compile the model again") from error

    def check_all(self) -> None:
        """Check what nothing has used: every byte of the file has been checked then. Raises ModelError."""
        self._archive.check_all()

    def _json(self, name: str) -> dict[str, Any]:
        try:
            value = json.loads(self._archive.read(name))
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise ModelError(f"{self.path} is malformed ({name}); compile the model again")
        return value
