"""What the guides quote from the sources is there: a fence whose first line names a file holds lines of that file."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUOTE = re.compile(r"^```\w+ (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def quotes() -> list[tuple[str, str, str]]:
    return [
        (page.name, file, text)
        for page in sorted((ROOT / "docs").rglob("*.md"))
        for file, text in QUOTE.findall(page.read_text(encoding="utf-8"))
    ]


def test_the_guides_quote() -> None:
    assert {page for page, _, _ in quotes()} >= {"add-a-kernel.md", "add-an-operator.md"}


@pytest.mark.parametrize(("page", "file", "text"), quotes())
def test_a_quote_is_in_its_file(page: str, file: str, text: str) -> None:
    assert text.rstrip("\n") in (ROOT / file).read_text(encoding="utf-8"), f"{page}: {file} changed; quote it again"
