"""Links resolve, and every file, module, variable and limit that has to be on the architecture page is."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
NAMED_FILE = re.compile(r"`((?:graph|tlite_vk|shaders|tests|tools|docs)/[\w./*-]+)`")


def sources(*patterns: str) -> list[str]:
    """Files of the repository; graph/ by its own name, not through the link tlite_vk/graph."""
    found = {file.relative_to(ROOT).as_posix() for pattern in patterns for file in ROOT.glob(pattern) if file.is_file()}
    return sorted(file for file in found if not file.startswith("tlite_vk/graph/"))


def anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_resolve(page: Path) -> None:
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if link.startswith(("https://", "http://")):
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), f"{page.name} links to {link}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_named_files_exist(page: Path) -> None:
    for name in NAMED_FILE.findall(page.read_text(encoding="utf-8")):
        assert list(ROOT.glob(name.rstrip("/"))), f"{page.name} names {name}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "operators.md"], ids=lambda p: p.name)
def test_lines_are_of_a_length_that_reads_well_as_text(page: Path) -> None:
    prose = FENCE.sub("", page.read_text(encoding="utf-8")).splitlines()
    long = [line for line in prose if len(line) > 140 and not line.startswith("|")]
    assert not long


def code_map() -> set[str]:
    """What the first columns of the code map name."""
    section = ARCHITECTURE[ARCHITECTURE.index("## Code map") : ARCHITECTURE.index("## Invariants")]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return set(re.findall(r"`([^`]+)`", " ".join(rows)))


def covered(file: str, names: set[str]) -> bool:
    """Whether the names have the file: itself, a folder above it, or a pattern for its family."""
    parts = file.split("/")
    tails = ["/".join(parts[start:]) for start in range(len(parts))]
    return any(
        tail == name or (name.endswith("/") and tail.startswith(name)) or ("*" in name and Path(tail).match(name))
        for name in names
        for tail in tails
    )


def test_the_code_map_is_complete() -> None:
    files = sources("graph/**/*.py", "tlite_vk/**/*.py", "tlite_vk/*.pyi", "tlite_vk/native/src/*")
    files += sources("shaders/*", "shaders/lib/*", "tlite_vk/kernels/**/*.glsl")
    names = code_map()
    files = [file for file in files if Path(file).name != "__init__.py" or file == "tlite_vk/__init__.py"]
    assert len(files) > 100
    assert not [file for file in files if not covered(file, names)]


def test_environment_variables_are_documented() -> None:
    found: set[str] = set()
    for file in sources(
        "tlite_vk/**/*.py", "graph/**/*.py", "tests/**/*.py", "tools/*", "tlite_vk/native/src/*", "Makefile",
        "tlite_vk/native/cmake/*.cmake",
    ):  # fmt: skip
        if not file.startswith("tests/docs/"):
            found |= set(re.findall(r"\bTLITE_VK_[A-Z_]+\b", (ROOT / file).read_text(encoding="utf-8")))
    assert found == set(re.findall(r"\| `(TLITE_VK_[A-Z_]+)` \|", ARCHITECTURE))


def test_limits_are_documented() -> None:
    source = (ROOT / "tlite_vk" / "native" / "src" / "info.cpp").read_text(encoding="utf-8")
    block = source[source.index("info.limits = {") : source.index("};", source.index("info.limits = {"))]
    names = set(re.findall(r'\{"(\w+)",', block))
    assert len(names) > 20
    section = ARCHITECTURE[ARCHITECTURE.index("## Limits of a device") : ARCHITECTURE.index("## Environment variables")]
    section = section.split("\n### ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == names
