"""GraphRouter: a graph of tasks, queries and arms, whose missing edges between queries and arms are predicted.

Feng, Shen, You, "GraphRouter: A Graph-based Router for LLM Selections" (arXiv 2410.03834, ICLR 2025). A query is joined
to its task and to the arms that answered it; the latter edges carry score and cost. Two rounds of messages along the
edges give every node a state. In training a share of the edges is hidden and predicted from the rest. A new query only
needs to be joined to the graph: nothing is fitted again.

Hidden size 64, learning rate 1e-3 and weight decay 1e-4 are the defaults of the authors' LLMRouter. So is a mask rate
of 0.3, but there it is the share of edges that stays visible, and here the share that is hidden: theirs is 0.7 here,
which was no better than 0.3 on the validation splits of the simulated pool and of three logs taken together. The step
kept is the one that does best on validation, as GraphRouter's own notes advise.

What differs:
- Nobody tells a router the task. The task nodes are those of train; a new query is joined to the task that a linear
  classifier (fitted on train) reads from its text, and so is every query whose edges are hidden.
- In training all edges of a query to arms are hidden or none, for a new query has none. It sends no messages either, so
  that its decision does not depend on what it is asked with.
- Tasks and arms are not described by a language model: a task starts from the mean encoding of its queries, an arm from
  its typical score and cost and a learnt vector. So it meets no new arm without a fit, as the paper's can.
- Messages are means over neighbours, scaled by a linear function of the edge's score and cost; the released code adds
  the two up (general graph convolution with batch normalisation, to arms alone, the task being part of the query).
- The two features of an edge, score and cost, are predicted (squared error), and the harness chooses by utility. The
  released code predicts "is the best arm" (cross-entropy), a label that breaks ties by the order of the arms.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from recal_bench.encoders import fit_encoder, installed_encoders
from recal_bench.routers import Context, Predictions, Queries, Train, router
from recal_bench.toolbox.inferred_tasks import fit_tasks, most_likely_task
from recal_bench.toolbox.saving import Saved
from recal_bench.toolbox.small_models import copied, steps, train_best
from recal_bench.toolbox.targets import chosen_utility, in_fixed_order, name_order, predictions_of, targets_of

LAYERS = 2
GRAPH = 4096
"""Train queries that are in the graph at one step; all of them when it is used."""
LOOK_EVERY = 10
"""Steps from one look at validation to the next."""


class Graph(NamedTuple):
    """Tensors. Axis F: the features of an edge, score and cost above the arm's typical ones."""

    encoding_QE: Any
    task_QT: Any
    inferred_task_QT: Any
    excess_FQA: Any
    known_QA: Any
    task_TE: Any
    typical_FA: Any

    def of(self, rows: Any) -> "Graph":
        """The same graph with some of its queries only."""
        by_query = (self.encoding_QE[rows], self.task_QT[rows], self.inferred_task_QT[rows])
        return Graph(*by_query, self.excess_FQA[:, rows], self.known_QA[rows], self.task_TE, self.typical_FA)


