"""The ReCal router: rewards, calibration, policy and loop, readable in one go. See docs/recal.md.

ReCal (arXiv 2606.12479) is known to us by its abstract; what follows is a reconstruction. The other estimators are the
same policy, prior and loop with another calibration, so that what differs between their rows is the calibration's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from recal_bench import provenance
from recal_bench.calibration import ESTIMATORS, Calibration, Estimator
from recal_bench.calibration.components import columns_read, parse_components
from recal_bench.calibration.registry import NoSettings
from recal_bench.calibration.rewards import REWARDS, Reward, Terms
from recal_bench.encoders import installed_encoders, parts_of
from recal_bench.errors import SettingsError
from recal_bench.outcomes import Arm, Objective
from recal_bench.policies.settings import Policy, Prior
from recal_bench.routers import Calls, Context, Decisions, Queries, Train, router, settings_of
from recal_bench.toolbox.threads import one_thread
from recal_bench.training.settings import Optimisation

if TYPE_CHECKING:
    from torch import Tensor

    from recal_bench.training.examples import Examples


@router(
    "recal-unbiased",
    "ReCal whose scales no rollout of a query can change: one for each task, none in a group; and an entropy bonus",
    calibration__standardise=False,
    calibration__reweighting=False,
    entropy=0.03,
)
@router("recal-no-floor", "ReCal that divides by spreads however small", calibration__floor=0.0)
@router("recal-inverse-weights", "ReCal that favours certain queries", calibration__reweighting="inverse")
@router("recal-no-dataset-norm", "ReCal without a scale for each task", calibration__dataset_norm=False)
@router("recal-no-reweighting", "ReCal without variance-aware weights", calibration__reweighting=False)
@router("recal-no-components", "ReCal on the summed reward", calibration__components=False)
@router(
    "recal-plain",
    "ReCal without keeping the components' exchange rate: the reconstruction taken at its word",
    calibration__keep_utility=False,
)
@dataclass
class RecalRouter(Optimisation):
    """A policy over arms, trained by RL on what the arms it draws score and cost.

    encoder      text to vectors: tfidf, minilm, a plug-in's, or several side by side as in tfidf+minilm
    estimator    from rewards to advantages; `calibration` holds its settings, which are the steps of `recal`
    reward       `components`, or `router-r1`: that system's own scalar, for training only
    components   what plug-ins reward besides format, outcome and cost: `latency`, `latency:0.3,length`
    cost_gate    the cost counts only where the answer is right
    """

    deterministic: ClassVar[bool] = False
    compares_arms: ClassVar[bool] = True
    accelerated: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "encoder": tuple(name for name in installed_encoders() if name.startswith("tfidf")),
        "prior.k": (100, 500),
        "prior.scale": (20.0, 30.0, 50.0),
        "learning_rate": (3e-4, 7e-4, 2e-3),
        "steps": (200, 400),
        "group_size": (8, 16),
        "entropy": (0.0, 0.003, 0.01, 0.03),
    }

    encoder: str = "tfidf"
    estimator: str = "recal"
    reward: Literal["components", "router-r1"] = "components"
    components: str = ""
    cost_gate: bool = False
    policy: Policy = field(default_factory=Policy)
    prior: Prior = field(default_factory=Prior)
    calibration: Calibration = field(default_factory=Calibration)

    arms: tuple[Arm, ...] = field(init=False, default=())
    _encoder: Any = field(init=False, default=None, repr=False)
    _policy: Any = field(init=False, default=None, repr=False)
    _memory: Any = field(init=False, default=None, repr=False)
    _alpha: float = field(init=False, default=0.0, repr=False)
    _last: Any = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        """Raises SettingsError on names that nothing has, and on settings that do not go together."""
        parts_of(self.encoder)
        of_estimator = ESTIMATORS[self.estimator].settings
        if of_estimator is not NoSettings and not isinstance(self.calibration, of_estimator):
            raise SettingsError(
                f"estimator {self.estimator} has settings of its own: use the router {self.estimator} instead"
            )
        if parse_components(self.components) and not REWARDS[self.reward].extensible:
            raise SettingsError(f"reward={self.reward} is one number: use reward=components with components")

    @property
    def reads_columns(self) -> tuple[str, ...]:
        """The columns of the outcomes file that the chosen components read."""
        return columns_read(parse_components(self.components))

    @property
    def made_of(self) -> tuple[Any, ...]:
        """The plug-ins that results depend on besides the class: the estimator's and the components' functions."""
        added = parse_components(self.components)
        return (ESTIMATORS[self.estimator].compute, *(each.component.compute for each in added))

    @property
    def sweeps(self) -> bool:
        """Whether it may be asked at another price of cost than it was trained at."""
        return self.policy.alpha == "conditioned"

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        """Train on the arms' logged outcomes. Raises SettingsError where a setting needs costs and there are none."""
        self.fit_seeds([self], train, validation, [context])

    @classmethod
    def fit_seeds(
        cls, seeds: Sequence[RecalRouter], train: Train, validation: Train, contexts: Sequence[Context]
    ) -> None:
        """Fit routers of the same settings, one for each context, as one batched computation.

        Each draws from its own seed and comes out as it would alone.
        """
        import torch

        from recal_bench.encoders import fit_encoder
        from recal_bench.policies.encoder_policy import EncoderPolicy
        from recal_bench.policies.prior import Memory
        from recal_bench.training import loop
        from recal_bench.training.examples import best_single_utility, cost_units, learnable
        from recal_bench.training.learner import Learner

        first, device = seeds[0], contexts[0].device
        reward = first._reward(train.objective)
        train, validation = learnable(train), learnable(validation)
        objective, outcomes = train.objective, train.outcomes
        encoder = fit_encoder(first.encoder, train.queries.prompt)
        for each in seeds:
            each.arms, each._encoder, each._alpha, each._last = outcomes.arms, encoder, objective.alpha, None
        embedding_QE = first._embed(train.queries)
        if first.prior.kind != "none":
            value_QX = np.concatenate([outcomes.score_QA, cost_units(train)], axis=1)
            memory = Memory(embedding_QE, torch.tensor(value_QX, dtype=torch.float32))
            for each in seeds:
                each._memory = memory
        size = embedding_QE.shape[1] + first.sweeps
        examples = first._examples(train, embedding_QE, device, leave_out=True)
        judged = first._examples(validation, first._embed(validation.queries), device)
        best_single = best_single_utility(train, validation)

        def make(numbers: Sequence[int]) -> Learner:
            generators = [torch.Generator().manual_seed(contexts[number].seed) for number in numbers]
            policy = EncoderPolicy(outcomes.arms, size, first.policy.hidden, first.policy.malformed, generators)
            return Learner(
                policy=policy.to(device),
                generators=generators,
                reward=reward,
                estimator=ESTIMATORS[first.estimator],
                calibration=first.calibration,
                settings=first,
                price=first.policy.alpha,
                tasks=outcomes.tasks,
                cost_ref=objective.cost_ref,
                best_single=best_single,
                train=examples,
                validation=judged,
            )

        digests = [first._digest(context.seed, device, train, validation) for context in contexts]
        for each, kept in zip(seeds, loop.train(make, contexts, digests), strict=True):
            each._policy = EncoderPolicy(
                each.arms, size, each.policy.hidden, each.policy.malformed, [torch.Generator()]
            )
            each._policy.load_state_dict(kept)
            each._policy.eval()

    def _reward(self, objective: Objective) -> Reward:
        terms = Terms(objective.alpha, objective.has_cost, self.cost_gate, parse_components(self.components))
        reward: Reward = REWARDS[self.reward](terms)
        for setting, needs_cost in (
            (f"reward={self.reward}", reward.needs_cost),
            ("policy.alpha=conditioned", self.sweeps),
        ):
            if needs_cost and not objective.has_cost:
                raise SettingsError(
                    f"{setting} needs the cost of every outcome: leave it out for outcomes without cost"
                )
        if self.sweeps and reward.priced is None:
            raise SettingsError(
                f"reward={self.reward} has its own price of cost: use reward=components with policy.alpha"
            )
        return reward

    def route(self, queries: Queries, calls: Calls) -> Decisions:
        """The likeliest available arm of each query, given that the action is well-formed."""
        import torch

        from recal_bench.policies.price import priced

        column = {arm: index for index, arm in enumerate(self.arms)}
        unknown = [str(arm) for arm in calls.arms if arm not in column]
        if unknown:
            raise SettingsError(f"this router was not trained on the arms {', '.join(unknown)}: train it on them")
        alpha = torch.tensor([calls.objective.alpha if self.sweeps else self._alpha])
        with torch.no_grad(), one_thread():
            embedding_QE, prior_QA = priced(*self._known(queries), alpha, self.policy.alpha)
            actions = self._policy(embedding_QE, prior_QA, torch.ones_like(prior_QA, dtype=torch.bool))
        log_arm_QA = actions.log_arm_QA[0].double().numpy()
        return calls.choose(log_arm_QA[:, [column[arm] for arm in calls.arms]])

    def save(self, folder: Path) -> None:
        """Keep what `route` needs: `policy.safetensors`, `policy.json` and the encoder."""
        from recal_bench.policies.files import Kept, save_policy

        save_policy(folder, Kept(self.arms, self._alpha, self._policy, self._memory))
        self._encoder.save(folder / "encoder")

    def load(self, folder: Path) -> None:
        """Take up what `save` kept. Raises SettingsError where a file is missing or damaged."""
        from recal_bench.encoders import load_encoder
        from recal_bench.policies.files import load_policy

        self.arms, self._alpha, self._policy, self._memory = load_policy(folder, self.policy.malformed)
        self._encoder = load_encoder(folder / "encoder")

    def _known(self, queries: Queries) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings and priors; those of the last queries are kept, for a sweep asks for them at every price."""
        if self._last is None or self._last[0] is not queries:
            embedding_QE = self._embed(queries)
            self._last = (queries, embedding_QE, *self._prior(embedding_QE))
        known: tuple[Tensor, Tensor, Tensor] = self._last[1:]
        return known

    def _embed(self, queries: Queries) -> Tensor:
        """Embeddings of unit length, `[Q, E]`."""
        import torch

        return torch.nn.functional.normalize(torch.from_numpy(self._encoder.encode(queries.prompt)), dim=1)

    def _prior(self, embedding_QE: Tensor, prompt_Q: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Score and cost part of the logits before training, `[Q, A]`; with `prompt_Q` each prompt itself left out."""
        if self._memory is None:
            nothing_QA = embedding_QE.new_zeros((len(embedding_QE), len(self.arms)))
            return nothing_QA, nothing_QA
        means_QX = self._memory.means(embedding_QE, self.prior.k, prompt_Q)
        score_QA, cost_QA = (self.prior.scale * means_QX).tensor_split(2, dim=1)
        return score_QA, cost_QA

    def _examples(self, split: Train, embedding_QE: Tensor, device: str, leave_out: bool = False) -> Examples:
        from recal_bench.policies.prior import prompt_numbers
        from recal_bench.training.examples import examples_of

        prompt_Q = prompt_numbers(split.queries.prompt) if leave_out else None
        return examples_of(split, embedding_QE, *self._prior(embedding_QE, prompt_Q), self.reads_columns, device)

    def _digest(self, seed: int, device: str, *splits: Train) -> str:
        """A hash of all that determines what is trained."""
        source = provenance.source_hash(type(self), *self.made_of, *parts_of(self.encoder).values())
        digest = hashlib.sha256(json.dumps([source, settings_of(self), seed, device], sort_keys=True).encode())
        for split in splits:
            arms = [str(arm) for arm in split.outcomes.arms]
            described = [split.queries, list(split.outcomes.task_Q), arms, vars(split.objective)]
            digest.update(json.dumps(described).encode())
            columns = [split.outcomes.column_QA[name] for name in self.reads_columns]
            for value_QA in (split.outcomes.score_QA, split.outcomes.cost_QA, *columns):
                digest.update(value_QA.tobytes())
        return digest.hexdigest()


def _as_router(name: str, entry: Estimator) -> None:
    """Make an estimator a router by name; a plug-in's with its own settings, if any, as `calibration.*`."""
    if name == RecalRouter.estimator:
        router(name, f"RL on calibrated rewards: {entry.summary}")(RecalRouter)
        return
    cls: type[Any] = RecalRouter
    if not entry.compute.__module__.startswith("recal_bench."):
        cls = make_dataclass(
            "".join(word.capitalize() for word in name.split("-")),
            [("estimator", str, name), ("calibration", entry.settings, field(default_factory=entry.settings))],
            bases=(RecalRouter,),
            # Its source is that of the function.
            namespace={"__module__": entry.compute.__module__, "__wrapped__": entry.compute},
        )
    router(name, f"ReCal's policy and loop, {entry.summary}", estimator=name, **entry.preset)(cls)


ESTIMATORS.each(_as_router)
