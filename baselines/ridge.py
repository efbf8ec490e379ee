"""Ridge regression: score and cost of every arm as linear functions of the encoding.

Predict, then choose what has the highest utility: the plainest learned router.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field

from recal_bench.encoders import installed_encoders
from recal_bench.routers import Context, Predictions, Queries, Train, router
from recal_bench.toolbox.ridge import ENCODER, PENALTY, RidgeFit, fit_ridge, predict_ridge
from recal_bench.toolbox.saving import Saved


@router("ridge-tasks", "Ridge regression that also reads how likely each task of train is", tasks=True)
@router("ridge")
@dataclass
class Ridge(Saved):
    """Linear prediction of every arm's score and cost, by least squares with a penalty.

    `penalty` is in queries: an arm with far fewer outcomes than that stays near its typical score and cost. With
    `tasks` it reads beside the encoding how likely the text belongs to each task of train.
    """

    LEARNT = ("text_encoder", "weight_EC", "typical_C", "cost_ref", "task_ET")
    deterministic: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "penalty": (3.0, 10.0, 30.0, 100.0),
        "encoder": installed_encoders(),
    }

    penalty: Annotated[float, Field(gt=0)] = PENALTY
    encoder: str = ENCODER
    tasks: bool = False

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        fit = fit_ridge(train, self.encoder, self.penalty, self.tasks)
        self.text_encoder, self.weight_EC, self.typical_C, self.cost_ref, self.task_ET = fit

    def predict(self, queries: Queries) -> Predictions:
        fit = RidgeFit(self.text_encoder, self.weight_EC, self.typical_C, self.cost_ref, self.task_ET)
        return predict_ridge(fit, queries)
