"""Several clients at once: fairness, shared prefixes, bounds, clients that leave, failures."""

from __future__ import annotations

import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from tlite_vk.errors import DeviceError
from tlite_vk.generate import Model
from tlite_vk.server.settings import Settings

from .conftest import Gate, Running, running

GREEDY: Any = {"model": "tiny", "temperature": 0}
SYSTEM = "a system prompt that all of them share " * 5


def messages(text: str, system: str | None = SYSTEM) -> Any:
    return [*([{"role": "system", "content": system}] if system else []), {"role": "user", "content": text}]


def figure(server: Running, name: str) -> float:
    """A metric, its labels included in the name."""
    text = httpx.get(f"{server.url}/metrics").text
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def until(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_many_at_once_get_what_each_gets_alone(model: Model) -> None:
    asked = [messages(f"question {i}" * (1 + i % 3), SYSTEM if i % 4 else None) for i in range(12)]
    with running(model, Settings("tiny", parallel=1)) as server:
        client = server.client()
        alone = [client.chat.completions.create(messages=m, max_tokens=10, **GREEDY) for m in asked]
    with running(model, Settings("tiny", parallel=3)) as server:
        client = server.client()

        def ask(m: Any) -> Any:
            return client.chat.completions.create(messages=m, max_tokens=10, **GREEDY)

        with ThreadPoolExecutor(12) as threads:
            together = list(threads.map(ask, asked))
    # Which prefix was known decides where chunks are cut, and that how sums round: texts may part after a near tie.
    same = sum(
        a.choices[0].message.content == b.choices[0].message.content for a, b in zip(alone, together, strict=True)
    )
    assert same >= 10
    assert [a.usage.prompt_tokens for a in alone] == [b.usage.prompt_tokens for b in together]


def test_a_shared_system_prompt_is_computed_once(model: Model) -> None:
    with running(model, Settings("tiny", parallel=3)) as server:
        client = server.client()
        length = len(model.encode(messages("x"))) - 1
        for i in range(6):
            usage = client.chat.completions.create(messages=messages(f"{i} is a number"), max_tokens=5, **GREEDY).usage
            assert usage is not None and usage.prompt_tokens_details is not None
            assert i == 0 or (usage.prompt_tokens_details.cached_tokens or 0) >= length - 2
        assert figure(server, 'tlite_vk_tokens_total{kind="cached"}') >= 5 * (length - 2)


def test_turns_are_taken(model: Model, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long answer does not hold a short one up."""
    with running(model, Settings("tiny", parallel=2)) as server, ThreadPoolExecutor(2) as threads:
        ended: list[str] = []

        def ask(name: str, count: int) -> None:
            server.client().completions.create(prompt=name, max_tokens=count, logprobs=0, **GREEDY)
            ended.append(name)

        long = threads.submit(ask, "long", 200)
        assert gate.reached.wait(30)
        short = threads.submit(ask, "short", 5)
        until(lambda: figure(server, "tlite_vk_waiting") == 1)
        gate.open.set()
        long.result()
        short.result()
    assert ended == ["short", "long"]


def test_the_queue_is_bounded(model: Model, gate: Gate) -> None:
    with running(model, Settings("tiny", parallel=1, waiting=1)) as server, ThreadPoolExecutor(2) as threads:
        client = server.client()

        def ask() -> Any:
            return client.completions.create(prompt="x", max_tokens=3, **GREEDY)

        first = threads.submit(ask)
        assert gate.reached.wait(30)
        second = threads.submit(ask)
        until(lambda: figure(server, "tlite_vk_waiting") == 1)
        with pytest.raises(openai.RateLimitError) as refused:
            ask()
        assert int(refused.value.response.headers["retry-after"]) >= 1
        gate.open.set()
        assert first.result().choices[0].text == second.result().choices[0].text
        assert ask().choices


@pytest.mark.parametrize("stream", ["true", "false"])
def test_a_client_that_leaves_is_not_computed_for(model: Model, gate: Gate, stream: str) -> None:
    with running(model, Settings("tiny", parallel=1)) as server:
        host, port = "127.0.0.1", int(server.url.rpartition(":")[2])
        body = f'{{"prompt": "x", "max_tokens": 400, "stream": {stream}}}'.encode()
        with socket.create_connection((host, port)) as connection:
            connection.sendall(
                b"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n" % len(body) + body
            )
            assert gate.reached.wait(30)
        until(lambda: figure(server, 'tlite_vk_requests_total{path="/v1/completions",status="499"}') == 1)
        gate.open.set()
        until(lambda: figure(server, "tlite_vk_cancelled_total") == 1)
        assert figure(server, 'tlite_vk_tokens_total{kind="generated"}') == 0
        assert server.client().completions.create(prompt="x", max_tokens=3, **GREEDY).choices


def test_a_request_that_takes_too_long(model: Model, gate: Gate) -> None:
    with running(model, Settings("tiny", timeout=0.2)) as server, ThreadPoolExecutor(1) as threads:
        asked = threads.submit(lambda: server.client().completions.create(prompt="x", max_tokens=400, **GREEDY))
        assert gate.reached.wait(30)
        time.sleep(0.3)
        gate.open.set()
        with pytest.raises(openai.InternalServerError) as refused:
            asked.result()
        assert refused.value.status_code == 504 and refused.value.code == "timeout"


def test_a_failing_device_is_told(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise DeviceError("the device is lost")

    with running(model, Settings("tiny")) as server:
        with monkeypatch.context() as patch:
            patch.setattr(model.engine, "run", fail)
            with pytest.raises(openai.InternalServerError, match="the server's log tells more"):
                server.client().completions.create(prompt="x", **GREEDY)
        assert httpx.get(f"{server.url}/health").status_code == 503
        with pytest.raises(openai.InternalServerError):
            server.client().completions.create(prompt="x", **GREEDY)


def test_the_key(model: Model) -> None:
    with running(model, Settings("tiny", key="sécret")) as server:
        right: Any = {"authorization": "Bearer sécret".encode()}
        assert httpx.get(f"{server.url}/v1/models", headers=right).status_code == 200
        others: list[dict[str, Any]] = [{}, {"authorization": "Bearer secret"}, {"authorization": "sécret".encode()}]
        for headers in others:
            for path in ("/v1/models", "/metrics"):
                refused = httpx.get(f"{server.url}{path}", headers=headers)
                assert refused.status_code == 401 and refused.json()["error"]["code"] == "invalid_api_key"
        assert httpx.get(f"{server.url}/health").status_code == 200
        with pytest.raises(openai.AuthenticationError):
            server.client(api_key="wrong").models.list()


def test_memory_stays_as_it_is(model: Model) -> None:
    with running(model, Settings("tiny", parallel=2)) as server:
        used = set()
        for _ in range(3):
            for i in range(6):
                server.client().chat.completions.create(messages=messages(f"{i}" * 9), max_tokens=3, **GREEDY)
            used.add(figure(server, "tlite_vk_device_bytes"))
        assert len(used) == 1
    assert threading.active_count() < 20
