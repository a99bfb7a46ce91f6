"""A server's life: listening, and an end that drops no answer under way."""

from __future__ import annotations

import logging
import signal

import uvicorn

from tlite_vk.errors import InputError
from tlite_vk.generate import Model

from .app import make_app
from .settings import Settings


def serve(model: Model, settings: Settings, *, host: str, port: int, grace: int, verbose: bool = False) -> None:
    """Serve until SIGTERM or Ctrl-C; then accept nothing new, and give what is under way `grace` seconds to end.

    Raises InputError where the address is taken or there is no such one, DeviceError where memory does not suffice.
    """
    config = uvicorn.Config(
        make_app(model, settings),
        host=host,
        port=port,
        log_level=logging.INFO if verbose else logging.WARNING,
        server_header=False,
        timeout_graceful_shutdown=grace,
        lifespan="on",
    )
    server = _Server(config)
    try:
        socket = config.bind_socket()
    except SystemExit:  # uvicorn has written the reason to its log
        raise InputError(f"cannot listen on {host}:{port}; choose another --host or --port") from None
    # uvicorn raises the signal that ended it once more, for the handlers that were there before.
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with socket:
            server.run(sockets=[socket])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Server(uvicorn.Server):
    """Says where it listens, in a line that programs can wait for."""

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]  # type: ignore[attr-defined]
            print(f"listening on http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
