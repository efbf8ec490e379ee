"""What is asked: gold answers, disjoint splits, and that a text shows all that its truth depends on."""

import re
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recal_bench.errors import RecalBenchError
from recal_bench.scoring import exact_match
from recal_bench.simulation import World, embedded_questions, models, questions_by_prompt
from recal_bench.simulation.lexicon import DOMAINS, ENDINGS, KINDS, TIERS
from recal_bench.simulation.questions import TASKS, write


@pytest.fixture(scope="module")
def questions():
    return embedded_questions(0, 300, 60, 150)


def test_all_seven_tasks_in_all_splits_sorted(questions):
    assert set(TASKS) == {"nq", "triviaqa", "popqa", "hotpotqa", "2wiki", "musique", "bamboogle"}
    assert len(questions) == 7 * 510
    keys = [(each.split, each.task, each.query_id) for each in questions]
    assert keys == sorted(keys)


def test_every_domain_and_tier_has_a_weight():
    assert {len(profile.domains) for profile in TASKS.values()} == {len(DOMAINS)}
    assert {len(profile.tiers) for profile in TASKS.values()} == {TIERS}


def test_no_prompt_and_no_fact_lies_on_two_sides(questions):
    for of in (lambda each: [each.prompt.lower()], lambda each: [fact.key for fact in each.facts]):
        splits_of = defaultdict(set)
        for each in questions:
            for item in of(each):
                splits_of[item].add(each.split)
        assert all(len(splits) == 1 for splits in splits_of.values())
    assert len({each.prompt for each in questions}) == len(questions)


def test_query_identifiers_are_unique_and_tell_nothing(questions):
    assert len({each.query_id for each in questions}) == len(questions)
    assert all(re.fullmatch("[0-9a-f]{16}", each.query_id) for each in questions)


def test_the_canonical_answer_is_right_and_no_wrong_answer_is(questions):
    for each in questions:
        assert exact_match(each.right[0], each.gold) == 1
        assert not any(exact_match(wrong, each.gold) for wrong in each.wrong)
        assert not any(exact_match(wrong, each.right) for wrong in each.wrong)
        other_wordings = [exact_match(text, each.gold) for text in each.right[1:]]
        assert not any(other_wordings) if each.task == "nq" else all(other_wordings)
        if not each.comparison:
            assert len(each.wrong) == 5
            assert other_wordings


def test_hops_and_comparisons_are_those_of_the_task(questions):
    hops = {task: {len(each.facts) for each in questions if each.task == task} for task in TASKS}
    assert hops["nq"] == hops["triviaqa"] == hops["popqa"] == {1}
    assert hops["hotpotqa"] == hops["2wiki"] == hops["bamboogle"] == {2}
    assert hops["musique"] == {2, 3, 4}
    assert {each.task for each in questions if each.comparison} == {"hotpotqa", "2wiki"}
    assert all(len({fact.key for fact in each.facts}) == len(each.facts) for each in questions)


def test_yes_and_no_are_about_as_frequent(questions):
    gold = [each.gold[0] for each in questions if each.gold[0] in ("yes", "no")]
    assert len(gold) > 60
    assert 0.35 < np.mean([each == "yes" for each in gold]) < 0.65


def test_the_text_shows_all_that_the_expectations_depend_on(questions):
    """With every name replaced by its tier, equal texts have equal expectations."""
    parameters, features = models.fitted_parameters(), models.features_of(questions)
    score_QA = models.expected_score(parameters, features)
    tokens_QA = models.expected_tokens(parameters, features) + models.prompt_tokens(features)
    ending = "|".join(f"(?P<t{tier}>{'|'.join(group)})" for tier, group in enumerate(ENDINGS))
    coined = re.compile(rf"\b[a-z]{{2,5}}[aeiou](?:{ending})\b")
    word = {word.lower() for kind in KINDS.values() for word in kind.modifiers}
    rows_of = defaultdict(list)
    for row, each in enumerate(questions):
        text = coined.sub(lambda match: f"<{match.lastgroup}>", each.prompt.lower())
        text = " ".join("<m>" if part.strip(".,?") in word else part for part in text.split())
        text = re.sub(r"\b\w+(?:rina|ston|mira|bert|vane|dric|quel|thra) <", "<g> <", text)
        assert "<t" in text
        rows_of[text].append(row)
    assert len(rows_of) < 0.8 * len(questions)
    for rows in rows_of.values():
        assert np.ptp(score_QA[rows], axis=0).max() == 0
        assert np.ptp(tokens_QA[rows], axis=0).max() == 0


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 1000), task=st.sampled_from(sorted(TASKS)), count=st.integers(1, 30))
def test_a_smaller_size_gives_a_beginning_of_a_larger_one(seed, task, count):
    assert write(World(seed), task, "test", count) == write(World(seed), task, "test", 30)[:count]


def test_a_prompt_leads_to_its_question(questions):
    by_prompt = questions_by_prompt(0, 300, 60, 150)
    assert all(by_prompt[each.prompt] is each for each in questions)


@pytest.mark.parametrize(("seed", "sizes"), [(-1, (5, 5, 5)), (0, (0, 5, 5)), (0, (5, 5, -2))])
def test_bad_sizes_and_seeds_are_refused(seed, sizes):
    with pytest.raises(RecalBenchError, match="give"):
        embedded_questions(seed, *sizes)


def test_more_questions_than_the_world_holds_are_refused(monkeypatch):
    # The real limit lies beyond 50,000 a task: here the search for another prompt is cut short instead.
    monkeypatch.setattr("recal_bench.simulation.questions._ATTEMPTS_PER_QUESTION", 1)
    with pytest.raises(RecalBenchError, match=r"only about [\d,]+ questions of musique in validation: ask for"):
        write(World(0), "musique", "validation", 2000)
