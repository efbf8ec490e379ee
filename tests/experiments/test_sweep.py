"""A router at all prices of cost: real baselines on a small log, and what the records keep of it."""

import json
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from small_log import small_log, write_small_log

from recal_bench import routers
from recal_bench.evaluation.metrics import macro_mean
from recal_bench.experiments.bench import load_bench, queries_of
from recal_bench.experiments.records import RunRecord
from recal_bench.experiments.replay import deciders_of, replay
from recal_bench.experiments.sweep import ALPHAS, can_sweep, sweep
from recal_bench.routers import Context


@pytest.fixture(scope="module", autouse=True)
def registry():
    routers.discover()


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return load_bench(write_small_log(tmp_path_factory.mktemp("log") / "log.parquet", queries=300))


def fitted(name, bench, tmp_path):
    router = routers.create(name)
    router.fit(bench.train, bench.validation, Context(0, "cpu", tmp_path, lambda line: None))
    return router


def point(part, arm_Q):
    rows = np.arange(len(part))
    means = macro_mean(part.score_QA[rows, arm_Q], part.task_Q), macro_mean(part.cost_QA[rows, arm_Q], part.task_Q)
    return pytest.approx((means[0], 1000 * means[1]))


def pair(found):
    return found.accuracy, found.cost_usd_per_1k


@pytest.mark.parametrize("name", ["ridge", "knn"])
def test_the_ends_are_the_best_predicted_score_and_the_cheapest_arm(name, bench, tmp_path):
    router, test = fitted(name, bench, tmp_path), bench.splits.test
    (found,) = sweep(bench, router)
    assert found.split == "test"
    assert [each.alpha for each in found.points] == sorted({*ALPHAS, bench.objective.alpha})
    score_QA, cost_QA = router.predict(queries_of(test))
    assert pair(found.points[0]) == point(test, score_QA.argmax(axis=1))
    assert pair(found.points[-1]) == point(test, cost_QA.argmin(axis=1))
    costs = [each.cost_usd_per_1k for each in found.points]
    assert costs[0] > costs[-1]


def test_at_its_own_alpha_a_router_does_what_its_run_records(bench, tmp_path):
    router = fitted("ridge", bench, tmp_path)
    frame = replay(bench, router)
    (found,) = sweep(bench, router)
    (own,) = [each for each in found.points if each.alpha == bench.objective.alpha]
    by_task = frame.groupby("task")
    expected = by_task["score"].mean().mean(), 1000 * by_task["cost_usd"].mean().mean()
    assert pair(own) == pytest.approx(expected)


def test_single_arms_stand_beside_the_frontier(bench, tmp_path):
    (found,) = sweep(bench, fitted("ridge", bench, tmp_path))
    test = bench.splits.test
    for arm, level in enumerate(found.arms):
        assert pair(level) == point(test, np.full(len(test), arm))
    most_accurate = np.argmax(macro_mean(bench.splits.train.score_QA.T, bench.splits.train.task_Q))
    assert found.best_accuracy == found.arms[most_accurate]


class Counting:
    """Counts how often it predicts."""

    deterministic = True

    def __init__(self, inner):
        self.inner, self.asked = inner, 0

    def predict(self, queries):
        self.asked += 1
        return self.inner.predict(queries)


def test_predictions_are_made_once_for_all_prices(bench, tmp_path):
    inner = fitted("ridge", bench, tmp_path)
    counting = Counting(inner)
    assert sweep(bench, counting) == sweep(bench, inner)
    assert counting.asked == 1


def test_predictions_are_made_once_for_decisions_and_prices(bench, tmp_path):
    inner = fitted("ridge", bench, tmp_path)
    counting = Counting(inner)
    deciders = deciders_of(bench, counting)
    frame = replay(bench, counting, deciders=deciders)
    assert sweep(bench, counting, deciders) == sweep(bench, inner)
    assert frame.equals(replay(bench, inner))
    assert counting.asked == 1


@dataclass
class Conditioned:
    """Follows the alpha it is given, bills a hundredth of a cent a query, and can be told not to follow."""

    sweeps: bool = True
    deterministic: ClassVar[bool] = True

    def route(self, queries, calls):
        for row in range(len(queries.prompt)):
            calls.bill(row, 1e-4)
        value_A = calls.objective.alpha * -calls.mean_cost_A / calls.objective.cost_ref + np.array([0.0, 0.0, 0.1])
        return calls.choose(np.tile(value_A, (len(queries.prompt), 1)))


