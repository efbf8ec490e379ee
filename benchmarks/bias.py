"""Which arm does each estimator follow for a text, and what does that cost in utility? docs/bias.md says how.

    python benchmarks/bias.py [--out leaderboards/calibration-study]

On the embedded pool, where the law of the outcomes given a text is known. Nothing is sampled but the batch around a
group, whose outcomes are those of the train split, and the check by climbing. Prints the tables and writes them to
`bias.md` and `bias.json` in the folder; about ten minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, softmax
from tabulate import tabulate

from recal_bench.evaluation.bias import (
    Climb,
    Groups,
    Law,
    Rule,
    climb,
    draw_groups,
    expected_advantages,
    margin_table,
    margins,
    mixed_groups,
    optima,
)
from recal_bench.evaluation.metrics import macro_mean, task_means
from recal_bench.experiments.bench import load_bench
from recal_bench.outcomes import Outcomes
from recal_bench.provenance import code_version, package_versions
from recal_bench.routers.registry import create, discover
from recal_bench.simulation import Question, SimulatedPool, models, questions_by_prompt
from recal_bench.simulation import pool as simulated_pool
from recal_bench.simulation.pool import score_all

WORLDS = (0, 1, 2)
ALPHAS = (0.2, 0.0, 0.05, 1.0)
GROUP_SIZE = 16
# The two policies whose groups fix the running quantities: see docs/bias.md.
EARLY_SCALE, EARLY_GROUPS = 30.0, 4
# Where a climb starts, and what share of its rollouts explores.
CLIMBS = {"indifferent": 0.05, "prior": 0.01}
CLIMBED_EVERY, CLIMB_DRAWN, CLIMB_SEED = 50, 2048, 10_000
WITHOUT_BIAS = ("expected", "reinforce", "reinforce-pp", "rloo", "dr-grpo", "lite-ppo", "popart", "recal-unbiased")
OTHERS = (
    "grpo", "dapo", "hero", "dvao", "gdpo", "disco", "recal-plain", "recal", "recal-no-components",
    "recal-no-reweighting", "recal-inverse-weights", "recal-no-dataset-norm", "recal-no-floor",
)  # fmt: skip
KEEP_RUNNING = ("hero", *(name for name in OTHERS if name.startswith("recal")))
# Arm A: right with .75, cheapness .45; arm B: .70 and .50. At alpha = .2 the utilities differ by .04: A is better.
TWO_ARMS = Law.independent([0.75, 0.70], [1 - 0.45, 1 - 0.50])
NEAR = 0.001

Floats = NDArray[np.float64]


class World(NamedTuple):
    """The test texts of one world and their law, costs in units of `cost_ref`; and its train split.

    Texts that show the same share a law: `first` and `which_Q` say which row represents each.
    """

    score_QA: Floats
    both_QAA: Floats
    cost_QA: Floats
    half_QA: Floats
    task_Q: NDArray[Any]
    first: NDArray[np.int64]
    which_Q: NDArray[np.int64]
    train: Outcomes
    cost_ref: float
    data_hash: str


def rules() -> dict[str, Rule]:
    discover()
    routers = {name: create(name) for name in (*WITHOUT_BIAS, *OTHERS)}
    return {name: Rule(each.estimator, each.calibration) for name, each in routers.items()}


# ---- the law of the outcomes


def pair_law(questions: Sequence[Question]) -> tuple[Floats, Floats, Floats]:
    """P(right) `[Q, A]`, P(both right) `[Q, A, A]`, and half the range of the costs in USD `[Q, A]`, given the text.

    What two models know of a fact shares a normal difficulty, which is integrated out; two arms of a model know the
    same facts. All else is drawn for each arm on its own.
    """
    features, parameters = models.features_of(questions), models.fitted_parameters()
    shared = simulated_pool.SHARED_DIFFICULTY
    node_N, weight_N = np.polynomial.hermite_e.hermegauss(64)
    know_QHM = models.knowledge(parameters, features)
    given_QHMN = ndtr((ndtri(know_QHM)[..., None] - np.sqrt(shared) * node_N) / np.sqrt(1 - shared))
    both_QMM = np.einsum("qhmn,qhln,n->qhml", given_QHMN, given_QHMN, weight_N / weight_N.sum()).prod(axis=1)
    know_QM = know_QHM.prod(axis=1)
    same = np.arange(know_QM.shape[1])
    both_QMM[:, same, same] = know_QM
    of_arm = models.model_of_arm()
    know_QA, both_QAA = know_QM[:, of_arm], both_QMM[:, of_arm][:, :, of_arm]

    comparison_Q1 = features.comparison_Q[:, None]
    holds_QA = models.reliability(parameters, features)
    as_gold_Q1 = np.where(features.canonical_only_Q, 1 - parameters.reworded, 1.0)[:, None]
    counts_QA = models.format_discipline() * as_gold_Q1
    right_QA = counts_QA * np.where(comparison_Q1, (1 + holds_QA) / 2, holds_QA)
    guessed_QA = counts_QA * np.where(comparison_Q1, 0.5, 0.0)
    only_first_QAA, only_second_QAA = know_QA[:, :, None] - both_QAA, know_QA[:, None, :] - both_QAA
    both_right_QAA = (
        both_QAA * right_QA[:, :, None] * right_QA[:, None, :]
        + only_first_QAA * right_QA[:, :, None] * guessed_QA[:, None, :]
        + only_second_QAA * guessed_QA[:, :, None] * right_QA[:, None, :]
        + (1 - both_QAA - only_first_QAA - only_second_QAA) * guessed_QA[:, :, None] * guessed_QA[:, None, :]
    )
    half_QA = simulated_pool.LENGTH_SPREAD * models.expected_tokens(parameters, features) * models.price()
    return know_QA * right_QA + (1 - know_QA) * guessed_QA, both_right_QAA, half_QA


def drawn(questions: Sequence[Question], count: int, first_seed: int) -> tuple[Floats, Floats]:
    """Scores and costs (USD) of the texts in `count` other pools, `[N, Q, A]`: the same texts, outcomes drawn again."""
    score_NQA, cost_NQA = [], []
    for seed in range(first_seed, first_seed + count):
        replies = SimulatedPool(seed).answer_all(questions)
        score_NQA.append(score_all(questions, replies))
        cost_NQA.append((replies.prompt_tokens_QA + replies.completion_tokens_QA) * models.price())
    return np.stack(score_NQA), np.stack(cost_NQA)


def world_of(seed: int) -> World:
    bench = load_bench(world_seed=seed)
    test, train, cost_ref = bench.splits.parts["test"], bench.splits.train, bench.objective.cost_ref
    by_prompt = questions_by_prompt(seed)
    score_QA, both_QAA, half_QA = pair_law([by_prompt[prompt] for prompt in test.prompt_Q])
    np.testing.assert_allclose(score_QA, test.expected_score_QA, atol=1e-9)
    cost_QA = test.expected_cost_QA / cost_ref
    shown_QX = np.concatenate([score_QA, cost_QA], axis=1).round(12)
    _, first, which_Q = np.unique(shown_QX, axis=0, return_index=True, return_inverse=True)
    return World(
        score_QA, both_QAA, cost_QA, half_QA / cost_ref, test.task_Q, first, which_Q.ravel(), train, cost_ref,
        bench.data.hash,
    )  # fmt: skip


def batch_around(world: World, alpha: float, early: bool) -> Groups:
    """Groups of the train texts, with the outcomes that were drawn for them.

    Late: the best arm for the text, and one rollout of another arm, each in turn. Early: of a policy as peaked as the
    one that training starts from.
    """
    train, cost_ref = world.train, world.cost_ref
    cost_QA = train.cost_QA / cost_ref
    utility_QA = train.expected_score_QA - alpha * train.expected_cost_QA / cost_ref
    if early:
        repeated = [np.tile(each, (EARLY_GROUPS, 1)) for each in (utility_QA, train.score_QA, cost_QA)]
        policy_QA = softmax(EARLY_SCALE * repeated[0], axis=1)
        return draw_groups(policy_QA, *repeated[1:], GROUP_SIZE, np.random.default_rng(0))
    n_arms, best_Q = utility_QA.shape[1], utility_QA.argmax(axis=1)
    other_Q = (best_Q + 1 + np.arange(len(best_Q)) % (n_arms - 1)) % n_arms
    return mixed_groups(best_Q, other_Q, train.score_QA, cost_QA, GROUP_SIZE)


# ---- what is followed


def followed(world: World, rule: Rule, alpha: float, early: bool, rows: NDArray[np.int64]) -> tuple[Any, Any]:
    """The arm that the rule follows for each of some rows, and how many arms none invades."""
    reach = 1.01 * float((world.cost_QA + world.half_QA).max())
    table = margin_table(rule, alpha, batch_around(world, alpha, early), reach)
    return optima(margins(table, world.score_QA[rows], world.both_QAA[rows], world.cost_QA[rows], world.half_QA[rows]))


def judged(world: World, rule: Rule, alpha: float, early: bool = False) -> dict[str, Any]:
    """Macro means over the test texts; shares of texts by task."""
    arm_Q, stable_Q = (part[world.which_Q] for part in followed(world, rule, alpha, early, world.first))
    utility_QA = world.score_QA - alpha * world.cost_QA
    row_Q = np.arange(len(arm_Q))
    regret_Q = utility_QA.max(axis=1) - utility_QA[row_Q, arm_Q]
    differs_Q = (regret_Q > 1e-12).astype(float)
    tasks = np.unique(world.task_Q.astype(str))
    return {
        "regret": float(macro_mean(regret_Q, world.task_Q)),
        "differs": float(macro_mean(differs_Q, world.task_Q)),
        "differs_by_task": dict(zip(tasks, task_means(differs_Q, world.task_Q).tolist(), strict=True)),
        "score": float(macro_mean(world.score_QA[row_Q, arm_Q], world.task_Q)),
        "cost": float(macro_mean(world.cost_QA[row_Q, arm_Q], world.task_Q)),
        "none_stable": float(macro_mean((stable_Q == 0).astype(float), world.task_Q)),
        "several_stable": float(macro_mean((stable_Q > 1).astype(float), world.task_Q)),
    }


def climbed(world: World, made: dict[str, Rule]) -> list[dict[str, Any]]:
    """Tabular policies that follow each rule on some texts of the default world, with outcomes of other pools."""
    alpha, by_prompt = ALPHAS[0], questions_by_prompt(WORLDS[0])
    rows = np.arange(0, len(world.task_Q), CLIMBED_EVERY)
    prompts = load_bench(world_seed=WORLDS[0]).splits.parts["test"].prompt_Q[rows]
    score_NQA, cost_NQA = drawn([by_prompt[prompt] for prompt in prompts], CLIMB_DRAWN, CLIMB_SEED)
    utility_QA = (world.score_QA - alpha * world.cost_QA)[rows]
    best_Q, row_Q, table = utility_QA.max(axis=1), np.arange(len(rows)), []
    for name, rule in made.items():
        arm_Q, stable_Q = followed(world, rule, alpha, False, rows)
        line: dict[str, Any] = {
            "rule": name,
            "texts": len(rows),
            "vertex": float((best_Q - utility_QA[row_Q, arm_Q]).mean()),
        }
        starts = {"indifferent": 0 * utility_QA, "prior": EARLY_SCALE * utility_QA}
        for start, explore in CLIMBS.items():
            way = Climb(explore=explore)
            policy_QA = climb(rule, alpha, score_NQA, cost_NQA / world.cost_ref, starts[start], way, seed=0)
            likeliest_Q, clear_Q = policy_QA.argmax(axis=1), stable_Q == 1
            agrees_Q = likeliest_Q == arm_Q
            line[start] = {
                "explore": explore,
                "regret": float((best_Q - utility_QA[row_Q, likeliest_Q]).mean()),
                "agrees": float(agrees_Q.mean()),
                "agrees_where_clear": float(agrees_Q[clear_Q].mean()) if clear_Q.any() else None,
                "top": float(policy_QA.max(axis=1).mean()),
            }
        table.append(line)
    return table


def two_arms(made: dict[str, Rule]) -> list[dict[str, Any]]:
    """Expected advantage of A less that of B, for a policy that nearly always takes A, either, or nearly always B."""
    table = []
    for name, rule in made.items():
        line: dict[str, Any] = {"rule": name}
        for where, share in (("near A", 1 - NEAR), ("even", 0.5), ("near B", NEAR)):
            value_A = expected_advantages(rule, ALPHAS[0], TWO_ARMS, np.array([share, 1 - share]), GROUP_SIZE)
            line[where] = float(value_A[0] - value_A[1])
        table.append(line)
    return table


# ---- tables


def study() -> dict[str, Any]:
    made = rules()
    worlds = {seed: world_of(seed) for seed in WORLDS}
    lines = []
    for name, rule in made.items():
        for alpha in ALPHAS:
            for seed, world in worlds.items():
                line = {"rule": name, "alpha": alpha, "world_seed": seed, **judged(world, rule, alpha)}
                if name in KEEP_RUNNING:
                    line["regret_early"] = judged(world, rule, alpha, early=True)["regret"]
                lines.append(line)
    way = {key: value for key, value in Climb()._asdict().items() if key != "explore"}
    checked = {**way, "world_seed": WORLDS[0], "drawn": CLIMB_DRAWN, "first_seed": CLIMB_SEED}
    return {
        "simulated": True,
        "command": "python benchmarks/bias.py",
        "code": code_version(),
        "packages": package_versions(),
        "group_size": GROUP_SIZE,
        "worlds": [{"world_seed": seed, "data_hash": world.data_hash} for seed, world in worlds.items()],
        "settings": {name: {"estimator": rule.estimator, **vars(rule.calibration)} for name, rule in made.items()},
        "followed": lines,
        "climbed": {**checked, "rules": climbed(worlds[WORLDS[0]], made)},
        "two_arms": two_arms(made),
    }


def regret_table(found: dict[str, Any]) -> str:
    rows, first = [], ALPHAS[0]
    for name in found["settings"]:
        by_alpha = {
            alpha: [line for line in found["followed"] if line["rule"] == name and line["alpha"] == alpha]
            for alpha in ALPHAS
        }

        def mean(key: str, alpha: float = first, by_alpha: dict[float, Any] = by_alpha) -> float:
            return float(np.mean([line[key] for line in by_alpha[alpha]]))

        regrets = [line["regret"] for line in by_alpha[first]]
        rows.append(
            [
                name,
                f"{mean('regret'):.4f}",
                f"{min(regrets):.4f} to {max(regrets):.4f}",
                f"{mean('regret_early'):.4f}" if name in KEEP_RUNNING else "same",
                f"{mean('differs'):.1%}",
                f"{mean('none_stable'):.1%}",
                f"{mean('score'):.3f}",
                f"{mean('cost'):.3f}",
                *(f"{mean('regret', alpha):.4f}" for alpha in ALPHAS[1:]),
            ]
        )
    headers = ["estimator", "regret", "worlds", "early", "differs", "none stable", "score", "cost"]
    return _table([*headers, *(f"regret, alpha {alpha:g}" for alpha in ALPHAS[1:])], rows)


def task_table(found: dict[str, Any]) -> str:
    lines = [line for line in found["followed"] if line["alpha"] == ALPHAS[0]]
    tasks = sorted(lines[0]["differs_by_task"])
    rows = []
    for name in OTHERS:
        shares = [line["differs_by_task"] for line in lines if line["rule"] == name]
        rows.append([name, *(f"{np.mean([share[task] for share in shares]):.1%}" for task in tasks)])
    return _table(["estimator", *tasks], rows)


def climb_table(found: dict[str, Any]) -> str:
    rows = []
    for line in found["climbed"]["rules"]:
        row = [line["rule"], f"{line['vertex']:.4f}"]
        for end in (line[start] for start in CLIMBS):
            clear = end["agrees_where_clear"]
            clear = "-" if clear is None else f"{clear:.0%}"
            row += [f"{end['regret']:.4f}", f"{end['agrees']:.0%}", clear, f"{end['top']:.2f}"]
        rows.append(row)
    kept = ["agrees", "where clear", "top"]
    return _table(["estimator", "closed form", "from indifference", *kept, "from the prior", *kept], rows)


def two_arm_table(found: dict[str, Any]) -> str:
    places = ("near A", "even", "near B")
    rows = [
        [line["rule"], *(f"{'A' if line[place] > 0 else 'B'} ({line[place]:+.4f})" for place in places)]
        for line in found["two_arms"]
    ]
    return _table(["estimator", *places], rows)


def tables(found: dict[str, Any]) -> str:
    hashes = ", ".join(f"world {each['world_seed']} `{each['data_hash']}`" for each in found["worlds"])
    check = found["climbed"]
    n_texts = check["rules"][0]["texts"]
    return f"""# Bias of the advantage estimators (simulated)

