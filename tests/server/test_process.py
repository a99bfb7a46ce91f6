"""tlite-vk serve as a process: where it listens, its key, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tlite_vk.cli import main

Start = Callable[..., tuple["subprocess.Popen[str]", str]]


@pytest.fixture
def start(folder: Path, lavapipe_file: str) -> Iterator[Start]:
    """A function (*options, **environment) -> (process, URL) that starts a server on a free port."""
    processes: list[subprocess.Popen[str]] = []

    def started(*options: str, **environment: str) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-m", "tlite_vk", "serve", str(folder), "--port", "0", "--name", "tiny", *options]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"VK_DRIVER_FILES": lavapipe_file} | environment,
        )
        processes.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on http://"), (line, process.stderr)
        return process, line.removeprefix("listening on ").strip()

    yield started
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_without_dropping_an_answer(start: Start, number: signal.Signals) -> None:
    process, url = start("--context", "4096")
    body = {
        "prompt": "x",
        "max_tokens": 600,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=120) as response:
        lines = response.iter_lines()
        next(lines)
        process.send_signal(number)
        rest = [line for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    assert json.loads(rest[-2].removeprefix("data: "))["usage"]["completion_tokens"] == 600
    assert process.wait(60) == 0
    assert process.stderr is not None and "Traceback" not in process.stderr.read()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health")


def test_its_grace_is_bounded(start: Start) -> None:
    process, url = start("--context", "4096", "--grace", "1", "--window", "64")
    body = {"prompt": "x", "max_tokens": 1_000_000, "temperature": 0, "stream": True, "logprobs": 20}
    with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=120) as response:
        next(response.iter_lines())
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_it_listens_here_only_and_takes_its_key_from_the_environment(start: Start) -> None:
    _, url = start(TLITE_VK_API_KEY="secret")
    assert url.startswith("http://127.0.0.1:")
    assert httpx.get(f"{url}/v1/models").status_code == 401
    answer = httpx.get(f"{url}/v1/models", headers={"authorization": "Bearer secret"})
    assert answer.json()["data"][0]["id"] == "tiny"
    taken = subprocess.run(
        [sys.executable, "-m", "tlite_vk", "serve", "/nonexistent", "--port", url.rpartition(":")[2]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert taken.returncode == 2 and taken.stderr.startswith("error: no such model")


def test_what_it_refuses_to_start_with(
    folder: Path, start: Start, lavapipe_file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VK_DRIVER_FILES", lavapipe_file)
    _, url = start()
    assert main(["serve", str(folder), "--port", url.rpartition(":")[2]]) == 2
    assert "error: cannot listen on 127.0.0.1:" in capsys.readouterr().err
    assert main(["serve", str(folder), "--api-key", " "]) == 2
    assert "the key is empty" in capsys.readouterr().err
