"""PILOT: LinUCB in a space of queries and arms that is learnt beforehand, and gives it its first belief too.

Panda, Magazine, Devaguptapu, Takemori, Sharma, "Adaptive LLM Routing under Budget Constraints" (Findings of EMNLP 2025,
arXiv 2508.21141). Before any feedback, public human preferences (pairs of answers from Chatbot Arena) teach a linear
projection of the query's embedding, and then an embedding theta of every arm in the projected space. Online LinUCB
starts from there, with A = lambda * I and b = lambda * theta: an arm is believed to be what the preferences say, as
firmly as lambda outcomes would say it; what is asked and seen then corrects that.

What differs, above all: there are no human preferences between these arms here, and of single outcomes no two arms on
one query to compare. Outcomes of train stand in their place: a share of the train queries, drawn by the seed, goes to
one random arm each (in a log of single choices: to the logged one), and teaches the prior. So the prior is no knowledge
from elsewhere; it is bought with outcomes that LinUCB would have used as well. The mechanism is the paper's, its
advantage at a cold start is not to be expected. Its two steps (a triplet loss for the projection, cross-entropy over
pairs for the arms) become two ridge regressions of the utility for every arm: the leading singular vectors of the
first one's weights are the projection, the second one, within it, gives theta. The expected reward is theta' x with a
constant in x, no cosine, since utilities are no similarities; rewards are measured from the share's mean, and the bonus
is in units of its standard deviation. The paper's budgets, spent by an online knapsack, are left out: a cost enters by
the utility. Exploration, lambda, share and penalties were chosen on validation; the paper's values are not known here.
When it routes, it explores no more: the highest posterior mean decides. An arm never seen counts as bad, and dear, as
the worst of the others.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from recal_bench.encoders import fit_encoder, installed_encoders, load_encoder
from recal_bench.errors import RecalBenchError
from recal_bench.routers import Context, Predictions, Queries, Train, router
from recal_bench.targets import in_fixed_order, predictions_of

PROJECTION_PENALTY, ARM_PENALTY = 100.0, 10.0
"""Of the two regressions behind the prior, in queries: on the whole encoding, and within its projection."""
LOG_LINES = 20
"""Lines of the training log: each sums up what was asked since the one before."""
NOTHING = 1e-9
"""Values that differ by less are rounding: they tie."""


class Beliefs:
    """A ridge regression for every arm, kept up to date from a prior on. Values V are utility, score and maybe cost."""

    def __init__(self, prior_AFV: np.ndarray, prior_weight: float) -> None:
        self.inverse_AFF = np.tile(np.eye(prior_AFV.shape[1]) / prior_weight, (len(prior_AFV), 1, 1))
        self.moment_AFV = prior_weight * prior_AFV

    def of(self, input_F: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each arm's expected utility, less the mean of the prior's share, and the square root of x' A^-1 x."""
        gain_AF = self.inverse_AFF @ input_F
        return (gain_AF * self.moment_AFV[:, :, 0]).sum(axis=1), np.sqrt((gain_AF * input_F).sum(axis=1))

    def learn(self, arm: int, input_F: np.ndarray, excess_V: np.ndarray) -> None:
        gain_F = self.inverse_AFF[arm] @ input_F
        self.inverse_AFF[arm] -= np.outer(gain_F, gain_F) / (1.0 + gain_F @ input_F)
        self.moment_AFV[arm] += np.outer(input_F, excess_V)

    @property
    def weight_AFV(self) -> np.ndarray:
        """The posterior means of the weights."""
        return self.inverse_AFF @ self.moment_AFV


def regress(input_NF: np.ndarray, arm_N: np.ndarray, excess_NV: np.ndarray, n_arms: int, penalty: float) -> np.ndarray:
    """A ridge regression for every arm, on the rows that asked it: weights `[A, F, V]`, 0 for an arm without any."""
    weight_AFV = np.zeros((n_arms, input_NF.shape[1], excess_NV.shape[1]))
    for arm in np.unique(arm_N):
        own_NF = input_NF[arm_N == arm]
        gram_FF = own_NF.T @ own_NF + penalty * np.eye(own_NF.shape[1])
        weight_AFV[arm] = np.linalg.solve(gram_FF, own_NF.T @ excess_NV[arm_N == arm])
    return weight_AFV


def with_constant(encoding_QE: np.ndarray) -> np.ndarray:
    return np.hstack([encoding_QE, np.ones((len(encoding_QE), 1))])


