"""A sweep as a picture, drawn with Matplotlib (optional: pip install tlite-vk[plot])."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import InputError
from .sweep import Growth, Point, SweepReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".svg", ".pdf")
TIME, MEMORY = "#1a4f8b", "#8a5a00"


def check(file: Path) -> None:
    """Before minutes are spent on measuring: raises InputError where Matplotlib or the folder is missing."""
    if file.suffix not in SUFFIXES:
        raise InputError(f"cannot draw {file}: the name must end in {', '.join(SUFFIXES)}")
    if not file.absolute().parent.is_dir():
        raise InputError(f"there is no folder {file.parent} for the plot; make it first")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise InputError("drawing needs Matplotlib: pip install 'tlite-vk[plot]'") from error


def draw(report: SweepReport, file: Path) -> None:
    """Two panels with logarithmic axes: times as measured, what attention must cost, memory on the right."""
    check(file)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    figure.suptitle(f"{report.model} on {report.device}, {report.precision}", fontsize=10)
    left, right = figure.subplots(1, 2)
    _panel(left, report.decode, report.decode_growth, "cached tokens", "ms per decoded token", "a + b P")
    _panel(right, report.prefill, report.prefill_growth, "tokens of the prompt", "ms of prefill", "a T + b T²")
    figure.savefig(file, dpi=120)


def _panel(axes: Axes, points: Sequence[Point], growth: Growth, x_label: str, y_label: str, formula: str) -> None:
    tokens = [p.tokens for p in points]
    between = np.geomspace(tokens[0], tokens[-1], 100)
    lines = axes.plot(tokens, [p.ms for p in points], "o-", color=TIME, label="measured")
    lines += axes.plot(
        between, [growth.at(x) for x in between], "--", color="black", label=f"attention must: {formula}, fitted"
    )
    axes.set(xscale="log", xlabel=x_label, ylabel=y_label)
    axes.set_xticks(tokens, [str(n) for n in tokens])
    _logarithmic(axes, [p.ms for p in points])
    beside = axes.twinx()
    megabytes = [p.memory.total / 1e6 for p in points]
    lines += beside.plot(tokens, megabytes, "s:", color=MEMORY, label="memory of the device")
    beside.set(ylabel="MB")
    beside.yaxis.label.set_color(MEMORY)
    _logarithmic(beside, megabytes)
    axes.legend(handles=lines, loc="upper left", fontsize=8)


def _logarithmic(axes: Axes, values: Sequence[float]) -> None:
    """Numbers such as 1, 2, 5, 10 on the y axis, and room for the legend above the values."""
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    axes.set(yscale="log", ylim=(min(values) / 1.5, max(values) * 3))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.minorticks_off()
