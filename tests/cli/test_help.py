"""Help, version, usage errors, unexpected errors: what every command shares."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import Cli

from tlite_vk import __version__
from tlite_vk.cli import fetch as fetch_command
from tlite_vk.errors import DeviceError

COMMANDS = (
    "info",
    "doctor",
    "fetch",
    "convert",
    "quantize",
    "run",
    "bench",
    "ablate",
    "profile",
    "eval",
    "compile",
    "cache",
)


def test_help_lists_the_commands(cli: Cli) -> None:
    for arguments in (["--help"], ["-h"], []):
        result = cli(*arguments)
        assert result.code == 0
        assert [name for name in COMMANDS if name in result.out] == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(cli: Cli, command: str) -> None:
    result = cli(command, "--help")
    assert result.code == 0
    assert f"tlite-vk {command}" in result.out
    assert "--json" in result.out


def test_version(cli: Cli) -> None:
    assert cli("--version").out == f"tlite-vk {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "No such command 'nonsense'; see tlite-vk --help"),
        (["run"], "Missing argument 'model'; see tlite-vk run --help"),
        (["run", "m", "p", "--bogus"], "No such option: --bogus; see tlite-vk run --help"),
        (["run", "m", "p", "--seed", "x"], "Invalid value for '--seed'"),
        (["run", "m", "p", "--max-tokens", "-1"], "Invalid value for '--max-tokens'"),
        (["run", "m", "p", "--context", "0"], "Invalid value for '--context'"),
        (["run", "m", "p", "--window", "-5"], "Invalid value for '--window'"),
        (["run", "m", "p", "--precision", "fp8"], "Invalid value for '--precision'"),
        (["bench", "m", "--prompt", "-1"], "Invalid value for '--prompt'"),
        (["bench", "m", "--repeat", "0"], "Invalid value for '--repeat'"),
        (["eval", "m", "t", "--window", "1"], "Invalid value for '--window'"),
        (["eval", "m"], "Missing argument 'text'"),
        (["convert", "a.gguf"], "Missing option '--output' / '-o'"),
    ],
)
def test_usage_errors_are_one_line(cli: Cli, arguments: list[str], message: str) -> None:
    assert message in cli(*arguments).error


def test_the_parser_needs_no_heavy_imports() -> None:
    script = (
        "import sys\nfrom tlite_vk.cli import main\nmain(['run', '--help'])\n"
        "heavy = {'numpy', 'onnx', 'sympy', 'tokenizers', 'jinja2', 'tlite_vk._kompute'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def raising(error: BaseException) -> object:
    def raises(*_: object, **__: object) -> None:
        raise error

    return raises


def test_unexpected_errors_are_one_line_unless_asked(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_command, "progress", raising(RuntimeError("broken\ninside")))
    result = cli("fetch", "x")
    assert result.code == 1
    assert result.err == (
        "error: unexpected RuntimeError: broken inside; run it again with TLITE_VK_DEBUG=1 and report what it prints\n"
    )
    monkeypatch.setenv("TLITE_VK_DEBUG", "1")
    with pytest.raises(RuntimeError, match="broken"):
        cli("fetch", "x")


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (DeviceError("lost\nthe device"), 2, "error: lost the device\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (MemoryError(), 2, "error: not enough memory; close other programs or choose a smaller model or --context\n"),
        (
            PermissionError(13, "Permission denied", "/a/b"),
            2,
            "error: cannot use /a/b: Permission denied; check the path and its permissions, or choose another\n",
        ),
        (OSError(28, "No space left on device"), 2, "error: cannot write the output: no space left; free some\n"),
    ],
)
def test_errors_and_their_codes(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, text: str
) -> None:
    monkeypatch.setattr(fetch_command, "progress", raising(error))
    result = cli("fetch", "x")
    assert (result.code, result.out, result.err) == (code, "", text)


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "tlite_vk", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"tlite-vk {__version__}\n")
    script = Path(sys.executable).with_name("tlite-vk")
    done = subprocess.run([str(script), "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"tlite-vk {__version__}\n")
