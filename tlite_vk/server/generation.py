"""From a checked request to its answer: a job for the worker, its events back, and a client that may leave."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse

from tlite_vk.errors import InputError
from tlite_vk.generate import Model

from .errors import ApiError, wrong
from .job import Done, Event, Failed, Job, Likelihood, Piece, TookTooLongError
from .requests import Request
from .responses import Answer, event
from .scheduler import Scheduler
from .settings import Settings

_STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class ClientLeftError(Exception):
    """Nobody is there to answer any more."""


class Generation:
    """Answers the requests of one server."""

    def __init__(self, model: Model, scheduler: Scheduler, settings: Settings) -> None:
        self._model, self._scheduler, self._settings = model, scheduler, settings

    async def answer(self, http: HttpRequest, request: Request) -> Response:
        """The response. Raises ApiError, or ClientLeftError."""
        assert self._model.tokenizer is not None
        ids = await asyncio.to_thread(self._encode, request)
        answer = Answer(request, self._settings.name, self._model.tokenizer)
        events: asyncio.Queue[Event] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def emit(found: Event) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
                loop.call_soon_threadsafe(events.put_nowait, found)

        deadline = time.monotonic() + self._settings.timeout
        job = Job(ids, request.max_tokens, request.sampling, request.stop, request.top_logprobs, emit, deadline)
        self._scheduler.submit(job)
        coming = _Coming(http, job, events)
        if not request.stream:
            return JSONResponse(await _whole(coming, answer))
        try:
            first = await coming.get()
        except BaseException:
            coming.close()
            raise
        if isinstance(first, Failed):  # before the first piece a status can still tell
            coming.close()
            raise api_error(first.error)
        return StreamingResponse(
            _stream(coming, first, answer), media_type="text/event-stream", headers=_STREAM_HEADERS
        )

    def _encode(self, request: Request) -> list[int]:
        try:
            return self._model.encode(request.prompt)
        except InputError as error:
            full = "context" in str(error)
            name = "messages" if request.chat else "prompt"
            raise wrong(str(error), name, "context_length_exceeded" if full else None) from None


class _Coming:
    """Events of a job as they come; a client that goes away cancels it."""

    def __init__(self, http: HttpRequest, job: Job, events: asyncio.Queue[Event]) -> None:
        self._job, self._events = job, events
        self._left = asyncio.ensure_future(_until_disconnect(http))

    async def get(self) -> Event:
        """The next event. Raises ClientLeftError."""
        waiting = asyncio.ensure_future(self._events.get())
        try:
            await asyncio.wait({waiting, self._left}, return_when=asyncio.FIRST_COMPLETED)
            if self._left.done() and not waiting.done():
                raise ClientLeftError
            return await waiting
        finally:
            waiting.cancel()

    def close(self) -> None:
        """No more is wanted."""
        self._left.cancel()
        self._job.cancel()


async def _until_disconnect(http: HttpRequest) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass


async def _whole(coming: _Coming, answer: Answer) -> dict[str, object]:
    texts: list[str] = []
    likelihoods: list[Likelihood] = []
    try:
        while True:
            found = await coming.get()
            if isinstance(found, Failed):
                raise api_error(found.error)
            if isinstance(found, Done):
                return answer.whole("".join(texts), likelihoods, found.stats)
            texts.append(found.text)
            likelihoods += found.likelihoods
    finally:
        coming.close()


async def _stream(coming: _Coming, found: Event, answer: Answer) -> AsyncIterator[str]:
    try:
        yield answer.opening()
        while isinstance(found, Piece):
            yield answer.piece(found.text, found.likelihoods)
            found = await coming.get()
        yield answer.closing(found.stats) if isinstance(found, Done) else event(api_error(found.error).body())
    except ClientLeftError:
        pass
    finally:
        coming.close()


def api_error(error: Exception) -> ApiError:
    """What a client is told of a failure; the log has the rest."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, TookTooLongError):
        return ApiError(504, "the request took longer than the server allows", kind="timeout", code="timeout")
    if isinstance(error, InputError):
        return wrong(str(error))
    return ApiError(500, "the device or the model failed; the server's log tells more", kind="server_error")