`{found["command"]}`, code {found["code"]}.
Embedded pool: {hashes}; 24 arms, all test texts, groups of {found["group_size"]}.
[docs/bias.md](../../docs/bias.md) says what is computed, and what that leaves out.

## Simulated: regret in utility of the arm that each estimator follows, alpha {ALPHAS[0]:g}

Means over worlds, tasks, texts; the range is that of the worlds. Regret: expected utility of the best arm for a text
less that of the arm followed. Early: with the running quantities of a policy as at the start of training, instead of
one near its end. Differs: texts where another arm is better. None stable: texts where every arm is invaded by another;
the one invaded least is then taken. Score and cost (in units of `cost_ref`) are those of the arms followed.

{regret_table(found)}

## Simulated: texts where another arm is better, by task, alpha {ALPHAS[0]:g}

{task_table(found)}

## Simulated: regret of where a tabular policy comes to, alpha {ALPHAS[0]:g}

An independent check. Softmax policies for {n_texts} texts of world {check["world_seed"]} follow each estimator for
{check["steps"]} steps, {check["draws"]} groups a text and step: from indifference with {CLIMBS["indifferent"]:.0%} of
the rollouts to any arm, and from `softmax({EARLY_SCALE:g} utility)` with {CLIMBS["prior"]:.0%}.
Their outcomes are those of {check["drawn"]} other pools (seeds from {check["first_seed"]}).
Regret of the likeliest arm, how often it is the one found in closed form, the same where exactly one arm is stable, and
its mean probability. What the estimators without bias leave is the error of the check.

{climb_table(found)}

## Simulated: two arms, alpha {ALPHAS[0]:g}

A is right with probability .75 at cost .55, B with .70 at .50: A is better by .04. The arm preferred, and the expected
advantage of A less that of B, for policies that take A with probability {1 - NEAR:g}, .5 and {NEAR:g}. Exact.

{two_arm_table(found)}
"""


def _table(headers: list[str], rows: list[list[Any]]) -> str:
    return tabulate(rows, headers, "pipe", disable_numparse=True, stralign="left")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("leaderboards/calibration-study"))
    out = parser.parse_args().out
    found = study()
    written = tables(found)
    out.mkdir(parents=True, exist_ok=True)
    (out / "bias.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (out / "bias.md").write_text(written, encoding="utf-8")
    print(written)


if __name__ == "__main__":
    main()
