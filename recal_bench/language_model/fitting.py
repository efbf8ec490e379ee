"""From the settings of `recal-lm` and two splits to a trained policy: the parts put together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from recal_bench import provenance
from recal_bench.calibration import ESTIMATORS
from recal_bench.calibration.rewards import REWARDS, Reward, Terms
from recal_bench.errors import SettingsError
from recal_bench.folders import cache_folder
from recal_bench.language_model.dialogue import Dialogue
from recal_bench.language_model.local import Local, load, quiet
from recal_bench.language_model.pool import LoggedPool
from recal_bench.language_model.processes import is_first
from recal_bench.language_model.prompting import describe
from recal_bench.language_model.protocol import Turn, render
from recal_bench.language_model.teacher import Expected, cross_fitted
from recal_bench.language_model.warm_start import supervise, targets
from recal_bench.outcomes import Arm
from recal_bench.routers import Context, Train, settings_of
from recal_bench.toolbox.targets import typical_values
from recal_bench.toolbox.threads import one_thread
from recal_bench.training import digest_of
from recal_bench.training.examples import best_single_utility, learnable

if TYPE_CHECKING:
    from recal_bench.language_model.router import LanguageModelRouter

STARTS = "language-model-starts"
"""Folder of the cache."""
EXAMPLES, WARM_LEARNING_RATE, NEW_TOKENS = {"tiny": 30_000}, {"tiny": 2e-3}, {"tiny": 16}
OTHERS_EXAMPLES, OTHERS_WARM_LEARNING_RATE, OTHERS_NEW_TOKENS = 300, 2e-4, 160
WARM_BATCH = 64
CHECKPOINT_EVERY = 20
_OF_START = ("policy", "warm_start", "teacher", "temperature", "examples", "warm_learning_rate", "lora", "rounds")
"""The settings that a supervised start depends on."""


def fit(
    router: LanguageModelRouter, train: Train, validation: Train, context: Context
) -> tuple[tuple[Arm, ...], list[str], Dialogue]:
    """Arms, the same as names with the best on train first, and the trained policy."""
    train, validation = learnable(train), learnable(validation)
    arms = tuple(train.outcomes.arms)
    reward = reward_of(router, train)
    utility_A = np.round(typical_values(train.utility_QA, train.outcomes, worst=np.min), 12)
    fallback_A = np.argsort(-utility_A, kind="stable")
    fallback = [str(arms[arm]) for arm in fallback_A]
    with one_thread(), quiet():
        needed = router.warm_start == "distil" or router.trust < 1
        expected = cross_fitted(router.teacher, train, validation, context) if needed else None
        dialogue = started(router, train, validation, expected, context)
        if router.steps:
            _train(router, train, validation, expected, reward, fallback_A, dialogue, context)
    return arms, fallback, dialogue


def reward_of(router: LanguageModelRouter, train: Train) -> Reward:
    """Raises SettingsError where the reward needs costs and there are none."""
    objective = train.objective
    reward: Reward = REWARDS[router.reward](Terms(objective.alpha, objective.has_cost, router.cost_gate))
    if reward.needs_cost and not objective.has_cost:
        raise SettingsError(f"reward={router.reward} needs the cost of every outcome: leave it out where there is none")
    return reward


def dialogue_of(router: LanguageModelRouter, local: Local, arms: tuple[Arm, ...]) -> Dialogue:
    length = router.max_new_tokens or NEW_TOKENS.get(router.policy, OTHERS_NEW_TOKENS)
    return Dialogue(local, arms, describe(), router.rounds, length)


def started(
    router: LanguageModelRouter, train: Train, validation: Train, expected: Expected | None, context: Context
) -> Dialogue:
    """The policy after its supervised start, which is kept in the cache: runs that share it need it once."""
    arms, questions = tuple(train.outcomes.arms), train.queries.prompt
    texts = [*questions, *(render(Turn("", arm, None, None)) for arm in arms)]
    local = load(router.policy, texts, context.seed, cache_folder() / "language-models")
    if router.warm_start == "none":
        return dialogue_of(router, adapted(router, local), arms)
    settings = settings_of(router)
    told = [provenance.source_hash(type(router)), {name: settings[name] for name in _OF_START}, context.seed]
    place = cache_folder() / STARTS / digest_of([*told, context.device], (train, validation), ())[:32]
    if place.is_dir():
        return dialogue_of(router, load(str(place), (), context.seed, place, "auto"), arms)
    dialogue = dialogue_of(router, adapted(router, local), arms)
    count = router.examples or EXAMPLES.get(router.policy, OTHERS_EXAMPLES)
    value_QA = None if router.warm_start == "format" or expected is None else expected.utility_QA(train.objective.alpha)
    rng = np.random.default_rng([context.seed, 1])
    rows, chosen = targets(value_QA, train.outcomes.observed_QA, router.temperature, count, rng)
    rate = router.warm_learning_rate or WARM_LEARNING_RATE.get(router.policy, OTHERS_WARM_LEARNING_RATE)
    work = context.folder / "warm-start"
    supervise(dialogue, questions, rows, chosen, rate, WARM_BATCH, context.seed, context.device, work)
    if is_first():
        shutil.rmtree(work, ignore_errors=True)
        _keep(dialogue.local, place)
    return dialogue


def adapted(router: LanguageModelRouter, local: Local) -> Local:
    """The model with fresh LoRA adapters, where the settings ask for them."""
    if not router.lora:
        return local
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=router.lora, lora_alpha=2 * router.lora, target_modules="all-linear", task_type="CAUSAL_LM")
    return local._replace(model=get_peft_model(local.model, config))


def _keep(local: Local, place: Path) -> None:
    import tempfile

    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".draft-", dir=place.parent) as draft:
        local.model.save_pretrained(Path(draft) / "model")
        local.tokenizer.save_pretrained(Path(draft) / "model")
        if not place.exists():
            (Path(draft) / "model").rename(place)


def _train(
    router: LanguageModelRouter,
    train: Train,
    validation: Train,
    expected: Expected | None,
    reward: Reward,
    fallback_A: np.ndarray,
    dialogue: Dialogue,
    context: Context,
) -> None:
    from recal_bench.language_model.rollouts import TrainingRollouts
    from recal_bench.language_model.trainer import Advantages
    from recal_bench.language_model.training import Judge, Run, Steps

    objective = train.objective
    pool = LoggedPool.of(train, fallback_A, expected if router.trust < 1 else None, router.trust)
    judged = LoggedPool.of(validation, fallback_A, None, 1.0)
    price = 0.0 if objective.cost_ref is None else (router.token_price or 0.0) / 1e6 / objective.cost_ref
    entry = ESTIMATORS[router.estimator]
    cost_A = np.where(pool.available_QA, pool.cost_QA, 0.0).sum(axis=0) / pool.available_QA.sum(axis=0).clip(min=1)
    settings = settings_of(router)
    run = Run(
        dialogue=dialogue,
        rollouts=TrainingRollouts(
            dialogue,
            pool,
            reward,
            [dialogue.prompt_ids(each) for each in train.queries.prompt],
            price,
            router.graded_format,
            torch.zeros(0),
        ),
        advantages=Advantages(
            entry, entry.settings_from(router.calibration), reward.weights, reward.outcome, torch.tensor(pool.dataset_Q)
        ),
        reward=reward,
        judge=Judge(
            dialogue,
            judged,
            [dialogue.prompt_ids(each) for each in validation.queries.prompt],
            objective.alpha,
            price,
            best_single_utility(train, validation),
            objective.cost_ref,
            torch.tensor(cost_A.argsort().argsort()),
        ),
        tasks=train.outcomes.tasks,
        steps=Steps(
            **{name: settings[name] for name in _OF_STEPS},
            checkpoint_every=CHECKPOINT_EVERY,
            trl=json.loads(router.trl),
        ),
        seed=context.seed,
        device=context.device,
        folder=context.folder,
        configuration=digest_of(
            (provenance.source_hash(type(router), *router.made_of), settings, context.device, context.seed),
            (train, validation),
            (),
        ),
        log=context.log,
    )
    run.fit()


_OF_STEPS = (
    "steps", "batch_size", "group_size", "epochs", "learning_rate", "clip", "clip_high", "kl", "entropy", "balance",
    "evaluate_every",
)  # fmt: skip
