"""tlite-vk chat through a terminal: streaming, several lines, commands, Ctrl-C, history; and through a pipe."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest
from support.cli import Cli

import tlite_vk

pytestmark = pytest.mark.usefixtures("lavapipe")

Talk = Callable[..., "pexpect.spawn[str]"]
PROMPT = ">>> "


def _heed_ctrl_c() -> None:
    """What runs in the background of a script ignores Ctrl-C, and so does what it starts: not here."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def talk(model: Path) -> Iterator[Talk]:
    """A function (*options) that starts a chat in a terminal and waits for its prompt."""
    running: list[pexpect.spawn[str]] = []

    def start(*options: str) -> pexpect.spawn[str]:
        environment = os.environ | {"TERM": "dumb", "INPUTRC": "/dev/null", "PYTHONUNBUFFERED": "1"}
        arguments = ["-m", "tlite_vk", "chat", str(model), *options]
        child = pexpect.spawn(
            sys.executable,
            arguments,
            env=environment,
            timeout=60,
            encoding="utf-8",
            codec_errors="replace",
            preexec_fn=_heed_ctrl_c,
        )
        running.append(child)
        child.setecho(False)
        child.expect_exact(PROMPT)
        return child

    yield start
    for child in running:
        if child.isalive():
            child.kill(signal.SIGKILL)
            child.wait()


def say(child: pexpect.spawn[str], text: str) -> str:
    """What a message or command is answered, up to the next prompt."""
    child.sendline(text)
    child.expect_exact(PROMPT)
    return str(child.before)


def left(child: pexpect.spawn[str]) -> int | None:
    child.expect(pexpect.EOF)
    child.wait()
    return child.exitstatus


def answers(folder: Path, *messages: str, count: int = 8) -> list[str]:
    with tlite_vk.load(folder) as model:
        chat = model.chat()
        return ["".join(chat.send(text, max_tokens=count)) for text in messages]


def test_turns_commands_and_leaving(talk: Talk, tmp_path: Path) -> None:
    child = talk("--max-tokens", "8")
    first = say(child, "hello")
    second = say(child, "go on")
    assert first.strip() and second.strip()
    assert "took back: go on" in say(child, "/undo")
    assert say(child, "go on") == second
    shown = say(child, "/stats")
    assert "computed" in shown and "answer     8 tokens" in shown and "of 2048 rows" in shown
    saved = tmp_path / "some.chat"
    assert f"saved to {saved}" in say(child, f"/save {saved}")
    third = say(child, "third")
    assert "started anew" in say(child, "/reset")
    assert "nothing to take back" in say(child, "/undo")
    assert "there is no system message" in say(child, "/system")
    say(child, "/system be kind")
    assert "be kind" in say(child, "/system")
    assert "loaded 2 turns" in say(child, f"/load {saved}")
    assert say(child, "third") == third
    assert "error: name a file: /save FILE" in say(child, "/save")
    assert "is a folder; name a file in it" in say(child, "/save .")
    assert "error: cannot read" in say(child, "/load /nonexistent")
    assert "error: there is no command /what; /help lists them" in say(child, "/what")
    assert "/undo" in say(child, "/help")
    child.sendline("/quit")
    assert left(child) == 0
    again = talk("--max-tokens", "8", "--load", str(saved))
    assert say(again, "third") == third
    again.sendeof()
    assert left(again) == 0


def test_messages_of_several_lines(talk: Talk, model: Path) -> None:
    child = talk("--max-tokens", "8")
    for lines, message in (
        (["one \\", "two \\", "three"], "one \ntwo \nthree"),
        (['"""', "four", "", '  "five"', '"""'], 'four\n\n  "five"'),
        (['"""six', 'seven"""'], "six\nseven"),
        (["//eight"], "/eight"),
    ):
        say(child, "/reset")
        for line in lines[:-1]:
            child.sendline(line)
            child.expect_exact("... ")
        shown = "".join(say(child, lines[-1]).split())
        want = "".join("".join(answers(model, message)).split())
        assert shown == want


def test_ctrl_c_stops_the_answer_and_not_the_program(talk: Talk) -> None:
    child = talk("--window", "64")  # an answer that does not end by itself
    child.sendline("hello")
    child.expect(r"\S[\s\S]{20}")
    child.sendintr()
    child.expect_exact("stopped; what came is kept")
    child.expect_exact(PROMPT)
    assert "ring" in say(child, "/stats")
    child.sendintr()
    child.expect_exact("Ctrl-C again leaves")
    child.expect_exact(PROMPT)
    assert "there is no system message" in say(child, "/system")
    child.sendintr()
    child.expect_exact("Ctrl-C again leaves")
    child.expect_exact(PROMPT)
    child.sendintr()
    assert left(child) == 130


def test_the_history_of_the_last_session(talk: Talk) -> None:
    child = talk("--max-tokens", "4")
    say(child, "/system remembered")
    child.sendline("/quit")
    assert left(child) == 0
    child = talk("--max-tokens", "4")
    say(child, "\x1b[A\x1b[A")  # up, past /quit
    assert "remembered" in say(child, "/system")


def test_through_a_pipe(cli: Cli, model: Path) -> None:
    result = cli("chat", model, "--max-tokens", 8, stdin=b"hello\n\ngo on\n/quit\nnever\n")
    assert (result.code, result.err) == (0, "")
    assert result.out == "".join(f"{text}\n" for text in answers(model, "hello", "go on"))


def test_what_does_not_fit(cli: Cli, model: Path, tmp_path: Path) -> None:
    result = cli("chat", model, "--context", 24, stdin=b"a message that is far too long for this\nok\n/stats\n")
    assert result.code == 0
    assert result.err.startswith("error: the context of 24 tokens is full: this conversation has ")
    assert "note: the context of 24 tokens is full" in result.err
    assert "cannot read" in cli("chat", model, "--load", tmp_path / "none").error
    assert "top-p must be" in cli("chat", model, "--top-p", 0).error
    (model / "tokenizer.json").unlink()
    assert "no tokenizer.json" in cli("chat", model).error


def test_a_saved_chat_has_a_system_message_of_its_own(cli: Cli, tmp_path: Path) -> None:
    result = cli("chat", str(tmp_path), "--system", "x", "--load", str(tmp_path / "talk.chat"))
    assert result.code == 2 and "leave --system out" in result.err
