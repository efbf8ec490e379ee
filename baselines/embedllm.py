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
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from recal_bench.encoders import fit_encoder, installed_encoders, load_encoder
from recal_bench.errors import RecalBenchError
from recal_bench.routers import Context, Predictions, Queries, Train, router
from recal_bench.toolbox.names import named_vectors
from recal_bench.toolbox.targets import Targets, in_fixed_order, predictions_of, targets_of
from recal_bench.toolbox.threads import one_thread

BATCH_OUTCOMES = 2_048
WEIGHT_DECAY = 1e-5
LEAST_STEPS = 20
"""Steps of an epoch at least: small logs are cut into smaller batches."""
LEAST_ODDS = 1e-3
"""Typical scores are kept this far from 0 and 1, where log-odds have no end."""
LAYERS = ("projection_EF", "bias_F", "arm_AF", "readout_KF")


@router("embedllm")
@dataclass
class EmbedLlm:
    """Matrix factorisation (EmbedLLM): a learnt vector for each arm meets the projected query."""

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
        train, validation = in_fixed_order(train), in_fixed_order(validation)
        if not validation.outcomes.observed_QA.any():
            raise RecalBenchError("router embedllm needs outcomes in the split validation: it keeps the epoch by them")
        targets = targets_of(train)
        self.typical_C, self.trust_C, self.cost_ref = targets.typical_C, targets.trust_C, targets.cost_ref
        self.text_encoder = fit_encoder(self.encoder, train.queries.prompt)
        with one_thread():
            self._train(train, targets, validation, context)

    def _train(self, train: Train, targets: Targets, validation: Train, context: Context) -> None:
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

        score_QA, arms = train.outcomes.score_QA, len(train.outcomes.arms)
        encoding_QE = torch.from_numpy(self.text_encoder.encode(train.queries.prompt))
        validation_QE = self.text_encoder.encode(validation.queries.prompt)
        known_QC = torch.from_numpy(targets.known_QC).to(context.device)
        excess_QC = torch.from_numpy(targets.excess_QC.astype(np.float32)).to(context.device)
        # Scores are shares of their range, which is that of a probability unless the outcomes go beyond.
        self.range_2 = np.array([min(0.0, np.nanmin(score_QA)), max(1.0, np.nanmax(score_QA))])
        share_QA = torch.from_numpy(np.nan_to_num(self._share(score_QA)).astype(np.float32)).to(context.device)
        offset_A = torch.from_numpy(log_odds(self._share(self.typical_C[:arms])).astype(np.float32)).to(context.device)

        generator = torch.Generator().manual_seed(context.seed)
        inputs, readouts = encoding_QE.shape[1], excess_QC.shape[1] // arms
        # The readouts start at zero: all arms level. An arm's vector hangs on its name, not on its place in the list.
        start = [
            torch.randn(inputs, self.factors, generator=generator) * inputs**-0.5,
            torch.zeros(self.factors),
            torch.from_numpy(named_vectors(train.outcomes.arms, self.factors, context.seed)),
            torch.zeros(readouts, self.factors),
        ]
        layers = [layer.to(context.device).requires_grad_() for layer in start]
        optimizer = torch.optim.Adam(layers, self.learning_rate, weight_decay=WEIGHT_DECAY)
        self.layers = best_layers = [layer.detach().cpu().numpy().copy() for layer in layers]
        least_error = self._error(validation, validation_QE)
        # Where no outcome differs from what is typical there is nothing to learn, and rounding must not decide.
        epochs = self.epochs if np.abs(targets.excess_QC).max() > 1e-9 else 0
        batch = max(1, min(BATCH_OUTCOMES // arms, len(encoding_QE) // LEAST_STEPS))
        for epoch in range(1, epochs + 1):
            losses = []
            for rows in torch.randperm(len(encoding_QE), generator=generator).split(batch):
                noise_QE = self.noise * torch.randn(len(rows), inputs, generator=generator)
                output_QA, *cost_output = outputs(layers, (encoding_QE[rows] + noise_QE).to(context.device))
                rows = rows.to(context.device)
                loss_QA = cross_entropy(offset_A + output_QA, share_QA[rows], reduction="none")
                loss = loss_QA[known_QC[rows, :arms]].sum()
                for cost_QA in cost_output:
                    loss = loss + (cost_QA - excess_QC[rows, arms:])[known_QC[rows, arms:]].square().sum()
                loss = loss / known_QC[rows, :arms].sum().clamp(min=1)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            self.layers = [layer.detach().cpu().numpy().copy() for layer in layers]
            error = self._error(validation, validation_QE)
            context.log({"step": epoch, "train_error": float(np.mean(losses)), "validation_error": error})
            if error < least_error:
                least_error, best_layers = error, self.layers
        self.layers = best_layers

    def _error(self, validation: Train, encoding_QE: np.ndarray) -> float:
        """Mean squared error of the predicted utility on validation, in score units squared."""
        predicted_QA = validation.objective.utility(*self._predictions(encoding_QE))
        return float(np.nanmean((predicted_QA - validation.utility_QA) ** 2))

    def predict(self, queries: Queries) -> Predictions:
        return self._predictions(self.text_encoder.encode(queries.prompt))

    def _predictions(self, encoding_QE: np.ndarray) -> Predictions:
        output = outputs(self.layers, encoding_QE)
        learnt_QC, arms = self.trust_C * np.hstack(output).astype(np.float64), output[0].shape[1]
        value_QC = self.typical_C + learnt_QC
        odds_QA = log_odds(self._share(self.typical_C[:arms])) + learnt_QC[:, :arms]
        value_QC[:, :arms] = self.range_2[0] + np.ptp(self.range_2) / (1 + np.exp(-odds_QA))
        return predictions_of(value_QC, self.cost_ref)

    def _share(self, score: np.ndarray) -> np.ndarray:
        """Where in the range of the train scores a score lies, 0 to 1."""
        return (score - self.range_2[0]) / np.ptp(self.range_2)

    def save(self, folder: Path) -> None:
        self.text_encoder.save(folder)
        kept = dict(zip(LAYERS, self.layers, strict=True))
        kept |= {"typical_C": self.typical_C, "trust_C": self.trust_C, "range_2": self.range_2}
        np.savez(folder / "embedllm.npz", cost_ref=self.cost_ref, **kept)

    def load(self, folder: Path) -> None:
        self.text_encoder = load_encoder(folder)
        with np.load(folder / "embedllm.npz", allow_pickle=False) as arrays:
            self.layers = [arrays[name] for name in LAYERS]
            self.typical_C, self.trust_C, self.range_2 = (arrays[name] for name in ("typical_C", "trust_C", "range_2"))
            self.cost_ref = float(arrays["cost_ref"])


def outputs(layers: list[Any], encoding_QE: Any) -> list[Any]:
    """What each readout makes of every query and arm: numpy arrays or torch tensors, `[Q, A]`."""
    projection_EF, bias_F, arm_AF, readout_KF = layers
    factor_QF = encoding_QE @ projection_EF + bias_F
    return [(factor_QF * readout_F) @ arm_AF.T for readout_F in readout_KF]


def log_odds(probability_A: np.ndarray) -> np.ndarray:
    clipped_A = np.clip(probability_A, LEAST_ODDS, 1 - LEAST_ODDS)
    return np.log(clipped_A / (1 - clipped_A))
