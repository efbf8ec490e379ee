"""From the settings of `recal-lm` and two splits to a trained policy: the parts put together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from recal_bench import provenance
from recal_bench.arrays import FloatA, IntQ
from recal_bench.calibration import ESTIMATORS
from recal_bench.calibration.components import Weighted
from recal_bench.calibration.rewards import REWARDS, Reward, Terms
from recal_bench.errors import SettingsError
from recal_bench.folders import cache_folder, written_whole
from recal_bench.language_model.dialogue import Dialogue
from recal_bench.language_model.learned import LEARNED, Learned
from recal_bench.language_model.live import LivePool, live_pools
from recal_bench.language_model.local import Local, load, quiet
from recal_bench.language_model.pool import LoggedPool
from recal_bench.language_model.processes import is_first
from recal_bench.language_model.prompting import Descriptors, describe
from recal_bench.language_model.protocol import Turn, render
from recal_bench.language_model.router_r1 import require_one_strategy
from recal_bench.language_model.teacher import Expected, cross_fitted
from recal_bench.language_model.warm_start import supervise, targets, trained_parameters
from recal_bench.outcomes import Arm
from recal_bench.pools.files import read_pool
from recal_bench.routers import Context, Train, settings_of
from recal_bench.toolbox.targets import typical_values
from recal_bench.toolbox.threads import one_thread
from recal_bench.training import digest_of
from recal_bench.training.examples import best_single_utility, learnable

if TYPE_CHECKING:
    from recal_bench.language_model.router import LanguageModelRouter

STARTS = "language-model-starts"
"""Folder of the cache."""


class Suits(NamedTuple):
    """What settings are where they are 0."""

    examples: int
    warm_learning_rate: float
    learning_rate: float
    max_new_tokens: int
    micro_batch: int


SUITS = {"tiny": Suits(30_000, 2e-3, 1e-3, 16, 1024)}
"""By policy; others are pretrained, and adapted or trained whole."""
ADAPTED, WHOLE = Suits(300, 1e-3, 1e-4, 160, 8), Suits(300, 2e-5, 1e-6, 160, 8)
WARM_BATCHES = {"tiny": 64}
OTHERS_WARM_BATCH = 4
CHECKPOINT_EVERY = 20
_OF_START = (
    "policy", "pool", "warm_start", "teacher", "temperature", "examples", "warm_learning_rate", "lora", "rounds",
    "form", "live",
)  # fmt: skip
"""The settings that a supervised start depends on."""


def fit(
    router: LanguageModelRouter, train: Train, validation: Train, context: Context
) -> tuple[tuple[Arm, ...], list[str], Dialogue]:
    """Arms, the same as names with the best on train first, and the trained policy."""
    train, validation = (in_order_of_arms(learnable(split)) for split in (train, validation))
    arms = tuple(train.outcomes.arms)
    if router.form == "router-r1":
        require_one_strategy(arms)
    reward = reward_of(router, train)
    utility_A = np.round(typical_values(train.utility_QA, train.outcomes, worst=np.min), 12)
    fallback_A = np.argsort(-utility_A, kind="stable")
    fallback = [str(arms[arm]) for arm in fallback_A]
    with one_thread(), quiet():
        needed = router.warm_start == "distil" or router.trust < 1 or router.learned != "none"
        expected = cross_fitted(router.teacher, train, validation, context) if needed else None
        # What live arms lack is told before the start is trained.
        pools = _pools(router, train, validation, expected, fallback_A, context) if router.steps else None
        dialogue = started(router, train, validation, expected, context)
        if pools:
            _train(router, train, validation, expected, reward, pools, dialogue, context)
    return arms, fallback, dialogue


def in_order_of_arms(split: Train) -> Train:
    """A split with its arms by name: draws are the same however the file lists them."""
    order = np.argsort([str(arm) for arm in split.outcomes.arms])
    return split._replace(outcomes=split.outcomes.take_arms(order))


def reward_of(router: LanguageModelRouter, train: Train) -> Reward:
    """Raises SettingsError where the reward needs costs and there are none."""
    objective = train.objective
    added = () if router.learned == "none" else (Weighted(LEARNED, router.learned_weight),)
    reward: Reward = REWARDS[router.reward](Terms(objective.alpha, objective.has_cost, router.cost_gate, added))
    if reward.needs_cost and not objective.has_cost:
        raise SettingsError(f"reward={router.reward} needs the cost of every outcome: leave it out where there is none")
    return reward


def dialogue_of(router: LanguageModelRouter, local: Local, arms: tuple[Arm, ...], descriptors: Descriptors) -> Dialogue:
    length = suited(router, "max_new_tokens")
    return Dialogue(local, arms, descriptors, router.rounds, length, router.form, bool(router.live))


def described(router: LanguageModelRouter, train: Train) -> Descriptors:
    """What is known of the arms: prices and strategies by the pool file, the mean latency of each model's replies."""
    outcomes, latency_s = train.outcomes, {}
    if outcomes.latency_QA is not None:
        for model in dict.fromkeys(arm.model for arm in outcomes.arms):
            latency_QA = outcomes.latency_QA[:, [arm.model == model for arm in outcomes.arms]]
            if not np.isnan(latency_QA).all():
                latency_s[model] = float(np.nanmean(latency_QA))
    return describe(read_pool(Path(router.pool)) if router.pool else None, latency_s)


