"""A multilayer perceptron with one hidden layer: score and cost of every arm from the encoding.

The MLP router of RouterBench (Hu et al., arXiv 2403.12031), simplified to one network with all arms as its outputs. The
epoch that is kept is the one of the least squared error of the predicted utility on validation.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from recal_bench.encoders import fit_encoder, installed_encoders, load_encoder
from recal_bench.errors import RecalBenchError
from recal_bench.routers import Context, Predictions, Queries, Train, router
from recal_bench.toolbox.targets import in_fixed_order, predictions_of, targets_of

BATCH = 128
PATIENCE = 6
"""Epochs without a smaller validation error after which training stops."""


@router("mlp")
@dataclass
class Mlp:
    """A neural network that predicts every arm's score and cost, stopped early on validation."""

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

        train, validation = in_fixed_order(train), in_fixed_order(validation)
        if not validation.outcomes.observed_QA.any():
            raise RecalBenchError("router mlp needs outcomes in the split validation: it stops by them")
        targets = targets_of(train)
        self.typical_C, self.trust_C, self.cost_ref = targets.typical_C, targets.trust_C, targets.cost_ref
        self.text_encoder = fit_encoder(self.encoder, train.queries.prompt)
        encoding_QE = torch.from_numpy(self.text_encoder.encode(train.queries.prompt))
        excess_QC = torch.from_numpy(targets.excess_QC.astype(np.float32))
        known_QC = torch.from_numpy(targets.known_QC)

        generator = torch.Generator().manual_seed(context.seed)
        inputs = encoding_QE.shape[1]
        # The output layer starts at zero: every arm at its typical values, and no arm ahead by its place in the list.
        layers = [
            torch.randn(inputs, self.hidden, generator=generator) * (2 / inputs) ** 0.5,
            torch.zeros(self.hidden),
            torch.zeros(self.hidden, excess_QC.shape[1]),
            torch.zeros(excess_QC.shape[1]),
        ]
        optimizer = torch.optim.AdamW(
            [layer.requires_grad_() for layer in layers], self.learning_rate, weight_decay=self.weight_decay
        )
        self.layers = best_layers = [layer.detach().numpy().copy() for layer in layers]
        least_error, best_epoch = self._validation_error(validation), 0
        for epoch in range(1, self.epochs + 1):
            losses = []
            for rows in torch.randperm(len(encoding_QE), generator=generator).split(BATCH):
                output_QC = torch.relu(encoding_QE[rows] @ layers[0] + layers[1]) @ layers[2] + layers[3]
                error_QC = torch.where(known_QC[rows], output_QC - excess_QC[rows], 0.0)
                loss = error_QC.square().sum() / known_QC[rows].sum().clamp(min=1)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            self.layers = [layer.detach().numpy().copy() for layer in layers]
            error = self._validation_error(validation)
            context.log({"step": epoch, "train_error": float(np.mean(losses)), "validation_error": error})
            if error < least_error:
                least_error, best_epoch, best_layers = error, epoch, self.layers
            elif epoch - best_epoch >= PATIENCE:
                break
        self.layers = best_layers

    def _validation_error(self, validation: Train) -> float:
        """Mean squared error of the predicted utility, in score units squared."""
        predicted_QA = validation.objective.utility(*self.predict(validation.queries))
        return float(np.nanmean((predicted_QA - validation.utility_QA) ** 2))

    def predict(self, queries: Queries) -> Predictions:
        hidden_QH = self.text_encoder.encode(queries.prompt) @ self.layers[0] + self.layers[1]
        excess_QC = np.maximum(hidden_QH, 0.0) @ self.layers[2] + self.layers[3]
        return predictions_of(self.typical_C + self.trust_C * excess_QC, self.cost_ref)

    def save(self, folder: Path) -> None:
        self.text_encoder.save(folder)
        layers = {f"layer_{number}": layer for number, layer in enumerate(self.layers)}
        np.savez(folder / "mlp.npz", typical_C=self.typical_C, trust_C=self.trust_C, cost_ref=self.cost_ref, **layers)

    def load(self, folder: Path) -> None:
        self.text_encoder = load_encoder(folder)
        with np.load(folder / "mlp.npz", allow_pickle=False) as arrays:
            self.layers = [arrays[f"layer_{number}"] for number in range(4)]
            self.typical_C, self.trust_C = arrays["typical_C"], arrays["trust_C"]
            self.cost_ref = float(arrays["cost_ref"])
