"""EmbedLLM: one vector for each arm, learnt by factorising the matrix query x arm.

Zhuang, Wu, Wen, Li, Jiao, Ramchandran, "EmbedLLM: Learning Compact Representations of Large Language Models", ICLR
2025, arXiv 2410.02223. The query's encoding is projected to as many factors as an arm's vector has; a linear classifier
of their elementwise product says whether the arm is right. Noise on the encoding regularises. As in the release: 232
factors, noise of 0.05 a coordinate, Adam with weight decay 1e-5, 2,048 outcomes a batch, 50 epochs, cross-entropy.

What differs: a second readout of the same product predicts the cost (squared error), which the paper leaves out. An
arm's log-odds start at those of its typical score, and what is learnt on top is trusted by its number of outcomes.
Graded scores are soft labels. The release takes 1,600 steps an epoch at a learning rate of 1e-4, a log of some thousand
queries gives 20 to 50: so the rate is 1e-3, small logs are cut into smaller batches, and of the 50 epochs the one with
the least error on validation is kept.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from recal_bench.encoders import fit_encoder, installed_encoders
from recal_bench.routers import Context, Predictions, Queries, Train, router
from recal_bench.toolbox.log_odds import log_odds, score_of, score_range, share_of
from recal_bench.toolbox.names import named_vectors
from recal_bench.toolbox.saving import Saved
from recal_bench.toolbox.small_models import copied, epochs, log_errors, train_best, trainable
from recal_bench.toolbox.targets import in_fixed_order, predictions_of, require_validation, targets_of, utility_error

BATCH_OUTCOMES = 2_048
WEIGHT_DECAY = 1e-5
LEAST_STEPS = 20
"""Steps of an epoch at least: small logs are cut into smaller batches."""


@router("embedllm")
@dataclass
class EmbedLlm(Saved):
    """Matrix factorisation (EmbedLLM): a learnt vector for each arm meets the projected query."""

    LEARNT = ("text_encoder", "layers", "typical_C", "trust_C", "range_2", "cost_ref")
    deterministic: ClassVar[bool] = False
    accelerated: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "factors": (32, 232),
        "learning_rate": (3e-4, 1e-3, 3e-3),
        "noise": (0.02, 0.05, 0.1),
        "encoder": installed_encoders(),
    }

    factors: Annotated[int, Field(ge=1)] = 232
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    noise: Annotated[float, Field(ge=0)] = 0.05
    epochs: Annotated[int, Field(ge=1)] = 50
    encoder: str = "tfidf"

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

        from recal_bench.toolbox.adam import Adam

        train, validation = in_fixed_order(train), in_fixed_order(validation)
        require_validation(validation, "embedllm", "keeps the epoch")
        targets = targets_of(train)
        self.typical_C, self.trust_C, self.cost_ref = targets.typical_C, targets.trust_C, targets.cost_ref
        self.text_encoder = fit_encoder(self.encoder, train.queries.prompt)

        score_QA, arms = train.outcomes.score_QA, len(train.outcomes.arms)
        encoding_QE = torch.from_numpy(self.text_encoder.encode(train.queries.prompt))
        validation_QE = self.text_encoder.encode(validation.queries.prompt)
        known_QC = torch.from_numpy(targets.known_QC).to(context.device)
        excess_QC = torch.from_numpy(targets.excess_QC.astype(np.float32)).to(context.device)
        # Scores are shares of their range, which is that of a probability unless the outcomes go beyond.
        self.range_2 = score_range(score_QA)
        known_share_QA = np.nan_to_num(share_of(score_QA, self.range_2)).astype(np.float32)
        share_QA = torch.from_numpy(known_share_QA).to(context.device)
        offset_A = torch.from_numpy(log_odds(self.typical_C[:arms], self.range_2).astype(np.float32)).to(context.device)

        generator = torch.Generator().manual_seed(context.seed)
        inputs, readouts = encoding_QE.shape[1], excess_QC.shape[1] // arms
        # The readouts start at zero: all arms level. An arm's vector depends on its name, not on its place in the list.
        start = [
            torch.randn(inputs, self.factors, generator=generator) * inputs**-0.5,
            torch.zeros(self.factors),
            torch.from_numpy(named_vectors(train.outcomes.arms, self.factors, context.seed)),
            torch.zeros(readouts, self.factors),
        ]
        layers = trainable(start, context.device)
        optimizer = Adam(layers, self.learning_rate, penalty=WEIGHT_DECAY)
        # Where no outcome differs from what is typical there is nothing to learn, and rounding must not decide.
        count = self.epochs if np.abs(targets.excess_QC).max() > 1e-9 else 0
        batch = max(1, min(BATCH_OUTCOMES // arms, len(encoding_QE) // LEAST_STEPS))

        def loss_of(rows: torch.Tensor) -> torch.Tensor:
            noise_QE = self.noise * torch.randn(len(rows), inputs, generator=generator)
            output_QA, *cost_output = outputs(layers, (encoding_QE[rows] + noise_QE).to(context.device))
            rows = rows.to(context.device)
            loss_QA = cross_entropy(offset_A + output_QA, share_QA[rows], reduction="none")
            loss = loss_QA[known_QC[rows, :arms]].sum()
            for cost_QA in cost_output:
                loss = loss + (cost_QA - excess_QC[rows, arms:])[known_QC[rows, arms:]].square().sum()
            return loss / known_QC[rows, :arms].sum().clamp(min=1)

        def look() -> tuple[list[np.ndarray], float]:
            self.layers = copied(layers)
            return self.layers, utility_error(validation, self._predictions(validation_QE))

        rounds = epochs(len(encoding_QE), batch, count, generator)
        self.layers = train_best(optimizer, rounds, loss_of, look, log_errors(context.log))

    def predict(self, queries: Queries) -> Predictions:
        return self._predictions(self.text_encoder.encode(queries.prompt))

    def _predictions(self, encoding_QE: np.ndarray) -> Predictions:
        output = outputs(self.layers, encoding_QE)
        learnt_QC, arms = self.trust_C * np.hstack(output).astype(np.float64), output[0].shape[1]
        value_QC = self.typical_C + learnt_QC
        odds_QA = log_odds(self.typical_C[:arms], self.range_2) + learnt_QC[:, :arms]
        value_QC[:, :arms] = score_of(odds_QA, self.range_2)
        return predictions_of(value_QC, self.cost_ref)


def outputs(layers: list[Any], encoding_QE: Any) -> list[Any]:
    """What each readout makes of every query and arm: numpy arrays or torch tensors, `[Q, A]`."""
    projection_EF, bias_F, arm_AF, readout_KF = layers
    factor_QF = encoding_QE @ projection_EF + bias_F
    return [(factor_QF * readout_F) @ arm_AF.T for readout_F in readout_KF]