def test_a_router_that_says_so_is_swept_by_its_own_decisions(bench):
    (found,) = sweep(bench, Conditioned())
    own = 1000 * 1e-4
    assert pair(found.points[0]) == pytest.approx((found.arms[2].accuracy, found.arms[2].cost_usd_per_1k + own))
    assert pair(found.points[-1]) == pytest.approx((found.arms[0].accuracy, found.arms[0].cost_usd_per_1k + own))


def test_a_policy_that_is_told_the_price_follows_it(bench, tmp_path):
    tiny = {"steps": 3, "batch_size": 16, "group_size": 4, "prior.k": 10, "prior.scale": 5.0}
    found = {}
    for mode in ("fixed", "conditioned"):
        router = routers.create("recal", tiny | {"policy.alpha": mode})
        router.fit(bench.train, bench.validation, Context(0, "cpu", tmp_path / mode, lambda line: None))
        found[mode] = sweep(bench, router)
    assert found["fixed"] is None
    (swept,) = found["conditioned"]
    assert swept.points[0].cost_usd_per_1k > swept.points[-1].cost_usd_per_1k
    assert pair(swept.points[-1]) == pytest.approx(pair(swept.arms[0]))


def test_what_does_not_follow_alpha_is_not_swept(bench, tmp_path):
    assert sweep(bench, fitted("best-single", bench, tmp_path)) is None
    assert sweep(bench, Conditioned(sweeps=False)) is None
    # Its own route decides, whatever it may predict besides.
    both = fitted("best-single", bench, tmp_path)
    both.predict = lambda queries: None
    assert not can_sweep(both)


def test_without_every_cost_nothing_is_swept(tmp_path):
    free = load_bench(write_small_log(tmp_path / "free.parquet", cost=False))
    assert sweep(free, fitted("ridge", free, tmp_path)) is None
    log = small_log()
    log.loc[log["split"].eq("test"), "cost_usd"] = None
    log.to_parquet(tmp_path / "partly.parquet", index=False)
    partly = load_bench(tmp_path / "partly.parquet")
    assert sweep(partly, fitted("ridge", partly, tmp_path)) is None


def test_where_an_arm_has_no_outcome_the_nearest_in_cost_stands_in(tmp_path):
    log = small_log(queries=200)
    dearest, number = log["strategy"].eq("cot"), log["query_id"].str[1:].astype(int)
    log = log[~(dearest & (number % 3 == 0))]
    log.to_parquet(tmp_path / "gaps.parquet", index=False)
    bench = load_bench(tmp_path / "gaps.parquet", missing="restrict")
    test = bench.splits.test
    (found,) = sweep(bench, fitted("knn", bench, tmp_path))
    assert pair(found.arms[2]) == point(test, np.where(test.observed_QA[:, 2], 2, 1))
    assert pair(found.arms[0]) == point(test, np.zeros(len(test), dtype=int))


def test_every_evaluated_split_is_swept_and_the_order_of_rows_does_not_matter(tmp_path):
    log = small_log(queries=200)
    log.loc[log["split"].eq("test") & (log["query_id"] >= "q0100"), "split"] = "ood"
    results = []
    for name, frame in (("one", log), ("two", log.sample(frac=1, random_state=3))):
        frame.to_parquet(tmp_path / f"{name}.parquet", index=False)
        bench = load_bench(tmp_path / f"{name}.parquet")
        results.append(sweep(bench, fitted("ridge", bench, tmp_path)))
    assert [each.split for each in results[0]] == ["test", "ood"]
    assert results[0] == results[1]


def test_records_keep_the_frontier_and_old_records_still_load(bench, tmp_path):
    found = sweep(bench, fitted("ridge", bench, tmp_path))
    base = {
        "configuration": {
            "router": "ridge",
            "settings": {},
            "seed": 0,
            "device": "cpu",
            "data": bench.data.model_dump(mode="json"),
            "source": "0",
        },
        "deterministic": True,
        "command": "",
        "code": "",
        "packages": {},
        "device_name": "",
        "started": "",
        "mean_score_A": [None] * 3,
        "mean_cost_A": [None] * 3,
    }
    assert RunRecord.model_validate_json(json.dumps(base)).frontier is None
    kept = RunRecord.model_validate(base | {"frontier": found})
    assert RunRecord.model_validate_json(kept.model_dump_json()).frontier == found
