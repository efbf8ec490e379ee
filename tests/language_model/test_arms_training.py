"""Training on the probabilities of the arms: the exact gradient, and what a run leaves behind."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("trl", reason="trl is not installed: it comes with the extra lm")

import pandas as pd
import torch
from small_log import small_log
from small_policy import QUESTIONS, outcomes, policy

from recal_bench import routers
from recal_bench.calibration import ESTIMATORS
from recal_bench.calibration.rewards import Components, Terms
from recal_bench.errors import SettingsError
from recal_bench.experiments.bench import load_outcomes, queries_of
from recal_bench.language_model.arms_training import ArmJudge, ArmRun, ArmTrainer
from recal_bench.language_model.rollouts import TrainingRollouts
from recal_bench.language_model.scoring import distribution_of, log_probs, named_tree
from recal_bench.language_model.trainer import ROW, Advantages
from recal_bench.language_model.training import Steps
from recal_bench.outcomes import Objective, mean_over_observed
from recal_bench.routers import Calls, Context, Train

ALPHA = 0.2
routers.discover()


def run_of(estimator: str, folder: Path, lines: list[dict[str, Any]] | None = None, **steps: Any) -> ArmRun:
    """A run on `QUESTIONS`, which are train and validation alike."""
    dialogue, pool, entry = policy(), outcomes(), ESTIMATORS[estimator]
    reward, prompts = Components(Terms(ALPHA, True)), [dialogue.prompt_ids(each) for each in QUESTIONS]
    every = {"balance": True, "evaluate_every": 2, "checkpoint_every": 2, "trl": {}}
    size = {"steps": 4, "batch_size": 4, "group_size": 3, "micro_batch": 64, "epochs": 1, "learning_rate": 1e-3}
    chosen = {**every, **size, "clip": 0.2, "clip_high": 0.2, "kl": 0.0, "entropy": 0.0, **steps}
    settings, dataset_Q = entry.settings(), torch.tensor(pool.dataset_Q)
    return ArmRun(
        dialogue=dialogue,
        rollouts=TrainingRollouts(dialogue, pool, reward, prompts, 0.0, False, torch.zeros(0)),
        advantages=Advantages(entry, settings, reward.weights, reward.outcome, dataset_Q, every_action=True),
        reward=reward,
        judge=ArmJudge(dialogue, pool, QUESTIONS, ALPHA, 0.0, 0.5, 1e-3, torch.arange(4)),
        tasks=("a", "b"),
        steps=Steps(**chosen),
        seed=0,
        device="cpu",
        folder=folder,
        configuration="c",
        log=([] if lines is None else lines).append,
    )


def trainer_of(run: ArmRun) -> ArmTrainer:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run._trainer()


def test_the_gradient_of_expected_is_that_of_the_expected_reward(tmp_path: Path) -> None:
    run = run_of("expected", tmp_path)
    trainer, model, rows = trainer_of(run), run.dialogue.local.model, list(range(len(QUESTIONS)))
    trainer.compute_loss(model, {ROW: torch.tensor(rows)}).backward()
    given = [parameter.grad.clone() for parameter in model.parameters()]

    model.zero_grad()
    tree, pool = named_tree(run.dialogue), run.pool
    score_QA = log_probs(model, run.rollouts.prompt_ids_Q, [tree] * len(rows), 0)
    prob_QA = score_QA.masked_fill(~torch.tensor(pool.available_QA), -torch.inf).softmax(dim=-1)
    utility_QA = torch.tensor(1 + pool.score_QA - ALPHA * pool.cost_QA)
    (-(prob_QA * utility_QA).sum(dim=-1).mean()).backward()
    expected = [parameter.grad for parameter in model.parameters()]
    largest = max(float(each.abs().max()) for each in expected)
    assert largest > 1e-3
    for ours, theirs in zip(given, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5 * max(largest, 1), rtol=1e-3)


def test_micro_batches_change_nothing(tmp_path: Path) -> None:
    gradients = []
    for micro_batch in (64, 3):
        run = run_of("expected", tmp_path, micro_batch=micro_batch)
        trainer_of(run).compute_loss(run.dialogue.local.model, {ROW: torch.arange(8)}).backward()
        gradients.append(torch.cat([each.grad.flatten() for each in run.dialogue.local.model.parameters()]))
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-3)


def test_the_gradient_of_draws_is_right_on_average(tmp_path: Path) -> None:
    """Dr. GRPO's is (G - 1) / G of the expected reward's."""
    exact, drawn = run_of("expected", tmp_path), run_of("dr-grpo", tmp_path, group_size=4000)
    rows = {ROW: torch.tensor([1, 2, 3])}
    gradients = []
    for run in (exact, drawn):
        trainer_of(run).compute_loss(run.dialogue.local.model, rows).backward()
        gradients.append(torch.cat([each.grad.flatten() for each in run.dialogue.local.model.parameters()]))
    cosine = torch.nn.functional.cosine_similarity(*gradients, dim=0)
    assert cosine > 0.98
    assert gradients[1].norm() == pytest.approx(float(gradients[0].norm()), rel=0.15)


def test_rollouts_serve_their_epochs_and_are_clipped(tmp_path: Path) -> None:
    run = run_of("grpo", tmp_path, epochs=2)
    trainer, rows = trainer_of(run), {ROW: torch.tensor([1, 2])}
    trainer.compute_loss(run.dialogue.local.model, rows)
    first = trainer.drawn
    trainer.state.global_step = 1
    with torch.no_grad():
        for parameter in run.dialogue.local.model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    trainer.compute_loss(run.dialogue.local.model, rows)
    assert trainer.drawn is first
    assert trainer.told["clip_fraction"] > 0
    trainer.state.global_step = 2
    trainer.compute_loss(run.dialogue.local.model, rows)
    assert trainer.drawn is not first
    assert run._rows()[:4] == run._rows()[4:8]


def test_kl_is_to_the_policy_before_training_and_entropy_counts(tmp_path: Path) -> None:
    run = run_of("expected", tmp_path, kl=0.5, entropy=0.1)
    trainer, rows, model = trainer_of(run), {ROW: torch.tensor([1, 2])}, run.dialogue.local.model
    loss = trainer.compute_loss(model, rows)
    assert trainer.told["kl"] == pytest.approx(0, abs=1e-6)
    score_QA = log_probs(model, run.rollouts.prompt_ids_Q[1:3], [trainer.tree] * 2, 0)
    entropy = distribution_of(score_QA, torch.ones(2, 4, dtype=torch.bool)).entropy().mean()
    # Advantages of `expected` add up to 0 where the ratio is 1.
    assert float(loss.detach()) == pytest.approx(-0.1 * float(entropy.detach()), abs=1e-6)
    with torch.no_grad():
        model.lm_head.weight.mul_(3)
    trainer.compute_loss(model, rows)
    assert trainer.told["kl"] > 0


@pytest.mark.filterwarnings("ignore")
def test_a_run_that_is_killed_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole, halted = [], []  # type: ignore[var-annotated]
    run_of("recal", tmp_path / "whole", whole).fit()

    class KilledError(Exception):
        pass

    first = run_of("recal", tmp_path / "halted", halted)
    tell = first.tell

    def until_three(step: int, logs: Any) -> None:
        if step == 3:
            raise KilledError
        tell(step, logs)

    first.tell = until_three  # type: ignore[method-assign]
    with pytest.raises(KilledError):
        first.fit()
    run_of("recal", tmp_path / "halted", halted).fit()
    assert [line["step"] for line in whole] == [0, 1, 2, 3, 4]
    assert [line["step"] for line in halted] == [0, 1, 2, 3, 4]
    for one, other in zip(whole, halted, strict=True):
        assert one == pytest.approx(other)
    assert {"reward", "entropy", "gradient_norm", "clip_fraction", "learning_rate", "malformed_share"} <= set(whole[1])
    assert {"validation_utility", "validation_sampled_utility", "kept_step"} <= set(whole[2])
    assert whole[4]["malformed_share"] == whole[4]["validation_sampled_malformed_share"] == 0


def splits(tmp_path: Path, log: pd.DataFrame) -> tuple[Any, Any]:
    log.to_parquet(tmp_path / "log.parquet", index=False)
    loaded = load_outcomes(tmp_path / "log.parquet")
    train = loaded.of_split("train")
    return loaded, Objective.from_train(train.score_QA, train.cost_QA, ALPHA)


QUICK = {"warm_start": "none", "trust": 1.0, "steps": 2, "batch_size": 4, "group_size": 4, "evaluate_every": 2}


@pytest.mark.filterwarnings("ignore")
def test_a_router_of_either_mode_loads_what_the_other_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECAL_BENCH_CACHE", str(tmp_path / "cache"))
    loaded, objective = splits(tmp_path, small_log(40))
    parts = [Train(queries_of(each), each, objective) for each in map(loaded.of_split, ("train", "validation"))]
    lines: list[dict[str, Any]] = []
    made = routers.create("recal-lm-arms", {**QUICK, "token_price": 2.0})
    made.fit(*parts, Context(0, "cpu", tmp_path, lines.append))
    assert [line["step"] for line in lines] == [0, 1, 2]
    (tmp_path / "router").mkdir()
    made.save(tmp_path / "router")
    test = loaded.of_split("test")
    chosen = {}
    for name in ("recal-lm-arms", "recal-lm"):
        again = routers.create(name, {**QUICK, "token_price": 2.0})
        again.load(tmp_path / "router")
        calls = Calls(test.arms, objective, test.observed_QA, mean_over_observed(test.cost_QA))
        chosen[name] = again.route(queries_of(test), calls).arm_Q
        assert (calls.router_cost_Q > 0).all()
        if name == "recal-lm-arms":
            read = len(named_tree(again._dialogue).inner_I)
            tokens = [len(again._dialogue.prompt_ids(each)) + read for each in test.prompt_Q]
            np.testing.assert_allclose(calls.router_cost_Q, np.array(tokens) * 2e-6)
    calls = Calls(test.arms, objective, test.observed_QA, mean_over_observed(test.cost_QA))
    np.testing.assert_array_equal(made.route(queries_of(test), calls).arm_Q, chosen["recal-lm-arms"])
    assert json.loads((tmp_path / "router" / "router.json").read_text())["arms"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"estimator": "expected"}, "estimator=expected needs the probability of every arm"),
        ({"decode": "arms", "rounds": 2}, "rounds=2 needs decode=text"),
        ({"learned": "clip"}, "learned=clip rewards the rounds of a reply: it needs rounds above 1"),
        ({"learned": "delta", "rounds": 2, "reward": "router-r1"}, "reward=router-r1 takes none"),
        ({"td": 1}, "td=1 smooths the learned scores"),
        ({"form": "router-r1", "graded_format": True}, "graded_format grades the project's own rules"),
    ],
)
def test_settings_that_do_not_go_together_are_named_in_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        routers.create("recal-lm", settings)
    assert "\n" not in str(caught.value)


def test_arguments_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"transformers refuses its settings: .*use_vllm"):
        run_of("grpo", tmp_path, trl={"use_vllm": True})._trainer()
    with pytest.raises(SettingsError, match="takes a step for each batch"):
        run_of("grpo", tmp_path, trl={"gradient_accumulation_steps": 2})._trainer()
