"""tlite-vk doctor: what this machine lacks, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from . import options
from .terminal import print_json, progress

if TYPE_CHECKING:
    from tlite_vk.doctor import Finding

COLORS = {"ok": "green", "warning": "yellow", "problem": "red"}


def doctor(as_json: options.Json = False) -> None:
    """Check what running a model needs, and say what to install or to change.

    The Vulkan loader, the drivers and their files, permissions, each device with a small kernel whose answer is known,
    the validation layer, the GLSL compiler, the cache folder, the disk, and environment variables. Exit code 0: models
    run here (warnings are no obstacle); 1: there is a problem.
    """
    from tlite_vk import __version__
    from tlite_vk.cache import cache_folder
    from tlite_vk.doctor import System, examine

    found: list[Finding] = []
    with progress() as advance:
        for finding in examine(System(), cache_folder()):
            found.append(finding)
            advance("examine this machine", len(found), 0)
    problems = sum(finding.status == "problem" for finding in found)
    if as_json:
        print_json({"ok": not problems, "version": __version__, "findings": [asdict(finding) for finding in found]})
    else:
        _print(found, problems)
    if problems:
        raise typer.Exit(1)


def _print(found: Sequence[Finding], problems: int) -> None:
    name_width = max(len(finding.name) for finding in found)
    for finding in found:
        mark = typer.style(f"{finding.status:7}", fg=COLORS[finding.status])
        typer.echo(f"{mark}  {finding.name:{name_width}}  {finding.text}")
        if finding.advice:
            typer.echo(f"{'':{9 + name_width}}  {finding.advice}")
    warnings = sum(finding.status == "warning" for finding in found)
    if problems:
        typer.echo(f"\n{_count(problems, 'problem')}: models do not run here until that is mended.")
    else:
        typer.echo(f"\nModels run here{'; ' + _count(warnings, 'warning') if warnings else ''}.")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
