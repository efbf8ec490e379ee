"""`serve` before endpoints that answer, fail and misbehave, over real HTTP."""

import json
import re
from threading import Event

import numpy as np
import openai
import pandas as pd
import pytest
from collection.own_endpoint import TEXT, reply
from front import events, front, right, stream_of

from recal_bench import SettingsError, load_router
from recal_bench.outcomes.schema import NAMES

ARMS = ["atlas|direct", "codex-iuris|cot", "codex-iuris|direct"]
RIVER = "question 7: river lake island"


@pytest.fixture(autouse=True)
def _hasty(monkeypatch):
    """Pauses between attempts are short."""
    monkeypatch.setattr("recal_bench.gateway.upstream._FIRST_WAIT_S", 0.001)


def chosen(runs, prompt=RIVER, router="ridge"):
    return str(load_router(runs[router]).route([prompt])[0].arm)


def test_a_request_goes_to_the_chosen_arm_with_its_strategys_prompt(runs, tmp_path):
    with front(tmp_path, runs["ridge"]) as served:
        found = served.ask(RIVER, temperature=0.7, user="me")
        (asked,), arm = served.asked, chosen(runs)
        assert found.status == 200
        assert found.headers["x-recal-arm"] == found.json()["model"] == arm
        assert found.json()["choices"] == reply(asked)["choices"]
        assert asked.model == arm.partition("|")[0]
        strategy = served.gateway.pool.strategies[arm.partition("|")[2]]
        assert asked.message == strategy.message(RIVER)
        assert (asked.body["temperature"], asked.body["user"]) == (0.7, "me")
        assert asked.body["max_tokens"] == strategy.max_tokens
        (row,) = served.rows()
    price = served.gateway.pool.models[row["model"]].price
    assert row["query_id"] == found.json()["id"]
    assert (row["score"], row["propensity"], row["prompt"], row["response"]) == (None, 1.0, RIVER, TEXT)
    assert row["cost_usd"] == price.usd(row["prompt_tokens"], row["completion_tokens"])
    assert set(NAMES) - set(row) == {"gold", "split", "sample"}


def test_a_conversation_keeps_its_messages_tools_and_parts(runs, tmp_path):
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": {}}}]
    parts = [{"type": "text", "text": RIVER}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "which court?"},
        {"role": "assistant", "content": "That one."},
        {"role": "user", "content": parts},
    ]
    calls = [{"id": "c", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}]
    with front(
        tmp_path, runs["ridge"], lambda a: (200, reply(a, message={"content": None, "tool_calls": calls}))
    ) as served:
        found = served.ask(messages=messages, tools=tools, tool_choice="auto", max_completion_tokens=5)
        assert found.json()["choices"][0]["message"]["tool_calls"] == calls
        sent = served.asked[0].body
        assert sent["messages"][:3] == messages[:3]
        assert sent["messages"][3]["content"][1:] == parts
        assert (sent["tools"], sent["tool_choice"], sent["max_completion_tokens"]) == (tools, "auto", 5)
        assert "max_tokens" not in sent
        assert served.rows()[0]["prompt"] == RIVER
        # The arm's next step is no new decision.
        again = [*messages, {"role": "assistant", "tool_calls": calls}, {"role": "tool", "content": "x"}]
        assert served.ask(messages=again).json()["model"] == found.json()["model"]
        assert "had begun" in served.rows(apart=True)[0]["why_apart"]


def test_a_stream_is_passed_on_under_our_names(runs, tmp_path):
    with front(tmp_path, runs["ridge"], right) as served:
        plain = served.ask(RIVER, stream=True)
        with_usage = served.ask(RIVER, stream=True, stream_options={"include_usage": True})
        assert plain.headers["x-recal-arm"] == chosen(runs)
        assert plain.headers["content-type"].startswith("text/event-stream")
        *chunks, done = events(plain)
        assert done == "[DONE]"
        assert {each["model"] for each in chunks} == {chosen(runs)}
        assert "".join(each["choices"][0]["delta"].get("content", "") for each in chunks) == TEXT
        assert not any("usage" in each for each in chunks)
        assert events(with_usage)[-2]["usage"] == reply(served.asked[1])["usage"]
        assert served.asked[0].body["stream_options"] == {"include_usage": True}
        first, second = served.rows()
        assert first["query_id"] == chunks[0]["id"]
        assert first["cost_usd"] == second["cost_usd"] > 0
        assert first["response"] == TEXT


