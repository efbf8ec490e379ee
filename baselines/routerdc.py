"""RouterDC: queries and arms in one space, learnt by two contrastive losses.

Chen, Jiang, Lin, Kwok, Zhang, "RouterDC: Query-Based Router by Dual Contrastive Learning for Assembling Large Language
Models" (arXiv 2409.19886, NeurIPS 2024). An encoder places each query, and each arm has a learnt place of its own; the
arm nearest by cosine is chosen. The sample-LLM loss pulls a query to each of its K+ best arms, away from its K- worst;
the sample-sample loss pulls it to a query of its own cluster of texts, away from H queries of other clusters.

As in the released code: temperature 1, H 3, 8 clusters, embeddings of standard deviation 0.78, AdamW with weight decay
0.01, 1,000 steps; batches of 64 (its default; its script takes 16) and lambda 1 (its script's).

What differs:
- The paper fine-tunes mDeBERTa-v3-base. Here a network with one hidden layer is trained on fixed, cached encodings: so
  no signal beyond theirs can be found, and the learning rate is 1e-3 instead of 5e-5.
- Arms are ranked by utility, not score; arms that tie share their places. A negative counts only where it is worse than
  the positive, and a positive weighs the utility by which it beats its negatives. On scores of 0 and 1 without a cost
  that is the released code's rule (no positive of score 0, no negative above 0.5); with costs, being cheaper by little
  would else pull as hard as being right instead of wrong. Arms whose utilities differ by a few hundredths are not told
  apart reliably.
- K+ and K- are a share of the arms, 0.7, chosen on validation. The code's 3 of 7 does as well on the paper's own
  outcomes, but not where arms have costs: there the right answers are ranked by price, and an arm that is often right
  but dear is never among the best, nor among the worst.
- Clusters are k-means on the encodings of all train queries; the paper's t-SNE before it would take longer than all the
  rest. A query is never its own partner; the code may draw it.
- Batches draw every task alike (the released code repeats or cuts each task to 1,000 queries). The step that is kept is
  that of the highest macro utility on validation; the released code has no validation split and goes by train.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from recal_bench.encoders import fit_encoder, installed_encoders
from recal_bench.routers import Calls, Context, Decisions, Queries, Train, router
from recal_bench.toolbox.clusters import clustered
from recal_bench.toolbox.saving import Saved
from recal_bench.toolbox.small_models import copied, steps, train_best, trainable
from recal_bench.toolbox.targets import PRIOR_COUNT, chosen_utility, in_fixed_order, name_order, require_outcomes

BATCH = 64
LOOK_EVERY = 50
"""Steps from one look at validation to the next."""
EMBEDDING_SD = 0.78


@router("routerdc")
@dataclass
class RouterDc(Saved):
    """RouterDC: the arm whose learnt embedding is nearest to the query's, trained by two contrastive losses.

    `share` gives K+ and K-, of a query's known arms; `sample_weight` is the paper's lambda, `others` its H.
    """

    LEARNT = ("text_encoder", "layers", "arm_AH", "trust_A")
    deterministic: ClassVar[bool] = False
    compares_arms: ClassVar[bool] = True
    accelerated: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "share": (3 / 7, 0.7, 1.0),
        "sample_weight": (0.3, 1.0, 3.0),
        "temperature": (0.3, 1.0),
        "learning_rate": (3e-4, 1e-3, 3e-3),
        "encoder": installed_encoders(),
    }

    share: Annotated[float, Field(gt=0, le=1)] = 0.7
    sample_weight: Annotated[float, Field(ge=0)] = 1.0
    temperature: Annotated[float, Field(gt=0.01)] = 1.0
    others: Annotated[int, Field(ge=1, lt=BATCH)] = 3
    clusters: Annotated[int, Field(ge=1)] = 8
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    hidden: Annotated[int, Field(ge=1)] = 256
    steps: Annotated[int, Field(ge=1)] = 1000
    encoder: str = "tfidf"

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        import torch

        from recal_bench.toolbox.adam import Adam

        train, validation = in_fixed_order(train), in_fixed_order(validation)
        require_outcomes(train)
        # Whatever order the arms come in, they are computed with, and draw their start, in the order of their names.
        order_A = name_order(train.outcomes.arms)
        utility_QA = train.utility_QA[:, order_A]
        best_and_worst = places(utility_QA, self.share), places(-utility_QA, self.share)
        self.text_encoder = fit_encoder(self.encoder, train.queries.prompt)
        encoding_QE = self.text_encoder.encode(train.queries.prompt)
        cluster_Q = torch.from_numpy(clustered(encoding_QE, self.clusters, 1, context.seed).labels_.astype(np.int64))
        task_index_Q, count_T = np.unique(train.outcomes.task_Q, return_inverse=True, return_counts=True)[1:]
        chance_Q = torch.from_numpy(1 / count_T[task_index_Q])
        self.trust_A = trust(utility_QA)[np.argsort(order_A)]

        generator = torch.Generator().manual_seed(context.seed)
        inputs, device = encoding_QE.shape[1], context.device
        start = [
            torch.randn(inputs, self.hidden, generator=generator) * (2 / inputs) ** 0.5,
            torch.zeros(self.hidden),
            torch.randn(self.hidden, self.hidden, generator=generator) * (2 / self.hidden) ** 0.5,
            torch.zeros(self.hidden),
            torch.randn(utility_QA.shape[1], self.hidden, generator=generator) * EMBEDDING_SD,
        ]
        layers = trainable(start, device)
        optimizer = Adam(layers, self.learning_rate, decay=0.01)
        input_QE, positive_QA, negative_QA, known_utility_QA = (
            torch.from_numpy(array).float().to(device)
            for array in (encoding_QE, *best_and_worst, np.nan_to_num(utility_QA))
        )

        def loss_of(rows: torch.Tensor) -> Any:
            partner_BH, has_partner_B = self._partners(cluster_Q[rows], generator)
            rows = rows.to(device)
            query_BH = torch.relu(input_QE[rows] @ layers[0] + layers[1]) @ layers[2] + layers[3]
            query_BH = torch.nn.functional.normalize(query_BH, dim=1)
            similarity_BA = query_BH @ torch.nn.functional.normalize(layers[4], dim=1).T / self.temperature
            loss = sample_llm_loss(similarity_BA, known_utility_QA[rows], positive_QA[rows], negative_QA[rows])
            if self.sample_weight and has_partner_B.any():
                similarity_BB = query_BH @ query_BH.T
                near_BH = torch.gather(similarity_BB[has_partner_B.to(device)], 1, partner_BH.to(device))
                loss = loss - self.sample_weight * torch.log_softmax(near_BH, dim=1)[:, 0].mean()
            return loss

        def look() -> tuple[tuple[list[np.ndarray], np.ndarray], float]:
            *self.layers, arm_AH = copied(layers)
            self.arm_AH = arm_AH[np.argsort(order_A)]
            return (self.layers, self.arm_AH), -chosen_utility(validation, self._values(validation.queries))

        def log(step: int, train_loss: float, error: float) -> None:
            context.log({"step": step, "train_loss": train_loss, "validation_utility": -error})

        rounds = steps(
            self.steps,
            LOOK_EVERY,
            lambda: torch.multinomial(chance_Q, BATCH, replacement=True, generator=generator),
        )
        self.layers, self.arm_AH = train_best(optimizer, rounds, loss_of, look, log)

    def _partners(self, cluster_B: Any, generator: Any) -> tuple[Any, Any]:
        """For each query of a batch that has them: another one of its cluster, then `others` of other clusters."""
        import torch

        alike_BB = cluster_B[:, None] == cluster_B
        other_BB, alike_BB = ~alike_BB, alike_BB & ~torch.eye(len(cluster_B), dtype=torch.bool)
        has_partner_B = alike_BB.any(dim=1) & (other_BB.sum(dim=1) >= self.others)
        if not has_partner_B.any():
            return torch.zeros((0, 1 + self.others), dtype=torch.int64), has_partner_B
        drawn = [
            torch.multinomial(mask_BB[has_partner_B].float(), count, generator=generator)
            for mask_BB, count in ((alike_BB, 1), (other_BB, self.others))
        ]
        return torch.cat(drawn, dim=1), has_partner_B

    def _values(self, queries: Queries) -> np.ndarray:
        """Cosine similarities, drawn towards the least possible one for arms that were seldom compared."""
        hidden_QH = self.text_encoder.encode(queries.prompt) @ self.layers[0] + self.layers[1]
        query_QH = np.maximum(hidden_QH, 0.0) @ self.layers[2] + self.layers[3]
        norm_Q, norm_A = np.linalg.norm(query_QH, axis=1, keepdims=True), np.linalg.norm(self.arm_AH, axis=1)
        cosine_QA = query_QH @ self.arm_AH.T / np.maximum(norm_Q * norm_A, 1e-12)
        return np.asarray(self.trust_A * (1 + cosine_QA) - 1)

    def route(self, queries: Queries, calls: Calls) -> Decisions:
        return calls.choose(self._values(queries))


def places(value_QA: np.ndarray, share: float) -> np.ndarray:
    """Which arms hold the best places of each query: 1, 0, or in between where arms that tie share what is left.

    The places are `share` of the query's known arms, rounded, and at least one. An arm without an outcome holds none.
    """
    from scipy.stats import rankdata

    known_QA = ~np.isnan(value_QA)
    count_Q = np.maximum(np.round(share * known_QA.sum(axis=1, keepdims=True)), 1.0)
    # What differs in the last digits is a tie.
    descending_QA = np.where(known_QA, -np.round(value_QA, 9), np.inf)
    first_QA, last_QA = (rankdata(descending_QA, method=method, axis=1) for method in ("min", "max"))
    return np.where(known_QA, np.clip((count_Q + 1 - first_QA) / (last_QA + 1 - first_QA), 0.0, 1.0), 0.0)


def trust(utility_QA: np.ndarray) -> np.ndarray:
    """How far to follow an arm's similarity: 0 for an arm that never differed from another one, near 1 for hundreds."""
    spread_Q = np.nan_to_num(utility_QA, nan=-np.inf).max(axis=1) - np.nan_to_num(utility_QA, nan=np.inf).min(axis=1)
    compared_A = (~np.isnan(utility_QA) & (spread_Q > 1e-9)[:, None]).sum(axis=0)
    return np.asarray(compared_A / (compared_A + PRIOR_COUNT))


def sample_llm_loss(similarity_BA: Any, utility_BA: Any, positive_BA: Any, negative_BA: Any) -> Any:
    """Mean over queries of `-log(e^s+ / (e^s+ + sum e^s-))`, summed over positives, each times what it is better by."""
    gap_BAA = utility_BA[:, :, None] - utility_BA[:, None, :]
    weight_BAA = negative_BA[:, None, :] * (gap_BAA > 1e-6)
    odds_BA = (weight_BAA * (similarity_BA[:, None, :] - similarity_BA[:, :, None]).exp()).sum(dim=2)
    better_by_BA = (weight_BAA * gap_BAA).sum(dim=2) / weight_BAA.sum(dim=2).clamp(min=1e-9)
    return (positive_BA * better_by_BA * odds_BA.log1p()).sum(dim=1).mean()
