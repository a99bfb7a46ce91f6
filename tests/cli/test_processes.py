"""What only shows in a process of its own: Ctrl-C, a reader that leaves, a full disk, terminals."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

pytestmark = pytest.mark.usefixtures("lavapipe")

COMMAND = [sys.executable, "-m", "tlite_vk"]


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Child processes heed Ctrl-C even where this one was started in the background, with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def endless(model: Path, stdout: int | IO[bytes]) -> subprocess.Popen[bytes]:
    """A generation of up to 4096 tokens."""
    command = [*COMMAND, "run", str(model), "hello", "--window", "8", "--stats"]
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE)


def test_ctrl_c_ends_an_answer(model: Path) -> None:
    with endless(model, subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        first = process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        rest, errors = process.stdout.read(), process.stderr.read().decode()
    assert process.returncode == 130
    assert first and rest.endswith(b"\n")
    assert errors.startswith("prompt 7 tokens in ") and errors.endswith("\ninterrupted\n")  # --stats, no traceback
    assert errors.count("\n") == 2


def test_ctrl_c_ends_a_conversion(tmp_path: Path, tiny_gguf: Path) -> None:
    script = (
        "import os, signal, sys\nfrom tlite_vk.convert import onnx_writer\nfrom tlite_vk.cli import main\n"
        "def interrupted(*_):\n    os.kill(os.getpid(), signal.SIGINT)\n    import time; time.sleep(60)\n"
        "onnx_writer.OnnxWriter.write_data = interrupted\n"
        f"sys.exit(main(['convert', {str(tiny_gguf)!r}, '-o', {str(tmp_path / 'out' / 'model.onnx')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"interrupted\n")
    assert not (tmp_path / "out").exists()


def test_a_reader_that_leaves(model: Path) -> None:
    with endless(model, subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        errors = process.stderr.read().decode()
    assert process.returncode == 1
    assert errors.count("\n") == 1  # --stats only


def test_output_to_a_full_disk(model: Path) -> None:
    with Path("/dev/full").open("wb") as full, endless(model, full) as process:
        assert process.stderr is not None
        errors = process.stderr.read().decode()
    assert process.returncode == 2
    assert errors.splitlines()[-1] == "error: cannot write the output: no space left; free some"
    assert "Traceback" not in errors and "Exception" not in errors


def test_buffered_output_that_cannot_be_written() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*COMMAND, "info"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (2, b"error: cannot write the output: no space left; free some\n")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as gone:
        done = subprocess.run([*COMMAND, "info", "--json"], stdout=gone, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_closed_input(model: Path) -> None:
    script = f"exec {sys.executable} -m tlite_vk run {model} <&-"
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        b"error: there is no prompt; give it after the model, or pipe it in\n",
    )


def test_progress_shows_on_a_terminal_only(model: Path) -> None:
    command = [*COMMAND, "run", str(model), "hello", "--max-tokens", "2"]
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=theirs, env=os.environ | {"TERM": "xterm"}
    ) as process:
        os.close(theirs)
        seen = _read_all(ours)
        assert process.stdout is not None
        text = process.stdout.read()
    assert process.returncode == 0
    assert b"load the weights" in seen and b"read the prompt" in seen
    done = subprocess.run(command, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (text, b"")


def _read_all(terminal: int) -> bytes:
    """Everything written to a terminal until it is closed."""
    parts: list[bytes] = []
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # how Linux tells that the other side was closed
            part = b""
        if not part:
            os.close(terminal)
            return b"".join(parts)
        parts.append(part)
