"""IRT-Router: item response theory, with arms as the persons tested and queries as the items.

Song, Huang, Cheng, Gao, Xu, Zhao, Wang, Wu, "IRT-Router: Effective and Interpretable Multi-LLM Routing via Item
Response Theory", ACL 2025, arXiv 2506.01048: its multidimensional variant, MIRT-Router. An arm is right with
probability sigmoid(a . theta - b): its abilities theta, weighed by how much the query asks for each (discrimination
a >= 0), against the query's difficulty b; a and b are linear in the encoding, a through softplus. A new query is warmed
up: its encoding is drawn towards the mean of the most similar train queries. An arm's cost is fixed, whatever is asked.
As in the paper and its release: 25 abilities, Adam at 1e-3, 512 outcomes a batch, cross-entropy, warm-up by 0.3.

What differs: the paper maps an embedded description of each model to its abilities; outcomes hold none, so abilities
are free. They add to the log-odds of the arm's typical score, trusted by the arm's number of outcomes. Encodings are
scaled to unit variance, as BERT's about are, and the linear maps have biases. The number of warm-up neighbours is ours.
The release runs 9 epochs over half a million outcomes; here small logs are cut into smaller batches, and of 30 epochs
the one with the least error on validation is kept. The neural variant, NIRT-Router, is left out.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from recal_bench.encoders import fit_encoder, installed_encoders
from recal_bench.nearest import most_similar
from recal_bench.routers import Context, Predictions, Queries, Train, router
from recal_bench.toolbox.log_odds import log_odds, score_of, score_range, share_of
from recal_bench.toolbox.neighbours import chunks
from recal_bench.toolbox.saving import Saved
from recal_bench.toolbox.sharing import on_threads
from recal_bench.toolbox.small_models import copied, epochs, log_errors, train_best, trainable
from recal_bench.toolbox.targets import in_fixed_order, predictions_of, require_validation, targets_of

BATCH_OUTCOMES = 512
NEIGHBOURS = 10
LEAST_STEPS = 20
"""Steps of an epoch at least: small logs are cut into smaller batches."""


@router("irt")
@dataclass
class Irt(Saved):
    """Item response theory (IRT-Router): abilities of arms against discrimination and difficulty of the query."""

    LEARNT = ("text_encoder", "layers", "memory_NE", "typical_C", "trust_C", "range_2", "cost_ref")
    deterministic: ClassVar[bool] = False
    accelerated: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "dimensions": (5, 25),
        "learning_rate": (3e-4, 1e-3, 3e-3),
        "warm_up": (0.0, 0.3, 0.6),
        "encoder": installed_encoders(),
    }

    dimensions: Annotated[int, Field(ge=1)] = 25
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    warm_up: Annotated[float, Field(ge=0, le=1)] = 0.3
    epochs: Annotated[int, Field(ge=1)] = 30
    encoder: str = "tfidf"

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy
        from torch.nn.functional import softplus

        from recal_bench.toolbox.adam import Adam

        train, validation = in_fixed_order(train), in_fixed_order(validation)
        require_validation(validation, "irt", "keeps the epoch")
        targets = targets_of(train)
        self.typical_C, self.trust_C, self.cost_ref = targets.typical_C, targets.trust_C, targets.cost_ref
        self.text_encoder = fit_encoder(self.encoder, train.queries.prompt)
        self.memory_NE = self.text_encoder.encode(train.queries.prompt)
        score_QA, arms = train.outcomes.score_QA, len(train.outcomes.arms)
        encoding_QE = torch.from_numpy(scaled(self.memory_NE)).to(context.device)
        validation_QE = self._warmed_up(self.text_encoder.encode(validation.queries.prompt))
        known_QA = torch.from_numpy(train.outcomes.observed_QA).to(context.device)
        # Scores are shares of their range, which is that of a probability unless the outcomes go beyond.
        self.range_2 = score_range(score_QA)
        known_share_QA = np.nan_to_num(share_of(score_QA, self.range_2)).astype(np.float32)
        share_QA = torch.from_numpy(known_share_QA).to(context.device)
        offset_A = torch.from_numpy(log_odds(self.typical_C[:arms], self.range_2).astype(np.float32)).to(context.device)

        generator = torch.Generator().manual_seed(context.seed)
        inputs = encoding_QE.shape[1]
        # Abilities and difficulties start at zero: every arm at its typical score, none ahead by its place in the list.
        start = [
            torch.zeros(arms, self.dimensions),
            torch.randn(inputs, self.dimensions, generator=generator) * inputs**-0.5,
            torch.zeros(self.dimensions),
            torch.zeros(inputs),
            torch.zeros(()),
        ]
        layers = trainable(start, context.device)
        optimizer = Adam(layers, self.learning_rate)
        # Where no score differs from what is typical there is nothing to learn, and rounding must not decide.
        count = self.epochs if np.nanmax(np.abs(score_QA - self.typical_C[:arms])) > 1e-9 else 0
        batch = max(1, min(BATCH_OUTCOMES // arms, len(encoding_QE) // LEAST_STEPS))

        def loss_of(rows: torch.Tensor) -> torch.Tensor:
            rows = rows.to(context.device)
            specific_QA, difficulty_Q1 = responses(layers, encoding_QE[rows], softplus)
            loss_QA = cross_entropy(offset_A + specific_QA - difficulty_Q1, share_QA[rows], reduction="none")
            return loss_QA[known_QA[rows]].sum() / known_QA[rows].sum().clamp(min=1)

        def look() -> tuple[list[np.ndarray], float]:
            self.layers = copied(layers)
            return self.layers, self._error(validation, validation_QE)

        rounds = epochs(len(encoding_QE), batch, count, generator)
        self.layers = train_best(optimizer, rounds, loss_of, look, log_errors(context.log))

    def _error(self, validation: Train, input_QE: np.ndarray) -> float:
        """Mean squared error of the predicted score on validation: the costs are fixed."""
        score_QA = self._predictions(input_QE).score_QA
        return float(np.nanmean((score_QA - validation.outcomes.score_QA) ** 2))

    def predict(self, queries: Queries) -> Predictions:
        return self._predictions(self._warmed_up(self.text_encoder.encode(queries.prompt)))

    def _warmed_up(self, encoding_QE: np.ndarray) -> np.ndarray:
        """The encodings drawn towards the mean of their nearest train queries, and scaled."""

        def drawn(rows: slice) -> np.ndarray:
            mean_QE = self.memory_NE[most_similar(encoding_QE[rows], self.memory_NE, NEIGHBOURS).row_QK].mean(axis=1)
            return np.asarray((1 - self.warm_up) * encoding_QE[rows] + self.warm_up * mean_QE)

        return scaled(np.concatenate([encoding_QE[:0], *on_threads(drawn, chunks(len(encoding_QE)))]))

    def _predictions(self, input_QE: np.ndarray) -> Predictions:
        specific_QA, difficulty_Q1 = responses(self.layers, input_QE, lambda value: np.logaddexp(value, 0.0))
        arms = specific_QA.shape[1]
        odds_QA = log_odds(self.typical_C[:arms], self.range_2) + self.trust_C[:arms] * specific_QA - difficulty_Q1
        value_QC = np.tile(self.typical_C, (len(input_QE), 1))
        value_QC[:, :arms] = score_of(odds_QA, self.range_2)
        return predictions_of(value_QC, self.cost_ref)


def responses(layers: list[Any], input_QE: Any, softplus: Any) -> tuple[Any, Any]:
    """What its abilities bring each arm on every query, `[Q, A]`, and the queries' difficulty, `[Q, 1]`; log-odds."""
    ability_AD, discrimination_ED, discrimination_bias_D, difficulty_E, difficulty_bias = layers
    discrimination_QD = softplus(input_QE @ discrimination_ED + discrimination_bias_D)
    return discrimination_QD @ ability_AD.T, (input_QE @ difficulty_E + difficulty_bias)[:, None]


def scaled(encoding_QE: np.ndarray) -> np.ndarray:
    """Rows of unit length become rows whose coordinates have a mean square of one."""
    return np.asarray(encoding_QE * np.float32(encoding_QE.shape[1] ** 0.5))
