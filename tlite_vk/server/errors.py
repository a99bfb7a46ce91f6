"""What a request is refused with, in the form that OpenAI's clients read."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """An HTTP status and a message for the client; `param` names the field that is wrong."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.kind, self.param, self.code = status, message, kind, param, code
        self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        """The JSON object of the answer."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """Of the answer."""
        found = {"Retry-After": str(self.retry_after)} if self.retry_after is not None else {}
        return found | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


def wrong(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """A request that can never be answered as it is."""
    return ApiError(400, message, param=param, code=code)
