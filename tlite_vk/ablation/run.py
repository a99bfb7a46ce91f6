"""The ablations of a model: each idea and what takes its place, in turns.

Both sides of one idea are on the device at once; a round measures one after the other, and the next one the other way
round. Random token ids, an untimed warm-up, medians of the rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from tlite_vk.bench import SEED, Progress
from tlite_vk.compiled.archive import is_compiled
from tlite_vk.device import Device
from tlite_vk.errors import InputError
from tlite_vk.generate import Model
from tlite_vk.loading import DEFAULT_CONTEXT, load
from tlite_vk.target import Precision

from .report import IDEAS, Ablation, AblationPlan, AblationReport, Row
from .sides import Compile, Side, compiler, variant_of

CHECKED = 8
"""Tokens behind a prompt whose logits are compared."""
Measure = Callable[[Side], float]
Measurement = tuple[str, int, Measure, Measure]
"""(what, tokens, how the baseline is measured, how the variant is)"""


def ablate(
    path: str | Path,
    plan: AblationPlan,
    *,
    device: Device | int | str | None = None,
    context: int | None = None,
    precision: Precision = "fp16",
    progress: Progress | None = None,
) -> AblationReport:
    """Measure the plan's ablations of a model. Lengths that the model has no positions for are left out.

    Raises InputError for a plan that the model or the context is too short for, and what `load` raises.
    """
    report = progress or (lambda label, done, total: None)
    wanted = context or plan.positions
    with load(
        path,
        device=device,
        context=wanted,
        shorten=True,
        precision=precision,
        submission_ms=0,  # as the other side of each ablation
        progress=partial(report, "load"),
    ) as model:
        if is_compiled(model.path) and not {"unfused", "unplanned"}.isdisjoint(plan.ideas):
            raise InputError(
                f"{model.path} is compiled already; give its ONNX file, or choose --only int4, concat or single"
            )
        cached = [n for n in plan.cached if n <= model.context]
        if plan.prompt + plan.gen > model.context or not cached:
            raise InputError(
                f"{min(plan.positions, plan.prompt + plan.gen)} positions are needed, the context holds "
                f"{model.context}; choose smaller --prompt, --gen or --cached, or a larger --context"
            )
        compiled = compiler(model.path, max(wanted, DEFAULT_CONTEXT))
        found = []
        for i, name in enumerate(plan.ideas):
            report(f"{name} ({i + 1} of {len(plan.ideas)})", 0, plan.rounds)
            advance = partial(report, f"{name} ({i + 1} of {len(plan.ideas)})")
            found.append(_Ablating(model, plan, cached, advance).run(name, compiled))
        info = model.device.info
        return AblationReport(
            model=str(model.path),
            device=info.name,
            driver=f"{info.driver_name} {info.driver_info}".strip(),
            precision=precision,
            prompt=plan.prompt,
            gen=plan.gen,
            rounds=plan.rounds,
            batch=plan.batch,
            left_out=sorted(set(plan.cached) - set(cached)),
            ablations=found,
        )


class _Ablating:
    """One idea of the plan over one model."""

    def __init__(self, model: Model, plan: AblationPlan, cached: list[int], progress: Callable[[int, int], None]):
        self._model, self._plan, self._cached, self._progress = model, plan, cached, progress
        random = np.random.default_rng(SEED)
        vocabulary = model.program.vocabulary
        self._prompt, self._tokens, self._checked = (
            [int(i) for i in random.integers(0, vocabulary, count)] for count in (plan.prompt, plan.gen, CHECKED)
        )

    def run(self, name: str, compiled: Compile) -> Ablation:
        baseline = Side(self._model.engine)
        variant = variant_of(name, self._model.engine, compiled)
        try:
            difference, same, steps = self._compare(name, baseline, variant)
            rows = self._measure(self._measurements(name), baseline, variant)
        finally:
            if variant.engine is not self._model.engine:
                variant.engine.close()
        return Ablation(name, *IDEAS[name], [*rows, *_memory(name, baseline, variant)], difference, same, steps)

    def _measurements(self, name: str) -> list[Measurement]:
        if name == "single":
            chosen = [partial(self._chosen, batch=batch) for batch in (self._plan.batch, 1)]
            return [("decode", self._plan.prompt, chosen[0], chosen[1])]
        lengths = self._cached if name == "concat" else self._cached[:1]
        decodes: list[Measure] = [partial(self._decode, cached=n) for n in lengths]
        found: list[Measurement] = [("decode", n, d, d) for n, d in zip(lengths, decodes, strict=True)]
        if name == "concat" and self._plan.prompt <= self._model.engine.chunk:
            return found  # a prompt of one step has no past
        return [*found, ("prefill", self._plan.prompt, self._prefill, self._prefill)]

    def _prefill(self, side: Side) -> float:
        return side.prefill(self._prompt)

    def _decode(self, side: Side, cached: int) -> float:
        return side.decode(cached, self._tokens)

    def _chosen(self, side: Side, batch: int) -> float:
        return side.chosen(self._prompt, self._plan.gen, batch)[0]

    def _measure(self, measurements: list[Measurement], baseline: Side, variant: Side) -> list[Row]:
        """A warm-up, then the rounds; who goes first changes from round to round."""
        baseline.fill()
        variant.fill()
        rows = [Row(what, tokens, "ms", [], []) for what, tokens, *_ in measurements]
        for number in range(self._plan.rounds + 1):
            for row, (_, _, *measures) in zip(rows, measurements, strict=True):
                pair = [(measures[0], baseline, row.baselines), (measures[1], variant, row.variants)]
                for measure, side, kept in pair if number % 2 else reversed(pair):
                    ms = measure(side)
                    if number:
                        kept.append(ms)
            self._progress(number, self._plan.rounds)
        return rows

    def _compare(self, name: str, baseline: Side, variant: Side) -> tuple[float, int, int]:
        """The largest difference of a logit over the same tokens; of how many steps how many choose the same one."""
        if name == "single":
            several = baseline.chosen(self._prompt, self._plan.gen, self._plan.batch)[1]
            one = variant.chosen(self._prompt, self._plan.gen, 1)[1]
            return 0.0, sum(a == b for a, b in zip(several, one, strict=True)), len(one)
        ids = [*self._prompt, *self._checked]
        ids = ids[: self._model.context]
        a, b = (side.logits(ids, self._plan.prompt) for side in (baseline, variant))
        return float(np.abs(a - b).max()), int((a.argmax(axis=1) == b.argmax(axis=1)).sum()), len(a)


def _memory(name: str, baseline: Side, variant: Side) -> list[Row]:
    """Bytes, where the idea is about memory: activations, or caches."""
    if name not in ("unplanned", "concat"):
        return []
    a, b = ((s.cache_bytes if name == "concat" else s.arena_bytes) for s in (baseline, variant))
    return [Row("memory", 0, "bytes", [float(a)], [float(b)])]
