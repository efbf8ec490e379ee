"""Advantages group by group: those of a batch of one, with a state that goes on."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recal_bench.calibration import ESTIMATORS, Batch, dr_grpo
from recal_bench.errors import SettingsError
from recal_bench.integrations.groups import WHOLE_BATCH, GroupAdvantages, prime_rl_advantage

WEIGHTS = {"format": 1.0, "outcome": 1.0, "cost": 0.2}
DATASETS = ("nq", "hotpotqa")
REWARDS = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0]), st.floats(0, 1, width=32), st.floats(-1, 0, width=32)),
    min_size=2,
    max_size=8,
)


def rollouts(rows: list[tuple[float, float, float]]) -> list[dict[str, float | None]]:
    return [dict(zip(WEIGHTS, row, strict=True)) for row in rows]


@given(REWARDS)
def test_dr_grpo_is_the_reward_less_its_mean(rows: list[tuple[float, float, float]]) -> None:
    found = GroupAdvantages("dr-grpo", WEIGHTS, "outcome", DATASETS)(rollouts(rows), "nq")
    total_QG = (torch.tensor([rows]) * torch.tensor([*WEIGHTS.values()])).sum(dim=-1)
    torch.testing.assert_close(torch.tensor([found]), dr_grpo(total_QG, torch.ones_like(total_QG, dtype=torch.bool)))


@given(st.lists(REWARDS, min_size=1, max_size=4))
def test_recal_goes_on_from_group_to_group(groups: list[list[tuple[float, float, float]]]) -> None:
    entry, advantages = ESTIMATORS["recal"], GroupAdvantages("recal", WEIGHTS, "outcome", DATASETS)
    settings = entry.settings()
    state = entry.start(torch.zeros(3), torch.zeros(2), settings)
    for number, rows in enumerate(groups):
        reward_QGK = torch.tensor([rows])
        batch = Batch(
            reward_QGK, torch.tensor([*WEIGHTS.values()]), torch.tensor([False, True, False]), reward_QGK[..., 1],
            torch.full(reward_QGK.shape[:2], 1 / len(rows)), torch.tensor([number % 2]),
            torch.ones(reward_QGK.shape[:2], dtype=torch.bool),
        )  # fmt: skip
        expected_QG, state = entry.compute(batch, state, settings)
        assert advantages(rollouts(rows), DATASETS[number % 2]) == expected_QG[0].tolist()


@pytest.mark.parametrize("name", [*WHOLE_BATCH, "expected"])
def test_estimators_that_need_more_than_a_group_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=f"estimator {name} needs more than one group"):
        GroupAdvantages(name, WEIGHTS, "outcome", DATASETS)


def test_every_other_estimator_takes_a_group_alone() -> None:
    """None of them would say something else of a group that stands in a batch: their first step, from no state."""
    rows = [(1.0, 1.0, -0.1), (1.0, 0.0, -0.4), (0.0, 0.0, 0.0)]
    for name in ESTIMATORS:
        if name not in (*WHOLE_BATCH, "expected"):
            assert len(GroupAdvantages(name, WEIGHTS, "outcome", DATASETS)(rollouts(rows), "nq")) == 3


def test_what_is_not_there_is_named() -> None:
    advantages = GroupAdvantages("grpo", WEIGHTS, "outcome", DATASETS)
    with pytest.raises(SettingsError, match="dataset popqa is not among nq, hotpotqa"):
        advantages(rollouts([(1.0, 1.0, 0.0)]), "popqa")
    with pytest.raises(SettingsError, match="a rollout has no component cost"):
        advantages([{"format": 1.0, "outcome": 0.0}], "nq")
    with pytest.raises(SettingsError, match="outcome=score is not among the components"):
        GroupAdvantages("grpo", WEIGHTS, "score", DATASETS)
    with pytest.raises(SettingsError, match="unexpected keyword argument 'flor'"):
        GroupAdvantages("recal", WEIGHTS, "outcome", DATASETS, {"flor": 0.0})


def test_prime_rl_gets_its_own_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class AdvantageOutputs:
        advantages: list[float]

    module: Any = ModuleType("prime_rl.orchestrator.advantage")
    module.AdvantageOutputs = AdvantageOutputs
    for name in ("prime_rl", "prime_rl.orchestrator"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "prime_rl.orchestrator.advantage", module)
    group = [{"metrics": each, "task": "nq"} for each in rollouts([(1.0, 1.0, -0.1), (1.0, 0.0, -0.4)])]
    answer = prime_rl_advantage(SimpleNamespace(rollouts=group), "dr-grpo", WEIGHTS, "outcome", DATASETS)
    assert answer.advantages == pytest.approx([0.53, -0.53])
