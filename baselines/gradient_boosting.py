"""Gradient-boosted trees: one small ensemble for the score, and one for the cost, of every arm.

Histogram-based boosting (Ke et al., "LightGBM", NeurIPS 2017) as scikit-learn has it. Trees look at one coordinate at a
time, and their time grows with the number of coordinates: they are given the encoding's first principal components.
How many trees of each ensemble are used is one number, chosen on validation by the squared error of the utility.
"""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field
from threadpoolctl import threadpool_limits

from recal_bench.encoders import fit_encoder, installed_encoders
from recal_bench.errors import RunError
from recal_bench.routers import Context, Predictions, Queries, Train, router
from recal_bench.toolbox.saving import Saved
from recal_bench.toolbox.targets import (
    Targets,
    in_fixed_order,
    predictions_of,
    require_validation,
    targets_of,
    utility_error,
)

ENSEMBLES = "ensembles.skops"
TRUSTED = ("sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",)
"""The types of a saved ensemble that skops does not trust of itself."""


@router("gradient-boosting")
@dataclass
class GradientBoosting(Saved):
    """Boosted trees that predict every arm's score and cost from the encoding's first principal components."""

    LEARNT = ("text_encoder", "mean_E", "axes_EF", "typical_C", "trust_C", "cost_ref")
    deterministic: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "components": (16, 32, 64),
        "learning_rate": (0.03, 0.1),
        "encoder": installed_encoders(),
    }

    components: Annotated[int, Field(ge=1)] = 64
    iterations: Annotated[int, Field(ge=1)] = 60
    learning_rate: Annotated[float, Field(gt=0)] = 0.03
    leaves: Annotated[int, Field(ge=2)] = 15
    encoder: str = "tfidf"

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        require_validation(validation, "gradient-boosting", "stops")
        train = in_fixed_order(train)
        targets = targets_of(train)
        self.typical_C, self.trust_C, self.cost_ref = targets.typical_C, targets.trust_C, targets.cost_ref
        self.text_encoder = fit_encoder(self.encoder, train.queries.prompt)
        encoding_QE = self.text_encoder.encode(train.queries.prompt).astype(np.float64)
        self.mean_E = encoding_QE.mean(axis=0)
        centred_QE = encoding_QE - self.mean_E
        self.axes_EF = np.linalg.eigh(centred_QE.T @ centred_QE).eigenvectors[:, ::-1][:, : self.components]
        input_QF = self._inputs(train.queries)
        # Its threads wait for each other many times a second: on a busy machine that takes ten times longer.
        with threadpool_limits(1):
            self.ensembles = self._fit_columns(input_QF, targets, self.iterations)
            errors = []
            for excess_QC in self._stages(self._inputs(validation.queries)):
                errors.append(utility_error(validation, self._predictions(excess_QC)))
            self.ensembles = self._fit_columns(input_QF, targets, int(np.argmin(errors)) + 1)

    def _fit_columns(self, input_QF: np.ndarray, targets: Targets, trees: int) -> list[Any]:
        """The ensemble of every column; None where no outcome is known. More trees leave the first ones as they are."""
        from sklearn.base import clone
        from sklearn.ensemble import HistGradientBoostingRegressor

        ensemble = HistGradientBoostingRegressor(
            max_iter=trees,
            learning_rate=self.learning_rate,
            max_leaf_nodes=self.leaves,
            early_stopping=False,
            random_state=0,
        )
        return [
            clone(ensemble).fit(input_QF[known_Q], excess_Q[known_Q]) if known_Q.any() else None
            for known_Q, excess_Q in zip(targets.known_QC.T, targets.excess_QC.T, strict=True)
        ]

    def _stages(self, input_QF: np.ndarray) -> Iterator[np.ndarray]:
        """The excess of every column by the first tree of its ensemble, by the first two, and so on."""
        nothing = np.zeros(len(input_QF))
        columns = [repeat(nothing) if each is None else each.staged_predict(input_QF) for each in self.ensembles]
        return (np.stack(excess, axis=1) for excess in zip(*columns, strict=False))

    def predict(self, queries: Queries) -> Predictions:
        input_QF = self._inputs(queries)
        nothing = np.zeros(len(input_QF))
        known = len(input_QF) > 0  # an ensemble refuses to predict nothing
        with threadpool_limits(1):
            excess = [each.predict(input_QF) if each and known else nothing for each in self.ensembles]
        return self._predictions(np.stack(excess, axis=1))

    def _predictions(self, excess_QC: np.ndarray) -> Predictions:
        return predictions_of(self.typical_C + self.trust_C * excess_QC, self.cost_ref)

    def _inputs(self, queries: Queries) -> np.ndarray:
        encoding_QE = self.text_encoder.encode(queries.prompt).astype(np.float64)
        return np.asarray((encoding_QE - self.mean_E) @ self.axes_EF)

    def save(self, folder: Path) -> None:
        from skops.io import dump

        super().save(folder)
        dump(self.ensembles, folder / ENSEMBLES, compression=zipfile.ZIP_DEFLATED)

    def load(self, folder: Path) -> None:
        from skops.io import get_untrusted_types, load

        path = folder / ENSEMBLES
        unknown = sorted(set(get_untrusted_types(file=path)) - set(TRUSTED))
        if unknown:
            raise RunError(f"{path} holds types that no saved ensemble has ({', '.join(unknown)}): not loaded")
        super().load(folder)
        self.ensembles = load(path, trusted=list(TRUSTED))
