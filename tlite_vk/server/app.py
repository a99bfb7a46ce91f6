"""The routes: the OpenAI API, /health, /metrics, and a page to chat on."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tlite_vk.errors import InputError
from tlite_vk.generate import Model

from .errors import ApiError
from .generation import ClientLeftError, Generation
from .metrics import Metrics
from .page import page
from .reading import authorize, read_json
from .requests import parse
from .scheduler import Scheduler
from .settings import Settings

Handler = Callable[[HttpRequest], Awaitable[Response]]
CLIENT_LEFT = 499  # as nginx writes it; nobody receives it


def make_app(model: Model, settings: Settings) -> Starlette:
    """An ASGI application that owns `model` while its lifespan lasts.

    Raises InputError for a model without a tokenizer; DeviceError, when it starts, where memory does not suffice.
    """
    if model.tokenizer is None:
        raise InputError(f"there is no tokenizer.json beside {model.path}; a server needs one")
    return _Server(model, settings).app


class _Server:
    def __init__(self, model: Model, settings: Settings) -> None:
        self._model, self._settings = model, settings
        self._metrics = Metrics(model.device)
        self._started = int(time.time())
        self._scheduler: Scheduler | None = None
        routes = [
            Route("/", page, methods=["GET"]),
            Route("/health", self.health, methods=["GET"]),
            Route("/metrics", self._guarded(self.metrics), methods=["GET"]),
            Route("/v1/models", self._guarded(self.models), methods=["GET"]),
            Route("/v1/models/{name:path}", self._guarded(self.one_model), methods=["GET"]),
            Route("/v1/chat/completions", self._guarded(self.chat), methods=["POST"]),
            Route("/v1/completions", self._guarded(self.completions), methods=["POST"]),
        ]
        self.app = Starlette(
            routes=routes,
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(settings.hosts), www_redirect=False)],
            exception_handlers={ApiError: _refused, HTTPException: _not_found},
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        settings = self._settings
        self._scheduler = Scheduler(
            self._model, parallel=settings.parallel, waiting=settings.waiting, metrics=self._metrics
        )
        self._generation = Generation(self._model, self._scheduler, settings)
        try:
            yield
        finally:
            self._scheduler.stop()

    def _guarded(self, handler: Handler) -> Handler:
        """With the key, and counted."""

        async def guarded(http: HttpRequest) -> Response:
            status, path = 500, http.scope["path"] if "name" not in http.path_params else "/v1/models/NAME"
            try:
                authorize(http, self._settings)
                response = await handler(http)
                status = response.status_code
                return response
            except ApiError as error:
                status = error.status
                raise
            except ClientLeftError:
                status = CLIENT_LEFT
                return Response(status_code=status)
            finally:
                self._metrics.requests.labels(path, str(status)).inc()

        return guarded

    async def health(self, _: HttpRequest) -> Response:
        failed = self._scheduler is None or self._scheduler.failed is not None
        return JSONResponse({"status": "failed" if failed else "ok"}, 503 if failed else 200)

    async def metrics(self, _: HttpRequest) -> Response:
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def models(self, _: HttpRequest) -> Response:
        return JSONResponse({"object": "list", "data": [self._about_model()]})

    async def one_model(self, http: HttpRequest) -> Response:
        name = http.path_params["name"]
        if name != self._settings.name:
            raise ApiError(404, f"there is no model {name!r} here", param="model", code="model_not_found")
        return JSONResponse(self._about_model())

    def _about_model(self) -> dict[str, object]:
        return {"id": self._settings.name, "object": "model", "created": self._started, "owned_by": "tlite-vk"}

    async def chat(self, http: HttpRequest) -> Response:
        return await self._answer(http, chat=True)

    async def completions(self, http: HttpRequest) -> Response:
        return await self._answer(http, chat=False)

    async def _answer(self, http: HttpRequest, *, chat: bool) -> Response:
        body = await read_json(http, self._settings)
        return await self._generation.answer(http, parse(body, chat, self._settings.name))


async def _refused(_: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body(), error.status, error.headers())


async def _not_found(http: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{http.method} {http.url.path}: {error.detail}; see docs/server.md for what there is"
    return JSONResponse(ApiError(error.status_code, message).body(), error.status_code, error.headers)
