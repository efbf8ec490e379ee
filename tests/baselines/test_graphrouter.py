"""GraphRouter: tasks, queries and arms in one graph."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from literature_properties import properties, worth
from test_baselines import USD, cache, decided, fitted, part, with_gaps, without_cost, world  # noqa: F401

from recal_bench.errors import RecalBenchError
from recal_bench.experiments.bench import queries_of
from recal_bench.outcomes import Outcomes
from recal_bench.routers import Context, Queries, create
from recal_bench.toolbox.inferred_tasks import fit_tasks, most_likely_task

SMALL = {"hidden": 32, "learning_rate": 3e-3, "steps": 60}
"""Settings for a few hundred queries."""


def module() -> Any:
    return sys.modules[type(create("graphrouter")).__module__]


@properties
def test_graphrouter_is_a_sound_router(holds: Any) -> None:
    holds("graphrouter", SMALL)


def test_it_beats_the_best_single_arm() -> None:
    assert worth("graphrouter", world(), **SMALL) > worth("best-single", world()) + 0.15


def test_and_still_does_where_half_of_the_outcomes_are_missing() -> None:
    outcomes = with_gaps(world(600), 0.5)
    assert worth("graphrouter", outcomes, **SMALL) > worth("best-single", outcomes) + 0.1


def test_predictions_are_in_units_of_the_outcomes() -> None:
    outcomes = world()
    queries = queries_of(outcomes.of_split("test"))
    score_QA, cost_QA = fitted("graphrouter", with_gaps(outcomes, 0.3), **SMALL).predict(queries)
    np.testing.assert_allclose(score_QA.mean(axis=0), [0.4, 0.4, 0.4, 0.6], atol=0.15)
    np.testing.assert_allclose(cost_QA.mean(axis=0), USD, rtol=0.25)
    score_QA, cost_QA = fitted("graphrouter", without_cost(outcomes), **SMALL).predict(queries)
    assert np.isfinite(score_QA).all()
    assert np.isnan(cost_QA).all()


def test_a_prediction_does_not_depend_on_what_it_is_asked_with() -> None:
    outcomes = world(150)
    router, queries = fitted("graphrouter", outcomes, **SMALL), queries_of(outcomes.of_split("test"))
    together_QA = router.predict(queries).score_QA
    for row in (0, 3):
        alone_QA = router.predict(Queries(queries.query_id[row : row + 1], queries.prompt[row : row + 1])).score_QA
        np.testing.assert_allclose(alone_QA[0], together_QA[row], rtol=1e-5)


def graph_of(excess_QA: np.ndarray, known_QA: np.ndarray) -> Any:
    """Three queries of one feature, two tasks (the first query's is inferred wrongly), two arms; no cost."""
    arrays = (
        [[1.0], [2.0], [4.0]],
        [[1, 0], [1, 0], [0, 1]],
        [[0, 1], [1, 0], [0, 1]],
        excess_QA[None],
        known_QA,
        [[1.0], [3.0]],
        [[0.25, 0.75]],
    )
    return module().Graph(*(torch.tensor(np.array(array), dtype=torch.float32) for array in arrays))


def ones(**changed: Any) -> dict[str, Any]:
    """Weights of one hidden unit: every state adds up what it was and what it hears."""
    names = ("query_arm", "arm_query", "task_query", "query_task")
    weights = {name: torch.ones(2, 1, 1) for name in names}
    weights |= {"query_EH": torch.ones(1, 1), "task_EH": torch.ones(1, 1), "arm_FH": torch.ones(1, 1)}
    weights |= {
        "arm_AH": torch.zeros(2, 1),
        "query_arm_gate": torch.ones(2, 2, 1),
        "arm_query_gate": torch.ones(2, 2, 1),
    }
    for name, parts in (("to_arm", 2), ("to_query", 3), ("to_task", 2)):
        weights |= {name: torch.ones(2, parts, 1), f"{name}_bias": torch.zeros(2, 1)}
    return weights | changed


def test_two_rounds_of_messages_by_hand() -> None:
    excess_QA, known_QA = np.array([[0.5, -0.5], [1.0, 0.0], [0.0, 0.0]]), np.array([[1, 1], [1, 0], [0, 0]])
    query_QH, arm_AH, message_LTH = module().pass_messages(
        ones(), graph_of(excess_QA, known_QA), torch.tensor([True, True, False])
    )
    # Round 1. Arm 0 hears 1 x (1 + .5) and 2 x (1 + 1) of its two queries, arm 1 hears 1 x (1 - .5) of its one; query 0
    # hears .25 x 1.5 and .75 x .5, query 1 hears .25 x 2; task 0 hears 1 and 2, task 1 nothing of its hidden query.
    arms, tasks = [0.25 + (1.5 + 4) / 2, 0.75 + 0.5], [1 + 1.5, 3.0]
    queries = [1 + (0.375 + 0.375) / 2 + 1, 2 + 0.5 + 1, 4 + 0 + 3]
    np.testing.assert_allclose(message_LTH[..., 0], [[1, 3], tasks])
    # Round 2, the same with these states.
    expected = [arms[0] + (1.5 * queries[0] + 2 * queries[1]) / 2, arms[1] + 0.5 * queries[0]]
    np.testing.assert_allclose(arm_AH[:, 0], expected, rtol=1e-6)
    expected = [queries[0] + (1.5 * arms[0] + 0.5 * arms[1]) / 2 + tasks[0], queries[1] + 2 * arms[0] + tasks[0]]
    np.testing.assert_allclose(query_QH[:, 0], [*expected, queries[2] + tasks[1]], rtol=1e-6)


def test_a_hidden_query_tells_nobody_anything_and_is_joined_to_the_task_its_text_suggests() -> None:
    known_QA, hidden_Q = np.ones((3, 2)), torch.tensor([False, True, True])
    states = [
        module().pass_messages(ones(), graph_of(np.array([[value, -value], [1, 0], [0, 1]]), known_QA), hidden_Q)
        for value in (0.0, 5.0)
    ]
    for first, second in zip(*states, strict=True):
        np.testing.assert_array_equal(first, second)
    # Its own state, then what the other task says in each round: 3, then 3 and the 4 of its one query.
    assert states[0][0][0, 0] == 1 + 3 + (3 + 4)


def test_the_task_is_read_from_the_text() -> None:
    encoding_QE = np.repeat(np.eye(3), [40, 20, 5], axis=0)
    task_Q = np.repeat(np.array(["a", "b", "c"], dtype=object), [40, 20, 5])
    weight_ET = fit_tasks(encoding_QE, task_Q)
    np.testing.assert_array_equal(most_likely_task(np.eye(3), weight_ET), np.eye(3))


def with_one_task(outcomes: Outcomes) -> Outcomes:
    return replace(outcomes, task_Q=np.full(len(outcomes), "everything", dtype=object))


def test_tasks_may_be_one_or_new_in_test() -> None:
    assert worth_of_texts(with_one_task(world())) > worth("best-single", world())
    outcomes = world(150)
    renamed_Q = np.where(outcomes.split_Q == "test", "never seen", outcomes.task_Q)
    renamed = replace(outcomes, task_Q=renamed_Q)
    np.testing.assert_array_equal(
        decided(fitted("graphrouter", renamed, **SMALL), renamed),
        decided(fitted("graphrouter", outcomes, **SMALL), outcomes),
    )


def worth_of_texts(outcomes: Outcomes) -> float:
    from literature_properties import RIGHT

    arm_Q, task_Q = decided(fitted("graphrouter", outcomes, **SMALL), outcomes), world().of_split("test").task_Q
    return float(np.mean([RIGHT[task][arm] for task, arm in zip(task_Q, arm_Q, strict=True)]))


def test_it_logs_its_steps_and_needs_a_validation_split() -> None:
    outcomes, lines = world(60), []
    context = Context(0, "cpu", Path(), lines.append)
    create("graphrouter", {"steps": 25}).fit(part(outcomes, "train"), part(outcomes, "validation"), context)
    assert [line["step"] for line in lines] == [10, 20, 25]
    assert all(line["train_error"] > 0 and -0.2 <= line["validation_utility"] <= 1 for line in lines)
    with pytest.raises(RecalBenchError, match="no arm has any outcome on validation"):
        fitted("graphrouter", outcomes.take(outcomes.split_Q != "validation"))
