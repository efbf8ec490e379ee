"""The ReCal router: rewards, calibration, policy and loop, readable in one go. See docs/recal.md.

ReCal (arXiv 2606.12479) is known to us by its abstract; what follows is a reconstruction. `grpo` and `dr-grpo` are the
same policy, prior and loop with another calibration, so that differences between the three are the calibration's.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from recal_bench import provenance
from recal_bench.calibration.pipeline import Calibration
from recal_bench.encoders import installed_encoders
from recal_bench.errors import RecalBenchError
from recal_bench.outcomes import Arm
from recal_bench.rewards import Reward
from recal_bench.routers import Calls, Context, Decisions, Queries, Train, router, settings_of
from recal_bench.targets import in_fixed_order
from recal_bench.training.settings import Optimisation
from recal_bench.training.threads import one_thread

if TYPE_CHECKING:
    from torch import Tensor

    from recal_bench.training.learner import Examples


@dataclass
class Prior:
    """Where the policy starts: `scale` times each arm's mean utility on the `k` nearest train queries, or nowhere."""

    kind: Literal["knn", "none"] = "knn"
    k: PositiveInt = 500
    scale: PositiveFloat = 30.0


@router(
    "dr-grpo",
    "ReCal's policy and loop on the summed reward, calibrated as Dr. GRPO: reward minus the group's mean",
    calibration__components=False,
    calibration__standardise=False,
    calibration__keep_utility=False,
    calibration__floor=0.0,
    calibration__reweighting=False,
    calibration__dataset_norm=False,
)
@router(
    "grpo",
    "ReCal's policy and loop on the summed reward, calibrated as GRPO: z-score within the group",
    calibration__components=False,
    calibration__keep_utility=False,
    calibration__floor=0.0,
    calibration__reweighting=False,
    calibration__dataset_norm=False,
)
@router(
    "recal-plain",
    "ReCal without keeping the components' exchange rate: the reconstruction taken at its word, for the ablation",
    calibration__keep_utility=False,
)
@router("recal", "RL on calibrated rewards: advantages by component, variance-aware weights, a scale for each task")
@dataclass
class RecalRouter(Optimisation):
    """A policy over arms, trained by RL on what the arms it draws score and cost.

    encoder      text to vectors: tfidf, minilm or tfidf+minilm
    reward       `components`, or `router-r1`: that system's own scalar, for training only
    cost_gate    the cost counts only where the answer is right
    hidden       units of the policy's one hidden layer
    malformed    how often the untrained policy's actions are malformed
    """

    deterministic: ClassVar[bool] = False
    accelerated: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "encoder": tuple(name for name in installed_encoders() if name.startswith("tfidf")),
        "prior.k": (100, 500),
        "prior.scale": (20.0, 30.0, 50.0),
        "learning_rate": (3e-4, 7e-4, 2e-3),
    }

    encoder: Literal["tfidf", "minilm", "tfidf+minilm"] = "tfidf"
    reward: Literal["components", "router-r1"] = "components"
    cost_gate: bool = False
    hidden: PositiveInt = 64
    malformed: Annotated[float, Field(gt=0, lt=1)] = 0.2
    prior: Prior = field(default_factory=Prior)
    calibration: Calibration = field(default_factory=Calibration)

    arms: tuple[Arm, ...] = field(init=False, default=())
    _encoder: Any = field(init=False, default=None, repr=False)
    _policy: Any = field(init=False, default=None, repr=False)
    _memory: Any = field(init=False, default=None, repr=False)

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        """Train on the arms' logged outcomes. Raises RecalBenchError where `reward=router-r1` finds no cost."""
        import torch

        from recal_bench.encoders import fit_encoder
        from recal_bench.policies.encoder_policy import EncoderPolicy
        from recal_bench.training.learner import Learner
        from recal_bench.training.loop import train as run_loop

        objective = train.objective
        if self.reward == "router-r1" and not objective.has_cost:
            raise RecalBenchError("reward=router-r1 needs the cost of every outcome: use reward=components")
        train, validation = _learnable(train), _learnable(validation)
        self.arms = train.outcomes.arms
        self._encoder = fit_encoder(self.encoder, train.queries.prompt)
        embedding_QE = self._embed(train.queries)
        if self.prior.kind == "knn":
            self._memory = (embedding_QE, torch.tensor(train.utility_QA, dtype=torch.float32))

        generator = torch.Generator().manual_seed(context.seed)
        size = embedding_QE.shape[1]
        self._policy = EncoderPolicy(self.arms, size, self.hidden, self.malformed, generator).to(context.device)
        learner = Learner(
            policy=self._policy,
            reward=Reward(self.reward, objective.alpha, objective.has_cost, self.cost_gate),
            calibration=self.calibration,
            settings=self,
            tasks=train.outcomes.tasks,
            cost_ref=objective.cost_ref,
            generator=generator,
        )
        run_loop(
            learner,
            self._examples(train, embedding_QE, context.device, leave_out=True),
            self._examples(validation, self._embed(validation.queries), context.device),
            context,
            _digest(settings_of(self), context.seed, context.device, train, validation),
        )
        self._policy = self._policy.cpu().eval()

    def route(self, queries: Queries, calls: Calls) -> Decisions:
        """The likeliest available arm of each query, given that the action is well-formed."""
        import torch

        column = {arm: index for index, arm in enumerate(self.arms)}
        unknown = [str(arm) for arm in calls.arms if arm not in column]
        if unknown:
            raise RecalBenchError(f"this router was not trained on the arms {', '.join(unknown)}: train it on them")
        embedding_QE = self._embed(queries)
        with torch.no_grad(), one_thread():
            prior_QA = self._prior(embedding_QE)
            actions = self._policy(embedding_QE, prior_QA, torch.ones_like(prior_QA, dtype=torch.bool))
        log_arm_QA = actions.log_arm_QA.double().numpy()
        return calls.choose(log_arm_QA[:, [column[arm] for arm in calls.arms]])

    def save(self, folder: Path) -> None:
        """Keep what `route` needs: `policy.safetensors`, `arms.json` and the encoder."""
        from safetensors.torch import save_file

        tensors = {f"policy.{name}": value for name, value in self._policy.state_dict().items()}
        if self._memory is not None:
            tensors |= {"memory.embedding_NE": self._memory[0], "memory.utility_NA": self._memory[1]}
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "policy.safetensors")
        (folder / "arms.json").write_text(json.dumps([list(arm) for arm in self.arms]) + "\n", encoding="utf-8")
        self._encoder.save(folder / "encoder")

    def load(self, folder: Path) -> None:
        """Take up what `save` kept. Raises RecalBenchError where a file is missing or damaged."""
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from recal_bench.encoders import load_encoder
        from recal_bench.policies.encoder_policy import EncoderPolicy

        try:
            tensors = load_file(folder / "policy.safetensors")
            self.arms = tuple(Arm(*arm) for arm in json.loads((folder / "arms.json").read_text(encoding="utf-8")))
            state = {name[7:]: value for name, value in tensors.items() if name.startswith("policy.")}
            hidden, size = state["first.weight"].shape
            self._policy = EncoderPolicy(self.arms, size, hidden, self.malformed, torch.Generator()).eval()
            self._policy.load_state_dict(state)
        except (OSError, SafetensorError, ValueError, TypeError, KeyError, RuntimeError) as error:
            raise RecalBenchError(f"{folder} holds no usable policy: run the router again with --fresh") from error
        self._encoder = load_encoder(folder / "encoder")
        if "memory.embedding_NE" in tensors:
            self._memory = (tensors["memory.embedding_NE"], tensors["memory.utility_NA"])

    def _embed(self, queries: Queries) -> Tensor:
        """Embeddings of unit length, `[Q, E]`."""
        import torch

        return torch.nn.functional.normalize(torch.from_numpy(self._encoder.encode(queries.prompt)), dim=1)

    def _prior(self, embedding_QE: Tensor, prompt_Q: Tensor | None = None) -> Tensor:
        """The policy's logits before training, `[Q, A]`; with `prompt_Q` (train) each prompt itself left out."""
        from recal_bench.policies.prior import neighbour_means

        if self._memory is None:
            return embedding_QE.new_zeros((len(embedding_QE), len(self.arms)))
        memory_NE, utility_NA = self._memory
        return self.prior.scale * neighbour_means(embedding_QE, memory_NE, utility_NA, self.prior.k, prompt_Q)

    def _examples(self, split: Train, embedding_QE: Tensor, device: str, leave_out: bool = False) -> Examples:
        import torch

        from recal_bench.policies.prior import prompt_numbers
        from recal_bench.training.learner import Examples

        outcomes, objective = split.outcomes, split.objective
        prior_QA = self._prior(
            embedding_QE,
            prompt_numbers(split.queries.prompt) if leave_out else None,
        )

        def values(value_QA: np.ndarray) -> Tensor:
            return torch.tensor(np.where(outcomes.observed_QA, value_QA, 0.0), dtype=torch.float32, device=device)

        return Examples(
            embedding_QE=embedding_QE.to(device),
            prior_QA=prior_QA.to(device),
            available_QA=torch.tensor(outcomes.observed_QA, device=device),
            score_QA=values(outcomes.score_QA),
            cost_QA=values(outcomes.cost_QA / objective.cost_ref) if objective.cost_ref is not None else None,
            utility_QA=values(split.utility_QA),
            dataset_Q=torch.tensor(np.unique(outcomes.task_Q.astype(str), return_inverse=True)[1], device=device),
        )


def _learnable(split: Train) -> Train:
    """The queries that have an outcome at all, in an order that does not depend on the file's."""
    rows = np.flatnonzero(split.outcomes.observed_QA.any(axis=1))
    if not len(rows):
        raise RecalBenchError("train or validation holds no outcome to learn from: give outcomes with scores")
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
