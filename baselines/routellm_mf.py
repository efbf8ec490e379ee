"""RouteLLM's matrix factorisation: which of two arms would win on this query?

Ong, Almahairi, Wu, Chiang, Wu, Gonzalez, Kadous, Stoica, "RouteLLM: Learning to Route LLMs with Preference Data", ICLR
2025, arXiv 2406.18665. An arm's strength on a query is a linear readout of the elementwise product of the arm's
normalised vector and the projected encoding; one arm beats another with probability sigmoid(difference of strengths).
As in the release: 128 factors, noise of 0.1 a coordinate, Adam with weight decay 1e-5, batches of 64, ties left out.

What differs: more than two arms, by all pairs of arms of a query; the strongest arm is chosen, which is expected to
beat any other, so there is no threshold between a weak and a strong model. Preferences come from utilities, not from
people: a cost enters by deciding who won, and by how much. A preference weighs what is at stake, the difference of the
utilities, so that of two arms the likelier winner is the one of the higher expected utility; `weights=equal` counts
every win as one, as the paper does, and so the smallest saving as much as a right answer. A batch is 64 queries with
all their pairs. Logs are smaller than the paper's, so the learning rate is 1e-3, not 3e-4, small logs are cut into
smaller batches, and of at most 100 epochs, as in the release, the one with the least loss on validation is kept. The
projection has a bias, as in the paper's formula; the release has none.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from recal_bench.encoders import fit_encoder, installed_encoders
from recal_bench.routers import Calls, Context, Decisions, Queries, Train, router
from recal_bench.toolbox.bradley_terry import TIE, drawn_to_average
from recal_bench.toolbox.names import named_vectors
from recal_bench.toolbox.saving import Saved
from recal_bench.toolbox.small_models import copied, epochs, train_best, trainable
from recal_bench.toolbox.targets import PRIOR_COUNT, in_fixed_order, require_outcomes, require_validation, unseen_last

BATCH = 64
LEAST_STEPS = 20
"""Steps of an epoch at least: small logs are cut into smaller batches."""
PATIENCE = 10
"""Epochs without a smaller validation loss after which training stops."""
WEIGHT_DECAY = 1e-5


@router("routellm-mf")
@dataclass
class RouteLlmMf(Saved):
    """Matrix factorisation of preferences (RouteLLM): the arm that is likeliest to win on the query."""

    LEARNT = ("text_encoder", "layers", "trust_A")
    deterministic: ClassVar[bool] = False
    compares_arms: ClassVar[bool] = True
    accelerated: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "weights": ("stake", "equal"),
        "learning_rate": (3e-4, 1e-3, 3e-3),
        "noise": (0.03, 0.1),
        "encoder": installed_encoders(),
    }

    factors: Annotated[int, Field(ge=1)] = 128
    weights: Literal["stake", "equal"] = "stake"
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    noise: Annotated[float, Field(ge=0)] = 0.1
    epochs: Annotated[int, Field(ge=1)] = 100
    encoder: str = "tfidf"

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        import torch

        from recal_bench.toolbox.adam import Adam

        train, validation = in_fixed_order(train), in_fixed_order(validation)
        require_outcomes(train)
        require_validation(validation, "routellm-mf", "stops")
        count_A = train.outcomes.observed_QA.sum(axis=0)
        self.trust_A = count_A / (count_A + PRIOR_COUNT)
        self.text_encoder = fit_encoder(self.encoder, train.queries.prompt)
        encoding_QE = torch.from_numpy(self.text_encoder.encode(train.queries.prompt))
        validation_QE = torch.from_numpy(self.text_encoder.encode(validation.queries.prompt)).to(context.device)
        utility_QA = torch.from_numpy(train.utility_QA).to(context.device)
        validation_utility_QA = torch.from_numpy(validation.utility_QA).to(context.device)
        # Only queries that prefer an arm to another have anything to say.
        telling = [self._won(chunk_QA).sum(dim=(1, 2)) > 0 for chunk_QA in torch.split(utility_QA, 1_024)]
        telling_Q = torch.cat(telling).cpu()
        encoding_QE, utility_QA = encoding_QE[telling_Q], utility_QA[telling_Q.to(context.device)]

        generator = torch.Generator().manual_seed(context.seed)
        inputs = encoding_QE.shape[1]
        # The readout starts at zero: all arms level. An arm's vector depends on its name, not on its place in the list.
        start = [
            torch.randn(inputs, self.factors, generator=generator) * inputs**-0.5,
            torch.zeros(self.factors),
            torch.from_numpy(named_vectors(train.outcomes.arms, self.factors, context.seed)),
            torch.zeros(self.factors),
        ]
        layers = trainable(start, context.device)
        optimizer = Adam(layers, self.learning_rate, penalty=WEIGHT_DECAY)
        batch = max(1, min(BATCH, len(encoding_QE) // LEAST_STEPS))

        def loss_of(rows: torch.Tensor) -> Any:
            noisy_QE = encoding_QE[rows] + self.noise * torch.randn(len(rows), inputs, generator=generator)
            strength_QA = strengths(layers, noisy_QE.to(context.device))
            return self._loss(strength_QA, utility_QA[rows.to(context.device)])

        def look() -> tuple[list[np.ndarray], float]:
            with torch.no_grad():
                loss = self._loss(strengths(layers, validation_QE), validation_utility_QA)
            return copied(layers), loss.item()

        def log(step: int, train_loss: float, validation_loss: float) -> None:
            context.log({"step": step, "train_loss": train_loss, "validation_loss": validation_loss})

        rounds = epochs(len(encoding_QE), batch, self.epochs, generator)
        self.layers = train_best(optimizer, rounds, loss_of, look, log, patience=PATIENCE, start_counts=False)

    def _won(self, utility_QA: Any) -> Any:
        """What it weighs that the first arm beats the second, `[Q, A, A]`; 0 where it does not or one is unknown."""
        lead_QAA = (utility_QA[:, :, None] - utility_QA[:, None, :]).nan_to_num(0.0)
        won_QAA = lead_QAA > TIE
        return (lead_QAA * won_QAA if self.weights == "stake" else won_QAA).float()

    def _loss(self, strength_QA: Any, utility_QA: Any) -> Any:
        """Cross-entropy of who wins, a mean over the weighted preferences."""
        from torch.nn.functional import softplus

        won_QAA = self._won(utility_QA)
        surprise_QAA = softplus(strength_QA[:, None, :] - strength_QA[:, :, None])
        return (won_QAA * surprise_QAA).sum() / won_QAA.sum().clamp(min=1e-12)

    def route(self, queries: Queries, calls: Calls) -> Decisions:
        strength_QA = strengths(self.layers, self.text_encoder.encode(queries.prompt)).astype(np.float64)
        return calls.choose(unseen_last(drawn_to_average(strength_QA, self.trust_A), self.trust_A > 0))


def strengths(layers: list[Any], encoding_QE: Any) -> Any:
    """How strong every arm is on every query, up to what all arms have in common: numpy or torch, `[Q, A]`."""
    projection_EF, bias_F, arm_AF, readout_F = layers
    unit_AF = arm_AF / ((arm_AF**2).sum(-1) ** 0.5)[:, None]
    return ((encoding_QE @ projection_EF + bias_F) * readout_F) @ unit_AF.T
