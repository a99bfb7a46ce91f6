"""tlite-vk compile -o: one file that runs on every kind of device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .terminal import megabytes, print_json, print_table, progress

if TYPE_CHECKING:
    from tlite_vk.compiled.writer import CompileReport


def compile_file(
    model: Path, output: Path, *, context: int | None, licence: str | None, source: str | None, as_json: bool
) -> None:
    """Write the file and tell what is in it."""
    from tlite_vk.compiled.writer import compile_to_file

    with progress() as advance:
        advance("compile", 0, 0)
        report = compile_to_file(model, output, context=context, licence=licence, source=source)
    if as_json:
        print_json(_facts(report))
        return
    rows = [
        ("file", megabytes(report.file_bytes)),
        ("weights", megabytes(report.weight_bytes)),
        ("programs", f"{report.programs}, for {len(report.targets)} kinds of devices"),
        ("tokenizer", "in it" if report.tokenizer else "the model has none"),
        ("licence", report.facts.get("license", "not known; tell it with --licence")),
        ("source", report.facts.get("source", report.facts.get("source_file", "not known; tell it with --source"))),
    ]
    print_table(rows, str(report.path))


def _facts(report: CompileReport) -> dict[str, Any]:
    return {
        "file": str(report.path),
        "file_bytes": report.file_bytes,
        "weight_bytes": report.weight_bytes,
        "programs": report.programs,
        "targets": list(report.targets),
        "tokenizer": report.tokenizer,
        "facts": dict(report.facts),
    }