@router("graphrouter")
@dataclass
class GraphRouter(Saved):
    """GraphRouter: a graph neural network over tasks, queries and arms that predicts each edge's score and cost."""

    LEARNT = ("text_encoder", "classifier_ET", "typical_C", "trust_C", "cost_ref", "state")
    deterministic: ClassVar[bool] = False
    accelerated: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "hidden": (32, 64, 128),
        "learning_rate": (3e-4, 1e-3, 3e-3),
        "mask_rate": (0.3, 0.5, 0.7),
        "encoder": installed_encoders(),
    }

    hidden: Annotated[int, Field(ge=1)] = 64
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    mask_rate: Annotated[float, Field(gt=0, lt=1)] = 0.3
    steps: Annotated[int, Field(ge=1)] = 400
    encoder: str = "tfidf"

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        import torch

        from recal_bench.toolbox.adam import Adam

        train, validation = in_fixed_order(train), in_fixed_order(validation)
        # Whatever order the arms come in, they are computed with, and draw their start, in the order of their names.
        order_A = name_order(train.outcomes.arms)
        place_A = np.argsort(order_A)
        targets = targets_of(Train(train.queries, train.outcomes.take_arms(order_A), train.objective))
        by_feature = (len(targets.typical_C) // len(order_A), len(order_A))
        place_C = np.arange(len(targets.typical_C)).reshape(by_feature)[:, place_A].ravel()
        self.typical_C, self.trust_C = targets.typical_C[place_C], targets.trust_C[place_C]
        self.cost_ref = targets.cost_ref
        self.text_encoder = fit_encoder(self.encoder, train.queries.prompt)
        encoding_QE = self.text_encoder.encode(train.queries.prompt)
        task_QT = (train.outcomes.task_Q[:, None] == np.unique(train.outcomes.task_Q)).astype(np.float64)
        self.classifier_ET = fit_tasks(encoding_QE, train.outcomes.task_Q)
        arrays = (
            encoding_QE,
            task_QT,
            most_likely_task(encoding_QE, self.classifier_ET),
            targets.excess_QC.reshape(len(encoding_QE), *by_feature).transpose(1, 0, 2),
            targets.known_QC[:, : len(order_A)],
            task_QT.T @ encoding_QE / task_QT.sum(axis=0)[:, None],
            targets.typical_C.reshape(by_feature),
        )
        graph = Graph(*(torch.from_numpy(array.astype(np.float32)).to(context.device) for array in arrays))
        generator = torch.Generator().manual_seed(context.seed)
        weights = {name: weight.to(context.device) for name, weight in self._initial(graph, generator).items()}
        optimizer = Adam([weight.requires_grad_() for weight in weights.values()], self.learning_rate, decay=1e-4)

        def loss_of(rows: torch.Tensor) -> Any:
            hidden_Q = torch.rand(len(rows), generator=generator) < self.mask_rate
            hidden_Q[0], hidden_Q[-1] = True, len(rows) == 1
            rows, hidden_Q = rows.to(context.device), hidden_Q.to(context.device)
            part = graph.of(rows)
            query_QH, arm_AH, _ = pass_messages(weights, part, ~hidden_Q)
            known_QA = part.known_QA[hidden_Q]
            predicted_FQA = query_QH[hidden_Q] @ weights["output_FHH"] @ arm_AH.T / self.hidden
            error_FQA = (predicted_FQA - part.excess_FQA[:, hidden_Q]) * known_QA
            return error_FQA.square().sum() / known_QA.sum().clamp(min=1)

        def look() -> tuple[dict[str, np.ndarray], float]:
            self.state = self._kept(weights, graph, place_A)
            predicted_QA = validation.objective.utility(*self.predict(validation.queries))
            return self.state, -chosen_utility(validation, predicted_QA)

        def log(step: int, train_error: float, error: float) -> None:
            context.log({"step": step, "train_error": train_error, "validation_utility": -error})

        rounds = steps(self.steps, LOOK_EVERY, lambda: torch.randperm(len(encoding_QE), generator=generator)[:GRAPH])
        self.state = train_best(optimizer, rounds, loss_of, look, log)

    def _initial(self, graph: Graph, generator: Any) -> dict[str, Any]:
        """Every weight at the start. The output is zero: every arm at its typical values, and none ahead of another."""
        import torch

        size, inputs = self.hidden, graph.encoding_QE.shape[1]
        features, arms = graph.typical_FA.shape
        kinds = {"to_arm": 2, "to_query": 3, "to_task": 2}
        weights = {
            "query_EH": torch.randn(inputs, size, generator=generator),
            "task_EH": torch.randn(inputs, size, generator=generator),
            "arm_FH": torch.randn(features, size, generator=generator),
            "arm_AH": torch.randn(arms, size, generator=generator),
            "output_FHH": torch.zeros(features, size, size),
        }
        for name in ("query_arm", "arm_query", "task_query", "query_task"):
            weights[name] = torch.randn(LAYERS, size, size, generator=generator) * (2 / size) ** 0.5
        for name in ("query_arm_gate", "arm_query_gate"):
            weights[name] = torch.randn(LAYERS, 1 + features, size, generator=generator)
        for name, parts in kinds.items():
            scale = (2 / (parts * size)) ** 0.5
            weights[name] = torch.randn(LAYERS, parts * size, size, generator=generator) * scale
            weights[f"{name}_bias"] = torch.zeros(LAYERS, size)
        return weights

    def _kept(self, weights: dict[str, Any], graph: Graph, place_A: np.ndarray) -> dict[str, np.ndarray]:
        """What a new query needs: the weights it meets, the messages of the tasks, and the last states of the arms."""
        import torch

        with torch.no_grad():
            everything_Q = torch.ones(len(graph.encoding_QE), dtype=torch.bool, device=graph.encoding_QE.device)
            _, arm_AH, message_LTH = pass_messages(weights, graph, everything_Q)
            kept = {name: weights[name] for name in ("query_EH", "to_query", "to_query_bias")}
            kept |= {"message_LTH": message_LTH, "edge_FHA": weights["output_FHH"] @ arm_AH[place_A].T / self.hidden}
        return dict(zip(kept, copied(kept.values()), strict=True))

    def predict(self, queries: Queries) -> Predictions:
        encoding_QE = self.text_encoder.encode(queries.prompt)
        task_QT = most_likely_task(encoding_QE, self.classifier_ET)
        query_QH = encoding_QE @ self.state["query_EH"]
        for layer, message_TH in enumerate(self.state["message_LTH"]):
            own_HH, _, task_HH = np.split(self.state["to_query"][layer], 3)
            query_QH = query_QH @ own_HH + task_QT @ (message_TH @ task_HH) + self.state["to_query_bias"][layer]
            if layer < LAYERS - 1:
                query_QH = np.maximum(query_QH, 0.0)
        excess_QC = np.concatenate(list(query_QH @ self.state["edge_FHA"]), axis=1)
        return predictions_of(self.typical_C + self.trust_C * excess_QC, self.cost_ref)


def pass_messages(weights: dict[str, Any], graph: Graph, seen_Q: Any) -> tuple[Any, Any, Any]:
    """The last states of queries and arms, and what each task told its queries in each layer, `[L, T, H]`.

    A query that is not seen is new: joined to the task that its text suggests, to no arm, and telling nobody anything.
    """
    import torch

    seen_QA = graph.known_QA * seen_Q[:, None]
    edge_WQA = torch.cat([seen_QA[None], graph.excess_FQA * seen_QA])
    seen_task_QT = graph.task_QT * seen_Q[:, None]
    task_QT = torch.where(seen_Q[:, None], graph.task_QT, graph.inferred_task_QT)
    degree_Q, degree_A, degree_T = seen_QA.sum(1), seen_QA.sum(0), seen_task_QT.sum(0)
    query_QH, task_TH = graph.encoding_QE @ weights["query_EH"], graph.task_TE @ weights["task_EH"]
    arm_AH = graph.typical_FA.T @ weights["arm_FH"] + weights["arm_AH"]
    messages = []
    for layer in range(LAYERS):

        def told(states: Any, name: str, layer: int = layer) -> Any:
            return torch.relu(states @ weights[name][layer])

        def updated(name: str, *parts: Any, layer: int = layer) -> Any:
            states = torch.cat(parts, dim=1) @ weights[name][layer] + weights[f"{name}_bias"][layer]
            return torch.relu(states) if layer < LAYERS - 1 else states

        messages.append(told(task_TH, "task_query"))
        told_WAH = edge_WQA.transpose(1, 2) @ told(query_QH, "query_arm")
        to_arm_AH = (told_WAH * weights["query_arm_gate"][layer][:, None]).sum(0)
        told_WQH = edge_WQA @ told(arm_AH, "arm_query")
        to_query_QH = (told_WQH * weights["arm_query_gate"][layer][:, None]).sum(0)
        to_task_TH = seen_task_QT.T @ told(query_QH, "query_task")
        query_QH, arm_AH, task_TH = (
            updated("to_query", query_QH, to_query_QH / degree_Q.clamp(min=1)[:, None], task_QT @ messages[-1]),
            updated("to_arm", arm_AH, to_arm_AH / degree_A.clamp(min=1)[:, None]),
            updated("to_task", task_TH, to_task_TH / degree_T.clamp(min=1)[:, None]),
        )
    return query_QH, arm_AH, torch.stack(messages)
