"""A small version of benchmarks/gateway.py: the openai client, the embedded pool's server, and its faults."""

import asyncio
import json
from pathlib import Path

import openai
import pytest

from recal_bench import load_bench, run
from recal_bench.gateway.gateway import Settings
from recal_bench.gateway.server import running_gateway
from recal_bench.pools.files import read_pool
from recal_bench.simulation import embedded_questions
from recal_bench.simulation.server import running_server

REQUESTS, AT_A_TIME = 120, 16


@pytest.fixture(scope="module")
def embedded_run(tmp_path_factory) -> Path:
    found = run(load_bench(tasks=["nq"]), ["cheapest", "best-single"], runs=tmp_path_factory.mktemp("runs"))
    return next(each.folder for each in found if each.record.configuration.router == "best-single")


async def ask(client, prompt, stream):
    """The answer's id, arm, prompt and completion tokens; an error's text."""
    asked = {"model": "auto", "messages": [{"role": "user", "content": prompt}]}
    try:
        if not stream:
            reply = await client.chat.completions.create(**asked)
            return reply.id, reply.model, reply.usage.prompt_tokens, reply.usage.completion_tokens
        last = None
        async for chunk in await client.chat.completions.create(
            **asked, stream=True, stream_options={"include_usage": True}
        ):
            last = chunk
        return last.id, last.model, last.usage.prompt_tokens, last.usage.completion_tokens
    except openai.APIError as error:
        return str(error)


async def ask_all(url, prompts):
    rows, answers = iter(range(len(prompts))), [None] * len(prompts)
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:

        async def work():
            for row in rows:
                answers[row] = await ask(client, prompts[row], stream=row % 2 == 0)

        await asyncio.gather(*(work() for _ in range(AT_A_TIME)))
    return answers


def test_in_a_storm_every_request_is_answered_or_told_and_priced_by_the_book(embedded_run, tmp_path):
    prompts = [question.prompt for question in embedded_questions(0)[:REQUESTS]]
    faults = "429=0.15,500=0.1,cut=0.1,malformed=0.05,empty-choices=0.05,wrong-model=0.05,retry-after=0.01"
    with running_server(faults=faults) as upstream:
        shipped = read_pool(Path("embedded"))
        there = shipped.endpoints["embedded"].model_copy(update={"base_url": upstream})
        pool = shipped.model_copy(update={"endpoints": {"embedded": there}})
        settings = Settings(embedded_run, pool, epsilon=0.5, log=tmp_path / "log.jsonl")
        with running_gateway(settings) as (url, gateway):
            answers = asyncio.run(ask_all(url, prompts))
            assert gateway.under_way == 0
    lines = [path.read_text().splitlines() for path in sorted(tmp_path.glob("log*.jsonl"))]
    rows = {row["query_id"]: row for each in lines for row in map(json.loads, each)}
    assert len(rows) == REQUESTS
    answered = [each for each in answers if isinstance(each, tuple)]
    assert len(answered) > 0.6 * REQUESTS
    for query_id, arm, prompt_tokens, completion_tokens in answered:
        row, model = rows[query_id], arm.partition("|")[0]
        assert f"{row['model']}|{row['strategy']}" == arm
        assert row["cost_usd"] == pool.models[model].price.usd(prompt_tokens, completion_tokens)
    for said in answers:
        assert isinstance(said, tuple) or "broke off" in said or "no model answered" in said
    assert gateway.budget.usd == pytest.approx(sum(rows[each[0]]["cost_usd"] for each in answered))
