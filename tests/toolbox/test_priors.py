"""Priors by name: a hierarchy is fitted once for all that ask for the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from recal_bench.outcomes import Arm, Objective, Outcomes
from recal_bench.policies.settings import Prior
from recal_bench.routers import Queries, Train
from recal_bench.toolbox import priors
from recal_bench.toolbox.hierarchy import packed

ROWS, ARMS = 90, (Arm("large", "cot"), Arm("large", "direct"), Arm("small", "cot"))


def asked(**changed: Any) -> dict[str, Any]:
    """The arguments of `fit_prior`, of which some may be others."""
    rng = np.random.default_rng(0)
    task_Q = np.array([f"task {row % 3}" for row in range(ROWS)], dtype=object)
    embedding_QE = torch.nn.functional.normalize(torch.tensor(rng.standard_normal((ROWS, 6)), dtype=torch.float32))
    score_QA = (rng.random((ROWS, 3)) < 0.3 + 0.2 * (np.arange(ROWS)[:, None] % 3 == np.arange(3))).astype(float)
    parts = {
        "settings": Prior(),
        "score_QA": score_QA,
        "task_Q": task_Q,
        "alpha": 0.2,
        "embedding_QE": embedding_QE,
        "cost_QA": np.tile([1.0, 0.5, 0.2], (ROWS, 1)),
        "fresh_QE": embedding_QE[:30].flip(0),
    } | changed
    ids = np.array([f"q{row}" for row in range(ROWS)], dtype=object)
    outcomes = Outcomes(
        task_Q=parts["task_Q"],
        query_id_Q=ids,
        prompt_Q=ids,
        split_Q=np.full(ROWS, "train", dtype=object),
        arms=ARMS,
        score_QA=parts["score_QA"],
        cost_QA=parts["cost_QA"],
        name="thirds",
        data_hash="",
    )
    objective = Objective(alpha=parts["alpha"], cost_ref=1.0)
    train = Train(Queries(tuple(ids), tuple(ids)), outcomes, objective)
    return {"train": train} | {key: parts[key] for key in ("settings", "embedding_QE", "cost_QA", "fresh_QE")}


def arrays(fitted: priors.Fitted) -> dict[str, Any]:
    return {**packed(fitted.prior), "left out": fitted.left_out.value_QX.numpy()}  # type: ignore[arg-type]


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was really fitted."""
    found: list[Any] = []

    def fit(*arguments: Any) -> Any:
        found.append(arguments)
        return original(*arguments)

    original = priors.fit_hierarchy
    monkeypatch.setattr(priors, "fit_hierarchy", fit)
    monkeypatch.setattr(priors, "_HIERARCHIES", priors.Remembered(8))
    return found


def test_a_hierarchy_is_fitted_once(fits: list[Any]) -> None:
    first, again = (priors.fit_prior(**asked()) for _ in range(2))
    assert first is not None
    assert again is not None
    assert len(fits) == 1
    for name, value in arrays(first).items():
        np.testing.assert_array_equal(value, arrays(again)[name])
    other = priors.fit_prior(**asked(settings=Prior(scale=7.0)))  # of which the hierarchy knows nothing
    assert other is not None
    assert len(fits) == 1


@pytest.mark.parametrize("changed", ["settings", "score_QA", "task_Q", "alpha", "embedding_QE", "cost_QA", "fresh_QE"])
def test_whatever_it_depends_on_makes_another(fits: list[Any], changed: str) -> None:
    usual = asked()
    train = usual["train"].outcomes
    others = {
        "settings": replace(Prior(), tasks=False),
        "score_QA": 1 - train.score_QA,
        "task_Q": np.roll(train.task_Q, 1),
        "alpha": 0.4,
        "embedding_QE": usual["embedding_QE"].flip(0),
        "cost_QA": train.cost_QA[:, ::-1].copy(),
        "fresh_QE": usual["fresh_QE"][:25],
    }
    priors.fit_prior(**usual)
    priors.fit_prior(**asked(**{changed: others[changed]}))
    assert len(fits) == 2
