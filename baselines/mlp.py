"""A multilayer perceptron with one hidden layer: score and cost of every arm from the encoding.

The MLP router of RouterBench (Hu et al., arXiv 2403.12031), simplified to one network with all arms as its outputs. The
epoch that is kept is the one of the least squared error of the predicted utility on validation.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from recal_bench.encoders import fit_encoder, installed_encoders
from recal_bench.routers import Context, Predictions, Queries, Train, router
from recal_bench.toolbox.saving import Saved
from recal_bench.toolbox.small_models import copied, epochs, log_errors, train_best, trainable
from recal_bench.toolbox.targets import in_fixed_order, predictions_of, require_validation, targets_of, utility_error

BATCH = 128
PATIENCE = 6
"""Epochs without a smaller validation error after which training stops."""


@router("mlp")
@dataclass
class Mlp(Saved):
    """A neural network that predicts every arm's score and cost, stopped early on validation."""

    LEARNT = ("text_encoder", "layers", "typical_C", "trust_C", "cost_ref")
    deterministic: ClassVar[bool] = False
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "hidden": (64, 256),
        "learning_rate": (1e-4, 3e-4, 1e-3),
        "weight_decay": (0.01, 1.0),
        "encoder": installed_encoders(),
    }

    hidden: Annotated[int, Field(ge=1)] = 256
    learning_rate: Annotated[float, Field(gt=0)] = 3e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    epochs: Annotated[int, Field(ge=1)] = 200
    encoder: str = "tfidf"

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        import torch

        from recal_bench.toolbox.adam import Adam

        train, validation = in_fixed_order(train), in_fixed_order(validation)
        require_validation(validation, "mlp", "stops")
        targets = targets_of(train)
        self.typical_C, self.trust_C, self.cost_ref = targets.typical_C, targets.trust_C, targets.cost_ref
        self.text_encoder = fit_encoder(self.encoder, train.queries.prompt, train.queries.features)
        encoding_QE = torch.from_numpy(self.text_encoder.encode(train.queries.prompt, train.queries.features))
        excess_QC = torch.from_numpy(targets.excess_QC.astype(np.float32))
        known_QC = torch.from_numpy(targets.known_QC)

        generator = torch.Generator().manual_seed(context.seed)
        inputs = encoding_QE.shape[1]
        # The output layer starts at zero: every arm at its typical values, and no arm ahead by its place in the list.
        start = [
            torch.randn(inputs, self.hidden, generator=generator) * (2 / inputs) ** 0.5,
            torch.zeros(self.hidden),
            torch.zeros(self.hidden, excess_QC.shape[1]),
            torch.zeros(excess_QC.shape[1]),
        ]
        layers = trainable(start, "cpu")
        optimizer = Adam(layers, self.learning_rate, decay=self.weight_decay)

        def loss_of(rows: torch.Tensor) -> torch.Tensor:
            output_QC = torch.relu(encoding_QE[rows] @ layers[0] + layers[1]) @ layers[2] + layers[3]
            error_QC = torch.where(known_QC[rows], output_QC - excess_QC[rows], 0.0)
            return error_QC.square().sum() / known_QC[rows].sum().clamp(min=1)

        def look() -> tuple[list[np.ndarray], float]:
            self.layers = copied(layers)
            return self.layers, utility_error(validation, self.predict(validation.queries))

        rounds = epochs(len(encoding_QE), BATCH, self.epochs, generator)
        self.layers = train_best(optimizer, rounds, loss_of, look, log_errors(context.log), patience=PATIENCE)

    def predict(self, queries: Queries) -> Predictions:
        hidden_QH = self.text_encoder.encode(queries.prompt, queries.features) @ self.layers[0] + self.layers[1]
        excess_QC = np.maximum(hidden_QH, 0.0) @ self.layers[2] + self.layers[3]
        return predictions_of(self.typical_C + self.trust_C * excess_QC, self.cost_ref)
