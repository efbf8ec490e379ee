"""Which request gets which fault. What the faults look like to a client is in test_server.py."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recal_bench.errors import RecalBenchError
from recal_bench.simulation.server_faults import KINDS, Attempts, Faults, parse_faults


@settings(max_examples=30)
@given(asked=st.lists(st.sampled_from("abcdef"), max_size=60), seed=st.integers(0, 9), row=st.integers(1, 3))
def test_a_fault_depends_on_body_and_attempt_and_not_on_the_order(asked, seed, row):
    faults = parse_faults(f"all=0.7,seed={seed},max-in-a-row={row}")
    attempts, found = Attempts(faults), {}
    for body in asked:
        number, fault = attempts.next(body)
        found[body, number] = fault
    again = Attempts(faults)
    for body, number in sorted(found):
        assert again.next(body) == (number, found[body, number])
    for body in set(asked):
        run = 0
        for number in range(1, asked.count(body) + 1):
            run = run + 1 if found[body, number] else 0
            assert run <= row


def test_faults_come_in_the_shares_asked_for():
    faults = parse_faults("all=0.6, 429=0.2")
    drawn = Counter(faults.drawn(f"{body:x}", attempt) for body in range(4000) for attempt in (1, 2))
    assert set(drawn) == {None, *KINDS}
    assert abs(drawn[None] / 8000 - 0.2) < 0.03
    each = 0.6 / len(KINDS)
    assert abs(drawn["429"] / 8000 - 0.2 - each) < 0.03
    assert all(abs(drawn[kind] / 8000 - each) < each / 2 for kind in KINDS if kind != "429")
    others = parse_faults("all=0.6,429=0.2,seed=1")
    assert any(others.drawn(f"{body:x}", 1) != faults.drawn(f"{body:x}", 1) for body in range(20))


def test_what_a_spec_says():
    assert parse_faults("") == Faults()
    spec = "cut=0.02, 429=0.1 ,seed=3,max-in-a-row=4,retry-after=0.05,hang=0"
    assert parse_faults(spec) == Faults({"429": 0.1, "cut": 0.02}, 3, 4, 0.05)
    assert sum(parse_faults("all=1").shares.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("cutt=0.1", "did you mean cut?.*429, 500, 503, hang"),
        ("429", "must be 429=VALUE"),
        ("429=0.1,429=0.2", "must be 429=VALUE, once"),
        ("429=1.5", "from 0 to 1"),
        ("429=-0.1", "from 0 to 1"),
        ("429=nan", "from 0 to 1"),
        ("429=x", "from 0 to 1"),
        ("429=0.6,all=0.6", "add up to 1.2"),
        ("seed=1.5", "whole number"),
        ("max-in-a-row=0", "at least 1"),
        ("retry-after=inf", "at least 0"),
    ],
)
def test_a_bad_spec_is_one_line(spec, says):
    with pytest.raises(RecalBenchError, match=says) as caught:
        parse_faults(spec)
    assert "\n" not in str(caught.value)
