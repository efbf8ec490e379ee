"""The probability of every arm in one forward: the arms' canonical replies, laid behind the prompt as a tree of tokens.

Tokens that replies share are read once. Each token of the tree attends to the prompt and to the tokens above it alone,
at the position that it has in its reply, so that the model computes what it would compute of each reply by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recal_bench.arrays import FloatQ, FloatQA, IntQ
from recal_bench.errors import SettingsError
from recal_bench.language_model.dialogue import Dialogue
from recal_bench.language_model.warm_start import route
from recal_bench.policies.actions import ActionDistribution

LOGITS = 2**27
"""Most logits of one forward when nothing is trained: half a GiB."""
NO_QUESTION = "?"
WELL_FORMED = 40.0
"""The logit of a chance that is 1 in float32, its complement 0, and both logarithms finite."""


class Tree(NamedTuple):
    """The replies of A arms. Only tokens that others follow are read (`inner`); all of them are judged.

    inner_I    tokens; each one's parent stands before it
    above_I    the parent of each: 0 the prompt, i + 1 the inner token i
    depth_I    tokens between the prompt and each
    token_N    tokens that are judged, and above_N what each follows
    path_AN    True for the tokens of an arm's reply
    """

    inner_I: list[int]
    above_I: list[int]
    depth_I: list[int]
    token_N: list[int]
    above_N: list[int]
    path_AN: np.ndarray


def tree_of(replies: Sequence[Sequence[int]]) -> Tree:
    """The tree of replies, none of which begins another."""
    inner: dict[tuple[int, ...], int] = {(): 0}
    judged: dict[tuple[int, ...], int] = {}
    for reply in replies:
        for end in range(1, len(reply) + 1):
            if end < len(reply):
                inner.setdefault(tuple(reply[:end]), len(inner))
            judged.setdefault(tuple(reply[:end]), len(judged))
    path_AN = np.zeros((len(replies), len(judged)), dtype=bool)
    for arm, reply in enumerate(replies):
        path_AN[arm, [judged[tuple(reply[:end])] for end in range(1, len(reply) + 1)]] = True
    read = list(inner)[1:]
    return Tree(
        [begin[-1] for begin in read],
        [inner[begin[:-1]] for begin in read],
        [len(begin) - 1 for begin in read],
        [begin[-1] for begin in judged],
        [inner[begin[:-1]] for begin in judged],
        path_AN,
    )


def named_tree(dialogue: Dialogue) -> Tree:
    """Of the arms' canonical replies as far as they name the arm: what follows is the same for all and decides nothing.

    It does not depend on the question. In the full form it is the thought and the route up to the colon.
    """
    replies = [dialogue.reply_ids(route(dialogue, arm, NO_QUESTION)) for arm in range(len(dialogue.arms))]
    return tree_of(without_shared_end(replies))


def without_shared_end(replies: Sequence[Sequence[int]]) -> list[list[int]]:
    """Replies less the tokens at the end that all share, as many as leave no reply empty or the beginning of another.

    Raises SettingsError where two are the same.
    """
    if len({tuple(each) for each in replies}) < len(replies):
        raise SettingsError("two arms have the same reply in tokens: give models and strategies names of their own")
    shared = 0
    while shared < min(map(len, replies)) - 1 and len({each[-1 - shared] for each in replies}) == 1:
        shared += 1
    for cut in range(shared, -1, -1):
        kept = [list(each[: len(each) - cut]) for each in replies]
        begun = {tuple(each[:end]) for each in kept for end in range(len(each))}
        if not any(tuple(each) in begun for each in kept):
            break
    return kept


def log_probs(model: Any, prompts: Sequence[Sequence[int]], trees: Sequence[Tree], pad: int) -> Tensor:
    """Log-probability of each arm's reply to each prompt, `[Q, A]`; gradients flow through it.

    `trees` is one for each prompt. One forward, with a mask of its own for each query.
    """
    width, size = max(map(len, prompts)), max(len(each.inner_I) for each in trees)
    shape = len(prompts), width + size
    ids, position = np.full(shape, pad), np.zeros(shape, dtype=int)
    seen = np.zeros((*shape, width + size), dtype=bool)
    # A token of padding sees itself: a row that sees nothing has no softmax.
    seen[:, np.arange(width + size), np.arange(width + size)] = True
    causal = np.tri(width, dtype=bool)
    for row, (prompt, tree) in enumerate(zip(prompts, trees, strict=True)):
        gap, end = width - len(prompt), width + len(tree.inner_I)
        ids[row, gap:end] = [*prompt, *tree.inner_I]
        position[row, gap:end] = [*range(len(prompt)), *(len(prompt) + depth for depth in tree.depth_I)]
        seen[row, gap:width, gap:width] = causal[gap:, gap:]
        seen[row, width:end, gap:width] = True
        for at, above in enumerate(tree.above_I):
            if above:
                seen[row, width + at, width:] |= seen[row, width + above - 1, width:]
    # Of a model that processes share, too, which has neither of its own.
    first = next(model.parameters())
    device, dtype = first.device, first.dtype
    allowed = torch.tensor(seen, device=device)[:, None]
    mask = torch.zeros(allowed.shape, dtype=dtype, device=device)
    logits = model(
        input_ids=torch.tensor(ids, device=device),
        attention_mask=mask.masked_fill(~allowed, torch.finfo(dtype).min),
        position_ids=torch.tensor(position, device=device),
        use_cache=False,
        logits_to_keep=size + 1,
    ).logits.float()
    total = logits.logsumexp(dim=-1)
    found = []
    for row, tree in enumerate(trees):
        above_N = torch.tensor(tree.above_N, device=device)
        log_N = logits[row, above_N, torch.tensor(tree.token_N, device=device)] - total[row, above_N]
        found.append(torch.tensor(tree.path_AN, dtype=log_N.dtype, device=device) @ log_N)
    return torch.stack(found)


@torch.no_grad()
def scored(dialogue: Dialogue, prompts: Sequence[Sequence[int]], tree_of_row: Callable[[int], Tree]) -> FloatQA:
    """The same of many prompts, those of like length together, with the model as it is used (not trained)."""
    model, found = dialogue.local.model, np.zeros((len(prompts), len(dialogue.arms)))
    order = sorted(range(len(prompts)), key=lambda row: (len(prompts[row]), row))
    training = model.training
    model.eval()
    while order:
        longest = 1 + len(tree_of_row(order[0]).inner_I)
        rows = order[: max(1, min(256, LOGITS // (longest * model.config.vocab_size)))]
        order = order[len(rows) :]
        trees = [tree_of_row(row) for row in rows]
        pad = dialogue.local.tokenizer.pad_token_id
        found[rows] = log_probs(model, [prompts[row] for row in rows], trees, pad).double().cpu().numpy()
    model.train(training)
    return found


def named_log_probs(dialogue: Dialogue, prompts: Sequence[Sequence[int]]) -> FloatQA:
    """Log-probability that a reply names each arm in the canonical way, `[Q, A]`: what `decode=arms` chooses by.

    `prompts` are those of `dialogue.prompt_ids`. Not normalised: the rest are replies that begin otherwise.
    """
    tree = named_tree(dialogue)
    return scored(dialogue, prompts, lambda row: tree)


def arm_log_probs(dialogue: Dialogue, questions: Sequence[str]) -> FloatQA:
    """Log-probability of each arm's whole canonical reply, its end included, to each question, `[Q, A]`.

    Of a policy that writes (`decode=text`). Not normalised: what is left to 1 are replies of other words, malformed
    ones among them. In the short form a policy after its supervised start hardly writes any; in the full form, where
    thoughts are free, they are nearly all.
    """
    arms = range(len(dialogue.arms))
    short = None
    if dialogue.short:
        short = tree_of([dialogue.reply_ids(route(dialogue, arm, NO_QUESTION)) for arm in arms])

    def tree_of_row(row: int) -> Tree:
        return short or tree_of([dialogue.reply_ids(route(dialogue, arm, questions[row])) for arm in arms])

    return scored(dialogue, [dialogue.prompt_ids(each) for each in questions], tree_of_row)


def expected_utility(log_prob_QA: FloatQA, utility_QA: FloatQA, fallback_Q: IntQ) -> FloatQ:
    """The mean utility of a policy that draws its replies: of each arm by its probability, `[Q]`.

    What is left to 1, and the probability of arms without an outcome (NaN in `utility_QA`), goes to the arm
    `fallback_Q`. Exact where every reply but the canonical ones is malformed.
    """
    known_QA = ~np.isnan(utility_QA)
    prob_QA = np.where(known_QA, np.exp(log_prob_QA), 0.0)
    rest_Q = np.clip(1 - prob_QA.sum(axis=1), 0.0, None)
    fallback_utility_Q = utility_QA[np.arange(len(utility_QA)), fallback_Q]
    return np.asarray((prob_QA * np.where(known_QA, utility_QA, 0.0)).sum(axis=1) + rest_Q * fallback_utility_Q)


def distribution_of(log_prob_QA: Tensor, available_QA: Tensor) -> ActionDistribution:
    """The policy of `decode=arms`: the softmax of log-probabilities over the available arms, never malformed."""
    lowest = torch.finfo(log_prob_QA.dtype).min
    # With the largest at 0 what stands in for the logarithm of 0 is one number, whatever the scores are.
    largest_Q1 = log_prob_QA.detach().masked_fill(~available_QA, lowest).amax(dim=-1, keepdim=True)
    format_logit_Q = torch.full_like(log_prob_QA[..., 0], WELL_FORMED)
    return ActionDistribution.of(format_logit_Q, log_prob_QA - largest_Q1, available_QA)
