"""A real server on a loopback port over a tiny model, in a thread of this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from gguf import GGMLQuantizationType as Kind
from openai import OpenAI
from support.gguf_models import write_llama

from tlite_vk.convert import convert
from tlite_vk.device import Device
from tlite_vk.generate import Model
from tlite_vk.loading import load
from tlite_vk.server.app import make_app
from tlite_vk.server.settings import Settings

CONTEXT = 512


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = write_llama(tmp_path_factory.mktemp("gguf"), kind=Kind.Q4_1, vocab=261, context=4096, tokenizer=True)
    return convert(source, tmp_path_factory.mktemp("tiny") / "model.onnx").model.parent


@pytest.fixture(scope="module")
def model(device: Device, folder: Path) -> Iterator[Model]:
    with load(folder, device=device, context=CONTEXT, chunk=32) as loaded:
        yield loaded


class Running:
    """A server, and clients for it."""

    def __init__(self, port: int, settings: Settings) -> None:
        self.url, self.settings = f"http://127.0.0.1:{port}", settings

    def client(self, **more: Any) -> OpenAI:
        options: dict[str, Any] = {"base_url": f"{self.url}/v1", "api_key": "none", "max_retries": 0, "timeout": 60}
        return OpenAI(**(options | more))


@contextmanager
def running(model: Model, settings: Settings) -> Iterator[Running]:
    config = uvicorn.Config(make_app(model, settings), port=0, log_level="error", lifespan="on")
    server = uvicorn.Server(config)
    socket = config.bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield Running(socket.getsockname()[1], settings)
    finally:
        server.should_exit = True
        thread.join()
        socket.close()


@pytest.fixture(scope="module")
def server(model: Model) -> Iterator[Running]:
    """One for tests that leave it as it was."""
    with running(model, Settings("tiny")) as started:
        yield started


class Gate:
    """Holds every step of the device back while it is closed."""

    def __init__(self) -> None:
        self.open, self.reached = threading.Event(), threading.Event()

    def __call__(self, run: Callable[..., None]) -> Callable[..., None]:
        def gated(*arguments: Any, **more: Any) -> None:
            self.reached.set()
            assert self.open.wait(60)
            run(*arguments, **more)

        return gated


@pytest.fixture
def gate(model: Model, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    found = Gate()
    monkeypatch.setattr(model.engine, "run", found(model.engine.run))
    yield found
    found.open.set()
