"""Route-To-Reason: a vector for every model and one for every strategy; their arm's score and cost on a query follow.

Pan, Zhang, Zhao, Han, "Route to Reason: Adaptive Routing for LLM and Reasoning Strategy Selection" (arXiv 2505.19435).
Two networks with one hidden layer read the query's, the model's and the strategy's embedding: one predicts whether the
answer is right, the other how long it is. Length measures cost, and the router trades one for the other. As an arm is
a model's embedding beside a strategy's, what is learnt of a model under one strategy serves it under all others, and a
combination never seen can be predicted.

Simplified: the second network predicts the cost itself. The first one is fitted by squared error, as scores need not be
0 or 1. The paper's embeddings are a description's encoding beside a trained vector; logs have names only, so here they
are trained vectors alone, and live in the hidden layer, where the first layer would put them. Networks learn by what an
arm's outcome exceeds its typical value, in proportion to how often its model and its strategy were seen. An unseen
combination's typical value is the sum of a model's and a strategy's effect (for costs the product).

As in the authors' code: Adam at 1e-3 without weight decay, and five evaluations without progress before training stops.
Here they come after every epoch, not every third, and judge both networks at once, by the utility. A batch holds all
arms of 32 queries, where theirs holds 32 or 64 pairs of a query and an arm. The hidden layer has 128 units, where
theirs has 768, to be trained in seconds. Vectors start as small as a query's part of the hidden layer, so that all arms
start alike: what is unlike from the start is not shared.
"""

import hashlib
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from recal_bench.encoders import fit_encoder, installed_encoders
from recal_bench.routers import Context, Predictions, Queries, Train, router
from recal_bench.toolbox.neighbours import chunks
from recal_bench.toolbox.saving import Saved
from recal_bench.toolbox.small_models import copied, epochs, log_errors, train_best
from recal_bench.toolbox.targets import (
    PRIOR_COUNT,
    in_fixed_order,
    name_order,
    predictions_of,
    require_validation,
    targets_of,
    utility_error,
)

BATCH = 32
"""Queries in a batch, each with all its arms."""
PATIENCE = 5
"""Epochs without a smaller validation error after which training stops."""
CHUNK = 256
"""Queries whose hidden layers are held in memory at once."""