@router("pilot")
@dataclass
class Pilot:
    """LinUCB with a prior: a share of the train queries, put to random arms, teaches what the others start from."""

    deterministic: ClassVar[bool] = False
    partial_feedback: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "exploration": (0.3, 1.0, 2.0),
        "prior_share": (0.1, 0.2, 0.4),
        "prior_weight": (3.0, 10.0, 30.0),
        "dimensions": (5, 10, 20),
        "encoder": installed_encoders(),
    }

    exploration: Annotated[float, Field(ge=0)] = 1.0
    prior_share: Annotated[float, Field(gt=0, le=1)] = 0.2
    prior_weight: Annotated[float, Field(gt=0)] = 10.0
    dimensions: Annotated[int, Field(ge=1)] = 10
    encoder: str = "tfidf"

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        train = in_fixed_order(train)
        feedback, arms, cost_ref = train.feedback, train.outcomes.arms, train.objective.cost_ref
        assert feedback is not None
        self.text_encoder = fit_encoder(self.encoder, train.queries.prompt)
        encoding_QE = self.text_encoder.encode(train.queries.prompt).astype(np.float64)
        # In the order of their names, so that no draw depends on how the arms are listed.
        order_A = np.array(sorted(range(len(arms)), key=lambda arm: str(arms[arm])))
        available_QA = feedback.available_QA[:, order_A]
        rng = np.random.default_rng(context.seed)
        rows = [int(row) for row in rng.permutation(len(encoding_QE)) if available_QA[row].any()]
        if not rows:
            raise RecalBenchError("no arm has any outcome on train: give outcomes with scores")

        def ask(row: int, arm: int) -> np.ndarray:
            outcome = feedback.ask(row, int(order_A[arm]))
            value_V = np.array([outcome.utility, outcome.score, outcome.cost / (cost_ref or 1.0)])
            return value_V if cost_ref else value_V[:2]

        n_prior = max(1, round(self.prior_share * len(rows)))
        first, rest = rows[:n_prior], rows[n_prior:]
        arm_N = np.array([rng.choice(np.flatnonzero(available_QA[row])) for row in first])
        value_NV = np.array([ask(row, arm) for row, arm in zip(first, arm_N, strict=True)])
        mean_V, spread = value_NV.mean(axis=0), float(value_NV[:, 0].std())
        spread = spread if spread > NOTHING else 1.0
        context.log({"step": n_prior, "train_utility": float(mean_V[0]), "explored": 1.0})
        self._fit_space(encoding_QE, first, arm_N, value_NV[:, :1] - mean_V[:1], len(arms))
        input_QF = with_constant((encoding_QE - self.centre_E) @ self.projection_EP)
        prior_AFV = regress(input_QF[first], arm_N, value_NV - mean_V, len(arms), ARM_PENALTY)
        beliefs, seen_A = Beliefs(prior_AFV, self.prior_weight), np.isin(np.arange(len(arms)), arm_N)

        asked = []
        for step, row in enumerate(rest, start=1):
            expected_A, width_A = beliefs.of(input_QF[row])
            bound_A = expected_A + self.exploration * spread * width_A
            highest = bound_A[available_QA[row]].max()
            arm = int(rng.choice(np.flatnonzero(available_QA[row] & (bound_A >= highest - NOTHING))))
            value_V = ask(row, arm)
            beliefs.learn(arm, input_QF[row], value_V - mean_V)
            seen_A[arm] = True
            asked.append((value_V[0], expected_A[arm] < expected_A[available_QA[row]].max() - NOTHING))
            if step * LOG_LINES // len(rest) > (step - 1) * LOG_LINES // len(rest):
                utility, explored = np.mean(asked, axis=0).tolist()
                context.log({"step": n_prior + step, "train_utility": utility, "explored": explored})
                asked = []
        back_A = np.argsort(order_A)
        self.weight_AFV, self.seen_A, self.mean_V = beliefs.weight_AFV[back_A, :, 1:], seen_A[back_A], mean_V[1:]
        self.cost_ref = np.nan if cost_ref is None else cost_ref

    def _fit_space(
        self, encoding_QE: np.ndarray, rows: list[int], arm_N: np.ndarray, excess_NV: np.ndarray, n_arms: int
    ) -> None:
        """The directions of the encoding along which arms differ, brought to one scale together."""
        self.centre_E = encoding_QE.mean(axis=0)
        centred_QE = encoding_QE - self.centre_E
        weight_AFV = regress(with_constant(centred_QE[rows]), arm_N, excess_NV, n_arms, PROJECTION_PENALTY)
        direction_KE = np.linalg.svd(weight_AFV[:, :-1, 0], full_matrices=False)[2]
        projection_EP = direction_KE[: self.dimensions].T
        size = np.sqrt(((centred_QE @ projection_EP) ** 2).sum(axis=1).mean())
        self.projection_EP = projection_EP / (size if size > NOTHING else 1.0)

    def predict(self, queries: Queries) -> Predictions:
        encoding_QE = self.text_encoder.encode(queries.prompt)
        input_QF = with_constant((encoding_QE - self.centre_E) @ self.projection_EP)
        value_VQA = np.einsum("qf,afv->vqa", input_QF, self.weight_AFV) + self.mean_V[:, None, None]
        # Rounded, for what differs in the last digits is a tie, and a tie goes to the cheaper arm.
        value_VQA = np.round(value_VQA, 10)
        for value_QA, worst in zip(value_VQA, (np.min, np.max), strict=False):
            value_QA[:, ~self.seen_A] = worst(value_QA[:, self.seen_A], axis=1, keepdims=True)
        return predictions_of(np.hstack(list(value_VQA)), self.cost_ref)

    def save(self, folder: Path) -> None:
        self.text_encoder.save(folder)
        np.savez(
            folder / "pilot.npz",
            weight_AFV=self.weight_AFV,
            mean_V=self.mean_V,
            seen_A=self.seen_A,
            centre_E=self.centre_E,
            projection_EP=self.projection_EP,
            cost_ref=self.cost_ref,
        )

    def load(self, folder: Path) -> None:
        self.text_encoder = load_encoder(folder)
        with np.load(folder / "pilot.npz", allow_pickle=False) as arrays:
            self.weight_AFV, self.mean_V, self.seen_A = (arrays[name] for name in ("weight_AFV", "mean_V", "seen_A"))
            self.centre_E, self.projection_EP = arrays["centre_E"], arrays["projection_EP"]
            self.cost_ref = float(arrays["cost_ref"])
