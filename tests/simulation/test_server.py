"""The embedded pool's server, over real HTTP: with aiohttp, with the openai client, and as a command."""

import asyncio
import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import openai
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from recal_bench.cli import cli
from recal_bench.errors import RecalBenchError
from recal_bench.outcomes import Arm
from recal_bench.pools.strategies import STRATEGIES
from recal_bench.simulation import SimulatedPool, embedded_frame, embedded_questions
from recal_bench.simulation.models import ARMS, MODELS
from recal_bench.simulation.server import PoolServer, running_server
from recal_bench.simulation.server_faults import KINDS

QUESTION = embedded_questions(0)[700]
ARM = Arm("dunmarrow-27b", "self_ask")
REPLY = SimulatedPool(0).answer(QUESTION, ARM)
MESSAGES = [{"role": "user", "content": STRATEGIES[ARM.strategy].message(QUESTION.prompt)}]
STATUSES = {"429": 429, "500": 500, "503": 503, "moderated": 403}


@pytest.fixture(scope="module")
def base_url():
    with running_server() as url:
        yield url


def body_of(**changes):
    return {"model": ARM.model, "messages": MESSAGES} | changes


def post(url, body, **headers):
    """Status, headers and bytes; `body` is a dict or bytes. Raises aiohttp's errors."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return call("POST", f"{url}/chat/completions", data=data, headers=headers)


def call(method, url, timeout_s=20, **options):
    async def once():
        limit = aiohttp.ClientTimeout(total=timeout_s)
        async with aiohttp.ClientSession(timeout=limit) as session, session.request(method, url, **options) as response:
            return response.status, response.headers, await response.read()

    return asyncio.run(once())


def client(url, **options):
    return openai.OpenAI(base_url=url, api_key="none", max_retries=0, **options)


def error_of(answer):
    status, headers, data = answer
    assert headers["Content-Type"] == "application/json"
    error = json.loads(data)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "\n" not in error["message"]
    return status, error["code"], error["message"]


def events(data):
    lines = data.split(b"\n\n")
    assert lines.pop() == b""
    assert all(line.startswith(b"data: ") for line in lines)
    return [line.removeprefix(b"data: ") for line in lines]


def test_every_arm_answers_as_the_embedded_outcomes_have_it(base_url):
    frame = embedded_frame(0, 2, 1, 1)

    async def ask_all():
        async with aiohttp.ClientSession() as session:

            async def ask(row):
                content = STRATEGIES[row.strategy].message(row.prompt)
                body = {"model": row.model, "messages": [{"role": "user", "content": content}]}
                async with session.post(f"{base_url}/chat/completions", json=body) as response:
                    return await response.json()

            return await asyncio.gather(*[ask(row) for row in frame.itertuples()])

    replies = asyncio.run(ask_all())
    assert len(replies) == 7 * 4 * len(ARMS)
    assert [reply["choices"][0]["message"]["content"] for reply in replies] == frame.response.tolist()
    assert [reply["usage"]["prompt_tokens"] for reply in replies] == frame.prompt_tokens.tolist()
    assert [reply["usage"]["completion_tokens"] for reply in replies] == frame.completion_tokens.tolist()
    assert [reply["usage"]["total_tokens"] for reply in replies] == (
        frame.prompt_tokens + frame.completion_tokens
    ).tolist()
    assert {reply["choices"][0]["finish_reason"] for reply in replies} == {"stop"}
    assert [reply["model"] for reply in replies] == frame.model.tolist()


def test_the_page_shows_a_request_and_its_reply(base_url):
    page = (Path(__file__).parents[2] / "docs" / "serve-pool.md").read_text(encoding="utf-8")
    request = re.search(r"-d '(\{.*?\})'", page, re.DOTALL)[1]
    reply = re.search(r'^\{"id".*$', page, re.MULTILINE)[0]
    assert post(base_url, request.encode())[2] == reply.encode()
    for kind in KINDS:
        assert re.search(rf"^\|.*`{kind}`.*\|$", page, re.MULTILINE), kind


def test_another_world_has_other_questions_and_replies(base_url):
    question = embedded_questions(1)[700]
    content = STRATEGIES["cot"].message(question.prompt)
    body = {"model": "ovanta-7b", "messages": [{"role": "user", "content": content}]}
    assert error_of(post(base_url, body))[:2] == (400, "unknown_question")
    with running_server(world_seed=1) as url:
        reply = json.loads(post(url, body)[2])
    expected = SimulatedPool(1).answer(question, Arm("ovanta-7b", "cot"))
    assert reply["choices"][0]["message"]["content"] == expected.text


def test_the_same_request_gets_the_same_bytes_from_every_server(base_url):
    bodies = [body_of(), body_of(temperature=0.5), body_of(stream=True)]
    first = [post(base_url, body)[2] for body in bodies]
    with running_server(latency_s=0.001) as url:
        assert [post(url, body)[2] for body in bodies] == first
    assert len(set(first)) == 3
    reply = json.loads(first[0])
    assert reply["id"] == f"chatcmpl-{sha256(json.dumps(body_of()).encode()).hexdigest()[:24]}"
    assert reply["created"] == 0


def test_the_openai_client_reads_it(base_url):
    with client(base_url) as api:
        reply = api.chat.completions.create(**body_of(max_tokens=1024, temperature=0.0, n=1))
        assert reply.choices[0].message.content == REPLY.text
        assert reply.usage.prompt_tokens == REPLY.prompt_tokens
        assert reply.usage.completion_tokens == REPLY.completion_tokens
        assert [model.id for model in api.models.list()] == list(MODELS)
        with pytest.raises(openai.NotFoundError, match="did you mean ovanta-7b") as caught:
            api.chat.completions.create(**body_of(model="ovanta-8b"))
        assert caught.value.code == "model_not_found"


def test_the_asynchronous_openai_client_reads_a_stream(base_url):
    async def ask():
        async with openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0) as api:
            stream = await api.chat.completions.create(**body_of(), stream=True, stream_options={"include_usage": True})
            return [chunk async for chunk in stream]

    *chunks, last = asyncio.run(ask())
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == REPLY.text
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (REPLY.prompt_tokens, REPLY.completion_tokens)


def test_a_stream_says_nothing_of_usage_unless_asked(base_url):
    *chunks, done = events(post(base_url, body_of(stream=True))[2])
    assert done == b"[DONE]"
    assert all("usage" not in json.loads(chunk) and len(json.loads(chunk)["choices"]) == 1 for chunk in chunks)


def test_a_text_may_come_in_parts(base_url):
    parts = [{"type": "text", "text": text} for text in MESSAGES[0]["content"].partition("\n")]
    reply = json.loads(post(base_url, body_of(messages=[{"role": "user", "content": parts}]))[2])
    assert reply["choices"][0]["message"]["content"] == REPLY.text


@settings(max_examples=12)
@given(
    limit=st.integers(1, REPLY.completion_tokens + 3),
    name=st.sampled_from(["max_tokens", "max_completion_tokens"]),
    stream=st.booleans(),
)
def test_a_limit_cuts_the_reply_after_so_many_words(base_url, limit, name, stream):
    body = body_of(stream=stream, **{name: limit})
    if stream:
        body["stream_options"] = {"include_usage": True}
        *chunks, last, _ = [json.loads(event) for event in events(post(base_url, body)[2])[:-1]] + [None]
        text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        reason, usage = chunks[-1]["choices"][0]["finish_reason"], last["usage"]
    else:
        reply = json.loads(post(base_url, body)[2])
        choice, usage = reply["choices"][0], reply["usage"]
        text, reason = choice["message"]["content"], choice["finish_reason"]
    words = min(limit, REPLY.completion_tokens)
    assert REPLY.text.startswith(text)
    assert len(text.split()) == words == usage["completion_tokens"]
    assert reason == ("length" if limit < REPLY.completion_tokens else "stop")


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        (b"{", "invalid_request", "not JSON"),
        (b"\xff", "invalid_request", "not JSON"),
        (b"[" * 100_000, "invalid_request", "not JSON"),
        (b"[]", "invalid_request", "JSON object"),
        (b"{}", "invalid_request", "`model`"),
        (body_of(messages=[]), "invalid_request", "one user message"),
        (body_of(messages=MESSAGES * 2), "invalid_request", "one user message"),
        (body_of(messages=[{"role": "system", "content": "Be brief."}]), "invalid_request", "one user message"),
        (body_of(messages=[{"role": "user", "content": None}]), "invalid_request", "one user message"),
        (body_of(messages=[{"role": "user", "content": [{"type": "image_url"}]}]), "invalid_request", "one user"),
        (body_of(messages=[{"role": "user", "content": "\ud800"}]), "unknown_instruction", "four strategies"),
        (body_of(messages=[{"role": "user", "content": QUESTION.prompt}]), "unknown_instruction", "four strategies"),
        (
            body_of(messages=[{"role": "user", "content": STRATEGIES["cot"].message("who?")}]),
            "unknown_question",
            "questions of the embedded pool only",
        ),
        (body_of(n=2), "unsupported", "`n` must be 1"),
        (body_of(tools=[{"type": "function"}]), "unsupported", "`tools`"),
        (body_of(stop=["\n"]), "unsupported", "`stop`"),
        (body_of(response_format={"type": "json_object"}), "unsupported", "`response_format`"),
        (body_of(max_tokens=0), "invalid_request", "`max_tokens`"),
        (body_of(max_completion_tokens=True), "invalid_request", "`max_completion_tokens`"),
        (body_of(stream="yes"), "invalid_request", "`stream`"),
        (body_of(stream_options={}), "invalid_request", "`stream_options`"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_a_reason(base_url, body, code, says):
    status, found, message = error_of(post(base_url, body))
    assert (status, found) == (400, code)
    assert says in message


def test_unknown_models_paths_and_methods(base_url):
    status, code, message = error_of(post(base_url, body_of(model="gpt-4")))
    assert (status, code) == (404, "model_not_found")
    assert all(model in message for model in MODELS)
    assert error_of(call("GET", f"{base_url}/chat/completions"))[0] == 405
    assert error_of(call("POST", f"{base_url}/models"))[0] == 405
    assert error_of(call("POST", f"{base_url}/completions"))[:2] == (404, "not_found")
    too_much = io.BytesIO(b" " * (1 << 21))
    assert error_of(call("POST", f"{base_url}/chat/completions", data=too_much))[0] == 413


def test_a_key_is_asked_for_and_never_repeated():
    with running_server(key="kéy-of-tests") as url:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic kéy-of-tests"}):
            for answer in (post(url, body_of(), **headers), call("GET", f"{url}/models", headers=headers)):
                status, code, message = error_of(answer)
                assert (status, code) == (401, "invalid_api_key")
                assert "of-tests" not in message
                assert "wrong:" in message
        assert post(url, body_of(), Authorization="bearer kéy-of-tests")[0] == 200
    with running_server(key="plain") as url, openai.OpenAI(base_url=url, api_key="plain", max_retries=0) as api:
        assert api.chat.completions.create(**body_of()).choices[0].message.content == REPLY.text
        with pytest.raises(openai.AuthenticationError):
            api.with_options(api_key="other").chat.completions.create(**body_of())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_seen_from_the_client_and_then_the_truth(kind, stream):
    body = body_of(stream=stream)
    if stream:
        body["stream_options"] = {"include_usage": True}
    with running_server(faults=f"{kind}=1,max-in-a-row=1,retry-after=0.05") as url:
        check_fault(url, body, kind)
        status, _, data = post(url, body)
    assert status == 200
    with running_server() as honest:
        assert post(honest, body)[2] == data


def check_fault(url, body, kind):
    stream = body["stream"]
    if kind == "hang":
        with pytest.raises(asyncio.TimeoutError):
            call("POST", f"{url}/chat/completions", json=body, timeout_s=0.4)
        return
    if kind == "cut":
        with pytest.raises(aiohttp.ClientPayloadError):
            post(url, body)
        return
    status, headers, data = post(url, body)
    if kind in STATUSES:
        assert error_of((status, headers, data))[0] == STATUSES[kind]
        assert headers.get("Retry-After") == ("0.05" if kind == "429" else None)
        return
    assert status == 200
    if kind == "bom" and not stream:
        assert data.startswith(b"\xef\xbb\xbf")
        data = data[3:]
    stream = stream or kind == "stream"
    payloads = events(data) if stream else [data]
    if stream:
        assert payloads.pop() == b"[DONE]"
    if kind == "malformed":
        bad = [each for each in payloads if not is_json(each)]
        assert len(bad) == 1
        assert is_text(bad[0])
    elif kind == "truncated-utf8":
        bad = [each for each in payloads if not is_text(each)]
        assert len(bad) == 1
        assert json.loads(bad[0].decode("utf-8", "replace"))["choices"]
    else:
        check_distorted([json.loads(each) for each in payloads], kind, stream)


def check_distorted(replies, kind, stream):
    if kind == "error-200":
        assert all(reply["error"]["code"] == 429 for reply in replies)
        return
    usage, choices = replies[-1].get("usage"), replies[0]["choices"]
    honest = (REPLY.prompt_tokens, REPLY.completion_tokens)
    expected = {
        "no-usage": None,
        "zero-usage": (0, 0),
        "constant-usage": (7, 7),
        "text-usage": tuple(map(str, honest)),
        "content-filter": (REPLY.prompt_tokens, 0),
    }.get(kind, honest)
    assert expected == (usage and (usage["prompt_tokens"], usage["completion_tokens"]))
    assert (choices == []) == (kind == "empty-choices")
    assert all((reply["model"] == ARM.model) == (kind != "wrong-model") for reply in replies)
    assert {reply["model"] for reply in replies} < set(MODELS)
    if kind == "hidden-tokens":
        assert usage["total_tokens"] == sum(honest) + 100
    if kind != "empty-choices":
        form = "delta" if stream else "message"
        messages = [each[form] for reply in replies for each in reply["choices"]]
        ends = {each["finish_reason"] for reply in replies for each in reply["choices"]} - {None}
        special = {"choice-error": "error", "content-filter": "content_filter", "tool-call": "tool_calls"}
        assert ends == {special.get(kind, "stop")}
        said = "".join(map(said_in, messages))
        if kind == "choice-error" and not stream:
            assert said == REPLY.text[: len(REPLY.text) // 2]
        else:
            assert said == ("" if kind == "content-filter" else REPLY.text)


def said_in(message):
    """The text of a message or a part of one, wherever it stands."""
    content = message.get("content")
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    calls = "".join(call["function"]["arguments"] for call in message.get("tool_calls", []))
    return (content or "") + message.get("refusal", "") + calls


def is_text(data):
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def is_json(data):
    try:
        json.loads(data)
    except json.JSONDecodeError:
        return False
    return True


def test_faults_as_the_openai_client_sees_them():
    raised = {
        "429": openai.RateLimitError,
        "500": openai.InternalServerError,
        "503": openai.InternalServerError,
        "hang": openai.APITimeoutError,
        "cut": openai.APIConnectionError,
    }
    for kind, error in raised.items():
        with running_server(faults=f"{kind}=1,max-in-a-row=1") as url, client(url) as api:
            with pytest.raises(error):
                api.with_options(timeout=0.4 if kind == "hang" else 20).chat.completions.create(**body_of())
            reply = api.chat.completions.create(**body_of())
            assert reply.choices[0].message.content == REPLY.text


@pytest.mark.parametrize("latency", [-1.0, float("nan"), float("inf")])
def test_a_latency_is_a_number_of_seconds(latency):
    with pytest.raises(RecalBenchError, match="latency"):
        PoolServer(latency_s=latency)


def test_the_log_tells_what_was_received_and_what_was_answered(tmp_path):
    log = tmp_path / "requests.jsonl"
    log.write_text('{"event": "earlier"}\n')
    with running_server(faults="cut=1,max-in-a-row=1", log=log) as url:
        with pytest.raises(aiohttp.ClientPayloadError):
            post(url, body_of())
        assert post(url, body_of())[0] == 200
        assert post(url, body_of(n=2))[0] == 400
        with pytest.raises(aiohttp.ClientPayloadError):
            post(url, body_of(stream=True, max_tokens=5))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines.pop(0) == {"event": "earlier"}
    assert all(abs(line["time"] - time.time()) < 3600 for line in lines)
    names = ("event", "attempt", "fault", "status", "model", "prompt_tokens", "completion_tokens")
    tokens = (ARM.model, REPLY.prompt_tokens, REPLY.completion_tokens)
    assert [tuple(line[name] for name in names) for line in lines] == [
        ("received", 1, "cut", 200, *tokens),
        ("received", 2, "ok", 200, *tokens),
        ("answered", 2, "ok", 200, *tokens),
        ("received", None, "refused", 400, None, None, None),
        ("answered", None, "refused", 400, None, None, None),
        ("received", 1, "cut", 200, ARM.model, REPLY.prompt_tokens, 5),
    ]
    assert lines[0]["body"] == lines[1]["body"] == sha256(json.dumps(body_of()).encode()).hexdigest()[:16]
    assert len({line["body"] for line in lines}) == 3


@pytest.mark.parametrize("stream", [False, True])
def test_a_server_that_stops_lets_go_of_clients_that_hang(tmp_path, stream):
    log = tmp_path / "requests.jsonl"
    with ThreadPoolExecutor(1) as threads:
        with running_server(faults="hang=1", log=log) as url:
            waiting = threads.submit(post, url, body_of(stream=stream))
            while not log.read_text():
                time.sleep(0.005)
            assert not waiting.done()
        with pytest.raises(aiohttp.ClientError):
            waiting.result()
    (line,) = [json.loads(line) for line in log.read_text().splitlines()]
    assert (line["event"], line["fault"], line["status"]) == ("received", "hang", None)


def test_a_client_that_leaves_is_not_answered(tmp_path):
    log = tmp_path / "requests.jsonl"

    async def leave(url):
        async with aiohttp.ClientSession() as session:
            asking = asyncio.create_task(session.post(f"{url}/chat/completions", json=body_of()))
            while not log.read_text():
                await asyncio.sleep(0.005)
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking

    with running_server(latency_s=0.5, log=log) as url:
        asyncio.run(leave(url))
        assert post(url, body_of(max_tokens=3))[0] == 200
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["event"], line["completion_tokens"]) for line in lines] == [
        ("received", REPLY.completion_tokens),
        ("received", 3),
        ("answered", 3),
    ]


WITH_SIGNALS = """
import signal
# A shell's background job ignores SIGINT, and its children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
from recal_bench.cli import main
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_told_to_stop(number, tmp_path):
    log = tmp_path / "requests.jsonl"
    options = ["--port", "0", "--log", str(log), "--faults", "429=1,max-in-a-row=1", "--key-env", "POOL_KEY"]
    process = subprocess.Popen(
        [sys.executable, "-c", WITH_SIGNALS, "serve-pool", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"POOL_KEY": "k1"},
        # A shell's background jobs ignore SIGINT, and so would their children.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    try:
        says = process.stdout.readline()
        url = re.fullmatch(r"serving the embedded pool \(simulated\) at (http://127\.0\.0\.1:\d+/v1)\n", says)[1]
        assert process.stdout.readline().startswith(
            "recal-bench collect --pool my_pool.yaml --questions embedded --tasks nq"
        )
        assert url in process.stdout.readline()
        assert post(url, body_of())[0] == 401
        assert post(url, body_of(), Authorization="Bearer k1")[0] == 429
        reply = json.loads(post(url, body_of(), Authorization="Bearer k1")[2])
        assert reply["choices"][0]["message"]["content"] == REPLY.text
        process.send_signal(number)
        assert process.communicate(timeout=60) == ("", "")
        assert process.returncode == 0
    finally:
        process.kill()
    assert len(log.read_text().splitlines()) == 6


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--key-env", "NO_SUCH_KEY"], "environment variable NO_SUCH_KEY is not set"),
        (["--faults", "hangs=0.1"], "did you mean hang?"),
        (["--world-seed", "-1"], "the world seed is -1"),
        (["--host", "203.0.113.7"], "cannot listen at 203.0.113.7"),
        (["--log", "nowhere/requests.jsonl"], "nowhere/requests.jsonl"),
    ],
)
def test_bad_options_are_one_line_and_exit_code_2(words, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["serve-pool", "--port", "0", *words])
    assert result.exit_code == 2
    assert says in result.stderr
    assert len([line for line in result.stderr.splitlines() if line.startswith("Error")]) == 1
    assert result.stdout == ""
    assert ("Warning" in result.stderr) == ("--host" in words)


def test_a_port_in_use_is_one_line_and_exit_code_2(base_url):
    port = urlsplit(base_url).port
    result = CliRunner().invoke(cli, ["serve-pool", "--port", str(port)])
    assert result.exit_code == 2
    assert result.output == (
        f"Error: port {port} of 127.0.0.1 is in use: choose another with --port (0 takes a free one)\n"
    )


def test_without_aiohttp_the_command_says_what_to_install():
    code = "import sys\nsys.modules['aiohttp'] = None\nsys.argv[1:] = ['serve-pool']\n"
    code += "from recal_bench.cli import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "Error: the server needs aiohttp: pip install '.[collect]' in a checkout of recal-bench\n"
