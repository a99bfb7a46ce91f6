"""What commands print: progress and notes on standard error, results on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

Advance = Callable[[str, int, int], None]
"""Called with (what is being done, done, total); a total of 0 shows work of unknown length."""
WIDE = 1000
"""Characters of a line of a table in a file or a pipe, where nothing has to be folded."""


def print_json(value: Any) -> None:
    """One JSON object on one line of standard output."""
    print(json.dumps(value, allow_nan=False))


def note(text: str) -> None:
    """One line for people, on standard error."""
    print(text, file=sys.stderr, flush=True)


def print_table(rows: Sequence[tuple[str, str]], title: str) -> None:
    """Two columns on standard output."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(title, style="bold"), title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0)
    )
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(Text(name), Text(value))
    Console(soft_wrap=not sys.stdout.isatty()).print(table)


def print_columns(header: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> None:
    """A table with a header on standard output; numbers are flush right, the last column wraps in a terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, style="bold"), title_justify="left", box=None, padding=(0, 2, 0, 0))
    for i, name in enumerate(header):
        cells = [row[i] for row in rows if row[i]]
        numbers = bool(cells) and all(cell.replace(",", "").replace(".", "").isdigit() for cell in cells)
        last = i == len(header) - 1
        table.add_column(
            Text(name),
            justify="right" if numbers else "left",
            no_wrap=not last,
            overflow="fold" if last else "ellipsis",
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    screen = sys.stdout.isatty()
    Console(soft_wrap=not screen, width=None if screen else WIDE).print(table)


@contextmanager
def progress() -> Iterator[Advance]:
    """Progress bars on standard error, one at a time, gone at the end; nothing where that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda label, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=None)
        label_now = ""

        def advance(label: str, done: int, total: int) -> None:
            nonlocal label_now
            if label != label_now:
                label_now = label
                bars.reset(task, description=label)
            bars.update(task, completed=done, total=total or None, description=label)

        yield advance


def megabytes(count: float) -> str:
    """Bytes as people read them (powers of ten)."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
