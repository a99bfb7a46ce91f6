"""Which choice of each kernel a device is fastest with: measured on the model's own shapes, kept by tlite_vk.tuned."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .choices import Attention, Choice, Task, text_of
from .compile import Compiled, compile_model
from .device import Device
from .errors import InputError
from .graph.ir import Node
from .kernels import split_attention, tiles
from .target import Precision, Target
from .trials import Trial, Trials
from .tuned import keep

SECONDS = 20.0
"""How long `tune` may take by default, compiling the model not counted."""
WORTH = 0.97
"""A choice must take less than this share of the default's time to replace it."""
ROUNDS = 5
CLOSE = 1.3
"""What takes this much longer than the best in the first round is not measured again."""

Progress = Callable[[str, int, int], None]
"""Called with (what is being measured, tasks done, tasks in total)."""


@dataclass(frozen=True)
class Finding:
    """What was measured for a task on a kernel: the best of several runs of each choice, seconds of one dispatch.

    left: candidates for which there was no time.
    """

    task: Task
    kernel: str
    shader: str
    default: Choice
    best: Choice
    seconds: dict[Choice, float]
    left: int

    @property
    def ratio(self) -> float:
        """How many times faster the choice is than the default."""
        return self.seconds[self.default] / self.seconds[self.best]


def candidates(target: Target, task: Task, kernel: str) -> list[Choice]:
    """The choices of a task, the default first."""
    if isinstance(task, Attention):
        return split_attention.candidates(target, task)
    return tiles.candidates(target, task, kernel)


def tune(
    path: str | Path,
    device: Device,
    *,
    precision: Precision = "fp16",
    seconds: float = SECONDS,
    save: bool = True,
    progress: Progress | None = None,
) -> list[Finding]:
    """Measure every candidate of every product and attention of a model, for about `seconds`; keep what was found.

    Raises what `compile_model` does, DeviceError if the device fails, InputError for a time that is not positive.
    """
    if seconds <= 0:
        raise InputError("the time for tuning must be positive")
    target = Target.of(device.info, precision)
    tasks: dict[tuple[Task, str], Node] = {}

    def collect(made: Compiled) -> None:
        tasks.update((key, node) for key, node in made.tasks.items() if key not in tasks)

    file = Path(path) / "model.onnx" if Path(path).is_dir() else Path(path)
    compile_model(file, target, ("decode", "prefill"), observe=collect)
    open_tasks = [(task, kernel, node) for (task, kernel), node in tasks.items()]
    findings = []
    with Trials(device) as trials:
        end = time.perf_counter() + seconds
        for number, (task, kernel, node) in enumerate(open_tasks):
            if progress is not None:
                progress(str(task), number, len(open_tasks))
            share = (end - time.perf_counter()) / (len(open_tasks) - number)
            found = _best(trials, target, task, kernel, node, share)
            if found is not None:
                findings.append(found)
    if save and findings:
        keep(device.info, {(f.task, f.kernel): (f.shader, f.best) for f in findings})
    return findings


def _best(trials: Trials, target: Target, task: Task, kernel: str, node: Node, share: float) -> Finding | None:
    """The default, what differs from the best so far in one number, then in two, as far as half the time goes; then, in
    turns, those that come close."""
    choices = candidates(target, task, kernel)
    if len(choices) < 2:
        return None
    begin = time.perf_counter()
    made: dict[Choice, Trial] = {}
    seconds: dict[Choice, float] = {}
    default = choices[0]
    following = _near(default, choices, 1)
    while following and (not seconds or time.perf_counter() - begin < share / 2):
        for choice in following:
            made[choice] = trials.trial(replace(target, tuning=text_of({(task, kernel): choice})), task, node)
            if len(made) > 1 and time.perf_counter() - begin > share / 2:
                break
        trials.warm_up()  # a device that waited for a compiler is slower at first
        seconds |= {c: trial.seconds() for c, trial in made.items() if c not in seconds}
        following = [c for c in _near(min(seconds, key=seconds.__getitem__), choices, 2) if c not in made]
    limit = CLOSE * min(seconds.values())
    close = [c for c in seconds if seconds[c] <= limit or c == default]
    for _ in range(ROUNDS - 1):
        for choice in close:
            seconds[choice] = min(seconds[choice], made[choice].seconds())
        if time.perf_counter() - begin > share:
            break
    shader = made[default].shader
    for trial in made.values():
        trial.close()
    fastest = min(close, key=seconds.__getitem__)
    best = fastest if seconds[fastest] < WORTH * seconds[default] else default
    return Finding(task, kernel, shader, default, best, seconds, len(choices) - len(seconds))


def _near(choice: Choice, choices: Sequence[Choice], most: int) -> list[Choice]:
    """The choices that differ from one in at most so many numbers, the nearest first."""

    def distance(other: Choice) -> int:
        return sum(a != b for a, b in zip(choice, other, strict=True))

    return sorted((c for c in choices if distance(c) <= most), key=distance)