def test_a_client_may_narrow_the_choice_and_such_rows_stand_apart(runs, tmp_path):
    with front(tmp_path, runs["ridge"]) as served:
        for named in ("codex-iuris|direct", "codex-iuris", "atlas, codex-iuris|cot"):
            allowed = [arm for arm in ARMS if any(arm.startswith(each.strip()) for each in named.split(","))]
            assert served.ask(RIVER, model=named).json()["model"] in allowed
        assert served.rows() == []
        assert [row["propensity"] for row in served.rows(apart=True)] == [None] * 3
        refused = served.ask(RIVER, model="codex")
        assert refused.status == 404
        assert "did you mean codex-iuris" in refused.json()["error"]["message"]
        listed = [each["id"] for each in served.get("/v1/models").json()["data"]]
        assert listed == ["auto", "atlas", "codex-iuris", *ARMS]


@pytest.mark.parametrize("stream", [False, True])
def test_attempts_and_the_fall_to_another_model(runs, tmp_path, stream):
    first = chosen(runs).partition("|")[0]

    def respond(asked):
        return (500, {"error": {"message": "oh"}}) if asked.model == first else right(asked)

    with front(tmp_path, runs["ridge"], respond) as served:
        found = served.ask(RIVER, stream=stream)
        answered = found.headers["x-recal-arm"]
        assert found.status == 200
        assert [asked.model for asked in served.asked] == [first] * 3 + [answered.partition("|")[0]]
        ranking = [str(each.arm) for each in load_router(runs["ridge"]).route([RIVER])[0].ranking]
        assert answered == next(arm for arm in ranking if not arm.startswith(first))
        assert served.rows() == []
        (row,) = served.rows(apart=True)
        assert row["why_apart"] == f"{chosen(runs)} was chosen and did not answer"
        assert f"{row['model']}|{row['strategy']}" == answered
        assert 'failed_attempts_total{kind="500"' in served.metrics()


def test_a_moment_passes_and_a_stream_that_said_nothing_is_asked_again(runs, tmp_path):
    def respond(asked):
        if asked.number == 1:
            return 429, {"error": {"message": "slow down"}}, {"Retry-After": "0.01"}
        if asked.number == 2:
            return 200, stream_of(asked, texts=(), end=False), {"Content-Type": "text/event-stream"}
        return right(asked)

    with front(tmp_path, runs["ridge"], respond) as served:
        found = served.ask(RIVER, stream=True)
        assert events(found)[-1] == "[DONE]"
        assert len(served.asked) == 3
        assert len(served.rows()) == 1


def test_an_endpoint_that_does_not_stream_is_streamed_all_the_same(runs, tmp_path):
    with front(tmp_path, runs["ridge"], lambda a: (200, reply(a))) as served:
        said, usage, done = events(served.ask(RIVER, stream=True, stream_options={"include_usage": True}))
        assert said["choices"][0]["delta"]["content"] == TEXT
        assert said["choices"][0]["finish_reason"] == "stop"
        assert (usage["usage"], done) == (reply(served.asked[0])["usage"], "[DONE]")
        assert served.rows()[0]["response"] == TEXT


