"""Which format each weight gets: options, patterns, and groups that divide its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from tlite_vk.errors import InputError

from .uses import Role, Weight

GROUPS = (32, 64, 128)


class Format(StrEnum):
    """How a weight is stored, from the fewest bits to the most; `keep` leaves it as it is."""

    E0M4 = "e0m4"
    INT4 = "int4"
    INT8 = "int8"
    FP16 = "fp16"
    KEEP = "keep"


class Method(StrEnum):
    """How steps are found."""

    LEAST_SQUARES = "least-squares"
    MINMAX = "minmax"


@dataclass(frozen=True)
class Options:
    """What to quantize, and how. The constructor raises InputError for what does not exist.

    format: of the weights of products. e0m4: 4 bits with a step and a minimum per group (without the minimum if
    `symmetric`); int4: 4 bits with a step and an integer zero point; int8: 8 bits with a step; fp16; keep.
    group: weights that share a step, 32, 64 or 128. A weight whose rows it does not divide gets the next smaller one.
    hold_zero: e0m4 with a minimum prefers steps that give 0 a code, in groups where that is no worse than min/max.
    embedding, head: of tables that Gather reads, and of products whose result becomes an output; a matrix that is both
    gets the one of more bits.
    keep: patterns (as in a shell) of weights or their readers that stay as they are.
    types: pattern to format, for other exceptions; the last that matches counts.
    """

    format: str = Format.E0M4
    group: int = 32
    method: str = Method.LEAST_SQUARES
    symmetric: bool = False
    hold_zero: bool = False
    embedding: str = Format.INT8
    head: str = Format.INT8
    keep: Sequence[str] = ()
    types: Mapping[str, str] | Sequence[tuple[str, str]] = ()

    def __post_init__(self) -> None:
        for name in (self.format, self.embedding, self.head, *(kind for _, kind in self._pairs())):
            if name not in list(Format):
                raise InputError(f"unknown format {str(name)!r}; known: {', '.join(Format)}")
        if self.method not in list(Method):
            raise InputError(f"unknown method {str(self.method)!r}; known: {', '.join(Method)}")
        if self.group not in GROUPS:
            raise InputError(f"groups of {self.group} are not supported; choose 32, 64 or 128")

    def _pairs(self) -> list[tuple[str, str]]:
        return list(self.types.items()) if isinstance(self.types, Mapping) else list(self.types)

    @property
    def patterns(self) -> list[tuple[str, Format]]:
        """All patterns; the last that matches counts."""
        return [*((glob, Format(kind)) for glob, kind in self._pairs()), *((glob, Format.KEEP) for glob in self.keep)]


@dataclass(frozen=True)
class Choice:
    """What becomes of a weight: its format and group (0: no groups), or `keep` and why."""

    format: Format
    group: int = 0
    reason: str = ""


def choose(weight: Weight, options: Options) -> Choice:
    """The format of a weight, or why it stays as it is."""
    kind = _wanted(weight, options)
    if kind is Format.KEEP:
        return Choice(kind, reason="as asked for")
    if kind is Format.FP16:
        is_half = weight.dtype in ("float16", "bfloat16")
        return Choice(Format.KEEP, reason=f"it is {weight.dtype} already") if is_half else Choice(kind)
    group = next((g for g in reversed(GROUPS) if g <= options.group and weight.columns % g == 0), 0)
    if not group:
        return Choice(Format.KEEP, reason=f"its reduction length {weight.columns} is not a multiple of {GROUPS[0]}")
    return Choice(kind, group)


def _wanted(weight: Weight, options: Options) -> Format:
    matching = [kind for glob, kind in options.patterns if any(fnmatchcase(name, glob) for name in weight.names)]
    if matching:
        return matching[-1]
    embedding, head = Format(options.embedding), Format(options.head)
    if weight.role is Role.TIED:
        return max(embedding, head, key=list(Format).index)
    return {Role.EMBEDDING: embedding, Role.HEAD: head}.get(weight.role, Format(options.format))


def check_patterns(options: Options, weights: Sequence[Weight]) -> None:
    """Raise InputError for a pattern that matches no weight: most likely a slip."""
    for glob, _ in options.patterns:
        if not any(fnmatchcase(name, glob) for weight in weights for name in weight.names):
            example = next((w.label for w in weights), "none")
            raise InputError(f"the pattern {glob!r} matches no weight and no node that reads one, such as {example!r}")
