"""What an endpoint's refusal means: for a question, a model, or all of the endpoint; and whether it passes."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recal_bench.collection.failures import refused
from recal_bench.collection.replies import error_of, read_reply


def failed(status: int, message: str = "", code: Any = None, **more: Any) -> Any:
    return refused("e", {"message": message, "code": code, **more}, status, hints={})


MODERATED = [
    (403, "Your chosen model requires moderation and your input was flagged", 403),
    (400, "The response was filtered due to the prompt triggering the content management policy.", "content_filter"),
    (400, "Invalid prompt: your prompt was flagged as potentially violating our usage policy.", "invalid_prompt"),
    (400, "Input data may contain inappropriate content.", "data_inspection_failed"),
    (400, "Content Exists Risk", "invalid_request_error"),
    (200, "The prompt was blocked for safety reasons", 400),
]


@pytest.mark.parametrize(("status", "message", "code"), MODERATED)
def test_what_speaks_of_the_prompt_is_about_the_prompt(status: int, message: str, code: Any) -> None:
    failure = failed(status, message, code)
    assert failure.moderated
    assert (failure.reach, failure.transient, failure.billed) == ("request", False, False)


@pytest.mark.parametrize(
    ("status", "message", "code", "reach"),
    [
        (403, "model m is not in your region", None, "model"),
        (403, "Your account was flagged for violating our content policy", None, "model"),
        (403, "This API key has no permission for the prompt endpoint; it was blocked", None, "model"),
        (403, "Your request was blocked.", None, "model"),
        (404, "The model `m` does not exist", "model_not_found", "model"),
        (400, "m has been decommissioned", "model_decommissioned", "model"),
        (410, "gone", None, "model"),
        (401, "Incorrect API key", "invalid_api_key", "endpoint"),
        (402, "Insufficient credits", None, "endpoint"),
        (429, "You exceeded your current quota", "insufficient_quota", "endpoint"),
        (200, "Insufficient credits", 402, "endpoint"),
        (200, "No endpoints found for m", 404, "model"),
        (400, "This model's maximum context length is 10 tokens.", "context_length_exceeded", "request"),
        (422, "messages: field required", None, "request"),
    ],
)
def test_how_far_a_refusal_reaches(status: int, message: str, code: Any, reach: str) -> None:
    failure = failed(status, message, code)
    assert (failure.reach, failure.transient, failure.moderated) == (reach, False, False)
    assert message.rstrip(".") in failure.reason


@pytest.mark.parametrize(
    ("status", "code"),
    [
        *((429, None), (429, "rate_limit_exceeded"), (500, None), (503, "x"), (529, None), (200, 429)),
        *((200, "429"), (200, 502), (200, None), (200, "server_error"), (200, 1302)),
    ],
)
def test_what_passes(status: int, code: Any) -> None:
    failure = failed(status, "later", code)
    assert failure.transient
    assert failure.reach == "request"
    assert ("within 200" in failure.kind) == (status == 200)


@given(body=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_body_is_a_reply_or_a_value_error(body: bytes) -> None:
    with suppress(ValueError):
        reply = read_reply(body)
        assert isinstance(reply, dict)
        error_of(reply)


SHAPES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "code", "metadata", "raw", "choices", "finish_reason", "base_resp"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


REPLIES = st.dictionaries(st.sampled_from(["error", "message", "choices", "detail", "base_resp"]), SHAPES)


@given(reply=REPLIES, status=st.sampled_from([200, 400, 403, 500]))
def test_whatever_an_error_looks_like_it_is_one_line(reply: Any, status: int) -> None:
    error = error_of(reply)
    if error is not None:
        failure = refused("e", error, status, hints={})
        assert failure.reason.isprintable()
        assert failure.kind.isprintable()


def test_a_code_brings_no_escapes_into_a_summary() -> None:
    assert failed(200, "x", "\x1b[31mred\n").kind.isprintable()
