"""Gradient-boosted trees: one small ensemble for the score, and one for the cost, of every arm.

Histogram-based boosting (Ke et al., "LightGBM", NeurIPS 2017) as scikit-learn has it. Trees look at one coordinate at a
time, and their time grows with the number of coordinates: they are given the encoding's first principal components.
How many trees of each ensemble are used is one number, chosen on validation by the squared error of the utility.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

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


class Trees(NamedTuple):
    """One ensemble as arrays, T trees of at most N nodes; node 0 is a tree's root, and a leaf is its own child.

    A query goes left where its feature is at most the threshold. Its prediction is `start` and the values of the leaves
    that it arrives at, added in the order of the trees.
    """

    start: float
    feature_TN: np.ndarray
    threshold_TN: np.ndarray
    left_TN: np.ndarray
    right_TN: np.ndarray
    value_TN: np.ndarray

    @classmethod
    def of(cls, ensemble: Any) -> "Trees":
        """Those of a fitted HistGradientBoostingRegressor."""
        trees = [tree.nodes for (tree,) in ensemble._predictors]
        shape = (len(trees), max(map(len, trees)))
        own_N = np.arange(shape[1])
        feature_TN, left_TN, right_TN = np.zeros(shape, dtype=np.int64), *(np.tile(own_N, (shape[0], 1)) for _ in "lr")
        threshold_TN, value_TN = np.zeros(shape), np.zeros(shape)
        for row, nodes in enumerate(trees):
            inner, count = nodes["is_leaf"] == 0, len(nodes)
            feature_TN[row, :count] = np.where(inner, nodes["feature_idx"], 0)
            threshold_TN[row, :count] = np.where(inner, nodes["num_threshold"], 0.0)
            left_TN[row, :count] = np.where(inner, nodes["left"], own_N[:count])
            right_TN[row, :count] = np.where(inner, nodes["right"], own_N[:count])
            value_TN[row, :count] = nodes["value"]
        start = float(np.asarray(ensemble._baseline_prediction).item())
        return cls(start, feature_TN, threshold_TN, left_TN, right_TN, value_TN)

    def stages(self, input_QF: np.ndarray) -> np.ndarray:
        """The predictions of the first 0, 1, ... T trees, `[T + 1, Q]`."""
        tree_T1, query_Q = np.arange(len(self.value_TN))[:, None], np.arange(len(input_QF))
        at_TQ = np.zeros((len(self.value_TN), len(input_QF)), dtype=np.int64)
        while True:
            is_left_TQ = input_QF[query_Q, self.feature_TN[tree_T1, at_TQ]] <= self.threshold_TN[tree_T1, at_TQ]
            next_TQ = np.where(is_left_TQ, self.left_TN[tree_T1, at_TQ], self.right_TN[tree_T1, at_TQ])
            if (next_TQ == at_TQ).all():
                break
            at_TQ = next_TQ
        start_1Q = np.full((1, len(input_QF)), self.start)
        return np.cumsum(np.concatenate([start_1Q, self.value_TN[tree_T1, at_TQ]]), axis=0)

    def is_sound(self, n_features: int) -> bool:
        """Whether every node leads on to a later one or to itself, and asks for a feature that there is."""
        own_TN = np.broadcast_to(np.arange(self.value_TN.shape[-1]), self.value_TN.shape)
        kinds = all(each.ndim == 2 and each.shape == self.value_TN.shape and each.size for each in self[1:])
        whole = all(np.issubdtype(each.dtype, np.integer) for each in (self.feature_TN, self.left_TN, self.right_TN))
        return bool(
            kinds
            and whole
            and ((self.feature_TN >= 0) & (self.feature_TN < n_features)).all()
            and all(
                ((to_TN >= own_TN) & (to_TN < self.value_TN.shape[-1])).all() for to_TN in (self.left_TN, self.right_TN)
            )
            and ((self.left_TN == own_TN) == (self.right_TN == own_TN)).all()
            and np.isfinite(self.value_TN).all()
        )


@router("gradient-boosting")
@dataclass
class GradientBoosting(Saved):
    """Boosted trees that predict every arm's score and cost from the encoding's first principal components."""

    LEARNT = ("text_encoder", "mean_E", "axes_EF", "typical_C", "trust_C", "cost_ref", "trees_C")
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
            self.trees_C = self._fit_columns(input_QF, targets, self.iterations)
            errors = []
            for excess_QC in self._stages(self._inputs(validation.queries)):
                errors.append(utility_error(validation, self._predictions(excess_QC)))
            self.trees_C = self._fit_columns(input_QF, targets, int(np.argmin(errors)) + 1)

    def _fit_columns(self, input_QF: np.ndarray, targets: Targets, trees: int) -> list[Trees | None]:
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
            Trees.of(clone(ensemble).fit(input_QF[known_Q], excess_Q[known_Q])) if known_Q.any() else None
            for known_Q, excess_Q in zip(targets.known_QC.T, targets.excess_QC.T, strict=True)
        ]

    def _stages(self, input_QF: np.ndarray) -> Iterator[np.ndarray]:
        """The excess of every column by the first tree of its ensemble, by the first two, and so on."""
        nothing = np.zeros(len(input_QF))
        columns = [repeat(nothing) if each is None else iter(each.stages(input_QF)[1:]) for each in self.trees_C]
        return (np.stack(excess, axis=1) for excess in zip(*columns, strict=False))

    def predict(self, queries: Queries) -> Predictions:
        input_QF = self._inputs(queries)
        nothing = np.zeros(len(input_QF))
        excess = [nothing if each is None else each.stages(input_QF)[-1] for each in self.trees_C]
        return self._predictions(np.stack(excess, axis=1))

    def _predictions(self, excess_QC: np.ndarray) -> Predictions:
        return predictions_of(self.typical_C + self.trust_C * excess_QC, self.cost_ref)

    def _inputs(self, queries: Queries) -> np.ndarray:
        encoding_QE = self.text_encoder.encode(queries.prompt).astype(np.float64)
        return np.asarray((encoding_QE - self.mean_E) @ self.axes_EF)

    def load(self, folder: Path) -> None:
        super().load(folder)
        # Saved as tuples. Indices beyond an array would be read from wherever they point.
        self.trees_C = [None if each is None else Trees(*each) for each in self.trees_C]
        if not all(each is None or each.is_sound(self.axes_EF.shape[1]) for each in self.trees_C):
            raise RunError(f"{folder} holds damaged trees: run the router again with --fresh")