def test_a_stream_that_breaks_off_ends_with_an_error(runs, tmp_path):
    def respond(asked):
        return 200, stream_of(asked, texts=("half of it",), end=False), {"Content-Type": "text/event-stream"}

    with front(tmp_path, runs["ridge"], respond) as served:
        found = events(served.ask(RIVER, stream=True))
        assert found[-2]["choices"][0]["delta"]["content"] == "half of it"
        assert "broke off" in found[-1]["error"]["message"]
        client = openai.OpenAI(base_url=served.url, api_key="none", max_retries=0)
        asked = [{"role": "user", "content": RIVER}]
        with client.chat.completions.create(model="auto", stream=True, messages=asked) as stream:
            assert next(iter(stream)).model == chosen(runs)
            with pytest.raises(openai.APIError, match="broke off"):
                list(stream)
        assert served.rows() == []
        assert {row["why_apart"] for row in served.rows(apart=True)} == {"the stream broke off"}
        assert served.gateway.budget.unsure_usd > 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("respond", "status", "said"),
    [
        (lambda a: (503, {"error": {"message": "overloaded"}}), 502, "overloaded"),
        (lambda a: (429, {"error": {"message": "later"}}, {"Retry-After": "60"}), 503, "later"),
        (lambda a: (400, {"error": {"message": "no such field"}}), 400, "no model takes the request"),
        (lambda a: (200, b"{"), 502, "not JSON"),
        (lambda a: (200, reply(a) | {"model": "other"}), 502, 'answered as "other"'),
        (lambda a: (403, {"error": {"message": "your input was flagged by moderation"}}), 400, "objects to the prompt"),
    ],
)
def test_where_nothing_answers_each_reason_is_told(runs, tmp_path, respond, status, said, stream):
    with front(tmp_path, runs["ridge"], respond) as served:
        found = served.ask(RIVER, stream=stream)
        assert found.status == status
        assert said in found.json()["error"]["message"]
        assert chosen(runs) in found.json()["error"]["message"]
        assert served.rows() == []
        assert [row["why_apart"][:10] for row in served.rows(apart=True)] == ["no answer:"]


def test_a_model_that_has_stopped_answering_rests(runs, tmp_path, monkeypatch):
    first, broken = chosen(runs).partition("|")[0], Event()
    broken.set()

    def respond(asked):
        return (404, {"error": {"message": "gone"}}) if asked.model == first and broken.is_set() else right(asked)

    with front(tmp_path, runs["ridge"], respond) as served:
        for _ in range(4):
            assert served.ask(RIVER).status == 200
        assert [asked.model for asked in served.asked].count(first) == 1
        assert served.get("/health").json()["models_resting"] == [first]
        broken.clear()
        monkeypatch.setattr("recal_bench.gateway.breakers.REST_S", 0.0)
        assert served.ask(RIVER).json()["model"] == chosen(runs)
        assert served.get("/health").json()["models_resting"] == []


def test_clients_that_send_what_models_refuse_put_no_model_to_rest(runs, tmp_path):
    def respond(asked):
        return (400, {"error": {"message": "no such field"}}) if "odd" in asked.body else right(asked)

    with front(tmp_path, runs["ridge"], respond) as served:
        assert {served.ask(RIVER, odd=True).status for _ in range(35)} == {400}
        assert served.ask(RIVER).json()["model"] == chosen(runs)
        assert served.get("/health").json()["models_resting"] == []


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{", 400, "not JSON"),
        (b"[" * 10_000, 400, "not JSON"),
        ([], 400, "not a JSON object"),
        ({"messages": []}, 400, "model must be text"),
        ({"model": "auto"}, 400, "messages must be a list"),
        ({"model": "auto", "messages": [{"role": "user", "content": " "}]}, 400, "no text to route by"),
        ({"model": "auto", "messages": [{"role": "system", "content": "a"}]}, 400, "no text to route by"),
        ({"model": "auto", "messages": [{"role": "user", "content": "a"}], "n": 2}, 400, "n must be 1"),
        ({"model": "auto", "messages": [{"role": "user", "content": "a"}], "max_tokens": "x"}, 400, "whole number"),
        ({"model": "auto", "messages": [{"role": "user", "content": "a"}], "stream": 1}, 400, "true or false"),
        (b" " * (17 * 2**20), 413, "larger than 16 MiB"),
    ],
)
def test_a_bad_request_costs_nothing(runs, tmp_path, body, status, said):
    with front(tmp_path, runs["ridge"]) as served:
        found = served.post("/v1/chat/completions", body)
        assert found.status == status
        assert said in found.json()["error"]["message"]
        assert served.asked == served.rows() == served.rows(apart=True) == []


def test_the_share_and_the_propensity_of_explored_arms(runs, tmp_path):
    with front(tmp_path, runs["ridge"], epsilon=0.6) as served:
        for _ in range(150):
            served.ask(RIVER)
        rows = pd.DataFrame(served.rows())
    favourite = chosen(runs)
    arm = rows["model"] + "|" + rows["strategy"]
    expected = np.where(arm == favourite, 0.4 + 0.2, 0.2)
    np.testing.assert_allclose(rows["propensity"], expected)
    share = (arm == favourite).mean()
    assert abs(share - 0.6) < 4 * np.sqrt(0.24 / 150)
    assert abs((1 / rows["propensity"]).mean() - len(ARMS)) < 0.9
    assert abs(rows["explored"].mean() - 0.6) < 0.12


