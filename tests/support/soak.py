"""A long generation through a window: prompts and answers in turns, in one ring, with memory and tokens watched."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from support.plain_llama import PlainLlama

from tlite_vk.engine import Variant
from tlite_vk.generate import Model

BATCH = 8
"""Tokens of one submission."""


@dataclass
class Soak:
    """What a run left. Bytes were noted after each turn; `points` are (position, token, expected, margin)."""

    tokens: list[int] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)  # positions of the generated ones
    host: list[int] = field(default_factory=list)
    device: list[int] = field(default_factory=list)
    points: list[tuple[int, int, int, float]] = field(default_factory=list)

    def growth(self, bytes_: list[int], warm: float = 0.25) -> float:
        """The largest difference after the first `warm` of the turns, as a share of what there was then."""
        rest = bytes_[int(len(bytes_) * warm) :]
        return (max(rest) - min(rest)) / rest[0]


def host_bytes() -> int:
    """Memory of this process that is resident now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return 1024 * int(line.split()[1])
    raise AssertionError("no VmRSS in /proc/self/status")


def run(
    model: Model, generate: int, *, vocabulary: int, longest_prompt: int, longest_answer: int, seed: int = 1
) -> Soak:
    """Generate so many tokens greedily, in turns of a random prompt and an answer, positions going on all the time."""
    rng, found = np.random.default_rng(seed), Soak()
    engine = model.engine
    step = Variant("decode", 1, feed=False, pick=True)
    while len(found.answered) < generate:
        prompt = [int(i) for i in rng.integers(1, vocabulary, rng.integers(1, longest_prompt + 1))]
        unseen = found.tokens[-1:]  # chosen, but not yet run through the model
        model.prefill([*unseen, *prompt], start=len(found.tokens) - len(unseen))
        answer = engine.picked(0, 1)
        wanted = min(int(rng.integers(1, longest_answer + 1)), generate - len(found.answered))
        while len(answer) < wanted:
            batch = min(BATCH, wanted - len(answer))
            engine.run(step, batch)
            answer += engine.picked(len(answer), len(answer) + batch)
        found.tokens += prompt
        found.answered += range(len(found.tokens), len(found.tokens) + wanted)
        found.tokens += answer
        found.host.append(host_bytes())
        found.device.append(model.device.memory_used)
    return found


def compare(found: Soak, source: Path, window: int, count: int, seed: int = 2) -> None:
    """Fill `points` with `count` generated tokens and what a full forward pass with the band mask has there.

    Through L layers a row depends on the L * (window - 1) rows before it and, since rotation is relative, on nothing
    else: so the pass takes those alone.
    """
    reference = PlainLlama(source, window)
    reach = reference.field("block_count") * (window - 1) + 1
    rng = np.random.default_rng(seed)
    for position in sorted(int(p) for p in rng.choice(found.answered[len(found.answered) // 10 :], count, False)):
        logits = reference(found.tokens[max(0, position - reach) : position])[-1]
        low, high = np.sort(logits)[-2:]
        found.points.append((position, found.tokens[position], int(logits.argmax()), float(high - low)))
