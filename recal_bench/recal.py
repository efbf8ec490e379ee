"""The ReCal router: rewards, calibration, policy and loop, readable in one go. See docs/recal.md.

ReCal (arXiv 2606.12479) is known to us by its abstract; what follows is a reconstruction. The other estimators are the
same policy, prior and loop with another calibration, so that what differs between their rows is the calibration's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from recal_bench import provenance
from recal_bench.calibration import ESTIMATORS, Calibration
from recal_bench.calibration.rewards import Reward
from recal_bench.encoders import installed_encoders
from recal_bench.errors import SettingsError
from recal_bench.outcomes import Arm, Objective
from recal_bench.policies.settings import Policy, Prior
from recal_bench.routers import Calls, Context, Decisions, Queries, Train, router, settings_of
from recal_bench.toolbox.targets import in_fixed_order
from recal_bench.toolbox.threads import one_thread
from recal_bench.training.settings import Optimisation

if TYPE_CHECKING:
    from torch import Tensor

    from recal_bench.training.examples import Examples


SAME = "ReCal's policy and loop"


@router("expected", f"{SAME}, the exact gradient of the expected reward over all arms: a control", estimator="expected")
@router("popart", f"{SAME}, rewards by their task's running mean and spread (PopArt)", estimator="popart")
@router("disco", f"{SAME}, rewards weighted by rarity of the task and difficulty (DISCO)", estimator="disco")
@router("hero", f"{SAME}, GRPO with variance-aware weights (HERO)", estimator="hero")
@router("dvao", f"{SAME}, component z-scores weighted by their spread in the group (DVAO)", estimator="dvao")
@router("gdpo", f"{SAME}, component z-scores, whitened over the batch (GDPO)", estimator="gdpo")
@router("dapo", f"{SAME}, GRPO on the groups whose scores vary (DAPO)", estimator="dapo", clip_high=0.28)
@router("lite-ppo", f"{SAME}, group mean and batch spread (Lite PPO)", estimator="lite-ppo")
@router("dr-grpo", f"{SAME}, reward minus the group's mean (Dr. GRPO)", estimator="dr-grpo")
@router("grpo", f"{SAME}, z-score within the group (GRPO)", estimator="grpo")
@router("rloo", f"{SAME}, reward minus the mean of the group's others (RLOO)", estimator="rloo")
@router("reinforce-pp", f"{SAME}, whitened over the batch (REINFORCE++)", estimator="reinforce-pp")
@router("reinforce", f"{SAME}, reward minus the batch's mean (REINFORCE)", estimator="reinforce")
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
@router("recal", "RL on calibrated rewards: advantages by component, variance-aware weights, a scale for each task")
@dataclass
class RecalRouter(Optimisation):
    """A policy over arms, trained by RL on what the arms it draws score and cost.

    encoder      text to vectors: tfidf, minilm or tfidf+minilm
    estimator    from rewards to advantages; `calibration` holds the steps of `recal`
    reward       `components`, or `router-r1`: that system's own scalar, for training only
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

    encoder: Literal["tfidf", "minilm", "tfidf+minilm"] = "tfidf"
    estimator: Literal[ESTIMATORS] = "recal"  # type: ignore[valid-type]
    reward: Literal["components", "router-r1"] = "components"
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
        from recal_bench.training.examples import best_single_utility, cost_units
        from recal_bench.training.learner import Learner

        first, device = seeds[0], contexts[0].device
        first._check(train.objective)
        train, validation = _learnable(train), _learnable(validation)
        objective, outcomes = train.objective, train.outcomes
        encoder = fit_encoder(first.encoder, train.queries.prompt)
        for each in seeds:
            each.arms, each._encoder, each._alpha, each._last = outcomes.arms, encoder, objective.alpha, None
        embedding_QE = first._embed(train.queries)
        if first.prior.kind == "knn":
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
                reward=Reward(first.reward, objective.alpha, objective.has_cost, first.cost_gate),
                estimator=first.estimator,
                calibration=first.calibration,
                settings=first,
                price=first.policy.alpha,
                tasks=outcomes.tasks,
                cost_ref=objective.cost_ref,
                best_single=best_single,
                train=examples,
                validation=judged,
            )

        digests = [_digest(settings_of(first), context.seed, device, train, validation) for context in contexts]
        for each, kept in zip(seeds, loop.train(make, contexts, digests), strict=True):
            each._policy = EncoderPolicy(
                each.arms, size, each.policy.hidden, each.policy.malformed, [torch.Generator()]
            )
            each._policy.load_state_dict(kept)
            each._policy.eval()

    def _check(self, objective: Objective) -> None:
        for setting, used in (
            ("reward=router-r1", self.reward == "router-r1"),
            ("policy.alpha=conditioned", self.sweeps),
        ):
            if used and not objective.has_cost:
                raise SettingsError(
                    f"{setting} needs the cost of every outcome: leave it out for outcomes without cost"
                )
        if self.reward == "router-r1" and self.sweeps:
            raise SettingsError("reward=router-r1 has its own price of cost: use reward=components with policy.alpha")

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
        from safetensors.torch import save_file

        tensors = {f"policy.{name}": value for name, value in self._policy.state_dict().items()}
        if self._memory is not None:
            tensors |= {"memory.embedding_NE": self._memory.embedding_NE, "memory.value_NA": self._memory.value_NA}
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "policy.safetensors")
        described = {"arms": [list(arm) for arm in self.arms], "alpha": self._alpha}
        (folder / "policy.json").write_text(json.dumps(described) + "\n", encoding="utf-8")
        self._encoder.save(folder / "encoder")

    def load(self, folder: Path) -> None:
        """Take up what `save` kept. Raises SettingsError where a file is missing or damaged."""
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from recal_bench.encoders import load_encoder
        from recal_bench.policies.encoder_policy import EncoderPolicy
        from recal_bench.policies.prior import Memory

        try:
            tensors = load_file(folder / "policy.safetensors")
            described = json.loads((folder / "policy.json").read_text(encoding="utf-8"))
            self.arms, self._alpha = tuple(Arm(*arm) for arm in described["arms"]), float(described["alpha"])
            state = {name[7:]: value for name, value in tensors.items() if name.startswith("policy.")}
            _, size, hidden = state["first_weight"].shape
            self._policy = EncoderPolicy(self.arms, size, hidden, self.policy.malformed, [torch.Generator()]).eval()
            self._policy.load_state_dict(state)
        except (OSError, SafetensorError, ValueError, TypeError, KeyError, RuntimeError) as error:
            raise SettingsError(f"{folder} holds no usable policy: run the router again with --fresh") from error
        self._encoder = load_encoder(folder / "encoder")
        if "memory.embedding_NE" in tensors:
            self._memory = Memory(tensors["memory.embedding_NE"], tensors["memory.value_NA"])

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
        return examples_of(split, embedding_QE, *self._prior(embedding_QE, prompt_Q), device)


def _learnable(split: Train) -> Train:
    """The queries that have an outcome at all, in an order that does not depend on the file's."""
    rows = np.flatnonzero(split.outcomes.observed_QA.any(axis=1))
    if not len(rows):
        raise SettingsError("train or validation holds no outcome to learn from: give outcomes with scores")
    queries = Queries(*(tuple(texts[row] for row in rows) for texts in split.queries))
    return in_fixed_order(Train(queries, split.outcomes.take(rows), split.objective))


def _digest(settings: dict[str, Any], seed: int, device: str, *splits: Train) -> str:
    """A hash of all that determines what is trained."""
    determining = [provenance.source_hash(RecalRouter), settings, seed, device]
    digest = hashlib.sha256(json.dumps(determining, sort_keys=True).encode())
    for split in splits:
        arms = [str(arm) for arm in split.outcomes.arms]
        described = [split.queries, list(split.outcomes.task_Q), arms, vars(split.objective)]
        digest.update(json.dumps(described).encode())
        digest.update(split.outcomes.score_QA.tobytes() + split.outcomes.cost_QA.tobytes())
    return digest.hexdigest()