def test_a_router_that_draws_its_arms_is_refused(runs, tmp_path):
    with pytest.raises(SettingsError, match="draws its arms"), front(tmp_path, runs["random"]):
        pass


def test_another_router_in_the_shadow_is_logged_and_not_followed(runs, tmp_path):
    fixed = runs["arm:codex-iuris|cot"]
    with front(tmp_path, runs["ridge"], shadow=fixed) as served:
        assert served.ask(RIVER).json()["model"] == chosen(runs)
        assert served.rows()[0]["shadow_arm"] == "codex-iuris|cot"
        assert 'shadow_total{same="false"} 1' in served.metrics()


def test_the_budget_ends_before_it_is_exceeded(runs, tmp_path):
    with front(tmp_path, runs["ridge"], max_usd=0.002) as served:
        answers = [served.ask(RIVER) for _ in range(40)]
        statuses = [each.status for each in answers]
        last = statuses.count(200)
        assert 0 < last < 40
        assert statuses == [200] * last + [402] * (40 - last)
        assert answers[-1].json()["error"]["code"] == "budget_exceeded"
        spent = sum(row["cost_usd"] for row in served.rows())
        assert spent <= 0.002
        assert served.gateway.budget.usd == pytest.approx(spent)
    # What the log holds counts after a new start too.
    with front(tmp_path, runs["ridge"], max_usd=0.002) as served:
        assert served.ask(RIVER).status == 402


def test_metrics_and_health_are_in_their_formats(runs, tmp_path):
    with front(tmp_path, runs["ridge"], max_usd=1.0) as served:
        served.ask(RIVER)
        text, health = served.get("/metrics"), served.get("/health").json()
    assert text.headers["content-type"].startswith("text/plain; version=0.0.4")
    for line in text.text.splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) recal_bench_\w+ .+|recal_bench_\w+(\{(\w+="[^"]*",?)+\})? [-+.e\d]+', line)
    assert 'requests_total{outcome="answered"} 1' in text.text
    assert 'request_seconds_bucket{le="+Inf"} 1' in text.text
    assert "recal_bench_budget_usd 1" in text.text
    assert health["status"] == "ok"
    assert health["router"].startswith("ridge (ridge-")


def test_an_answer_without_usage_is_priced_by_our_own_count_and_flagged(runs, tmp_path):
    with front(tmp_path, runs["ridge"], lambda a: (200, reply(a) | {"usage": None})) as served:
        assert served.ask(RIVER).status == 200
        (row,), pool = served.rows(), served.gateway.pool
    assert row["usage"] == "missing"
    price = pool.models[row["model"]].price
    assert row["cost_usd"] == price.usd(len(served.asked[0].message.split()), len(TEXT.split()))


def test_the_client_that_leaves_a_stream_is_let_go_of(runs, tmp_path):
    go_on = Event()

    def respond(asked):
        go_on.wait(10)
        return right(asked)

    with front(tmp_path, runs["ridge"], respond) as served:
        client = openai.OpenAI(base_url=served.url, api_key="none", max_retries=0, timeout=0.3)
        with pytest.raises(openai.APITimeoutError):
            client.chat.completions.create(model="auto", stream=True, messages=[{"role": "user", "content": RIVER}])
        go_on.set()
        assert served.ask(RIVER).status == 200
        for _ in range(100):
            if json.dumps(served.rows()).count('"query_id"') + len(served.rows(apart=True)) == 2:
                break
            Event().wait(0.05)
        assert served.gateway.under_way == 0


def test_other_addresses_are_told_what_there_is(runs, tmp_path):
    with front(tmp_path, runs["ridge"]) as served:
        assert served.get("/nowhere").status == 404
        assert "POST /v1/chat/completions" in served.get("/nowhere").json()["error"]["message"]
        assert served.get("/v1/chat/completions").status == 405
