"""Spending: what a collection has cost, may have cost and will cost, from its journal."""

from contextlib import closing
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recal_bench.collection.journal import Answer, Journal
from recal_bench.collection.requests import Arms
from recal_bench.collection.spending import Spending
from recal_bench.collection.usage import TEMPLATE_TOKENS
from recal_bench.pools.pool import Pool
from recal_bench.pools.strategies import STRATEGIES

DAY = date(2025, 6, 10)
POOL = Pool.model_validate(
    {
        "pool": "ours",
        "endpoints": {"e": {"base_url": "http://127.0.0.1:1/v1", "api_key_env": None}},
        "models": {
            name: {"endpoint": "e", "served_model": name, "price": {"date": DAY, **price}, "context_length": 8192}
            for name, price in {
                "plain": {"input": 1.0, "output": 2.0},
                "split": {"input": 1.0, "output": 2.0, "reasoning": 4.0, "cached": 0.25},
                "free": {"input": 0.0, "output": 0.0},
                "tiered": {
                    "input": 1.0,
                    "output": 2.0,
                    "cache_write": 1.25,
                    "tiers": [
                        {"above": 1000, "input": 3.0, "output": 5.0, "cache_write": 4.0},
                        {"above": 4000, "input": 9.0, "output": 9.0, "cache_write": 9.5},
                    ],
                },
            }.items()
        },
    }
)
MODELS = tuple(POOL.models)
ARMS = Arms(POOL, MODELS, ("direct", "cot"), "openai")


def key(number):
    return number.to_bytes(32, "big")


def answer(number, model="plain", strategy="direct", prompt=100, completion=50, reasoning=None, cached=None, **changes):
    known = Answer(
        key(number), model, strategy, "{}", prompt, completion, reasoning, cached, "reported", 40, 20, "stop", 0.5, None
    )
    return known._replace(**changes)


@pytest.fixture
def journal(tmp_path):
    with closing(Journal(tmp_path / "a.journal")) as one:
        yield one


def refreshed(journal, max_usd=None):
    spending = Spending(POOL, journal, max_usd)
    spending.refresh()
    return spending


def test_nothing_has_cost_nothing(journal):
    spending = refreshed(journal, 0.0)
    assert spending.usd == spending.unsure_usd == 0.0
    assert spending.mean_usd(("plain", "direct")) is None
    assert not spending.exceeded()
    assert spending.usd_to_go({}) == 0.0


@st.composite
def answers(draw):
    found = []
    for number in range(draw(st.integers(0, 12))):
        prompt, completion = draw(st.integers(1, 5000)), draw(st.integers(0, 5000))
        reasoning = draw(st.none() | st.integers(0, completion))
        cached = draw(st.none() | st.integers(0, prompt))
        written = draw(st.none() | st.integers(0, prompt - (cached or 0)))
        arm = draw(st.sampled_from(MODELS)), draw(st.sampled_from(["direct", "cot"]))
        found.append(answer(number, *arm, prompt, completion, reasoning, cached, written_tokens=written))
    return found


def usd_of(each):
    price = POOL.models[each.model].price
    return price.usd(
        each.prompt_tokens,
        each.completion_tokens,
        each.reasoning_tokens or 0,
        each.cached_tokens or 0,
        each.written_tokens or 0,
    )


def test_a_bill_that_is_more_than_the_price_counts(journal):
    journal.keep(answer(0, billed_usd=1.0))
    journal.keep(answer(1, "split", billed_usd=1e-9))
    assert refreshed(journal).usd == pytest.approx(1.0 + usd_of(answer(1, "split")))


@settings(max_examples=15)
@given(kept=answers(), looks=st.sets(st.integers(0, 12)))
def test_the_cost_is_that_of_every_answer_however_often_one_looks(tmp_path_factory, kept, looks):
    path = tmp_path_factory.mktemp("journal") / "a.journal"
    with closing(Journal(path)) as journal, closing(Journal(path)) as other:
        following = Spending(POOL, other)
        for number, each in enumerate(kept):
            if number in looks:
                following.refresh()
            journal.keep(each)
        following.refresh()
        following.refresh()
        for spending in (following, refreshed(other)):
            assert spending.usd == pytest.approx(sum(map(usd_of, kept)), rel=1e-9, abs=1e-15)
            for arm in ARMS:
                costs = [usd_of(each) for each in kept if (each.model, each.strategy) == arm]
                mean = spending.mean_usd(arm)
                assert mean == (pytest.approx(sum(costs) / len(costs), rel=1e-9, abs=1e-15) if costs else None)


