"""The ReCal router: rewards, calibration, policy and loop, readable in one go. See docs/recal.md.

ReCal (arXiv 2606.12479) is known to us by its abstract; what follows is a reconstruction. The other estimators are the
same policy, prior and loop with another calibration, so that what differs between their rows is the calibration's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from recal_bench import provenance
from recal_bench.arrays import FloatQA
from recal_bench.calibration import ESTIMATORS, Calibration, Estimator, with_settings_of
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

    from recal_bench.toolbox.priors import Expected
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
    "recal-from-knn", "ReCal that starts from the nearest train queries", prior__kind="knn", trust=1.0, balance=False
)
@router("recal-no-task", "ReCal whose prior has no level for the inferred task", prior__tasks=False)
@router("recal-no-shrinkage", "ReCal on outcomes as they are", trust=1.0)
@router("recal-no-balance", "ReCal on queries drawn as they come, not as many of every task", balance=False)
@router(
    "recal-plain",
    "ReCal without keeping the components' exchange rate: the reconstruction taken at its word",
    calibration__keep_utility=False,
)
@dataclass
class RecalRouter(Optimisation):
    """A policy over arms, trained by RL on what the arms it draws score and cost.

    encoder      text to vectors: tfidf, minilm, a model, file or endpoint (docs/encoders.md), a plug-in's, or several
                 side by side as in tfidf+minilm
    estimator    from rewards to advantages; `calibration` holds its settings, which are the steps of `recal`
    reward       `components`, or `router-r1`: that system's own scalar, for training only
    components   what plug-ins reward besides format, outcome and cost: `latency`, `latency:0.3,length`
    cost_gate    the cost counts only where the answer is right
    trust        a drawn arm is rewarded with `trust` times its outcome and, for the rest, with what the prior expects
                 of it without that outcome: one outcome is mostly luck. A reward that asks whether an answer is right
                 (`cost_gate`, `router-r1`) gets outcomes as they are
    """

    deterministic: ClassVar[bool] = False
    compares_arms: ClassVar[bool] = True
    accelerated: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "encoder": tuple(name for name in installed_encoders() if name.startswith("tfidf")),
        "prior.scale": (20.0, 30.0, 60.0),
        "trust": (0.1, 0.2, 0.5),
        "learning_rate": (3e-4, 7e-4, 2e-3),
        "steps": (200, 400),
        "group_size": (8, 16),
        "entropy": (0.0, 0.003, 0.01, 0.03, 0.1, 0.3),
    }

    encoder: str = "tfidf"
    estimator: str = "recal"
    reward: Literal["components", "router-r1"] = "components"
    components: str = ""
    cost_gate: bool = False
    trust: Annotated[float, Field(gt=0, le=1)] = 0.2
    policy: Policy = field(default_factory=Policy)
    prior: Prior = field(default_factory=Prior)
    calibration: Calibration = field(default_factory=Calibration)

    arms: tuple[Arm, ...] = field(init=False, default=())
    _encoder: Any = field(init=False, default=None, repr=False)
    _policy: Any = field(init=False, default=None, repr=False)
    _prior: Any = field(init=False, default=None, repr=False)
    _alpha: float = field(init=False, default=0.0, repr=False)
    _last: Any = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        """Raises SettingsError on names that nothing has, and on settings that do not go together."""
        parts_of(self.encoder)
        entry = ESTIMATORS[self.estimator]
        own = not entry.shipped and entry.settings is not NoSettings
        if own and not isinstance(self.calibration, entry.settings):
            raise SettingsError(
                f"estimator {self.estimator} has settings of its own: use the router {self.estimator} instead"
            )
        entry.settings_from(self.calibration)
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
        from recal_bench.toolbox.priors import fit_prior
        from recal_bench.training import digest_of, loop
        from recal_bench.training.examples import best_single_utility, cost_units, learnable
        from recal_bench.training.learner import Learner

        first, device = seeds[0], contexts[0].device
        reward = first._reward(train.objective)
        train, validation = learnable(train), learnable(validation)
        objective, outcomes = train.objective, train.outcomes
        encoder = fit_encoder(first.encoder, train.queries.prompt, train.queries.features)
        for each in seeds:
            each.arms, each._encoder, each._alpha, each._last = outcomes.arms, encoder, objective.alpha, None
        embedding_QE, of_validation_QE = first._embed(train.queries), first._embed(validation.queries)
        fitted = fit_prior(first.prior, train, embedding_QE, cost_units(train), of_validation_QE)
        for each in seeds:
            each._prior = fitted and fitted.prior
        size = embedding_QE.shape[1] + first.sweeps
        examples = first._examples(train, embedding_QE, device, fitted and fitted.left_out)
        judged = first._examples(validation, of_validation_QE, device)
        entry = ESTIMATORS[first.estimator]

        def make(numbers: Sequence[int]) -> Learner:
            generators = [torch.Generator().manual_seed(contexts[number].seed) for number in numbers]
            policy = EncoderPolicy(outcomes.arms, size, first.policy.hidden, first.policy.malformed, generators)
            return Learner(
                policy=policy.to(device),
                generators=generators,
                reward=reward,
                estimator=entry,
                calibration=entry.settings_from(first.calibration),
                settings=first,
                price=first.policy.alpha,
                tasks=outcomes.tasks,
                cost_ref=objective.cost_ref,
                best_single=best_single_utility(train, validation),
                train=examples,
                validation=judged,
            )

        source = provenance.source_hash(cls, *first.made_of, *parts_of(first.encoder).values())
        told, splits = (source, settings_of(first), device), (train, validation)
        digests = [digest_of((*told, each.seed), splits, first.reads_columns) for each in contexts]
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
                raise SettingsError(f"{setting} needs the cost of every outcome: leave it out where there is none")
        if self.sweeps and reward.priced is None:
            own = f"reward={self.reward} has its own price of cost"
            raise SettingsError(f"{own}: use reward=components with policy.alpha")
        return reward

    def route(self, queries: Queries, calls: Calls) -> Decisions:
        """The likeliest available arm of each query, given that the action is well-formed."""
        return calls.choose(self.utilities(queries, calls))

    def utilities(self, queries: Queries, calls: Calls) -> FloatQA:
        """Logits in units of the prior's scale, which before training are its expected utilities (up to a constant)."""
        import torch

        from recal_bench.policies.price import priced

        unknown = [str(arm) for arm in calls.arms if arm not in self.arms]
        if unknown:
            raise SettingsError(f"this router was not trained on the arms {', '.join(unknown)}: train it on them")
        alpha = torch.tensor([calls.objective.alpha if self.sweeps else self._alpha])
        with torch.no_grad(), one_thread():
            embedding_QE, score_QA, cost_QA, familiar_Q1 = self._known(queries)
            embedding_QE, prior_QA = priced(embedding_QE, score_QA, cost_QA, alpha, self.policy.alpha)
            actions = self._policy(embedding_QE, prior_QA, torch.ones_like(prior_QA, dtype=torch.bool), familiar_Q1)
        value_QA: FloatQA = actions.log_arm_QA[0].double().numpy() / self.prior.scale
        return value_QA[:, [self.arms.index(arm) for arm in calls.arms]]

    def save(self, folder: Path) -> None:
        """Keep what `route` needs: `policy.safetensors`, `policy.json` and the encoder."""
        from recal_bench.policies.files import Kept, save_policy
        from recal_bench.toolbox.priors import tensors_of

        save_policy(folder, Kept(self.arms, self._alpha, self._policy, tensors_of(self._prior)))
        self._encoder.save(folder / "encoder")

    def load(self, folder: Path) -> None:
        """Take up what `save` kept. Raises SettingsError where a file is missing or damaged."""
        from recal_bench.encoders import load_encoder
        from recal_bench.policies.files import load_policy
        from recal_bench.toolbox.priors import prior_of

        self.arms, self._alpha, self._policy, tensors = load_policy(folder, self.policy.malformed)
        self._prior = prior_of(self.prior, tensors)
        self._encoder = load_encoder(folder / "encoder")

    def _known(self, queries: Queries) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Embeddings, and what the prior says; of the last queries it is kept, for a sweep asks at every price."""
        from recal_bench.toolbox.priors import expected_by

        if self._last is None or self._last[0] is not queries:
            embedding_QE = self._embed(queries)
            self._last = (queries, embedding_QE, *self._logits(expected_by(self._prior, embedding_QE, len(self.arms))))
        known: tuple[Tensor, Tensor, Tensor, Tensor] = self._last[1:]
        return known

    def _embed(self, queries: Queries) -> Tensor:
        """Embeddings of unit length, `[Q, E]`."""
        import torch

        encoding_QE = self._encoder.encode(queries.prompt, queries.features)
        return torch.nn.functional.normalize(torch.from_numpy(encoding_QE), dim=1)

    def _logits(self, expected: Expected) -> tuple[Tensor, Tensor, Tensor]:
        """Score and cost part of the logits before training, and how far training may change them."""
        score_QA, cost_QA = (self.prior.scale * expected.value_QX).tensor_split(2, dim=1)
        return score_QA, cost_QA, expected.familiar_Q1

    def _examples(self, split: Train, embedding_QE: Tensor, device: str, left_out: Expected | None = None) -> Examples:
        """A split to be judged by; with what the prior expects without each query, one to learn from, so shrunk."""
        from recal_bench.toolbox.priors import expected_by
        from recal_bench.training.examples import examples_of, shrunk

        expected = left_out or expected_by(self._prior, embedding_QE, len(self.arms))
        examples = examples_of(split, embedding_QE, *self._logits(expected), self.reads_columns, device)
        if left_out is None or self.cost_gate or self.reward != "components":
            return examples
        return shrunk(examples, left_out.value_QX.to(device), self.trust)


def _as_router(name: str, entry: Estimator) -> None:
    """Make an estimator a router by name; its own settings, if any, are `calibration.*`."""
    if name == RecalRouter.estimator:
        router(name, f"RL on calibrated rewards: {entry.summary}")(RecalRouter)
        return
    own = entry.settings is not NoSettings or not entry.shipped
    cls: type[Any] = with_settings_of(entry, RecalRouter, name) if own else RecalRouter
    router(name, f"ReCal's policy and loop, {entry.summary}", estimator=name, **entry.preset)(cls)


ESTIMATORS.each(_as_router)
