"""Which step of a training should be kept: rules that see validation alone, judged by the truth on test.

    python benchmarks/kept_step.py --worlds 61,62,63,64,65

Trains `recal` with five seeds on worlds of the embedded pool (simulated), looks at the averaged policies at every
evaluation, and prints how far above the untrained prior each rule's policies are: true expected utility of their
likeliest arms on test, mean over tasks and seeds. About a minute a world on one core.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor

from recal_bench import routers
from recal_bench.evaluation.metrics import macro_mean
from recal_bench.experiments.bench import Bench, load_bench, queries_of
from recal_bench.routers import Context
from recal_bench.training.learner import Learner
from recal_bench.training.selection import macro_error
from recal_bench.training.selection import macro_mean as mean_over_tasks

SEEDS = 5


class Looked(NamedTuple):
    """One evaluation: utilities on validation of the likeliest arms and of the whole distribution, `[S, Q]`."""

    average: dict[str, Tensor]
    likeliest_SQ: Tensor
    sampled_SQ: Tensor


Rule = Callable[[list[Looked], Tensor, int], int]
"""Evaluations, the datasets of the validation queries and a seed to the number of the evaluation that is kept."""


def latest_within(errors: float, utility_TQ: Tensor, dataset_Q: Tensor) -> int:
    """The latest evaluation within so many standard errors of the best before it, as in `training.selection`."""
    best = kept = 0
    for now, utility_Q in enumerate(utility_TQ):
        lost_Q = utility_TQ[best] - utility_Q
        lost = mean_over_tasks(lost_Q, dataset_Q)
        if lost < 0:
            best = now
        if lost <= errors * macro_error(lost_Q, dataset_Q):
            kept = now
    return kept


def likeliest(looked: list[Looked], seed: int) -> Tensor:
    return torch.stack([each.likeliest_SQ[seed] for each in looked])


def sampled(looked: list[Looked], seed: int) -> Tensor:
    return torch.stack([each.sampled_SQ[seed] for each in looked])


def pooled(looked: list[Looked], seed: int) -> Tensor:
    return torch.stack([each.likeliest_SQ.mean(dim=0) for each in looked])


RULES: dict[str, Rule] = {
    "latest within 1 SE (the default)": lambda looked, of_Q, seed: latest_within(1, likeliest(looked, seed), of_Q),
    "latest within 2 SE": lambda looked, of_Q, seed: latest_within(2, likeliest(looked, seed), of_Q),
    "the same of all seeds pooled, 1 SE": lambda looked, of_Q, seed: latest_within(1, pooled(looked, seed), of_Q),
    "by the sampled utility, 1 SE": lambda looked, of_Q, seed: latest_within(1, sampled(looked, seed), of_Q),
    "the best evaluation": lambda looked, of_Q, seed: latest_within(0, likeliest(looked, seed), of_Q),
    "the last step": lambda looked, of_Q, seed: len(looked) - 1,
}


def watched(bench: Bench) -> tuple[list[Any], list[Looked], Tensor]:
    """Trained routers of all seeds, what was seen at each evaluation, and the datasets of the validation queries."""
    looked: list[Looked] = []
    datasets: list[Tensor] = []
    evaluate = Learner.evaluate

    @torch.no_grad()
    def evaluate_and_look(self: Learner) -> list[dict[str, float]]:
        lines = evaluate(self)
        validation, alpha = self.validation, self.reward.terms.alpha
        seen = self._seen(validation, torch.tensor([alpha]))
        prob_SQA = torch.func.functional_call(self.policy, self.average, seen).log_arm_QA.exp()
        utility_QA = validation.score_QA - alpha * validation.cost_QA
        average = {name: value.clone() for name, value in self.average.items()}
        looked.append(Looked(average, self._choices(alpha)[0], (prob_SQA * utility_QA).sum(dim=-1)))
        datasets.append(validation.dataset_Q)
        return lines

    made = [routers.create("recal") for _ in range(SEEDS)]
    with tempfile.TemporaryDirectory() as folder, patch.object(Learner, "evaluate", evaluate_and_look):
        contexts = [Context(seed, "cpu", Path(folder) / str(seed), lambda line: None) for seed in range(SEEDS)]
        routers.fit_seeds(made, bench.train, bench.validation, contexts)
    return made, looked, datasets[0]


def gains(bench: Bench) -> dict[str, float]:
    """By rule: expected utility on test above the first evaluation's, mean over seeds."""
    made, looked, dataset_Q = watched(bench)
    test = bench.splits.test
    expected_QA = bench.objective.utility(test.expected_score_QA, test.expected_cost_QA)
    calls, queries, rows = bench.calls(test, made[0]), queries_of(test), np.arange(len(test))
    worth_TS = np.zeros((len(looked), SEEDS))
    for at, each in enumerate(looked):
        for seed, router in enumerate(made):
            router._policy.load_state_dict({name: value[seed : seed + 1] for name, value in each.average.items()})
            arm_Q = router.utilities(queries, calls).argmax(axis=1)
            worth_TS[at, seed] = macro_mean(expected_QA[rows, arm_Q], test.task_Q)
    kept = {name: [rule(looked, dataset_Q, seed) for seed in range(SEEDS)] for name, rule in RULES.items()}
    found = {name: float((worth_TS[at_S, range(SEEDS)] - worth_TS[0]).mean()) for name, at_S in kept.items()}
    return found | {"the best by the truth (no rule)": float((worth_TS.max(axis=0) - worth_TS[0]).mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", default="61,62,63,64,65", help="seeds of worlds, with commas")
    worlds = [int(word) for word in parser.parse_args().worlds.split(",")]
    routers.discover()
    of_world = [gains(load_bench(None, world_seed=world)) for world in worlds]
    lines = [
        [rule, *(each[rule] for each in of_world), np.mean([each[rule] for each in of_world])] for rule in of_world[0]
    ]
    print(tabulate(lines, ["kept", *(f"world {world}" for world in worlds), "mean"], "github", floatfmt="+.4f"))


if __name__ == "__main__":
    main()
