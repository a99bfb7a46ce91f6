"""What a request's answer says of its tokens, with a conversation that is played."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from tlite_vk.decoding import Stats
from tlite_vk.sampling import SamplingOptions
from tlite_vk.server.job import LEAST, Event, Job, Piece, likelihood


class Played:
    """Tokens 1, 2, then one that ends the answer; the logits of each are seen, as in `Conversation.steps`."""

    def __init__(self) -> None:
        self.stats = Stats()

    def steps(self, ids: Any, max_tokens: Any, sampling: Any, *, look: Any, most: int) -> Iterator[list[int]]:
        yield []
        for token in (1, 2, 3):
            look(np.eye(8, dtype=np.float32)[token], token)
            yield [token] if token < 3 else []


def test_the_token_that_ends_an_answer_has_no_likelihood() -> None:
    events: list[Event] = []
    stream = SimpleNamespace(push=lambda token: f"<{token}>", finish=lambda: "")
    job = Job([5], None, SamplingOptions(), (), 2, events.append, time.monotonic() + 60)
    for _ in job.steps(Played(), SimpleNamespace(stream=lambda ids: stream), 1):  # type: ignore[arg-type]
        pass
    pieces = [event for event in events if isinstance(event, Piece)]
    assert "".join(piece.text for piece in pieces) == "<1><2>"
    assert [found.token for piece in pieces for found in piece.likelihoods] == [1, 2]


def test_impossible_tokens_have_a_number_that_json_knows() -> None:
    found = likelihood(np.array([0.0, -np.inf], np.float32), 0, 2)
    assert found.logprob == 0.0 and found.top == ((0, 0.0), (1, LEAST))
    json.dumps([found.logprob, found.top], allow_nan=False)
