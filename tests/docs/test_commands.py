"""Every command that the documentation shows exists, with those options."""

import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tlite_vk.cli import main
from tlite_vk.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = ("", "console", "sh", "bash")
OPTION = re.compile(r"(?<![\w-])(--?[a-z][\w-]*)")
Command = tuple[str, str, tuple[str, ...]]
"""(program, its command or "", options)"""


def shown(text: str) -> list[str]:
    """Lines of shell in a page: in fences, indented, and `in line`."""
    blocks = [body for kind, body in FENCE.findall(text) if kind in SHELL]
    prose = FENCE.sub("", text)
    lines = [line.removeprefix("$ ") for body in blocks for line in body.splitlines()]
    lines += [line.strip() for line in prose.splitlines() if line.startswith("    ")]
    return lines + re.findall(r"`([^`\n]+)`", prose)


def parse(line: str) -> list[Command]:
    """The commands of ours in a line, one within $( ) of another included."""
    found: list[Command] = []
    for inner in re.findall(r"\$\(([^)]*)\)", line):
        found += parse(inner)
        line = line.replace(f"$({inner})", "X")
    try:
        words = shlex.split(line.split("#")[0])
    except ValueError:  # an apostrophe: no command
        return found
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    if words and words[0] in ("python", "python3"):
        words = words[1:]
    if not words:
        return found
    options = tuple(word.split("=")[0] for word in words[1:] if OPTION.fullmatch(word.split("=")[0]))
    if words[0] == "tlite-vk" and len(words) > 1:
        return [*found, ("tlite-vk", words[1], options)]
    if re.fullmatch(r"tools/\w+\.(py|sh)", words[0]):
        return [*found, (words[0], "", options)]
    if words[0] == "make" and len(words) == 2:
        return [*found, ("make", words[1], ())]
    return found


def commands() -> list[tuple[str, Command]]:
    return sorted(
        {(page.name, c) for page in PAGES for line in shown(page.read_text(encoding="utf-8")) for c in parse(line)}
    )


@cache
def help_of_tool(tool: str) -> str:
    start = [sys.executable] if tool.endswith(".py") else ["bash"]
    done = subprocess.run([*start, str(ROOT / tool), "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def help_of(command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    program, name, _ = command
    if program != "tlite-vk":
        return help_of_tool(program)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("TERMINAL_WIDTH", "300")
    assert main([*([] if name.startswith("-") else [name]), "--help"]) == 0
    return capsys.readouterr().out


def test_the_documentation_shows_the_commands() -> None:
    names = {name for _, (program, name, _) in commands() if program == "tlite-vk"}
    assert names >= {"fetch", "convert", "quantize", "run", "bench", "ablate", "profile", "eval", "compile", "info"}
    assert {name for _, (program, name, _) in commands() if program == "make"} >= {"demo", "test"}


@pytest.mark.parametrize(("page", "command"), commands(), ids=str)
def test_a_command_exists_with_its_options(
    page: str, command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    program, name, options = command
    if program == "make":
        assert re.search(rf"^{name}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), page
        return
    known = set(OPTION.findall(help_of(command, capsys, monkeypatch)))
    assert set(options) | ({name} if name.startswith("-") else set()) <= known, page


@pytest.mark.parametrize("tool", sorted(p.name for p in (ROOT / "tools").iterdir() if p.suffix in (".py", ".sh")))
def test_every_tool_has_help(tool: str) -> None:
    assert tool in help_of_tool(f"tools/{tool}")


def test_options_named_in_the_text_exist(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`--precision fp32` on its own belongs to some command of ours, or to pip."""
    every = {"--no-build-isolation", "--no-deps"} | set(
        OPTION.findall("".join(help_of_tool(f"tools/{p.name}") for p in (ROOT / "tools").glob("*.py")))
    )
    for name in (command.name for command in app.registered_commands if command.name):
        every |= set(OPTION.findall(help_of(("tlite-vk", name, ()), capsys, monkeypatch)))
    for page in PAGES:
        for text in re.findall(r"`(--[^`\n]+)`", FENCE.sub("", page.read_text(encoding="utf-8"))):
            assert set(OPTION.findall(text)) <= every, f"{page.name}: {text}"
