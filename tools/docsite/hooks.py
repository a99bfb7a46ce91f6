"""What mkdocs does beside the usual: README.md becomes the first page, diagrams become pictures, records are listed.

The site shows what the pages show on GitHub, and loads nothing from elsewhere.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parents[1]))  # mkdocs loads this file by its path

from docsite import diagrams

ROOT = Path(__file__).parents[2]
DIAGRAM = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+(?!adr/)([^)#\s]+)(#[^)\s]*)?\)")
QUOTE = re.compile(r"^```(\w+) [\w./-]+$", re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Pages that are not there are left out of the navigation, and a folder in it stands for its pages."""
    config.nav = _present(config.nav or [])
    return config


def _present(entries: list[Any]) -> list[Any]:
    kept = []
    for entry in entries:
        ((title, target),) = entry.items()
        if isinstance(target, list):
            target = _present(target)
        elif target.endswith("/"):
            target = [f"{target}{page.name}" for page in sorted((ROOT / "docs" / target).glob("*.md"))]
        elif target != "index.md" and not (ROOT / "docs" / target).exists():
            continue
        kept.append({title: target})
    return kept


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """README.md is the first page, with links as seen from docs/; the style sheet lies beside this file."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/", "](")
    files.append(File.generated(config, "index.md", content=text))
    style = (Path(__file__).parent / "site.css").read_text(encoding="utf-8")
    files.append(File.generated(config, "site.css", content=style))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Diagrams as pictures; links out of docs/ as names of files, but for README.md; plain fences for quotes."""
    markdown = DIAGRAM.sub(lambda found: f'<div class="diagram">{diagrams.draw(found[1])}</div>', markdown)
    markdown = OUTSIDE.sub(lambda found: _outside(page, found), markdown)
    return QUOTE.sub(r"```\1", markdown)


def _outside(page: Page, found: re.Match[str]) -> str:
    """A link to README.md, or to a page of docs/ from a folder below it, holds; other files are named only."""
    text, target, anchor = found[1], found[2], found[3] or ""
    if target == "README.md":
        return f"[{text}]({'../' * page.file.src_uri.count('/')}index.md{anchor})"
    return found[0] if (ROOT / "docs" / target).exists() else f"{text} (`{target}`)"
