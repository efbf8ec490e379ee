"""What a client is told where it gets no answer: OpenAI's error objects."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):  # noqa: N818
    """A request that is not answered: an HTTP status, a code, and one line that says what to do."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    @property
    def body(self) -> dict[str, Any]:
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": None, "code": self.code}}
