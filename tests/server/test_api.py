"""What OpenAI's own client gets: answers, streams, log-probabilities, errors."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import openai
import pytest

from tlite_vk.generate import Model

from .conftest import CONTEXT, Running

HELLO: Any = [{"role": "user", "content": "hello"}]
GREEDY: Any = {"model": "tiny", "temperature": 0}


def expected(model: Model, prompt: Any, count: int, **more: Any) -> str:
    """By the Python interface, on an engine of its own ring."""
    conversation = model.conversation()
    ids = model.encode(prompt)
    from tlite_vk.conversation import texts
    from tlite_vk.sampling import SamplingOptions

    steps = conversation.steps(ids, count, SamplingOptions(**more))
    assert model.tokenizer is not None
    text = "".join(texts(model.tokenizer, conversation, ids, (t for found in steps for t in found), ()))
    conversation.close()
    return text


@pytest.mark.parametrize(
    "messages",
    [
        HELLO,
        [{"role": "developer", "content": "be kind"}, *HELLO],
        [
            *HELLO,
            {"role": "assistant", "content": "hi"},
            {"role": "user", "content": [{"type": "text", "text": "more"}]},
        ],
    ],
    ids=len,
)
def test_chat(server: Running, model: Model, messages: Any) -> None:
    plain = [
        {
            "role": m["role"].replace("developer", "system"),
            "content": m["content"] if isinstance(m["content"], str) else "more",
        }
        for m in messages
    ]
    client = server.client()
    answer = client.chat.completions.create(messages=messages, max_tokens=12, **GREEDY)
    want = expected(model, plain, 12)
    choice = answer.choices[0]
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", want, "length")
    assert answer.object == "chat.completion" and answer.model == "tiny" and answer.usage is not None
    assert answer.usage.prompt_tokens == len(model.encode(plain)) and answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12
    stream = client.chat.completions.create(
        messages=messages, max_completion_tokens=12, stream=True, stream_options={"include_usage": True}, **GREEDY
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == want
    assert [c.choices[0].finish_reason for c in chunks[:-1]][-1] == "length"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert not chunks[-1].choices and chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens_details is not None
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens == answer.usage.prompt_tokens - 1
    assert all(c.usage is None for c in chunks[:-1])


def test_completions(server: Running, model: Model) -> None:
    client = server.client()
    want = expected(model, "abc", 16)
    answer = client.completions.create(prompt="abc", **GREEDY)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == (want, "length")  # 16 by default
    ids = model.encode("abc")
    for prompt in (ids, [ids], ["abc"]):
        assert client.completions.create(prompt=prompt, **GREEDY).choices[0].text == want
    chunks = list(client.completions.create(prompt="abc", stream=True, **GREEDY))
    assert "".join(c.choices[0].text for c in chunks) == want


def test_stop_and_seed(server: Running, model: Model) -> None:
    client = server.client()
    text = expected(model, HELLO, 30)
    stop = text[len(text) // 2 : len(text) // 2 + 2]
    for stops in (stop, ["never seen", stop]):
        answer = client.chat.completions.create(messages=HELLO, max_tokens=30, stop=stops, **GREEDY)
        assert answer.choices[0].message.content == text[: text.index(stop)]
        assert answer.choices[0].finish_reason == "stop"

    def draw(seed: int) -> str | None:
        drawn = client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=12, seed=seed, top_p=0.9)
        return drawn.choices[0].message.content

    assert draw(3) == draw(3) != draw(4)
    assert draw(-1) is not None  # any 64-bit number is a seed


def test_logprobs(server: Running, model: Model) -> None:
    client = server.client()
    answer = client.chat.completions.create(messages=HELLO, max_tokens=5, logprobs=True, top_logprobs=3, **GREEDY)
    assert answer.choices[0].logprobs is not None and answer.choices[0].logprobs.content is not None
    entries = answer.choices[0].logprobs.content
    assert len(entries) == 5
    conversation, rows = model.conversation(), []
    from tlite_vk.sampling import SamplingOptions

    for _ in conversation.steps(model.encode(HELLO), 5, SamplingOptions(), look=lambda row, _: rows.append(row.copy())):
        pass
    conversation.close()
    for entry, row in zip(entries, rows, strict=True):
        scores = row.astype(np.float64) - np.log(np.exp(row.astype(np.float64)).sum())
        best = np.sort(scores)[::-1][:3]
        np.testing.assert_allclose([t.logprob for t in entry.top_logprobs], best, atol=1e-2)
        assert abs(entry.logprob - entry.top_logprobs[0].logprob) < 1e-9 and entry.token == entry.top_logprobs[0].token
        assert entry.bytes == list(entry.token.encode())
    stream = client.chat.completions.create(messages=HELLO, max_tokens=5, logprobs=True, stream=True, **GREEDY)
    found = [e for c in stream if (p := c.choices[0].logprobs) is not None and p.content for e in p.content]
    assert [e.token for e in found] == [e.token for e in entries] and not found[0].top_logprobs
    old = client.completions.create(prompt="abc", max_tokens=4, logprobs=2, **GREEDY).choices[0].logprobs
    assert (
        old is not None and old.tokens is not None and old.top_logprobs is not None and old.token_logprobs is not None
    )
    assert len(old.tokens) == len(old.token_logprobs) == 4 and all(len(top) <= 2 for top in old.top_logprobs)


def test_models(server: Running) -> None:
    client = server.client()
    assert [m.id for m in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "tlite-vk"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("huge")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"presence_penalty": 1}, "presence_penalty"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -1}, None),
        ({"top_p": 0}, None),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"stream": 1}, "stream"),
        ({"stream_options": []}, "stream_options"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"messages": [{"role": "user", "content": "x" * CONTEXT}]}, "messages"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages"),
    ],
    ids=str,
)
def test_requests_that_are_refused(server: Running, fields: dict[str, Any], param: str | None) -> None:
    import json

    body = json.dumps({"messages": HELLO, **fields}).encode()
    response = httpx.post(
        f"{server.url}/v1/chat/completions", content=body, headers={"content-type": "application/json"}
    )
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param), error
    assert error["message"] and "\n" not in error["message"]


def test_errors_reach_the_client_as_its_own(server: Running) -> None:
    client = server.client()
    with pytest.raises(openai.NotFoundError, match="no model 'gpt'"):
        client.chat.completions.create(model="gpt", messages=HELLO)
    with pytest.raises(openai.BadRequestError) as found:
        client.completions.create(model="tiny", prompt="x" * CONTEXT)
    assert found.value.code == "context_length_exceeded" and str(CONTEXT) in found.value.message
    with pytest.raises(openai.BadRequestError, match="prompt must be"):
        client.completions.create(model="tiny", prompt=["a", "b"])
    with pytest.raises(openai.BadRequestError, match=r"\[0, 261\)"):
        client.completions.create(model="tiny", prompt=[999])


def test_bodies_and_paths_that_do_not_serve(server: Running) -> None:
    url = f"{server.url}/v1/chat/completions"
    kind = {"content-type": "application/json"}
    big = b'{"x": "' + b"x" * server.settings.body_bytes + b'"}'
    for status, response in (
        (400, httpx.post(url, content=b"{", headers=kind)),
        (400, httpx.post(url, content=b"[" * 100_000, headers=kind)),
        (400, httpx.post(url, content=b"[]", headers=kind)),
        (413, httpx.post(url, content=big, headers=kind)),
        (413, httpx.post(url, content=iter([big]), headers=kind)),  # no length is told
        (415, httpx.post(url, content=b"{}", headers={"content-type": "text/plain"})),
        (404, httpx.get(f"{server.url}/v1/nothing")),
        (405, httpx.get(url)),
    ):
        assert response.status_code == status, response.text
        assert response.json()["error"]["message"]
    assert httpx.get(f"{server.url}/health", headers={"host": "evil.example"}).status_code == 400
    assert httpx.get(f"{server.url}/health").json() == {"status": "ok"}


def test_metrics(server: Running) -> None:
    server.client().chat.completions.create(messages=HELLO, max_tokens=3, **GREEDY)
    text = httpx.get(f"{server.url}/metrics").text
    assert 'tlite_vk_requests_total{path="/v1/chat/completions",status="200"}' in text
    for name in ("waiting", "running", "tokens_total", "first_token_seconds_bucket", "device_bytes"):
        assert f"tlite_vk_{name}" in text
