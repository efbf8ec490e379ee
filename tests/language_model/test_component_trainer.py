"""Our trainer against TRL's own on the same rollouts and rewards, and what of TRL it counts on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("trl", minversion="1.16", reason="TRL is not installed: it comes with the extra lm")

import preset_training as preset
import torch
from trl import GRPOTrainer

from recal_bench.calibration import ESTIMATORS
from recal_bench.errors import SettingsError
from recal_bench.language_model.trainer import OVERRIDDEN, Advantages, require_known_trainer

# TRL, transformers and torch warn of each other's deprecations.
pytestmark = pytest.mark.filterwarnings("ignore")

WEIGHT_K = (1.0, 0.5, 0.25)
AS_TRL = {"ddof": 1, "eps": 1e-4}
GROUP, NONE = {"scale_rewards": "group"}, {"scale_rewards": "none"}
BY_COMPONENT = {"multi_objective_aggregation": "normalize_then_sum"}


def with_whole_gaps(reward_SQGK: NDArray[np.float32]) -> NDArray[np.float32]:
    """NaN, all components, of a rollout and of a group."""
    reward_SQGK[:, 2, 1] = np.nan
    reward_SQGK[1, 3] = np.nan
    return reward_SQGK


def with_gaps(reward_SQGK: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same, and of single components."""
    reward_SQGK = with_whole_gaps(reward_SQGK)
    reward_SQGK[:, 0, 1, 0] = np.nan
    reward_SQGK[-1, 2, 3, 1:] = np.nan
    return reward_SQGK


@pytest.mark.parametrize(
    ("estimator", "settings", "theirs", "gaps"),
    [
        ("dr-grpo", {}, NONE, with_whole_gaps),
        ("grpo", AS_TRL, GROUP, with_whole_gaps),
        ("gdpo", AS_TRL, BY_COMPONENT, with_gaps),
    ],
)
def test_loss_and_gradients_are_those_of_trl(
    estimator: str, settings: dict[str, Any], theirs: dict[str, Any], gaps: Any, tmp_path: Path
) -> None:
    reward_SQGK = gaps(preset.preset_rewards(3, 4, 6))
    stock = preset.train(GRPOTrainer, reward_SQGK, WEIGHT_K, tmp_path, config=theirs)
    ours = preset.train_ours(estimator, settings, reward_SQGK, WEIGHT_K, tmp_path, config={"scale_rewards": "none"})
    assert len(ours.steps) == len(stock.steps) == 3
    for mine, other in zip(ours.steps, stock.steps, strict=True):
        assert mine.loss == pytest.approx(other.loss, abs=1e-5)
        assert mine.gradient.keys() == other.gradient.keys()
        assert any(value.abs().max() > 1e-3 for value in mine.gradient.values())
        for name, gradient in mine.gradient.items():
            torch.testing.assert_close(gradient, other.gradient[name], atol=1e-5, rtol=1e-5)
    for name, value in ours.parameters.items():
        torch.testing.assert_close(value, stock.parameters[name], atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(ours.advantages, stock.advantages, atol=1e-5)
    # What is logged differs in nothing else, though TRL takes nearly for wholly without spread.
    for line, other_line in zip(ours.logs, stock.logs, strict=True):
        same = line.keys() - {"frac_reward_zero_std"}
        assert {name: line[name] for name in same} == pytest.approx(
            {name: other_line[name] for name in same}, abs=1e-5, nan_ok=True
        )


def test_what_is_logged_of_advantages_is_ours_and_an_evaluation_leaves_the_state_alone(tmp_path: Path) -> None:
    reward_SQGK = with_gaps(preset.preset_rewards(2, 4, 6))
    done = preset.train_ours("recal", {}, reward_SQGK, WEIGHT_K, tmp_path)
    entry = ESTIMATORS["recal"]
    again = Advantages(entry, entry.settings(), WEIGHT_K, 1, torch.arange(4) % 2)
    row_N = torch.arange(4).repeat_interleave(6)
    for step, reward_QGK in enumerate(reward_SQGK):
        expected_N = again(torch.tensor(reward_QGK).view(-1, 3), row_N, 6, remember=True)
        assert done.advantages[step] == expected_N.tolist()
        flat = (expected_N.view(4, 6) == 0).all(dim=1).float().mean().item()
        assert done.logs[step]["frac_reward_zero_std"] == flat
    assert 0 < flat < 1
    state = done.trainer.advantages.pack()
    assert all(torch.equal(one, two) for one, two in zip(state, again.pack(), strict=True))
    done.trainer.evaluate()
    assert all(torch.equal(one, two) for one, two in zip(state, done.trainer.advantages.pack(), strict=True))
    logged = done.trainer.state.log_history[-1]
    assert logged["eval_frac_reward_zero_std"] > 0
    assert len(done.trainer._logs["advantages"]) == 24


def test_an_estimator_of_all_actions_is_refused() -> None:
    with pytest.raises(SettingsError, match="estimator expected needs every action's probability"):
        Advantages(ESTIMATORS["expected"], ESTIMATORS["expected"].settings(), WEIGHT_K, 1, torch.zeros(1).long())


def test_the_installed_trainer_is_the_one_that_ours_was_written_for() -> None:
    require_known_trainer()


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_a_trainer_whose_privates_changed_is_refused(name: str) -> None:
    def other(self: Any, batch: Any) -> None: ...

    changed = type("Changed", (GRPOTrainer,), {name: other})
    with pytest.raises(SettingsError, match=rf"GRPOTrainer\.{name} is not .* \(parameters self, batch\): install trl"):
        require_known_trainer(changed)
    without = type("Without", (), {other: getattr(GRPOTrainer, other) for other in OVERRIDDEN if other != name})
    with pytest.raises(SettingsError, match=rf"GRPOTrainer\.{name} is not .* \(parameters none\)"):
        require_known_trainer(without)