@settings(max_examples=30)
@given(prompt=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=80), arm=st.sampled_from(list(ARMS)))
def test_a_request_can_cost_its_longest_reply_and_a_token_for_each_byte(prompt, arm):
    request = ARMS.request(*arm, prompt)
    price = POOL.models[arm[0]].price
    prompt_tokens = len(STRATEGIES[arm[1]].message(prompt).encode()) + TEMPLATE_TOKENS
    most = Spending(POOL, None).most_usd(request)
    assert most == price.most_usd(prompt_tokens, STRATEGIES[arm[1]].max_tokens)
    assert most >= price.usd(prompt_tokens, request.most_completion, request.most_completion, prompt_tokens)


def test_a_prompt_with_half_a_surrogate_pair_can_be_priced():
    """It has a key (`requests.py` encodes it), so it is asked for its price."""
    assert Spending(POOL, None).most_usd(ARMS.request("plain", "direct", "half \ud83d")) > 0


def test_the_budget_counts_what_is_answered_unsure_and_under_way(journal):
    usd = usd_of(answer(0))
    journal.keep(answer(0))
    journal.unsure(key(1), "timeout", 0.001)
    journal.claim(key(2), 0.002, estimates=False)
    whole = usd + 0.001 + 0.002
    assert not Spending(POOL, journal).exceeded()
    assert not Spending(POOL, journal, whole * (1 + 1e-9)).exceeded()
    assert Spending(POOL, journal, whole * (1 - 1e-9)).exceeded()
    journal.release(key(2))
    assert not Spending(POOL, journal, usd + 0.001 + 1e-9).exceeded()
    assert Spending(POOL, journal, usd + 0.001 - 1e-9).exceeded()


def test_other_collectors_and_earlier_ones_count_too(journal, tmp_path):
    spending = Spending(POOL, journal, 1.0)
    with closing(Journal(tmp_path / "a.journal")) as other:
        other.keep(answer(0))
        other.claim(key(1), 1.0, estimates=False)
        assert spending.exceeded()
        other.release(key(1))
    assert not spending.exceeded()
    assert spending.usd == usd_of(answer(0))


def test_more_reasoning_than_completion_does_not_cost_more_than_the_most(journal):
    journal.keep(answer(0, "split", "direct", 100, 50, 5000, 9000, usage="off"))
    spending = refreshed(journal)
    assert 0 < spending.usd <= POOL.models["split"].price.most_usd(100, 50) * (1 + 1e-9)


def test_the_mean_of_an_arm_is_over_answers_whose_cost_is_known(journal):
    journal.keep(answer(0))
    journal.keep(answer(1, usage="zero", prompt_tokens=0, completion_tokens=0))
    journal.keep(answer(2, usage="missing", completion_tokens=None))
    journal.keep(answer(3, usage="missing", prompt_tokens=None, completion_tokens=None))
    spending = refreshed(journal)
    assert spending.mean_usd(("plain", "direct")) == pytest.approx(usd_of(answer(0)))
    assert spending.usd == pytest.approx(usd_of(answer(0)))


def test_what_is_left_costs_the_mean_of_its_arm(journal):
    journal.keep(answer(0))
    journal.keep(answer(1, prompt=300))
    journal.keep(answer(2, "free", "cot"))
    spending = refreshed(journal)
    mean = (usd_of(answer(0)) + usd_of(answer(1, prompt=300))) / 2
    left = {("e", "plain", "direct"): 10, ("e", "free", "cot"): 1000, ("e", "split", "cot"): 0}
    assert spending.usd_to_go(left) == pytest.approx(10 * mean)
    assert spending.usd_to_go(left | {("e", "split", "cot"): 1}) is None


def test_a_model_that_costs_nothing_never_exceeds_a_budget_of_nothing(journal):
    journal.keep(answer(0, "free"))
    journal.claim(key(1), 0.0, estimates=False)
    assert not Spending(POOL, journal, 0.0).exceeded()


def test_a_model_that_the_pool_no_longer_has_does_not_end_the_sums(journal):
    journal.keep(answer(0, "retired"))
    journal.keep(answer(1))
    assert refreshed(journal).usd == usd_of(answer(1))