def suited(router: LanguageModelRouter, setting: str) -> Any:
    """A setting, or where it is 0 what suits the policy."""
    suits = SUITS.get(router.policy, ADAPTED if router.lora else WHOLE)
    return getattr(router, setting) or getattr(suits, setting)


def started(
    router: LanguageModelRouter, train: Train, validation: Train, expected: Expected | None, context: Context
) -> Dialogue:
    """The policy after its supervised start, which is kept in the cache: runs that share it need it once."""
    arms, questions = tuple(train.outcomes.arms), train.queries.prompt
    texts = [*questions, *(render(Turn("", arm, None, None)) for arm in arms)]
    # Small steps are lost in weights of half precision; adapters are of single precision whatever they adapt.
    dtype = None if router.lora else torch.float32
    local = load(router.policy, texts, context.seed, cache_folder() / "language-models", dtype)
    local = adapted(router, local, context.seed)
    local.model.to(context.device)
    dialogue = dialogue_of(router, local, arms, described(router, train))
    if router.warm_start == "none":
        return dialogue
    settings = settings_of(router)
    told = [provenance.source_hash(type(router)), {name: settings[name] for name in _OF_START}, context.seed]
    # Of several processes each trains its share of the start; the first one keeps it.
    place = cache_folder() / STARTS / f"{digest_of([*told, context.device], (train, validation), ())[:32]}.safetensors"
    if not place.exists():
        count = suited(router, "examples")
        guide = expected if router.warm_start == "distil" else None
        value_QA = None if guide is None else guide.utility_QA(train.objective.alpha)
        rng = np.random.default_rng([context.seed, 1])
        rows, chosen = targets(value_QA, train.outcomes.observed_QA, router.temperature, count, rng)
        rate = suited(router, "warm_learning_rate")
        work = context.folder / "warm-start"
        batch = WARM_BATCHES.get(router.policy, OTHERS_WARM_BATCH)
        micro = suited(router, "micro_batch")
        supervise(dialogue, questions, rows, chosen, rate, batch, micro, context.seed, context.device, work)
        if is_first():
            shutil.rmtree(work, ignore_errors=True)
            with written_whole(place) as draft:
                save_file(trained_parameters(local.model), draft)
        return dialogue
    local.model.load_state_dict(load_file(place), strict=False)
    return dialogue


