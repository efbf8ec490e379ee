"""What endpoints say in their own ways: each is read rightly, or named; `collect` goes on as far as it can."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from collection.own_endpoint import TEXT, Asked, Desk, error_of, own_endpoint, reply
from test_collect import WITH_SIGNALS


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between attempts are short."""
    monkeypatch.setattr("recal_bench.collection.endpoint._FIRST_WAIT_S", 0.001)


def stream_of(*events: Any) -> bytes:
    lines = [each if isinstance(each, str) else f"data: {json.dumps(each)}" for each in events]
    return "".join(f"{line}\n\n" for line in (*lines, "data: [DONE]")).encode()


def in_chunks(asked: Asked) -> bytes:
    whole = reply(asked)
    head = {"id": "x", "model": asked.model, "object": "chat.completion.chunk"}
    deltas = [{"role": "assistant", "content": ""}, {"content": TEXT[:9]}, {"content": TEXT[9:]}]
    chunks: list[Any] = [head | {"choices": [{"index": 0, "delta": each, "finish_reason": None}]} for each in deltas]
    end = head | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    return stream_of(": waiting", *chunks, end, head | {"choices": [], "usage": whole["usage"]})


def thoughts(asked: Asked) -> dict[str, Any]:
    return {"type": "thinking", "thinking": [{"type": "text", "text": "hm, let me see"}]}


