"""What an ablation is given and what it finds: plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from tlite_vk.errors import InputError

IDEAS = {
    "int4": ("E0M4", "INT4, subtract and scale"),
    "concat": ("KV ring", "Concat, the past copied"),
    "unfused": ("fused", "unfused"),
    "unplanned": ("planned memory", "no memory shared"),
    "single": ("several tokens a submission", "one a submission"),
}
"""name: (what the runtime does, what takes its place)"""


@dataclass(frozen=True)
class AblationPlan:
    """prompt, gen: tokens of a prompt, and decoded in one measurement. cached: positions behind which the ring is
    compared. batch: tokens of one submission. ideas: which of IDEAS. Raises InputError for what cannot be measured."""

    prompt: int = 128
    gen: int = 16
    rounds: int = 7
    cached: Sequence[int] = (128, 512, 2048)
    batch: int = 16
    ideas: Sequence[str] = tuple(IDEAS)

    def __post_init__(self) -> None:
        if min(self.prompt, self.gen, self.rounds, self.batch, *self.cached) < 1 or not self.cached:
            raise InputError("prompt, gen, rounds, batch and cached must be at least 1")
        unknown = [name for name in self.ideas if name not in IDEAS]
        if unknown or not self.ideas:
            raise InputError(f"unknown ablation {', '.join(unknown) or 'of none'}; known: {', '.join(IDEAS)}")

    @property
    def positions(self) -> int:
        """How many the cache must hold."""
        return max(self.prompt + self.gen, *self.cached)


@dataclass(frozen=True)
class Row:
    """One figure of both sides: the medians of the rounds, which follow one by one. Less is better.

    what: "decode", "prefill" or "memory". tokens: cached before a decoded token, or of the prompt; 0 for memory.
    unit: "ms" of a token or of a prompt, or "bytes".
    """

    what: str
    tokens: int
    unit: str
    baselines: list[float]
    variants: list[float]

    @property
    def baseline(self) -> float:
        return median(self.baselines)

    @property
    def variant(self) -> float:
        return median(self.variants)

    @property
    def ratios(self) -> list[float]:
        """Of each round, whose two measurements follow one another: how many times the baseline the variant takes."""
        return [b / a for a, b in zip(self.baselines, self.variants, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios: other work on the machine comes and goes between rounds."""
        return median(self.ratios)

    def as_json(self) -> dict[str, Any]:
        medians = {"baseline": self.baseline, "variant": self.variant, "ratio": self.ratio}
        return asdict(self) | medians | {"ratios": self.ratios}


@dataclass(frozen=True)
class Ablation:
    """Both sides of one idea. logit_difference: the largest of any logit, over the same tokens. same_tokens: of
    `steps` steps, how many choose the same token on both sides."""

    name: str
    baseline: str
    variant: str
    rows: list[Row]
    logit_difference: float
    same_tokens: int
    steps: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"rows": [row.as_json() for row in self.rows]}


@dataclass(frozen=True)
class AblationReport:
    """What `ablate` found."""

    model: str
    device: str
    driver: str
    precision: str
    prompt: int
    gen: int
    rounds: int
    batch: int
    left_out: list[int]
    ablations: list[Ablation]

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"ablations": [a.as_json() for a in self.ablations]}
