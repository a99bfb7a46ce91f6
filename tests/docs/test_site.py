"""The documentation site builds without a warning, has every page, and loads nothing from elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from docsite import diagrams

ROOT = Path(__file__).parents[2]
LOADED = re.compile(r"""<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=["']?([^"'\s>]+)""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr  # a page that is missing from the navigation in mkdocs.yml, a dead link
    return folder


def test_every_page_is_there(site: Path) -> None:
    made = {page.relative_to(site).with_suffix(".md").as_posix() for page in site.rglob("*.html")}
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert made == pages | {"index.md", "404.md"}
    index = (site / "index.html").read_text(encoding="utf-8")
    assert "What is the capital of France?" in index and 'href="models.html"' in index


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        for address in LOADED.findall(page.read_text(encoding="utf-8")):
            assert not address.startswith(("http:", "https:", "//")), f"{page.name} loads {address}"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//", style.read_text(encoding="utf-8")), style


def test_diagrams_are_pictures(site: Path) -> None:
    for name in ("index.html", "architecture.html"):
        text = (site / name).read_text(encoding="utf-8")
        assert "mermaid" not in text and '<div class="diagram"><svg' in text


def test_the_interface_is_described(site: Path) -> None:
    text = (site / "api.html").read_text(encoding="utf-8")
    for name in ("loading.load", "generate.Model.generate", "session.Session.run", "quantize.quantize_model"):
        assert f'id="tlite_vk.{name}' in text, name
    assert "Load a model for generation" in text


def test_flowcharts() -> None:
    svg = diagrams.draw('flowchart LR\n a["one<br/>two"] -- with --> b\n subgraph graph ["group"]\n b --> c\n end')
    assert svg.startswith("<svg") and svg.endswith("</svg>")
    assert [text for text in ("one", "two", "with", ">b<", "group") if text not in svg] == []


def test_sequences() -> None:
    svg = diagrams.draw(
        "sequenceDiagram\n participant a\n participant b\n a->>b: hello <&>\n Note over b: x<br/>y\n b-->>a: z"
    )
    assert "hello &lt;&amp;&gt;" in svg and svg.count("<rect") == 3 and svg.count("marker-end") == 2


@pytest.mark.parametrize("text", ["pie", "flowchart LR\n a ==> b", "flowchart LR\n !", "sequenceDiagram\n a -x b"])
def test_what_is_not_drawn_is_refused(text: str) -> None:
    with pytest.raises(diagrams.DiagramError):
        diagrams.draw(text)
