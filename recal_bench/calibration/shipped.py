"""The other shipped estimators under their names: each formula with its part of a batch, and its state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from array_api_compat import array_namespace

from recal_bench.calibration import estimators as formulas
from recal_bench.calibration.datasets import dataset_minima, observe_datasets
from recal_bench.calibration.registry import Compute, Spread, estimator
from recal_bench.calibration.running import Running
from recal_bench.calibration.state import DECAY, Batch
from recal_bench.calibration.weights import group_spread, observe_mean


def _of_total(formula: Callable[[Any, Any], Any]) -> Compute:
    """The estimator of a formula that knows the summed rewards alone."""

    def compute(batch: Batch, state: Any, settings: Any) -> tuple[Any, Any]:
        return formula(batch.total_QG, batch.valid_QG), state

    return compute


def _scaled(formula: Callable[..., Any]) -> Compute:
    """The same of a formula that divides by a standard deviation."""

    def compute(batch: Batch, state: Any, settings: Spread) -> tuple[Any, Any]:
        return formula(batch.total_QG, batch.valid_QG, eps=settings.eps, ddof=settings.ddof), state

    return compute


estimator("reinforce", "reward minus the batch's mean (REINFORCE)")(_of_total(formulas.reinforce))
estimator("reinforce-pp", "whitened over the batch (REINFORCE++)", settings=Spread)(_scaled(formulas.reinforce_pp))
estimator("rloo", "reward minus the mean of the group's others (RLOO)")(_of_total(formulas.rloo))
estimator("grpo", "z-score within the group (GRPO)", settings=Spread)(_scaled(formulas.grpo))
estimator("dr-grpo", "reward minus the group's mean (Dr. GRPO)")(_of_total(formulas.dr_grpo))
estimator("lite-ppo", "group mean and batch spread (Lite PPO)", settings=Spread)(_scaled(formulas.lite_ppo))


@estimator("dapo", "GRPO on the groups whose scores vary (DAPO)", preset={"clip_high": 0.28})
def _dapo(batch: Batch, state: Any, settings: Any) -> tuple[Any, Any]:
    return formulas.dapo(batch.total_QG, batch.outcome_QG, batch.valid_QG), state


@estimator("gdpo", "component z-scores, whitened over the batch (GDPO)", settings=Spread)
def _gdpo(batch: Batch, state: Any, settings: Spread) -> tuple[Any, Any]:
    advantage_QG = formulas.gdpo(batch.reward_QGK, batch.weight_K, batch.valid_QG, eps=settings.eps, ddof=settings.ddof)
    return advantage_QG, state


@estimator("dvao", "component z-scores weighted by their spread in the group (DVAO)")
def _dvao(batch: Batch, state: Any, settings: Any) -> tuple[Any, Any]:
    return formulas.dvao(batch.reward_QGK, batch.weight_K, batch.valid_QG), state


@estimator("expected", "the exact gradient of the expected reward over all arms: a control", all_actions=True)
def _expected(batch: Batch, state: Any, settings: Any) -> tuple[Any, Any]:
    return formulas.expected(batch.total_QG, batch.share_QG, batch.valid_QG), state


@estimator(
    "hero",
    "GRPO with variance-aware weights (HERO)",
    state=lambda like_K, like_D, settings: Running.empty(like_K[:1]),
)
def _hero(batch: Batch, spread_1: Running, settings: Any) -> tuple[Any, Running]:
    spread_Q = group_spread(batch.outcome_QG, formulas.usable(batch.outcome_QG, batch.valid_QG))
    spread_1 = observe_mean(spread_1, spread_Q, DECAY)
    return formulas.hero(batch.total_QG, batch.outcome_QG, spread_1.value_N[0], batch.valid_QG), spread_1


class RewardMoments(NamedTuple):
    """PopArt's state: of each dataset the running mean and mean square of its summed rewards, less a first one of them.

    The subtraction changes no advantage, and keeps the difference of the two from cancelling where rewards are large.
    """

    reward_D: Running
    square_D: Running
    offset_D: Any


@estimator(
    "popart",
    "rewards by their task's running mean and spread (PopArt)",
    state=lambda like_K, like_D, settings: RewardMoments(Running.empty(like_D), Running.empty(like_D), like_D * 0),
)
def _popart(batch: Batch, state: RewardMoments, settings: Any) -> tuple[Any, RewardMoments]:
    total_QG, dataset_Q = batch.total_QG, batch.dataset_Q
    known_QG = formulas.usable(total_QG, batch.valid_QG)
    xp = array_namespace(total_QG)
    lowest_D = dataset_minima(total_QG, dataset_Q, known_QG, state.offset_D)
    offset_D = xp.where(state.reward_D.count_N > 0, state.offset_D, lowest_D)
    total_QG = xp.where(known_QG, total_QG - offset_D[dataset_Q][:, None], xp.zeros_like(total_QG))
    state = RewardMoments(
        observe_datasets(state.reward_D, total_QG, dataset_Q, known_QG, DECAY),
        observe_datasets(state.square_D, total_QG**2, dataset_Q, known_QG, DECAY),
        offset_D,
    )
    return formulas.popart(total_QG, dataset_Q, state.reward_D, state.square_D, known_QG), state


# Its state is the zeros [D] themselves, which say how many datasets there are.
@estimator(
    "disco",
    "rewards weighted by rarity of the task and difficulty (DISCO)",
    state=lambda like_K, like_D, settings: like_D,
)
def _disco(batch: Batch, like_D: Any, settings: Any) -> tuple[Any, Any]:
    n_datasets = like_D.shape[0]
    advantage_QG = formulas.disco(batch.total_QG, batch.outcome_QG, batch.dataset_Q, n_datasets, batch.valid_QG)
    return advantage_QG, like_D