def adapted(router: LanguageModelRouter, local: Local, seed: int) -> Local:
    """The model with fresh LoRA adapters of a seed, where the settings ask for them."""
    if not router.lora:
        return local
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=router.lora, lora_alpha=2 * router.lora, target_modules="all-linear", task_type="CAUSAL_LM")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return local._replace(model=get_peft_model(local.model, config))


class Pools(NamedTuple):
    """What the calls of a training find, and those of its judgements; the mean cost of each arm on train."""

    train: LoggedPool | LivePool
    validation: LoggedPool | LivePool
    cost_A: FloatA


def _pools(
    router: LanguageModelRouter,
    train: Train,
    validation: Train,
    expected: Expected | None,
    fallback_A: IntQ,
    context: Context,
) -> Pools:
    logged = LoggedPool.of(train, fallback_A, expected if router.trust < 1 else None, router.trust)
    judged = LoggedPool.of(validation, fallback_A, None, 1.0)
    cost_A = logged.cost_QA.sum(axis=0) / logged.available_QA.sum(axis=0).clip(min=1)
    if not router.live:
        return Pools(logged, judged, cost_A)
    return Pools(*live_pools(router.live, (logged, train), (judged, validation), context.max_usd), cost_A)


def _train(
    router: LanguageModelRouter,
    train: Train,
    validation: Train,
    expected: Expected | None,
    reward: Reward,
    pools: Pools,
    dialogue: Dialogue,
    context: Context,
) -> None:
    from recal_bench.language_model.judging import Judge
    from recal_bench.language_model.rollouts import TrainingRollouts
    from recal_bench.language_model.trainer import Advantages
    from recal_bench.language_model.training import Run, Steps

    objective = train.objective
    pool, judging, cost_A = pools
    prices = read_pool(Path(router.live)).price_book if router.live else ""
    price = 0.0 if objective.cost_ref is None else (router.token_price or 0.0) / 1e6 / objective.cost_ref
    entry = ESTIMATORS[router.estimator]
    settings = settings_of(router)
    learned = None
    if router.learned != "none" and expected is not None:
        learned = Learned(router.learned, router.learned_threshold, router.td, expected.score_QA)
    arms = router.decode == "arms"
    if arms:
        from recal_bench.language_model.arms_training import ArmJudge, ArmRun
    run = (ArmRun if arms else Run)(
        dialogue=dialogue,
        rollouts=TrainingRollouts(
            dialogue,
            pool,
            reward,
            [dialogue.prompt_ids(each) for each in train.queries.prompt],
            price,
            router.graded_format,
            torch.zeros(0),
            learned,
        ),
        advantages=Advantages(
            entry,
            entry.settings_from(router.calibration),
            reward.weights,
            reward.outcome,
            torch.tensor(pool.dataset_Q),
            every_action=arms,
        ),
        reward=reward,
        judge=(ArmJudge if arms else Judge)(
            dialogue,
            judging,
            validation.queries.prompt,
            objective.alpha,
            price,
            best_single_utility(train, validation),
            objective.cost_ref,
            torch.tensor(cost_A.argsort().argsort()),
        ),
        tasks=train.outcomes.tasks,
        steps=Steps(
            **{name: settings[name] for name in _OF_STEPS},
            learning_rate=suited(router, "learning_rate"),
            micro_batch=suited(router, "micro_batch"),
            checkpoint_every=CHECKPOINT_EVERY,
            trl=json.loads(router.trl),
        ),
        seed=context.seed,
        device=context.device,
        folder=context.folder,
        configuration=digest_of(
            (provenance.source_hash(type(router), *router.made_of), settings, prices, context.device, context.seed),
            (train, validation),
            (),
        ),
        log=context.log,
    )
    run.fit()


_OF_STEPS = (
    "steps", "batch_size", "group_size", "epochs", "clip", "clip_high", "kl", "entropy", "balance",
    "evaluate_every",
)  # fmt: skip
