"""The policy and the loop: what is drawn, what is learnt, what survives a kill."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recal_bench.calibration import ESTIMATORS, Batch, Component, Estimator
from recal_bench.calibration.components import Weighted
from recal_bench.calibration.registry import stateless
from recal_bench.calibration.rewards import REWARDS, Components, Terms
from recal_bench.errors import PluginError, SettingsError
from recal_bench.outcomes import Arm
from recal_bench.policies.actions import ActionDistribution, Actions
from recal_bench.policies.encoder_policy import EncoderPolicy
from recal_bench.policies.price import priced
from recal_bench.policies.prior import neighbour_means, prompt_numbers
from recal_bench.routers import Context
from recal_bench.training import checkpoint_step
from recal_bench.training.checkpoint import read_checkpoint, write_checkpoint
from recal_bench.training.examples import Examples, draw_rows, reach_of, shrunk
from recal_bench.training.learner import Learner
from recal_bench.training.loop import train
from recal_bench.training.selection import Selection, macro_error, macro_mean
from recal_bench.training.settings import Optimisation

ARMS = tuple(Arm(model, strategy) for model in ("large", "small") for strategy in ("cot", "direct"))


def bandit(rows: int = 240, seed: int = 0, has_cost: bool = True) -> Examples:
    """Four clusters of queries; in cluster c the arm c is right with .9, the others with .2. Costs differ a little."""
    rng = np.random.default_rng(seed)
    cluster_Q = np.arange(rows) % 4
    embedding_QE = np.eye(8)[cluster_Q] + 0.05 * rng.standard_normal((rows, 8))
    embedding_QE /= np.linalg.norm(embedding_QE, axis=1, keepdims=True)
    p_QA = np.where(np.arange(4) == cluster_Q[:, None], 0.9, 0.2)
    score_QA = (rng.random((rows, 4)) < p_QA).astype(float)
    cost_QA = np.tile([1.0, 0.9, 0.8, 0.7], (rows, 1)) + 0.1 * rng.random((rows, 4))
    available_QA = rng.random((rows, 4)) < 0.95
    available_QA[np.arange(rows), cluster_Q] = True

    def tensor(value: np.ndarray) -> torch.Tensor:
        return torch.tensor(np.where(available_QA, value, 0.0), dtype=torch.float32)

    return Examples(
        embedding_QE=torch.tensor(embedding_QE, dtype=torch.float32),
        prior_score_QA=torch.zeros(rows, 4),
        prior_cost_QA=torch.zeros(rows, 4),
        familiar_Q1=torch.ones(rows, 1),
        available_QA=torch.tensor(available_QA),
        score_QA=tensor(score_QA),
        cost_QA=tensor(cost_QA if has_cost else np.zeros_like(cost_QA)),
        column_QAC=torch.zeros(rows, 4, 0),
        dataset_Q=torch.tensor(cluster_Q % 2),
    )


def learner(
    seeds: Sequence[int] = (0,),
    estimator: str = "recal",
    has_cost: bool = True,
    kind: Any = "components",
    price: Any = "fixed",
    **changed: Any,
) -> Learner:
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    settings = Optimisation(**{"steps": 130, "batch_size": 32, "group_size": 8, "learning_rate": 1e-2, **changed})
    return Learner(
        policy=EncoderPolicy(ARMS, 8 + (price == "conditioned"), 16, 0.2, generators),
        generators=generators,
        reward=REWARDS[kind](Terms(0.05, has_cost)),
        estimator=ESTIMATORS[estimator],
        calibration=ESTIMATORS[estimator].settings(),
        settings=settings,
        price=price,
        tasks=("even", "odd"),
        cost_ref=0.002 if has_cost else None,
        best_single=0.3,
        train=bandit(has_cost=has_cost),
        validation=bandit(80, 1, has_cost),
    )


def fit_seeds(
    folder: Path,
    logs: Sequence[Callable[[dict[str, Any]], None]],
    seeds: Sequence[int],
    name: str = "same",
    **changed: Any,
) -> list[dict[str, torch.Tensor]]:
    contexts = [Context(seed, "cpu", folder / str(seed), log) for seed, log in zip(seeds, logs, strict=True)]

    def make(numbers: Sequence[int]) -> Learner:
        return learner([seeds[number] for number in numbers], **changed)

    return train(make, contexts, [f"{name} {seed}" for seed in seeds])


def fit(
    folder: Path, log: Callable[[dict[str, Any]], None] = lambda line: None, seed: int = 0, **changed: Any
) -> dict[str, torch.Tensor]:
    return fit_seeds(folder, [log], [seed], **changed)[0]


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


# Learning


@pytest.mark.parametrize("estimator", list(ESTIMATORS))
def test_the_right_arm_of_every_cluster_is_learnt(tmp_path: Path, estimator: str) -> None:
    kept, validation = fit(tmp_path, estimator=estimator, steps=150), bandit(80, 1)
    policy = learner().policy
    policy.load_state_dict(kept)
    everything = torch.ones_like(validation.available_QA)
    actions = policy(validation.embedding_QE, validation.prior_score_QA, everything, validation.familiar_Q1)
    assert torch.equal(actions.log_arm_QA[0].argmax(dim=1), torch.arange(80) % 4)
    assert torch.sigmoid(-actions.format_logit_Q).max() < 0.1


def test_router_r1_reward_and_several_epochs_learn_too(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = []
    fit(tmp_path, lines.append, kind="router-r1", epochs=3, entropy=0.001, kl=0.001)
    assert lines[-1]["validation_score"] > 0.8
    assert max(line["clip_fraction"] for line in lines[1:]) > 0
    assert "component_mean/router-r1" in lines[1]


def test_every_step_is_logged_in_full(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = []
    fit(tmp_path, lines.append)
    assert [line["step"] for line in lines] == list(range(131))
    kinds = ("component_mean", "component_std", "spread_share")
    always = {
        "reward", "entropy", "kl", "gradient_norm", "clip_fraction", "groups_without_spread", "top_arm_share",
        "cheapest_share", "malformed_share", "learning_rate",
        *(f"{kind}/{name}" for kind in kinds for name in ("format", "outcome", "cost")),
        *(f"{kind}/{task}" for kind in ("advantage_scale", "update_share", "batch_share") for task in ("even", "odd")),
    }  # fmt: skip
    evaluated = {
        "validation_utility", "validation_score", "validation_cost_usd_per_1k", "validation_top_arm_share",
        "validation_malformed_share", "validation_cheapest_share", "validation_best_single",
        "kept_step", "kept_gain", "kept_gain_error",
    }  # fmt: skip
    for line in lines:
        of_step = {"step"} | (always if line["step"] else set())
        assert set(line) == of_step | (evaluated if line["step"] % 25 == 0 or line["step"] == 130 else set())
        assert all(type(value) in (int, float) and np.isfinite(value) for value in line.values())
    for line in lines[1:]:
        for kind in ("update_share", "batch_share"):
            total = line[f"{kind}/even"] + line[f"{kind}/odd"]
            assert total == pytest.approx(1) or (total == 0 and line["groups_without_spread"] == 1)
    assert lines[1]["malformed_share"] > 0.1 > lines[-1]["malformed_share"]
    assert 1.4 < lines[-1]["validation_cost_usd_per_1k"] < 2.4


def test_without_cost_there_are_two_components(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = []
    fit(tmp_path, lines.append, has_cost=False)
    assert {key for key in lines[-1] if key.startswith("component_mean/")} == {
        "component_mean/format",
        "component_mean/outcome",
    }
    assert "validation_cost_usd_per_1k" not in lines[-1]


def test_a_seed_gives_one_result_and_another_seed_another(tmp_path: Path) -> None:
    assert equal(fit(tmp_path), fit(tmp_path))
    assert not equal(fit(tmp_path), fit(tmp_path, seed=1))


@pytest.mark.parametrize(
    "changed", [{}, {"estimator": "grpo", "epochs": 2}, {"kind": "router-r1"}, {"price": "conditioned"}]
)
def test_seeds_trained_together_come_out_as_alone(tmp_path: Path, changed: dict[str, Any]) -> None:
    logs: list[list[dict[str, Any]]] = [[], [], []]
    together = fit_seeds(tmp_path, [log.append for log in logs], [3, 0, 5], steps=60, **changed)
    for seed, kept, log in zip([3, 0, 5], together, logs, strict=True):
        alone: list[dict[str, Any]] = []
        expected = fit(tmp_path, alone.append, seed, steps=60, **changed)
        for name in expected:
            torch.testing.assert_close(kept[name], expected[name], rtol=0, atol=1e-5)
        assert [sorted(line) for line in log] == [sorted(line) for line in alone]
        np.testing.assert_allclose(
            [list(line.values()) for line in log[1:25]], [list(line.values()) for line in alone[1:25]], atol=1e-4
        )


def test_the_exact_gradient_needs_no_draws_of_actions(tmp_path: Path) -> None:
    """`expected` sees every action of a query: its update does not depend on the size of a group."""
    first = fit(tmp_path, estimator="expected", steps=5, group_size=2)
    assert equal(first, fit(tmp_path, estimator="expected", steps=5, group_size=16))
    assert not equal(fit(tmp_path, steps=5, group_size=2), fit(tmp_path, steps=5, group_size=16))


def test_a_conditioned_policy_spends_less_where_cost_weighs_more(tmp_path: Path) -> None:
    def dear(examples: Examples) -> Examples:
        return examples._replace(cost_QA=4 * examples.cost_QA)

    def make(numbers: Sequence[int]) -> Learner:
        made = learner(price="conditioned", steps=300, learning_rate=0.02)
        return dataclasses.replace(made, train=dear(made.train), validation=dear(made.validation))

    made = make([0])
    made.policy.load_state_dict(train(make, [Context(0, "cpu", tmp_path, lambda line: None)], [""])[0])
    seen, costs = made.validation, []
    for alpha in (0.01, 2.0):
        price = torch.tensor([alpha])
        inputs = priced(seen.embedding_QE, seen.prior_score_QA, seen.prior_cost_QA, price, "conditioned")
        arm_Q1 = made.policy(*inputs, seen.available_QA, seen.familiar_Q1).log_arm_QA[0].argmax(dim=-1, keepdim=True)
        costs.append(float(seen.cost_QA.gather(1, arm_Q1).mean()))
    assert costs[1] < costs[0] - 0.2


# Plug-ins


def entry(compute: Callable[[Batch, Any, Any], Any], start: Any = None) -> Estimator:
    return dataclasses.replace(ESTIMATORS["dr-grpo"], name="mine", compute=compute, start=start or stateless)


def test_a_state_of_any_form_survives_a_kill(tmp_path: Path) -> None:
    """A nest of dictionaries and tuples: its entries are of each seed, and come back from a checkpoint."""

    def start(like_K: torch.Tensor, like_D: torch.Tensor, settings: Any) -> Any:
        return {"seen": (like_D, [like_K[:1]])}

    def compute(batch: Batch, state: Any, settings: Any) -> Any:
        count_D, (mean_1,) = state["seen"]
        mean_1 = 0.9 * mean_1 + batch.total_QG.mean()
        return batch.total_QG - 0.1 * mean_1, {"seen": (count_D + 1, [mean_1])}

    def make(numbers: Sequence[int]) -> Learner:
        return dataclasses.replace(learner(numbers), estimator=entry(compute, start))

    def until_105(line: dict[str, Any]) -> None:
        if line["step"] == 105:
            raise KeyboardInterrupt

    def contexts(folder: str, log: Callable[[dict[str, Any]], None]) -> list[Context]:
        return [Context(seed, "cpu", tmp_path / folder / str(seed), log) for seed in (0, 1)]

    expected = train(make, contexts("undisturbed", lambda line: None), ["", ""])
    with pytest.raises(KeyboardInterrupt):
        train(make, contexts("cut", until_105), ["", ""])
    resumed = train(make, contexts("cut", lambda line: None), ["", ""])
    for kept, wanted in zip(resumed, expected, strict=True):
        assert equal(kept, wanted)
    assert not equal(*expected)


def test_an_estimator_that_breaks_its_contract_is_named() -> None:
    for compute in (
        lambda batch, state, settings: (batch.total_QG[:, :1], state),
        lambda batch, state, settings: (batch.total_QG * float("nan"), state),
    ):
        with pytest.raises(PluginError, match="estimator mine must give one finite advantage for each of 32 queries"):
            dataclasses.replace(learner(), estimator=entry(compute)).improve()
    with pytest.raises(PluginError, match="estimator mine: its state must be made of arrays"):
        dataclasses.replace(learner(), estimator=entry(lambda *_: None, lambda *_: (0,)))


@pytest.mark.parametrize("price", ["fixed", "conditioned"])
def test_steps_are_told_together_as_one_by_one(price: Any) -> None:
    together, single = learner((0, 1), price=price), learner((0, 1), price=price)
    for _ in range(5):
        together.improve()
    one_by_one = []
    for _ in range(5):
        single.improve()
        one_by_one += single.tell()
    told = together.tell()
    assert [[line["step"] for line in lines] for lines in told] == [[step, step] for step in range(1, 6)]
    for lines, expected in zip(told, one_by_one, strict=True):
        for line, other in zip(lines, expected, strict=True):
            assert line == pytest.approx(other, abs=1e-6)
    assert told[4][0] != told[4][1]


@pytest.mark.parametrize("seeds", [(0,), (0, 1)], ids=str)
def test_all_steps_are_logged_before_a_checkpoint(tmp_path: Path, seeds: tuple[int, ...]) -> None:
    """What a kill takes from the log lies after the checkpoint, and is trained again."""
    logged: list[int] = []

    def until_120(line: dict[str, Any]) -> None:
        logged.append(line["step"])
        if line["step"] == 120 and logged.count(120) == 1:
            raise KeyboardInterrupt

    contexts = [Context(seed, "cpu", tmp_path / str(seed), until_120) for seed in seeds[:1]]
    contexts += [Context(seed, "cpu", tmp_path / str(seed), lambda line: None) for seed in seeds[1:]]
    with pytest.raises(KeyboardInterrupt):
        train(lambda numbers: learner(seeds), contexts, [""] * len(seeds))
    assert logged == list(range(121))
    train(lambda numbers: learner(seeds), contexts, [""] * len(seeds))
    assert logged == [*range(121), *range(101, 131)]


@pytest.mark.parametrize("changed", [{"entropy": 1e39}, {"kl": 1e39}], ids=str)
def test_a_training_that_diverges_is_one_error(changed: dict[str, float]) -> None:
    diverging = learner()
    diverging = dataclasses.replace(diverging, settings=dataclasses.replace(diverging.settings, **changed))
    with pytest.raises(SettingsError, match="not finite at step 0 of the training: give a smaller learning_rate"):
        diverging.improve()


@pytest.mark.parametrize("price", ["fixed", "conditioned"])
def test_a_component_is_learnt_from_where_it_is_known(price: Any) -> None:
    """Arm 3 takes long and arm 0's time is never known: the one is shunned, the other's draws count for nothing."""

    def added(weight: float) -> Learner:
        late = Component("late", lambda drawn: -drawn.column_QG["latency_s"], ("latency_s",), 1.0)
        made = learner(price=price, steps=80)
        column_QAC = torch.tensor([torch.nan, 0.0, 0.0, 1.0])[:, None].expand(240, 4, 1)
        terms = Terms(0.05, True, added=(Weighted(late, weight),))
        return dataclasses.replace(made, reward=Components(terms), train=made.train._replace(column_QAC=column_QAC))

    shares = []
    for weight in (0.0, 5.0):
        made = added(weight)
        for _ in range(80):
            made.improve()
        lines = [of_seeds[0] for of_seeds in made.tell()]
        assert all(np.isfinite(value) for line in lines for value in line.values())
        shares.append(-lines[-1]["component_mean/late"])
    assert shares[0] > 0.15
    assert shares[1] < 0.05


# Resuming


def test_an_interrupted_fit_goes_on_to_exactly_the_same_result(tmp_path: Path) -> None:
    undisturbed: list[dict[str, Any]] = []
    expected = fit(tmp_path / "undisturbed", undisturbed.append)

    logged: list[dict[str, Any]] = []

    def log_until_125(line: dict[str, Any]) -> None:
        if line["step"] == 125:
            raise KeyboardInterrupt
        logged.append(line)

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", log_until_125)
    assert checkpoint_step(tmp_path / "cut" / "0") == 100
    del logged[101:]
    assert equal(fit(tmp_path / "cut", logged.append), expected)
    assert logged == undisturbed
    assert checkpoint_step(tmp_path / "cut" / "0") == 0


def test_seeds_stopped_together_go_on_together(tmp_path: Path) -> None:
    nothing = [lambda line: None] * 3
    expected = fit_seeds(tmp_path / "undisturbed", nothing, [0, 1, 2])

    def stop_at_105(line: dict[str, Any]) -> None:
        if line["step"] == 105:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_seeds(tmp_path / "cut", [stop_at_105] * 3, [0, 1, 2])
    steps: list[int] = []
    resumed = fit_seeds(tmp_path / "cut", [lambda line: steps.append(line["step"]), *nothing[1:]], [0, 1, 2])
    assert steps == list(range(101, 131))
    for kept, wanted in zip(resumed, expected, strict=True):
        assert equal(kept, wanted)


def test_seeds_stopped_at_different_steps_go_on_to_the_same_results(tmp_path: Path) -> None:
    expected = fit_seeds(tmp_path / "undisturbed", [lambda line: None] * 2, [0, 1])

    def stop_at_105(line: dict[str, Any]) -> None:
        if line["step"] == 105:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_seeds(tmp_path / "cut", [stop_at_105], [1])
    steps: list[list[int]] = [[], []]
    logs = [lambda line, into=into: into.append(line["step"]) for into in steps]
    resumed = fit_seeds(tmp_path / "cut", logs, [0, 1])
    assert [len(each) for each in steps] == [131, 30]
    for kept, wanted in zip(resumed, expected, strict=True):
        assert equal(kept, wanted)


def fit_and_die(folder: Path) -> None:
    """Be killed at step 110, the hard way."""
    fit(folder, lambda line: os.kill(os.getpid(), signal.SIGKILL) if line["step"] == 110 else None)


def test_a_killed_fit_goes_on_to_exactly_the_same_result(tmp_path: Path) -> None:
    code = "import sys, pathlib; sys.path.insert(0, sys.argv[1]); import test_training as t; "
    code += "t.fit_and_die(pathlib.Path(sys.argv[2]))"
    here = str(Path(__file__).parent)
    killed = subprocess.run([sys.executable, "-c", code, here, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert checkpoint_step(tmp_path / "0") == 100
    steps: list[int] = []
    assert equal(fit(tmp_path, lambda line: steps.append(line["step"])), fit(tmp_path / "undisturbed"))
    assert steps == list(range(101, 131))


def test_a_checkpoint_of_another_configuration_or_a_damaged_one_is_not_used(tmp_path: Path) -> None:
    steps: list[int] = []
    folder = tmp_path / "0"
    write_checkpoint(folder, {"configuration": "another", "step": 77, "learner": {}})
    assert checkpoint_step(folder) == 77
    fit(tmp_path, lambda line: steps.append(line["step"]), steps=3)
    (folder / "checkpoint.pt").write_bytes(b"PK\x03\x04 torn")
    assert checkpoint_step(folder) == 0
    assert read_checkpoint(folder) is None
    fit(tmp_path, lambda line: steps.append(line["step"]), steps=3)
    assert steps == [0, 1, 2, 3, 0, 1, 2, 3]
    assert not list(folder.iterdir())


# Selection


def test_the_latest_policy_within_an_error_of_the_best_is_kept() -> None:
    dataset_Q = torch.arange(100) % 2
    selection = Selection()

    def consider(n_right: int, name: float, first: int = 0) -> float | None:
        utility_Q = ((torch.arange(100) - first) % 100 < n_right).float()
        parameters = {"p": torch.tensor(name)}
        assert selection.consider(utility_Q, dataset_Q, parameters, int(name)) == pytest.approx(n_right / 100)
        assert selection.kept_step == float(selection.kept["p"])
        return float(selection.kept["p"]) if selection.kept else None

    assert consider(50, 1.0) == 1.0
    assert consider(80, 2.0) == 2.0
    assert consider(40, 3.0) == 2.0
    assert consider(78, 4.0, first=10) == 4.0
    assert consider(10, 5.0) == 4.0
    assert selection.best == pytest.approx(0.8)
    assert selection.gain == pytest.approx(0.78 - 0.5)
    assert 0 < selection.error < 0.1


def test_macro_mean_and_its_error_by_hand() -> None:
    value_Q, dataset_Q = torch.tensor([1.0, 0.0, 1.0, 1.0]), torch.tensor([0, 0, 2, 2])
    assert macro_mean(value_Q, dataset_Q) == pytest.approx(0.75)
    assert macro_error(value_Q, dataset_Q) == pytest.approx(np.sqrt(0.25 / 2) / 2)


# The policy


@given(st.integers(0, 2**31 - 1), st.integers(1, 6))
def test_an_arm_that_is_not_available_is_never_drawn(seed: int, n_arms: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    available_QA = torch.rand((20, n_arms), generator=generator) < 0.4
    available_QA[torch.arange(20), torch.randint(n_arms, (20,), generator=generator)] = True
    logit_QA = 30 * torch.randn((20, n_arms), generator=generator)
    actions = ActionDistribution.of(torch.zeros(1, 20), logit_QA[None], available_QA).sample(64, [generator])
    assert available_QA.gather(1, actions.arm_QG[0]).all()


def test_draws_follow_the_probabilities() -> None:
    p_A = torch.tensor([0.1, 0.2, 0.0, 0.7])
    available_QA = (p_A > 0)[None]
    distribution = ActionDistribution.of(
        torch.logit(torch.tensor([[0.8]])), p_A.clamp(min=1e-3).log()[None, None], available_QA
    )
    actions = distribution.sample(200_000, [torch.Generator().manual_seed(0)])
    np.testing.assert_allclose(actions.well_formed_QG.float().mean(), 0.8, atol=0.01)
    np.testing.assert_allclose(torch.bincount(actions.arm_QG[0, 0], minlength=4) / 200_000, p_A, atol=0.01)


def test_log_probability_entropy_and_divergence_are_those_of_the_whole_action() -> None:
    generator = torch.Generator().manual_seed(3)
    everything = torch.tensor([[True, True, False]])
    first, second = (
        ActionDistribution.of(torch.randn(1, generator=generator), torch.randn((1, 3), generator=generator), everything)
        for _ in range(2)
    )
    # The actions there are: malformed, or well-formed with arm 0 or 1.
    actions = Actions(torch.tensor([[False, True, True]]), torch.tensor([[0, 0, 1]]), torch.full((1, 3), 1 / 3))
    p, q = first.log_prob(actions).exp(), second.log_prob(actions).exp()
    np.testing.assert_allclose(p.sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(first.entropy(), -(p * p.log()).sum(dim=1), rtol=1e-5)
    np.testing.assert_allclose(first.kl(second), (p * (p / q).log()).sum(dim=1), rtol=1e-4)
    np.testing.assert_allclose(first.kl(first), 0, atol=1e-6)
    enumerated = first.everything()
    np.testing.assert_allclose(enumerated.share_QG.sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(enumerated.share_QG, first.log_prob(enumerated).exp(), atol=1e-6)


def test_what_was_learnt_counts_as_far_as_a_query_is_familiar(tmp_path: Path) -> None:
    kept, validation = fit(tmp_path), bandit(80, 1)
    policy = learner().policy
    policy.load_state_dict(kept)
    prior_QA, everything = torch.tensor([3.0, 2.0, 1.0, 0.0]).expand(80, 4), torch.ones(80, 4, dtype=torch.bool)

    def log_arms(familiar: float) -> torch.Tensor:
        actions = policy(validation.embedding_QE, prior_QA, everything, torch.full((80, 1), familiar))
        return actions.log_arm_QA[0].detach()

    np.testing.assert_allclose(log_arms(0.0), torch.log_softmax(prior_QA, dim=1), rtol=1e-5)
    halfway_QA = (log_arms(0.0) + log_arms(1.0)) / 2
    np.testing.assert_allclose(log_arms(0.5), torch.log_softmax(halfway_QA, dim=1), atol=1e-5)
    assert (log_arms(1.0).argmax(dim=1) == torch.arange(80) % 4).float().mean() > 0.9


def test_the_untrained_policy_is_the_prior() -> None:
    policy = EncoderPolicy(ARMS, 8, 16, 0.2, [torch.Generator().manual_seed(0)])
    embedding_QE, prior_QA = torch.eye(8)[:3], torch.arange(12.0).reshape(3, 4)
    everything = torch.ones(3, 4, dtype=torch.bool)
    actions = policy(embedding_QE, prior_QA, everything, torch.ones(3, 1))
    untrained = policy.untrained(prior_QA, everything)
    np.testing.assert_allclose(actions.log_arm_QA[0].detach(), torch.log_softmax(prior_QA, dim=1), rtol=1e-5)
    np.testing.assert_allclose(torch.sigmoid(-actions.format_logit_Q.detach()), 0.2, rtol=1e-5)
    np.testing.assert_allclose(actions.kl(untrained).detach(), 0, atol=1e-5)


def test_the_global_generator_is_left_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    fit(tmp_path, steps=2)
    assert torch.equal(before, torch.get_rng_state())


# The prior


@pytest.mark.parametrize("apart", [False, True])
def test_a_large_memory_gives_the_same_neighbour_means(apart: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    memory_NE = torch.nn.functional.normalize(torch.randn(40, 8, generator=generator), dim=1)
    value_NA = torch.rand(40, 3, generator=generator)
    value_NA[3, 1] = float("nan")
    numbers = torch.arange(40) // 2 if apart else None
    whole_QA = neighbour_means(memory_NE, memory_NE, value_NA, 5, numbers)
    monkeypatch.setattr("recal_bench.policies.prior.WHOLE", 10)
    torch.testing.assert_close(neighbour_means(memory_NE, memory_NE, value_NA, 5, numbers), whole_QA)


def test_neighbour_means_by_hand() -> None:
    memory_NE = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]]), dim=1)
    value_NA = torch.tensor([[1.0, 0.0], [1.0, torch.nan], [0.0, 1.0], [0.0, torch.nan]])
    means_QA = neighbour_means(memory_NE[:1], memory_NE, value_NA, k=2)
    second = 0.81 / 0.82  # the squared similarity of the second row; the mean over the memory is .5 for both arms
    np.testing.assert_allclose(means_QA, [[(1 + second + 0.5) / (1 + second + 1), (0 + 0.5) / 2]], rtol=1e-6)


def test_a_prompt_does_not_see_itself_nor_its_copies() -> None:
    prompts = ["a", "b", "a", "c"]
    numbers = prompt_numbers(prompts)
    assert numbers.tolist() == [0, 1, 0, 2]
    embedding_QE = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [0.8, 0.2], [1.0, 0.0], [0.0, 1.0]]), dim=1)
    value_NA = torch.tensor([[1.0], [0.0], [1.0], [0.0]])
    means_QA = neighbour_means(embedding_QE, embedding_QE, value_NA, k=3, prompt_Q=numbers)
    np.testing.assert_allclose(means_QA[0], (0 + 0.5) / (1 + 1), rtol=1e-6)
    far = 0.04 / 0.64  # the last row's squared similarity, relative to that of the first and the third
    np.testing.assert_allclose(means_QA[1], (1 + 1 + far * 0 + 0.5) / (1 + 1 + far + 1), rtol=1e-6)
    nothing_alike = neighbour_means(embedding_QE[3:], embedding_QE[:1], value_NA[:1], k=3)
    np.testing.assert_allclose(nothing_alike, value_NA[:1])


def test_queries_are_drawn_from_every_task_alike_or_as_they_come() -> None:
    dataset_Q = torch.tensor([0] * 90 + [1] * 9 + [2])
    for balance, expected in ((True, [1 / 3] * 3), (False, [0.9, 0.09, 0.01])):
        rows = draw_rows(reach_of(dataset_Q, balance), 30_000, torch.Generator().manual_seed(0))
        share_D = torch.bincount(dataset_Q[rows], minlength=3) / 30_000
        np.testing.assert_allclose(share_D, expected, atol=0.01)
        assert torch.bincount(rows, minlength=100).min() > 0


def test_outcomes_are_drawn_towards_what_is_expected_without_them() -> None:
    examples = bandit()
    expected_QX = torch.full((len(examples.dataset_Q), 8), 0.5)
    half = shrunk(examples, expected_QX, 0.5)
    for before_QA, after_QA in ((examples.score_QA, half.score_QA), (examples.cost_QA, half.cost_QA)):
        known_QA = examples.available_QA
        torch.testing.assert_close(after_QA[known_QA], 0.5 * before_QA[known_QA] + 0.25)
        assert not after_QA[~known_QA].any()
    torch.testing.assert_close(shrunk(examples, expected_QX, 1.0).score_QA, examples.score_QA)
