"""Ridge regression: score and cost of every arm as linear functions of the encoding.

Predict, then choose what has the highest utility: the plainest learned router.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from recal_bench.encoders import fit_encoder, installed_encoders, load_encoder
from recal_bench.routers import Context, Predictions, Queries, Train, router
from recal_bench.toolbox.targets import in_fixed_order, linear_inputs, predictions_of, targets_of


@router("ridge")
@dataclass
class Ridge:
    """Linear prediction of every arm's score and cost, by least squares with a penalty.

    `penalty` is in queries: an arm with far fewer outcomes than that stays near its typical score and cost.
    """

    deterministic: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "penalty": (3.0, 10.0, 30.0, 100.0),
        "encoder": installed_encoders(),
    }

    penalty: Annotated[float, Field(gt=0)] = 30.0
    encoder: str = "tfidf"

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        train = in_fixed_order(train)
        targets = targets_of(train)
        self.text_encoder = fit_encoder(self.encoder, train.queries.prompt)
        input_QE = linear_inputs(self.text_encoder, train.queries)
        # The constant is penalised too: few outcomes move an arm's level little.
        self.weight_EC = np.zeros((input_QE.shape[1], len(targets.typical_C)))
        # Arms observed on the same queries share one solve: all of them, where nothing is missing.
        patterns, pattern_C = np.unique(targets.known_QC, axis=1, return_inverse=True)
        for number, known_Q in enumerate(patterns.T):
            columns, known_QE = np.flatnonzero(pattern_C == number), input_QE[known_Q]
            gram_EE = known_QE.T @ known_QE + self.penalty * np.eye(input_QE.shape[1])
            excess_QC = targets.excess_QC[np.ix_(known_Q, columns)]
            self.weight_EC[:, columns] = np.linalg.solve(gram_EE, known_QE.T @ excess_QC)
        self.typical_C, self.cost_ref = targets.typical_C, targets.cost_ref

    def predict(self, queries: Queries) -> Predictions:
        excess_QC = linear_inputs(self.text_encoder, queries) @ self.weight_EC
        return predictions_of(self.typical_C + excess_QC, self.cost_ref)

    def save(self, folder: Path) -> None:
        self.text_encoder.save(folder)
        np.savez(folder / "ridge.npz", weight_EC=self.weight_EC, typical_C=self.typical_C, cost_ref=self.cost_ref)

    def load(self, folder: Path) -> None:
        self.text_encoder = load_encoder(folder)
        with np.load(folder / "ridge.npz", allow_pickle=False) as arrays:
            self.weight_EC, self.typical_C = arrays["weight_EC"], arrays["typical_C"]
            self.cost_ref = float(arrays["cost_ref"])
