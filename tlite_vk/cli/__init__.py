"""The command line: `tlite-vk COMMAND`. One file per command; heavy imports wait until a command needs them.

Exit codes: 0, 1 for an unexpected failure, 2 for wrong input, 130 after Ctrl-C.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Sequence

__all__ = ["main"]

WRONG_INPUT, FAILED, INTERRUPTED = 2, 1, 130
DEBUG = "TLITE_VK_DEBUG"
COMPLETE = "_TLITE_VK_COMPLETE"
"""Set by the scripts of shells that ask what may stand behind the cursor."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code. Errors are one line on standard error."""
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments) or ["--help"])
        return _interrupted() if code == INTERRUPTED else code  # how newer option parsers tell of Ctrl-C
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:  # whoever read our output has left
        _discard_output()
        return FAILED
    except Exception as error:
        if os.environ.get(DEBUG, "0") not in ("", "0"):
            raise
        if type(error).__name__ == "Abort":  # how older option parsers tell of Ctrl-C
            return _interrupted()
        message, code = _explained(error)
        if isinstance(error, OSError):
            _discard_output()
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
        return code


def _interrupted() -> int:
    print("interrupted", file=sys.stderr)
    return INTERRUPTED


def _discard_output() -> None:
    """What is left in the buffer goes nowhere: the interpreter would try to write it again when it ends."""
    if sys.stdout is not None:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: list[str]) -> int:
    if COMPLETE in os.environ:
        os.environ["COLUMNS"] = "10000"  # each offer with its help is one line: a shell takes the next one for another
    from .app import app

    code = app(args=arguments, prog_name="tlite-vk", standalone_mode=False)
    if sys.stdout is not None:
        sys.stdout.flush()  # an output that cannot be written is an error of ours, not of the interpreter's end
    return code if isinstance(code, int) else 0


def _explained(error: Exception) -> tuple[str, int]:
    """(what to tell the user, exit code)."""
    from tlite_vk.errors import TliteError
    from tlite_vk.graph.errors import GraphError

    if isinstance(error, TliteError | GraphError):
        from .next_step import advised

        return advised(error), WRONG_INPUT
    describe = getattr(error, "format_message", None)
    if describe is not None:  # the option parser's own errors
        command = getattr(getattr(error, "ctx", None), "command_path", "tlite-vk")
        return f"{describe().rstrip('.')}; see {command} --help", WRONG_INPUT
    if isinstance(error, OSError) and error.errno is not None:
        return _about_file(error), WRONG_INPUT
    if isinstance(error, MemoryError):
        return "not enough memory; close other programs or choose a smaller model or --context", WRONG_INPUT
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"unexpected {what}; run it again with {DEBUG}=1 and report what it prints", FAILED


def _about_file(error: OSError) -> str:
    why = error.strerror or type(error).__name__
    if error.errno == errno.ENOSPC:
        why = "no space left; free some"
    if not error.filename:
        return f"cannot write the output: {why}"
    return f"cannot use {error.filename}: {why}; check the path and its permissions, or choose another"
