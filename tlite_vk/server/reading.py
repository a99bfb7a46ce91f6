"""What comes in: the bearer token, and bodies within their bounds."""

from __future__ import annotations

import asyncio
import hmac
import json
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest

from .errors import ApiError, wrong
from .settings import Settings


def authorize(http: HttpRequest, settings: Settings) -> None:
    """Raises ApiError without the right token; the comparison takes the same time whatever was sent."""
    if settings.key is None:
        return
    given = http.headers.get("authorization", "")
    kind, _, token = given.partition(" ")
    # Headers are bytes, which starlette reads as Latin-1.
    right = hmac.compare_digest(token.strip().encode("latin-1"), settings.key.encode())
    if kind.lower() != "bearer" or not right:
        raise ApiError(
            401, "a valid key is needed: Authorization: Bearer KEY", kind="authentication_error", code="invalid_api_key"
        )


async def read_json(http: HttpRequest, settings: Settings) -> Any:
    """The body as JSON. Raises ApiError: 400, 408, 413 or 415."""
    # A page of another site can send forms without asking, but no JSON.
    if http.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "the body must be JSON; send Content-Type: application/json")
    length = http.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > settings.body_bytes:
        raise _too_long(settings)
    body = bytearray()
    try:
        async with asyncio.timeout(settings.body_timeout):
            async for part in http.stream():
                body += part
                if len(body) > settings.body_bytes:
                    raise _too_long(settings)
    except TimeoutError:
        raise ApiError(408, f"the body did not arrive within {settings.body_timeout:g} s") from None
    except ClientDisconnect:
        raise wrong("the body is not complete") from None
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise wrong(f"the body is not JSON: {str(error).partition(chr(10))[0]}") from None


def _too_long(settings: Settings) -> ApiError:
    return ApiError(413, f"the body is longer than {settings.body_bytes} bytes; shorten it")
