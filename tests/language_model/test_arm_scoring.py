"""The probability of every arm in one forward: what reply by reply gives, and what is done with it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("transformers", reason="transformers is not installed: it comes with the extra lm")

import torch
from hypothesis import given
from hypothesis import strategies as st
from small_policy import ARMS, QUESTIONS, policy

from recal_bench.errors import SettingsError
from recal_bench.language_model.dialogue import Dialogue
from recal_bench.language_model.scoring import (
    arm_log_probs,
    distribution_of,
    expected_utility,
    log_probs,
    named_log_probs,
    named_tree,
    tree_of,
    without_shared_end,
)
from recal_bench.language_model.warm_start import route

replies_of = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), min_size=1, max_size=6)


@pytest.fixture(scope="module", params=[False, True], ids=["short", "chat"])
def spoken(request: pytest.FixtureRequest) -> Dialogue:
    return policy(request.param)


def one_by_one(dialogue: Dialogue, prompt: list[int], reply: list[int]) -> float:
    with torch.no_grad():
        logits = dialogue.local.model(input_ids=torch.tensor([prompt + reply])).logits[0].double()
    log_prob = logits.log_softmax(dim=-1)[len(prompt) - 1 : -1]
    return float(log_prob[range(len(reply)), reply].sum())


def test_whole_replies_are_as_probable_as_one_by_one(spoken: Dialogue) -> None:
    given_QA = arm_log_probs(spoken, QUESTIONS)
    for row, question in enumerate(QUESTIONS):
        prompt = spoken.prompt_ids(question)
        expected_A = [one_by_one(spoken, prompt, spoken.reply_ids(route(spoken, arm, question))) for arm in range(4)]
        np.testing.assert_allclose(given_QA[row], expected_A, atol=2e-4, rtol=0)


def test_named_arms_are_as_probable_as_one_by_one(spoken: Dialogue) -> None:
    prompts = [spoken.prompt_ids(each) for each in QUESTIONS]
    given_QA = named_log_probs(spoken, prompts)
    begun = without_shared_end([spoken.reply_ids(route(spoken, arm, "?")) for arm in range(4)])
    for prompt, log_prob_A in zip(prompts, given_QA, strict=True):
        np.testing.assert_allclose(log_prob_A, [one_by_one(spoken, prompt, each) for each in begun], atol=1e-4, rtol=0)


def test_what_follows_the_arm_is_not_read(spoken: Dialogue) -> None:
    tree = named_tree(spoken)
    read = spoken.local.tokenizer.decode(tree.inner_I)
    assert read.count("<route>") == 1
    assert not {"</route>", "?", "<|eos|>"} & {spoken.local.tokenizer.decode([each]).strip() for each in tree.inner_I}
    assert (
        len(tree.inner_I) < len(tree.token_N) < sum(len(spoken.reply_ids(route(spoken, arm, "?"))) for arm in range(4))
    )


def test_a_query_is_scored_alike_alone_and_among_others(spoken: Dialogue) -> None:
    prompts = [spoken.prompt_ids(each) for each in QUESTIONS]
    alone = [named_log_probs(spoken, [each])[0] for each in prompts]
    np.testing.assert_allclose(named_log_probs(spoken, prompts), alone, atol=1e-4, rtol=0)


def test_trees_of_other_sizes_in_one_forward() -> None:
    spoken = policy()
    trees, prompts = [tree_of([[5, 6], [7, 8]]), tree_of([[5], [6, 7, 8, 9]])], [[3, 4, 5], [9]]
    given_QA = log_probs(spoken.local.model, prompts, trees, 0)
    expected = [[one_by_one(spoken, prompts[0], each) for each in ([5, 6], [7, 8])]]
    expected += [[one_by_one(spoken, prompts[1], each) for each in ([5], [6, 7, 8, 9])]]
    np.testing.assert_allclose(given_QA.detach(), expected, atol=1e-4, rtol=0)


@given(replies_of)
def test_what_is_cut_is_shared_and_no_reply_begins_another(replies: list[list[int]]) -> None:
    ended = [[*each, 9] for each in replies]
    if len({tuple(each) for each in ended}) < len(ended):
        with pytest.raises(SettingsError, match="two arms have the same reply"):
            without_shared_end(ended)
        return
    kept = without_shared_end(ended)
    assert all(kept)
    assert len({tuple(whole[len(begin) :]) for begin, whole in zip(kept, ended, strict=True)}) == 1
    assert all(begin == whole[: len(begin)] for begin, whole in zip(kept, ended, strict=True))
    others = [(one, two) for one in kept for two in kept if one is not two]
    assert not any(two[: len(one)] == one for one, two in others)


@given(replies_of)
def test_a_tree_holds_each_reply_and_each_beginning_once(replies: list[list[int]]) -> None:
    tree = tree_of(replies)
    begun = {tuple(each[:end]) for each in replies for end in range(1, len(each) + 1)}
    assert len(tree.token_N) == len(begun)
    assert tree.path_AN.sum(axis=1).tolist() == [len(each) for each in replies]
    for reply, path_N in zip(replies, tree.path_AN, strict=True):
        by_depth = sorted(
            (tree.depth_I[above - 1] + 1 if above else 0, token)
            for token, above, on in zip(tree.token_N, tree.above_N, path_N, strict=True)
            if on
        )
        assert [token for _, token in by_depth] == reply
    assert all(above <= at for at, above in enumerate(tree.above_I))


def test_the_sampled_utility_is_that_of_draws() -> None:
    prob_QA = np.array([[0.5, 0.2], [0.1, 0.6], [0.0, 1.0]])
    utility_QA = np.array([[1.0, 0.0], [np.nan, 0.5], [0.3, 0.2]])
    with np.errstate(divide="ignore"):
        mean_Q = expected_utility(np.log(prob_QA), utility_QA, np.array([0, 1, 0]))
    np.testing.assert_allclose(mean_Q, [0.5 + 0.3, 0.6 * 0.5 + 0.4 * 0.5, 0.2])


@given(st.lists(st.floats(-500, 0), min_size=3, max_size=3), st.integers(1, 7))
def test_the_policy_is_the_softmax_over_available_arms_and_never_malformed(scores: list[float], mask: int) -> None:
    available_QA = torch.tensor([[bool(mask >> arm & 1) for arm in range(3)]])
    now = distribution_of(torch.tensor([scores]), available_QA)
    allowed = torch.tensor(scores).masked_fill(~available_QA[0], -torch.inf).softmax(dim=0)
    torch.testing.assert_close(now.log_arm_QA[0].exp(), allowed)
    assert now.everything().share_QG[0, -1] == 0
    assert now.entropy().isfinite().all()


def test_arms_are_those_of_the_dialogue(spoken: Dialogue) -> None:
    assert arm_log_probs(spoken, QUESTIONS[:1]).shape == (1, len(ARMS))