FORMS: dict[str, Any] = {
    "a list of texts": lambda asked: reply(asked, message={"content": [{"type": "text", "text": TEXT}]}),
    "thought and text": lambda asked: reply(
        asked, message={"content": [thoughts(asked), {"type": "text", "text": TEXT}]}
    ),
    "texts as values": lambda asked: reply(
        asked, message={"content": [{"type": "output_text", "text": {"value": TEXT}}]}
    ),
    "one part": lambda asked: reply(asked, message={"content": {"type": "text", "text": TEXT}}),
    "a mark before it": lambda asked: b"\xef\xbb\xbf" + json.dumps(reply(asked)).encode(),
    "blanks before it": lambda asked: b"\n\n  " + json.dumps(reply(asked)).encode(),
    "a stream of one event": lambda asked: stream_of(reply(asked)),
    "a stream": in_chunks,
    "a second choice": lambda asked: reply(asked, choices=reply(asked)["choices"] * 2),
    "an empty error": lambda asked: reply(asked, error={"code": 0, "message": ""}),
    "counts as texts": lambda asked: reply(
        asked, usage={name: str(count) for name, count in reply(asked)["usage"].items()}
    ),
    "half a pair": lambda asked: json.dumps(reply(asked)).replace("\n", "\ud83d\n").encode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_right_reply_is_read(tmp_path: Path, form: str) -> None:
    with own_endpoint(lambda asked: (200, FORMS[form](asked))) as (base_url, asked):
        frame = Desk(tmp_path, base_url).collected()
    assert len(asked) == 4
    assert frame["score"].eq(1).all()
    assert frame["finish_reason"].eq("stop").all()
    assert frame["usage"].eq("reported").all()
    prompt, completion = frame["prompt_tokens"], frame["completion_tokens"]
    assert frame["cost_usd"].tolist() == pytest.approx((1e-6 * prompt + 2e-6 * completion).tolist())
    assert completion.eq(len(TEXT.split())).all()


CALL = {"id": "1", "type": "function", "function": {"name": "search", "arguments": '{"q": "' + "word " * 200 + '"}'}}
ENDINGS: dict[str, tuple[Any, str, str]] = {
    "refusal": (
        lambda asked: reply(
            asked, message={"content": None, "refusal": "I cannot help."}, usage={"completion_tokens": 3}
        ),
        "I cannot help.",
        "4 answers are refusals",
    ),
    "content_filter": (
        lambda asked: reply(
            asked,
            message={"content": None},
            choice={"finish_reason": "content_filter"},
            usage={"completion_tokens": 0, "total_tokens": None},
        ),
        "",
        "4 answers were ended by the endpoint's content filter",
    ),
    "tool_calls": (
        lambda asked: reply(
            asked,
            message={"content": None, "tool_calls": [CALL]},
            usage={"completion_tokens": 203, "total_tokens": None},
        ),
        "",
        "4 answers call a tool instead",
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_no_answer_is_an_outcome_under_its_own_name(tmp_path: Path, ending: str) -> None:
    respond, text, said = ENDINGS[ending]
    with own_endpoint(lambda asked: (200, respond(asked))) as (base_url, _):
        desk = Desk(tmp_path, base_url)
        result = desk.collect()
    assert result.exit_code == 0, result.output
    assert f"Note: m: {said}; they count as answered" in result.output
    assert "are empty" not in result.output
    assert desk.frame["finish_reason"].eq(ending).all()
    assert desk.frame["response"].eq(text).all()
    assert desk.frame["score"].eq(0).all()


UPSTREAM: dict[str, Any] = {
    "an error object": lambda asked: {"error": {"code": 429, "message": "Provider returned error"}},
    "an error as text": lambda asked: {"error": "overloaded"},
    "a message alone": lambda asked: {"object": "error", "message": "boom", "code": 500},
    "an error on the choice": lambda asked: reply(
        asked, message={"content": "Pa"}, choice={"finish_reason": "error", "error": {"code": 502, "message": "lost"}}
    ),
    "a reason alone": lambda asked: reply(asked, choice={"finish_reason": "insufficient_system_resource"}),
    "an error in a stream": lambda asked: stream_of({"error": {"code": 503, "message": "lost"}}),
    "a stream that breaks off": lambda asked: in_chunks(asked).split(b"data: {", 3)[0] + b'data: {"choices": []}\n\n',
}


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("error", UPSTREAM)
def test_an_error_of_the_upstream_is_asked_again_and_never_an_answer(tmp_path: Path, error: str) -> None:
    def respond(asked: Asked) -> tuple[int, Any]:
        return 200, UPSTREAM[error](asked) if asked.number in (1, 3) else reply(asked)

    with own_endpoint(respond) as (base_url, asked):
        frame = Desk(tmp_path, base_url).collected()
    assert len(asked) == 6
    assert frame["score"].eq(1).all()


@pytest.mark.usefixtures("hasty")
def test_an_error_within_a_reply_that_answers_nothing_costs_nothing_and_its_words_are_shown(tmp_path: Path) -> None:
    error = {"code": 429, "message": "Provider returned error", "metadata": {"raw": "m is rate-limited upstream"}}
    with own_endpoint(lambda asked: (200, {"error": error})) as (base_url, _):
        result = Desk(tmp_path, base_url).collect("--max-usd", "0.002")
    assert "Provider returned error: m is rate-limited upstream" in error_of(result)
    assert "billed twice" not in result.output
    assert "--max-usd" not in error_of(result)
    with own_endpoint(lambda asked: (200, {"error": error}) if asked.number <= 3 else (200, reply(asked))) as (url, _):
        (tmp_path / "o.journal").unlink()
        assert len(Desk(tmp_path, url).collected("--max-usd", "0.01")) == 4


def test_content_in_a_form_that_is_not_known_is_left_out_by_name(tmp_path: Path) -> None:
    picture = [{"type": "image_url", "image_url": {"url": "x"}}]

    def respond(asked: Asked) -> tuple[int, Any]:
        return 200, reply(asked, message={"content": picture}) if "number 1" in asked.message else reply(asked)

    with own_endpoint(respond) as (base_url, asked):
        desk = Desk(tmp_path, base_url)
        result = desk.collect()
    assert "3 of 4 outcomes" in error_of(result)
    assert "failed: unknown content 1" in result.output
    assert "image_url" in result.output
    assert len(asked) == 4


# What is charged


def test_the_endpoints_own_bill_is_kept_and_compared(tmp_path: Path) -> None:
    with own_endpoint(lambda asked: (200, reply(asked, usage={"cost": 0.5}))) as (base_url, _):
        desk = Desk(tmp_path, base_url)
        result = desk.collect()
        assert result.exit_code == 0, result.output
        assert "the endpoint's own bill is 2.000000 USD" in result.output
        assert desk.frame["billed_usd"].eq(0.5).all()
        assert desk.frame["cost_usd"].lt(0.001).all()
        desk.ask([f"Another question {each}?" for each in range(9)])
        # What is really paid counts against a budget.
        assert "--max-usd 2.1" in error_of(desk.collect("--max-usd", "2.1"))


def test_cache_writes_without_a_price_are_refused_and_then_priced_at_the_dearest(tmp_path: Path) -> None:
    def respond(asked: Asked) -> tuple[int, Any]:
        return 200, reply(asked, usage={"prompt_tokens_details": {"cache_write_tokens": 10}})

    with own_endpoint(respond) as (base_url, asked):
        desk = Desk(tmp_path, base_url)
        assert "no `cache_write` price" in error_of(desk.collect())
        assert not desk.out.exists()
        dear = desk.collected("--allow-estimated-usage")
        desk.models["m"]["price"]["cache_write"] = 1.25
        stated = desk.collected()
    assert len(asked) == 4
    assert stated["cache_write_tokens"].eq(10).all()
    assert (dear["cost_usd"] - stated["cost_usd"]).tolist() == pytest.approx([10 * 0.75e-6] * 4)
    plain = 1e-6 * stated["prompt_tokens"] + 2e-6 * stated["completion_tokens"]
    assert (stated["cost_usd"] - plain).tolist() == pytest.approx([10 * 0.25e-6] * 4)


def test_an_estimate_is_never_below_what_was_reported(tmp_path: Path) -> None:
    usage = {"completion_tokens": 900, "total_tokens": None}
    with own_endpoint(lambda asked: (200, reply(asked, usage=usage))) as (base_url, _):
        desk = Desk(tmp_path, base_url)
        assert "far from the tokenizer's" in error_of(desk.collect())
        frame = desk.collected("--allow-estimated-usage")
    assert frame["usage"].eq("off").all()
    assert frame["completion_tokens"].eq(900).all()


def test_a_journal_of_version_one_is_read_on_and_its_replies_by_the_rules_of_today(tmp_path: Path) -> None:
    import sqlite3
    from contextlib import closing

    with own_endpoint(lambda asked: (200, reply(asked, usage={"total_tokens": 600}))) as (base_url, asked):
        desk = Desk(tmp_path, base_url)
        first = desk.collected()
        with closing(sqlite3.connect(tmp_path / "o.journal", isolation_level=None)) as database:
            for column in ("written_tokens", "billed_usd"):
                database.execute(f"ALTER TABLE answers DROP COLUMN {column}")
            database.execute("UPDATE answers SET completion_tokens = 5, reasoning_tokens = NULL")
            database.execute("PRAGMA user_version = 1")
        again = desk.collected()
    assert len(asked) == 4
    assert first.equals(again)
    assert (again["prompt_tokens"] + again["completion_tokens"]).eq(600).all()


# Collecting goes on


@pytest.mark.parametrize("status", [403, 400])
def test_a_prompt_that_is_moderated_is_the_outcome_of_its_question(tmp_path: Path, status: int) -> None:
    flagged = {"error": {"message": "Your chosen model requires moderation and your input was flagged", "code": status}}

    def respond(asked: Asked) -> tuple[int, Any]:
        return (status, flagged) if "number 0" in asked.message else (200, reply(asked))

    with own_endpoint(respond) as (base_url, asked):
        desk = Desk(tmp_path, base_url)
        result = desk.collect()
        assert result.exit_code == 0, result.output
        assert "m: 1 prompts were refused by the endpoint's moderation" in result.output
        frame = desk.frame.set_index("query_id")
        assert frame["score"].to_dict() == {"0": 0.0, "1": 1.0, "2": 1.0, "3": 1.0}
        assert frame.loc["0", "finish_reason"] == frame.loc["0", "usage"] == "moderated"
        # Some charge for the prompt: it is not free because nobody says what it cost.
        assert frame.loc["0", "cost_usd"] == pytest.approx(1e-6 * frame.loc["0", "prompt_tokens"])
        assert frame.loc["0", "prompt_tokens"] > 0
        assert "0 asked now" in desk.collect().output
    assert len(asked) == 4


def test_a_ban_of_the_account_is_no_outcome(tmp_path: Path) -> None:
    banned = {"error": {"message": "Your prompt was flagged by moderation too often", "code": 403}}
    with own_endpoint(lambda asked: (403, banned)) as (base_url, _):
        desk = Desk(tmp_path, base_url)
        result = desk.collect()
    assert "flagged" in error_of(result)
    assert not desk.out.exists()


DEAD: dict[str, tuple[int, Any]] = {
    "404": (404, {"error": {"message": "The model `bad` does not exist", "code": "model_not_found"}}),
    "410": (410, {"error": {"message": "bad is retired"}}),
    "decommissioned": (400, {"error": {"message": "bad is decommissioned", "code": "model_decommissioned"}}),
    "403": (403, {"error": {"message": "model bad is not in your region"}}),
    "500": (500, {"error": {"message": "boom"}}),
    "within 200": (200, {"error": {"code": 404, "message": "No endpoints found for bad."}}),
}


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("models", ["good bad", "bad good"])
@pytest.mark.parametrize("how", DEAD)
def test_a_dead_model_stops_itself_and_the_others_finish(tmp_path: Path, how: str, models: str) -> None:
    with own_endpoint(lambda asked: DEAD[how] if asked.model == "bad" else (200, reply(asked))) as (base_url, asked):
        desk = Desk(tmp_path, base_url, models, questions=12)
        result = desk.collect()
    message = error_of(result)
    assert "gave up on bad" in message
    assert "12 of 24 outcomes" in message
    assert DEAD[how][1]["error"]["message"] in message
    assert "Note: bad: 12 requests have no answer" in result.output
    assert desk.frame["model"].eq("good").all()
    assert sum(each.model == "bad" for each in asked) <= 16


@pytest.mark.usefixtures("hasty")
def test_a_model_that_dies_half_way_is_left_after_a_few_attempts(tmp_path: Path) -> None:
    answered: list[Asked] = []

    def respond(asked: Asked) -> tuple[int, Any]:
        if asked.model == "bad" and sum(each.model == "bad" for each in answered) >= 5:
            return 500, {"error": {"message": "boom"}}
        answered.append(asked)
        return 200, reply(asked)

    with own_endpoint(respond) as (base_url, asked):
        desk = Desk(tmp_path, base_url, "good bad", questions=60)
        result = desk.collect()
    assert "65 of 120 outcomes" in error_of(result)
    assert sum(each.model == "bad" for each in asked) <= 5 + 40


@pytest.mark.usefixtures("hasty")
def test_a_model_that_hangs_leaves_the_others(tmp_path: Path) -> None:
    over = Event()

    def respond(asked: Asked) -> tuple[int, Any]:
        if asked.model == "bad":
            over.wait(60)
        return 200, reply(asked)

    with own_endpoint(respond) as (base_url, _):
        desk = Desk(tmp_path, base_url, "bad good", questions=3, timeout_s=0.5)
        message = error_of(desk.collect())
        over.set()
    assert "gave up on bad: " in message
    assert "3 of 6 outcomes" in message
    assert "no answer within 0.5 s" in message


@pytest.mark.usefixtures("hasty")
def test_an_endpoint_that_fails_leaves_the_other_endpoint_its_work(tmp_path: Path) -> None:
    with own_endpoint(lambda asked: (200, reply(asked))) as (base_url, _):
        desk = Desk(tmp_path, base_url, "good bad")
        desk.models["bad"]["endpoint"] = "closed"
        words = desk.words()
        pool = tmp_path / "pool.yaml"
        text = pool.read_text(encoding="utf-8")
        pool.write_text(
            text.replace("endpoints:", "endpoints:\n  closed: {base_url: 'http://127.0.0.1:9/v1', api_key_env: null}"),
            encoding="utf-8",
        )
        from click.testing import CliRunner

        from recal_bench.cli import cli

        result = CliRunner().invoke(cli, words)
    assert "4 of 8 outcomes" in error_of(result)
    assert "closed cannot be reached" in error_of(result)


def test_where_nothing_is_answered_the_reason_is_the_endpoints_own(tmp_path: Path) -> None:
    said = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    with own_endpoint(lambda asked: (400, {"error": {"message": said}})) as (base_url, _):
        assert said in error_of(Desk(tmp_path, base_url).collect())


def test_a_budget_below_one_request_is_named(tmp_path: Path) -> None:
    with own_endpoint(lambda asked: (200, reply(asked))) as (base_url, asked):
        assert "--max-usd 1e-07" in error_of(Desk(tmp_path, base_url).collect("--max-usd", "0.0000001"))
    assert not asked


def test_a_prompt_that_does_not_fit_is_not_sent(tmp_path: Path) -> None:
    with own_endpoint(lambda asked: (200, reply(asked))) as (base_url, asked):
        desk = Desk(tmp_path, base_url)
        desk.ask(["Short?", "long " * 9000, "Short too?"])
        result = desk.collect()
    assert "2 of 3 outcomes" in error_of(result)
    assert "more than the context_length of 8,192" in result.output
    assert len(asked) == 2


def test_replies_that_name_no_model_are_taken_where_the_pool_file_says_so(tmp_path: Path) -> None:
    def respond(asked: Asked) -> tuple[int, Any]:
        return 200, {name: each for name, each in reply(asked).items() if name != "model"}

    with own_endpoint(respond) as (base_url, _):
        desk = Desk(tmp_path, base_url)
        assert "null in served_as of m" in error_of(desk.collect())
        desk.models["m"]["served_as"] = [None]
        frame = desk.collected()
    assert frame["served_model"].isna().all()


# What goes out, and what comes in


def test_nothing_of_the_environment_goes_to_an_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_CUSTOM_HEADERS"):
        monkeypatch.setenv(name, "X-Mine: placeholder")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login placeholder password placeholder\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with own_endpoint(lambda asked: (200, reply(asked))) as (base_url, asked):
        Desk(tmp_path, base_url).collected()
    assert "placeholder" not in str([each.headers for each in asked])
    assert not any(name.lower().startswith(("openai", "authorization")) for each in asked for name in each.headers)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:9"),
        ("http_proxy", "ftp://user:placeholder@127.0.0.1:9"),
        ("HTTP_PROXY", "http://:"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_one_line_with_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)
    with own_endpoint(lambda asked: (200, reply(asked))) as (base_url, asked):
        message = error_of(Desk(tmp_path, base_url).collect())
        assert f"{variable} names" in message
        assert "placeholder" not in message
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        Desk(tmp_path, base_url).collected()
    assert len(asked) == 4


def test_a_proxy_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with own_endpoint(lambda asked: (200, reply(asked))) as (proxy, asked):
        monkeypatch.setenv("HTTP_PROXY", proxy.removesuffix("/v1"))
        Desk(tmp_path, "http://models.invalid/v1").collected()
    assert {each.path for each in asked} == {"http://models.invalid/v1/chat/completions"}


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_to_another_host_is_not_followed(tmp_path: Path, status: int) -> None:
    with own_endpoint(lambda asked: (200, reply(asked))) as (elsewhere, asked_elsewhere):
        target = elsewhere.replace("127.0.0.1", "localhost")
        with own_endpoint(lambda asked: (status, b"", {"Location": target})) as (base_url, _):
            message = error_of(Desk(tmp_path, base_url).collect())
    assert f"redirects to {target}" in message
    assert not asked_elsewhere


def test_a_redirect_within_a_host_is_followed(tmp_path: Path) -> None:
    def respond(asked: Asked) -> Any:
        return (200, reply(asked)) if asked.path.startswith("/new") else (307, b"", {"Location": f"/new{asked.path}"})

    with own_endpoint(respond) as (base_url, _):
        assert len(Desk(tmp_path, base_url).collected()) == 4


@pytest.mark.parametrize("key", ["Paris", "a", "sk-Thinking it over"])
def test_a_key_alters_no_reply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    key = key.replace(" ", "-")
    monkeypatch.setenv("RECAL_BENCH_TEST_KEY", key)
    text = f"{key}\nAnswer: Paris"
    with own_endpoint(lambda asked: (200, reply(asked, message={"content": text}))) as (base_url, _):
        frame = Desk(tmp_path, base_url, api_key_env="RECAL_BENCH_TEST_KEY").collected()
    assert frame["response"].eq(text).all()
    assert frame["score"].eq(1).all()


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    "body",
    [
        b'{"choices": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"x": ' + b"[" * 200 + b"]" * 200 + b', "choices": []}',
        b"[]",
        b"<html>sign in</html>",
        b'{"choices": [{"message": 5}]}',
        b"data: 5\n\n",
    ],
    ids=["very deep", "deep", "a list", "a page", "no message", "a stream of a number"],
)
def test_a_reply_that_is_none_is_a_failed_attempt(tmp_path: Path, body: bytes) -> None:
    with own_endpoint(lambda asked: (200, body if asked.number <= 2 else reply(asked))) as (base_url, asked):
        desk = Desk(tmp_path, base_url)
        result = desk.collect()
    assert result.exit_code == 0, result.output
    assert "failed: malformed 2" in result.output
    assert len(asked) == 6


def test_a_reply_that_unpacks_without_end_is_not_read_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recal_bench.collection.connection.MOST_BYTES", 2**20)
    packed = gzip.compress(b" " * 2**22, 1)

    def respond(asked: Asked) -> Any:
        if "number 1" in asked.message:
            return 200, packed, {"Content-Encoding": "gzip"}
        return 200, reply(asked)

    with own_endpoint(respond) as (base_url, asked):
        result = Desk(tmp_path, base_url).collect()
    assert "3 of 4 outcomes" in error_of(result)
    assert "larger than 1 MiB" in result.output
    assert len(asked) == 4


@pytest.mark.usefixtures("hasty")
def test_a_reply_that_drips_is_given_up_at_the_timeout(tmp_path: Path) -> None:
    """The server sends a byte now and then and never ends: each read is quick, the whole is not."""
    import socket

    over = Event()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"

    def drip(connection: socket.socket) -> None:
        with connection:
            try:
                connection.sendall(head)
                while not over.wait(0.05):
                    connection.sendall(b" ")
            except OSError:
                return

    def accept(listening: socket.socket) -> None:
        while not over.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            Thread(target=drip, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        Thread(target=accept, args=(listening,), daemon=True).start()
        base_url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        message = error_of(Desk(tmp_path, base_url, timeout_s=0.4).collect())
        over.set()
    assert "no answer within 0.4 s" in message


@pytest.mark.usefixtures("hasty")
def test_escapes_in_an_endpoints_error_do_not_reach_the_terminal(tmp_path: Path) -> None:
    said = "\x1b]0;pwned\x07\x1b[31mred\x1b[2J bad\u202e\nsecond line"
    for status in (400, 401, 200):
        folder = tmp_path / str(status)
        folder.mkdir()
        with own_endpoint(lambda asked, status=status: (status, {"error": {"message": said, "code": "x"}})) as (url, _):
            result = Desk(folder, url).collect()
        assert "red" in error_of(result)
        assert not set("\x1b\x07\u202e") & set(result.output)


def test_the_journal_is_for_its_owner_alone(tmp_path: Path) -> None:
    if os.name != "posix":
        pytest.skip("modes of files")
    before = os.umask(0o022)
    try:
        with own_endpoint(lambda asked: (200, reply(asked))) as (base_url, _):
            Desk(tmp_path, base_url).collected()
    finally:
        os.umask(before)
    assert (tmp_path / "o.journal").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("backend", "extra"), [("openai", "collect"), ("lm-eval:hf", "hf")])
def test_without_lm_eval_it_is_said_what_to_install(tmp_path: Path, backend: str, extra: str) -> None:
    (tmp_path / "lm_eval.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'lm_eval'\", name='lm_eval')", encoding="utf-8"
    )
    with own_endpoint(lambda asked: (200, reply(asked))) as (base_url, _):
        words = Desk(tmp_path, base_url).words("--backend", backend)
        path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
        ran = subprocess.run(
            [sys.executable, "-m", "recal_bench.cli", *words],
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
    assert ran.returncode == 2
    (line,) = ran.stderr.splitlines()
    assert f"recal-bench[{extra}]" in line


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_an_interrupt_gives_up_what_only_waits(tmp_path: Path) -> None:
    """The endpoint asks to wait for minutes: nothing is under way, so an interrupt ends the collection."""
    later = 429, {"error": {"message": "later"}}, {"Retry-After": "300"}
    with own_endpoint(lambda asked: later) as (base_url, asked):
        words = Desk(tmp_path, base_url).words()
        with subprocess.Popen(
            [sys.executable, "-c", WITH_SIGNALS, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            while not asked:
                time.sleep(0.02)
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=60)
    assert process.returncode == 2, output
    assert "waited for, 20 s at most" in output
    assert "interrupted" in output.splitlines()[-1]


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_second_interrupt_ends_at_once(tmp_path: Path) -> None:
    """The endpoint does not answer: after the first signal its reply is waited for."""
    over = Event()

    def respond(asked: Asked) -> tuple[int, Any]:
        over.wait(60)
        return 200, reply(asked)

    with own_endpoint(respond) as (base_url, asked):
        words = Desk(tmp_path, base_url, timeout_s=500).words()
        with subprocess.Popen(
            [sys.executable, "-c", WITH_SIGNALS, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            while not asked:
                time.sleep(0.02)
            process.send_signal(signal.SIGTERM)
            assert "500 s at most; a second interrupt ends at once" in process.stderr.readline()
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
        over.set()
    assert process.returncode == -signal.SIGTERM
