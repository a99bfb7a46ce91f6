"""Chat templates rendered in a process of its own, with little memory and little time: a template is a stranger's code.

jinja2's sandbox keeps a template from Python's inside, but not from looping for ever or from filling the memory. As a
script this file is that process, which imports nothing of tlite_vk: one JSON request a line, one JSON answer a line.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

SECONDS = 10.0
MEMORY = 1 << 29  # bytes of the process that renders, its interpreter included
MAX_TEXT = 1 << 24  # characters of a rendered conversation
MAX_SOURCE = 1 << 20  # characters of a template; real ones stay under 20,000
REFUSALS = (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)


class RefusedError(Exception):
    """The template does not render; the message says why, in its own words where it has any."""


class _GenerationMark(Extension):
    """`{% generation %}` marks the assistant's words for training; here it means nothing."""

    tags = {"generation"}  # noqa: RUF012 (the base class declares it so)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_same"), [], [], body).set_lineno(line)

    def _same(self, caller: Any) -> str:
        return str(caller())


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _now(layout: str) -> str:
    return datetime.datetime.now().strftime(layout)


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def check(source: str) -> None:
    """Raises RefusedError where a template is not valid Jinja. Nothing of it is computed, not even a constant."""
    if len(source) > MAX_SOURCE:
        raise RefusedError(f"it has {len(source)} characters; up to {MAX_SOURCE} are supported")
    environment = _environment()
    try:
        for node in environment.parse(source).find_all((nodes.Filter, nodes.Test)):
            assert isinstance(node, nodes.Filter | nodes.Test)
            kind, known = (
                ("test", environment.tests) if isinstance(node, nodes.Test) else ("filter", environment.filters)
            )
            if node.name not in known:
                raise RefusedError(f"there is no {kind} named {node.name!r}")
    except REFUSALS as error:
        raise RefusedError(_line(error)) from error


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _GenerationMark]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _now
    return environment


def render(source: str, values: Mapping[str, Any]) -> str:
    """The template with its values, in the process for that. Raises RefusedError where it refuses or takes too much."""
    request = json.dumps({"source": source, "values": values}).encode() + b"\n"
    with _lock:
        answer = _worker().ask(request)
    if "text" not in answer:
        raise RefusedError(str(answer.get("error")))
    return str(answer["text"])


# -- the asking side ------------------------------------------------------------------------------------------------


class _Worker:
    """The process. It ends with this one, when its standard input is closed."""

    def __init__(self) -> None:
        paths = [os.path.abspath(path) for path in sys.path]  # noqa: PTH100 (as Python itself does)
        environment = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"}
        environment |= {name: os.environ[name] for name in ("TZ", "LD_LIBRARY_PATH") if name in os.environ}
        self.process = subprocess.Popen(
            [sys.executable, "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )

    def ask(self, request: bytes) -> dict[str, Any]:
        try:
            assert self.process.stdin is not None
            self.process.stdin.write(request)
            self.process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._line())
            return answer
        except TimeoutError:
            self.end()
            return {"error": f"it takes more than {SECONDS:.0f} seconds"}
        except (OSError, ValueError):  # it was killed: by its limits, or by hand
            self.end()
            return {"error": "it takes too much memory"}
        except BaseException:  # Ctrl-C: an answer that comes later must not be taken for the next one
            self.end()
            raise

    def _line(self) -> bytes:
        """Its next line. Raises TimeoutError."""
        assert self.process.stdout is not None
        parts: list[bytes] = []
        while not parts or not parts[-1].endswith(b"\n"):
            if not select.select([self.process.stdout], [], [], SECONDS)[0]:
                raise TimeoutError
            part = os.read(self.process.stdout.fileno(), 1 << 16)
            if not part:
                break
            parts.append(part)
        return b"".join(parts)

    def end(self) -> None:
        global _running
        _running = None
        self.process.kill()
        with contextlib.suppress(OSError):
            self.process.communicate()


_lock = threading.Lock()
_running: _Worker | None = None


def _worker() -> _Worker:
    global _running
    if _running is None or _running.process.poll() is not None:
        _running = _Worker()
        atexit.register(_running.end)
    return _running


# -- the answering side ---------------------------------------------------------------------------------------------


def _answer(request: Mapping[str, Any]) -> dict[str, str]:
    try:
        parts, count = [], 0
        for part in _environment().from_string(request["source"]).generate(**request["values"]):
            count += len(part)
            if count > MAX_TEXT:
                return {"error": f"its text has more than {MAX_TEXT} characters"}
            parts.append(part)
        return {"text": "".join(parts)}
    except MemoryError:
        return {"error": "it takes too much memory"}
    except (*REFUSALS, SyntaxError) as error:  # the last from Python's own compiler: nested too deep
        return {"error": _line(error)}


def _line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _serve() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for who asks
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # it writes no file
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(json.dumps(_answer(json.loads(line))).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _serve()
