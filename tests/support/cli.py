"""What a run of the command line leaves."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of an error with exit code 2; fails where it is anything else."""
        assert (self.code, self.out) == (2, ""), self
        assert self.err.startswith("error: ") and self.err.endswith("\n") and self.err.count("\n") == 1, self.err
        return self.err.removeprefix("error: ").rstrip("\n")


Cli = Callable[..., Result]
"""A function (*arguments, stdin=bytes) that runs a command."""