@router("rtr")
@dataclass
class RouteToReason(Saved):
    """Networks that predict an arm's score and cost from embeddings of the query, the model and the strategy."""

    LEARNT = ("text_encoder", "model_A", "strategy_A", "place_A", "level_HA", "trust_A", "cost_ref", "networks")
    deterministic: ClassVar[bool] = False
    accelerated: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "hidden": (64, 128, 256),
        "learning_rate": (3e-4, 1e-3, 3e-3),
        "weight_decay": (0.0, 0.1, 1.0),
        "encoder": installed_encoders(),
    }

    hidden: Annotated[int, Field(ge=1)] = 128
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    epochs: Annotated[int, Field(ge=1)] = 50
    encoder: str = "tfidf"

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        require_validation(validation, "rtr", "stops")
        train, validation = in_fixed_order(train), in_fixed_order(validation)
        # Arms in the order of their names, so that no sum depends on the order in which they are given.
        order_A = name_order(train.outcomes.arms)
        self.place_A = np.argsort(order_A)
        train = train._replace(outcomes=train.outcomes.take_arms(order_A))
        arms = train.outcomes.arms
        models, self.model_A = np.unique([arm.model for arm in arms], return_inverse=True)
        strategies, self.strategy_A = np.unique([arm.strategy for arm in arms], return_inverse=True)
        targets = targets_of(train)
        self.cost_ref = targets.cost_ref
        self._set_levels(targets.typical_C.reshape(-1, len(arms)), train.outcomes.observed_QA.sum(axis=0))
        self.text_encoder = fit_encoder(self.encoder, train.queries.prompt)
        value_HQA = np.moveaxis(targets.value_QC.reshape(len(targets.value_QC), -1, len(arms)), 1, 0)
        encoding_QE = self.text_encoder.encode(train.queries.prompt)
        self.networks = [self._untrained(models, strategies, encoding_QE.shape[1], context.seed, head) for head in "sc"]
        self.networks = self.networks[: len(value_HQA)]
        self._train(encoding_QE, value_HQA - self.level_HA[:, None], validation, context)

    def _set_levels(self, typical_HA: np.ndarray, count_A: np.ndarray) -> None:
        """What an arm is worth on average, and how far to follow what the networks add to that."""
        model_AM, strategy_AS = (kind_A[:, None] == np.unique(kind_A) for kind_A in (self.model_A, self.strategy_A))
        outcomes_A = np.minimum(model_AM @ (model_AM.T @ count_A), strategy_AS @ (strategy_AS.T @ count_A))
        self.trust_A = outcomes_A / (outcomes_A + PRIOR_COUNT)
        self.level_HA, seen_A = typical_HA.copy(), count_A > 0
        new_A = ~seen_A & (outcomes_A > 0)
        effects_AX = np.hstack([model_AM, strategy_AS]).astype(np.float64)
        for head, typical_A in enumerate(typical_HA):
            as_product = head == 1 and (typical_A > 0).all()
            value_A = np.log(typical_A) if as_product else typical_A
            effect_X = np.linalg.lstsq(effects_AX[seen_A], value_A[seen_A], rcond=None)[0]
            expected_A = np.clip(effects_AX @ effect_X, value_A[seen_A].min(), value_A[seen_A].max())
            self.level_HA[head, new_A] = (np.exp(expected_A) if as_product else expected_A)[new_A]

    def _untrained(
        self, models: np.ndarray, strategies: np.ndarray, inputs: int, seed: int, head: str
    ) -> dict[str, np.ndarray]:
        """Parameters drawn by seed and name. The last layer starts at 0: every arm at its typical value."""

        def drawn(kind: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
            digest = hashlib.sha256(f"{seed}\n{head}\n{kind}\n{name}".encode()).digest()
            generator = np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))
            return generator.normal(scale=(2 / inputs) ** 0.5, size=shape).astype(np.float32)

        return {
            "query_EH": drawn("query", "", (inputs, self.hidden)),
            "model_MH": np.stack([drawn("model", name, (self.hidden,)) for name in models]),
            "strategy_SH": np.stack([drawn("strategy", name, (self.hidden,)) for name in strategies]),
            "last_H": np.zeros(self.hidden, dtype=np.float32),
            "bias": np.zeros(1, dtype=np.float32),
        }

    def _train(self, encoding_QE: np.ndarray, excess_HQA: np.ndarray, validation: Train, context: Context) -> None:
        import torch

        from recal_bench.toolbox.adam import Adam

        device = torch.device(context.device)
        known_QA = torch.from_numpy(~np.isnan(excess_HQA[0])).to(device)
        excess = [torch.from_numpy(np.nan_to_num(each_QA).astype(np.float32)).to(device) for each_QA in excess_HQA]
        inputs = torch.from_numpy(encoding_QE).to(device)
        model_A, strategy_A = (torch.from_numpy(kind_A).to(device) for kind_A in (self.model_A, self.strategy_A))
        networks = [
            {name: torch.from_numpy(array.copy()).to(device).requires_grad_() for name, array in network.items()}
            for network in self.networks
        ]
        parameters = [parameter for network in networks for parameter in network.values()]
        optimizer = Adam(parameters, self.learning_rate, decay=self.weight_decay)
        generator = torch.Generator().manual_seed(context.seed)
        held_out_QE = self.text_encoder.encode(validation.queries.prompt)

        def loss_of(rows: torch.Tensor) -> torch.Tensor:
            rows = rows.to(device)
            loss = torch.zeros((), device=device)
            for network, excess_QA in zip(networks, excess, strict=True):
                arm_AH = network["model_MH"][model_A] + network["strategy_SH"][strategy_A]
                hidden_QAH = torch.relu((inputs[rows] @ network["query_EH"])[:, None] + arm_AH)
                error_QA = hidden_QAH @ network["last_H"] + network["bias"] - excess_QA[rows]
                loss = loss + torch.where(known_QA[rows], error_QA, 0.0).square().sum()
            return loss / known_QA[rows].sum().clamp(min=1)

        def look() -> tuple[list[dict[str, np.ndarray]], float]:
            self.networks = [dict(zip(network, copied(network.values()), strict=True)) for network in networks]
            return self.networks, utility_error(validation, self._predictions(held_out_QE))

        rounds = epochs(len(inputs), BATCH, self.epochs, generator)
        self.networks = train_best(optimizer, rounds, loss_of, look, log_errors(context.log), patience=PATIENCE)

    def predict(self, queries: Queries) -> Predictions:
        return self._predictions(self.text_encoder.encode(queries.prompt))

    def _predictions(self, encoding_QE: np.ndarray) -> Predictions:
        value_HQA = np.tile(self.level_HA[:, None], (1, len(encoding_QE), 1))
        for value_QA, network in zip(value_HQA, self.networks, strict=True):
            arm_AH = network["model_MH"][self.model_A] + network["strategy_SH"][self.strategy_A]
            for rows in chunks(len(encoding_QE), CHUNK):
                hidden_QAH = np.maximum((encoding_QE[rows] @ network["query_EH"])[:, None] + arm_AH, 0.0)
                value_QA[rows] += self.trust_A * (hidden_QAH @ network["last_H"] + network["bias"])
        return predictions_of(np.hstack(list(value_HQA[:, :, self.place_A])), self.cost_ref)
