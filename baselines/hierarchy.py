"""The hierarchical prior as a router of its own: what ReCal starts from, without the RL.

Empirical Bayes over arms: effects of the inferred task, and of the text, in contrasts of arms, each shrunk as far as
the train outcomes say (see `recal_bench.toolbox.hierarchy`). Predict, then choose what has the highest utility.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from recal_bench.encoders import fit_encoder, installed_encoders
from recal_bench.outcomes import Arm
from recal_bench.routers import Context, Predictions, Queries, Train, router
from recal_bench.toolbox.contrasts import main_effects
from recal_bench.toolbox.hierarchy import fit_hierarchy, packed, unpacked
from recal_bench.toolbox.saving import Saved
from recal_bench.toolbox.targets import PRIOR_COUNT, in_fixed_order, predictions_of, targets_of


@router("hierarchy")
@dataclass
class HierarchyRouter(Saved):
    """What an arm is worth in the inferred task, and how the text moves each contrast of arms.

    An arm that train lacks is predicted by its model's and its strategy's effects, and by what a few labelled queries
    say of it beyond these.
    """

    LEARNT = ("text_encoder", "arrays", "cost_ref", "arms", "mix_AB", "shift_PB")
    deterministic: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {"encoder": installed_encoders()}

    encoder: str = "tfidf"
    tasks: bool = True

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        train = in_fixed_order(train)
        targets, outcomes = targets_of(train), train.outcomes
        self.text_encoder, self.cost_ref = (
            fit_encoder(self.encoder, train.queries.prompt, train.queries.features),
            targets.cost_ref,
        )
        self.arms = list(outcomes.arms)
        encoding_QE = self.text_encoder.encode(train.queries.prompt, train.queries.features)
        fit, _ = fit_hierarchy(
            encoding_QE,
            targets.value_QC,
            targets.typical_C,
            outcomes.task_Q,
            self.arms,
            self.tasks,
            train.objective.alpha,
            self.text_encoder.encode(validation.queries.prompt, validation.queries.features),
        )
        self.arrays = packed(fit)
        # P values an arm: its score and, where there is one, its cost. B: the arms, those of `adapt` included.
        self.mix_AB = np.eye(len(self.arms))
        self.shift_PB = np.zeros((targets.value_QC.shape[1] // len(self.arms), len(self.arms)))

    def adapt(self, arms: Sequence[Arm], few: Train) -> None:
        """Take up arms that train lacks, from their names and a few labelled queries."""
        n_parts, n_known = self.shift_PB.shape
        self.mix_AB = np.hstack([self.mix_AB, main_effects(self.arms, arms)])
        self.shift_PB = np.hstack([self.shift_PB, np.zeros((n_parts, len(arms)))])
        outcomes = few.outcomes
        value_PQB = np.stack([outcomes.score_QA, outcomes.cost_QA / self.cost_ref][:n_parts])
        above_PQB = value_PQB - self._values(few.queries)[..., n_known:]
        known_PB = (~np.isnan(above_PQB)).sum(axis=1)
        self.shift_PB[:, n_known:] = np.nansum(above_PQB, axis=1) / (known_PB + PRIOR_COUNT)

    def predict(self, queries: Queries) -> Predictions:
        return predictions_of(np.hstack(list(self._values(queries))), self.cost_ref)

    def _values(self, queries: Queries) -> np.ndarray:
        """`[P, Q, B]`"""
        value_QX = unpacked(self.arrays).values(self.text_encoder.encode(queries.prompt, queries.features))
        value_PQA = np.stack(np.hsplit(value_QX, len(self.shift_PB)))
        return np.asarray(value_PQA @ self.mix_AB + self.shift_PB[:, None])
