"""What a server is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """name: of the model, as clients see it. key: a bearer token that every request must bring, or None.

    parallel: requests that take turns on the device, each with a ring of its own. waiting: most that queue for one.
    body_bytes: longest body. timeout, body_timeout: seconds of a request in all, and for its body to arrive.
    hosts: names by which the server may be called (the Host header); ("*",) for any.
    """

    name: str
    key: str | None = None
    parallel: int = 4
    waiting: int = 64
    body_bytes: int = 1 << 20
    timeout: float = 300.0
    body_timeout: float = 30.0
    hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")
