"""What holds for every registered router, one that is added later included: outcomes, settings and seeds are drawn."""

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from test_baselines import cache, constant, objective_of, part, with_gaps, without_cost, world  # noqa: F401

from recal_bench.experiments.bench import queries_of
from recal_bench.experiments.replay import cost_of_calls
from recal_bench.outcomes import Outcomes, mean_over_observed
from recal_bench.routers import (
    Calls,
    Context,
    Decisions,
    Predicts,
    Reply,
    Train,
    create,
    decide,
    discover,
    fit_seeds,
    flags_of,
    setting_names,
    settings_of,
)

QUICK = {"steps": 3, "epochs": 2, "iterations": 3, "batch_size": 16, "group_size": 4, "hidden": 16, "factors": 8}
QUICK_LANGUAGE_MODEL = {
    "steps": 1, "batch_size": 2, "group_size": 2, "examples": 16, "teacher": "ridge", "max_new_tokens": 4,
}  # fmt: skip
"""A router that has these settings is trained for a moment only: what holds here holds untrained too."""
NEED_COST = ("cheapest", "dearest")
BY_PLACE = ("random",)
"""They may choose another arm where the arms are listed in another order."""
LOADABLE = ("npz", "json", "safetensors")
"""Files that can be loaded without running what is in them."""


SPECS = discover()


def representatives() -> list[str]:
    """Every router; of those that are one class under several names the plain one and one other."""
    specs = sorted(SPECS.values(), key=lambda spec: (len(spec.preset), spec.name))
    names: list[str] = []
    seen: Counter[type] = Counter()
    for spec in specs:
        if spec.cls.__module__.startswith("recal_bench.language_model"):
            continue  # one of them is asked at the end, once: a fit takes seconds
        seen[spec.cls] += 1
        if seen[spec.cls] <= 2:
            names.append(spec.name)
    return sorted(names)


ROUTERS = representatives()
every_router = pytest.mark.parametrize("name", ROUTERS)
a_few_times = settings(max_examples=3, phases=(Phase.explicit, Phase.generate))


@dataclass
class Watched(Calls):
    """Calls that remember by which values an arm was chosen."""

    value_QA: Any = field(init=False, default=None)
    decisions: Any = field(init=False, default=None)

    def choose(self, value_QA: np.ndarray) -> Decisions:
        self.value_QA, self.decisions = value_QA, super().choose(value_QA)
        return self.decisions


class Routed(NamedTuple):
    """What was chosen on test, at what utility (all calls paid), and by which values (None where not by `choose`)."""

    arm_Q: np.ndarray
    utility_Q: np.ndarray
    value_QA: np.ndarray | None
    asked: bool

    def agrees(self, arm_Q: np.ndarray, tolerance: float = 1e-6) -> bool:
        """Whether these choices are the same, up to values that differ by no more than a share of their range."""
        if self.value_QA is None:
            return np.array_equal(self.arm_Q, arm_Q)
        rows = np.arange(len(arm_Q))
        short_Q = self.value_QA[rows, self.arm_Q] - self.value_QA[rows, arm_Q]
        return bool((short_Q <= tolerance * max(np.ptp(self.value_QA), 1.0)).all())


def fitted(name: str, outcomes: Outcomes, chosen: dict[str, Any], seed: int = 0) -> Any:
    """The router fitted as a run does it."""
    router = create(name, chosen)
    splits = [visible(router, part(outcomes, split)) for split in ("train", "validation")]
    with TemporaryDirectory() as folder:
        fit_seeds([router], *splits, [Context(seed, "cpu", Path(folder), lambda line: None)])
    return router


def visible(router: Any, split: Train) -> Train:
    """Texts of answers are there for routers that read them."""
    if flags_of(router).reads_responses:
        return split
    return split._replace(outcomes=replace(split.outcomes, response_QA=None))


def routed(router: Any, outcomes: Outcomes) -> Routed:
    test, rows = outcomes.of_split("test"), np.arange((outcomes.split_Q == "test").sum())

    def reply(row: int, arm: int) -> Reply:
        return Reply(test.response_QA[row, arm], float(test.cost_QA[row, arm]))

    mean_cost_A = mean_over_observed(outcomes.of_split("train").cost_QA)
    calls = Watched(outcomes.arms, objective_of(outcomes), test.observed_QA, mean_cost_A, reply, advice)
    decisions = decide(router, queries_of(test), calls)
    utility_Q = calls.objective.utility(test.score_QA[rows, decisions.arm_Q], cost_of_calls(test, decisions, calls))
    value_QA = None
    if decisions is calls.decisions:
        value_QA = np.where(test.observed_QA, calls.value_QA, calls.value_QA[test.observed_QA].min())
    return Routed(decisions.arm_Q, utility_Q, value_QA, bool(calls.called_QA.any()))


def advice(model: str, message: str) -> Reply:
    """What a language model answers that is asked for the number of an option."""
    return Reply(str(1 + len(message) % 5), 1e-6)


def answering(outcomes: Outcomes) -> Outcomes:
    """Right answers are marked, most wrong ones are not, and some texts are not known."""
    response_QA = np.full(outcomes.score_QA.shape, None, dtype=object)
    for (row, arm), score in np.ndenumerate(outcomes.score_QA):
        if (row + arm) % 7:
            response_QA[row, arm] = f"Answer: item {row}" if score > (row + arm) % 3 / 10 else "I am not sure."
    return replace(outcomes, response_QA=response_QA)


class World(NamedTuple):
    """Few or many queries and arms, outcomes that are missing, scores that are not 0 or 1, no costs."""

    seed: int
    queries: int
    arms: list[int]
    missing: float
    graded: bool
    has_cost: bool

    def outcomes(self) -> Outcomes:
        outcomes = world(self.queries, self.seed).take_arms(np.array(self.arms))
        outcomes = with_gaps(outcomes, self.missing, self.seed)
        if self.graded:
            score_QA = 3 * outcomes.score_QA - 1 + np.linspace(0, 1, len(outcomes))[:, None]
            outcomes = replace(outcomes, score_QA=score_QA)
        return answering(outcomes if self.has_cost else without_cost(outcomes))


def worlds(name: str, least_arms: int = 1) -> st.SearchStrategy[World]:
    return st.builds(
        World,
        seed=st.integers(0, 99),
        queries=st.sampled_from((90, 60, 18)),
        arms=st.permutations(range(4)).flatmap(lambda arms: st.integers(least_arms, 4).map(lambda n: sorted(arms[:n]))),
        missing=st.sampled_from((0.0, 0.2, 0.6)),
        graded=st.booleans(),
        has_cost=st.just(True) if name in NEED_COST else st.booleans(),
    )


def settings_for(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Settings of a router's own search space, but quick ones."""
    cls = SPECS[name].cls
    quick = QUICK_LANGUAGE_MODEL if name == "recal-lm" else QUICK
    quick = {key: value for key, value in quick.items() if key in setting_names(cls)}
    space = {key: values for key, values in flags_of(cls).space.items() if key not in {"encoder", *quick}}
    return st.fixed_dictionaries({key: st.sampled_from(values) for key, values in space.items()}).map(
        lambda others: quick | others
    )


@pytest.mark.parametrize("name", [name for name in ROUTERS if name not in BY_PLACE])
@given(data=st.data())
@a_few_times
def test_permuted_arms_permute_the_decisions(name: str, data: Any) -> None:
    outcomes, chosen = data.draw(worlds(name, least_arms=2)).outcomes(), data.draw(settings_for(name))
    order_A = np.array(data.draw(st.permutations(range(len(outcomes.arms)))))
    permuted = outcomes.take_arms(order_A)
    first, again = (routed(fitted(name, each, chosen), each) for each in (outcomes, permuted))
    assert first.agrees(order_A[again.arm_Q])


@every_router
@given(data=st.data())
@a_few_times
def test_the_order_of_rows_does_not_matter(name: str, data: Any) -> None:
    outcomes, chosen = data.draw(worlds(name)).outcomes(), data.draw(settings_for(name))
    order_Q = np.random.default_rng(data.draw(st.integers(0, 99))).permutation(len(outcomes))
    first, again = (routed(fitted(name, each, chosen), each) for each in (outcomes, outcomes.take(order_Q)))
    of_test_Q = np.argsort(order_Q[outcomes.split_Q[order_Q] == "test"])
    assert first.agrees(again.arm_Q[of_test_Q])


@every_router
@given(data=st.data())
@a_few_times
def test_where_nothing_matters_nobody_is_better_than_random(name: str, data: Any) -> None:
    outcomes, chosen = data.draw(worlds(name)).outcomes(), data.draw(settings_for(name))
    score = data.draw(st.sampled_from((0.0, 0.5, 1.0)))
    cost = 1e-4 if objective_of(outcomes).has_cost else np.nan
    outcomes = answering(constant(outcomes, score, cost))
    by_chance = routed(fitted("random", outcomes, {}), outcomes)
    np.testing.assert_allclose(routed(fitted(name, outcomes, chosen), outcomes).utility_Q, by_chance.utility_Q)


@every_router
@given(data=st.data())
@a_few_times
def test_what_the_queries_of_test_would_give_changes_nothing(name: str, data: Any) -> None:
    outcomes, chosen = data.draw(worlds(name)).outcomes(), data.draw(settings_for(name))
    first = routed(fitted(name, outcomes, chosen), outcomes)
    rng, test_Q1 = np.random.default_rng(data.draw(st.integers(0, 99))), (outcomes.split_Q == "test")[:, None]
    poison_QA = np.where(np.isnan(outcomes.score_QA), np.nan, rng.uniform(-9, 9, outcomes.score_QA.shape))
    poisoned = replace(outcomes, score_QA=np.where(test_Q1, poison_QA, outcomes.score_QA))
    if not first.asked:
        poisoned = replace(
            poisoned,
            cost_QA=np.where(test_Q1, outcomes.cost_QA * abs(poison_QA), outcomes.cost_QA),
            response_QA=np.where(test_Q1, "Answer: poison", outcomes.response_QA),
        )
    np.testing.assert_array_equal(routed(fitted(name, poisoned, chosen), poisoned).arm_Q, first.arm_Q)


@every_router
@given(data=st.data())
@a_few_times
def test_a_loaded_router_decides_alike(name: str, data: Any) -> None:
    outcomes, chosen = data.draw(worlds(name)).outcomes(), data.draw(settings_for(name))
    router = fitted(name, outcomes, chosen)
    with TemporaryDirectory() as folder:
        router.save(Path(folder))
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        assert {path.suffix[1:] for path in files} <= set(LOADABLE)
        loaded = create(name, settings_of(router))
        loaded.load(Path(folder))
    np.testing.assert_array_equal(routed(loaded, outcomes).arm_Q, routed(router, outcomes).arm_Q)
    if isinstance(router, Predicts):
        queries = queries_of(outcomes.of_split("test"))
        np.testing.assert_array_equal(np.stack(loaded.predict(queries)), np.stack(router.predict(queries)))


@every_router
@given(data=st.data())
@a_few_times
def test_the_seed_decides_all_that_is_random(name: str, data: Any) -> None:
    outcomes, chosen = data.draw(worlds(name)).outcomes(), data.draw(settings_for(name))
    seed = data.draw(st.integers(0, 99))
    first, again = (fitted(name, outcomes, chosen, each) for each in (seed, seed))
    np.testing.assert_array_equal(routed(first, outcomes).arm_Q, routed(again, outcomes).arm_Q)
    if first.deterministic:
        other = fitted(name, outcomes, chosen, seed + 1)
        np.testing.assert_array_equal(routed(first, outcomes).arm_Q, routed(other, outcomes).arm_Q)


@every_router
@given(data=st.data())
@a_few_times
def test_it_works_without_costs_and_with_gaps(name: str, data: Any) -> None:
    drawn, chosen = data.draw(worlds(name)), data.draw(settings_for(name))
    outcomes = drawn._replace(missing=0.4, has_cost=name in NEED_COST).outcomes()
    router = fitted(name, outcomes, chosen)
    assert len(routed(router, outcomes).arm_Q) == (outcomes.split_Q == "test").sum()  # decide() raises on a gap
    if isinstance(router, Predicts):
        score_QA, cost_QA = router.predict(queries_of(outcomes.of_split("test")))
        assert np.isfinite(score_QA).all()
        assert np.isnan(cost_QA).all()


LAWS = (
    test_permuted_arms_permute_the_decisions,
    test_the_order_of_rows_does_not_matter,
    test_where_nothing_matters_nobody_is_better_than_random,
    test_what_the_queries_of_test_would_give_changes_nothing,
    test_a_loaded_router_decides_alike,
    test_the_seed_decides_all_that_is_random,
    test_it_works_without_costs_and_with_gaps,
)


@pytest.mark.filterwarnings("ignore")  # TRL, transformers and torch warn of each other's deprecations.
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@given(data=st.data())
@settings(max_examples=1, phases=(Phase.generate,))
def test_the_same_holds_for_a_language_model(law: Any, data: Any) -> None:
    pytest.importorskip("trl", minversion="1.16", reason="TRL is not installed: pip install 'recal-bench[lm]'")
    law.hypothesis.inner_test("recal-lm", data)


@pytest.mark.parametrize("name", sorted(SPECS))
def test_a_router_says_what_it_is_and_its_search_space_holds_settings_that_exist(name: str) -> None:
    spec = SPECS[name]
    assert spec.summary
    for key, values in flags_of(spec.cls).space.items():
        assert len(values) > 1 or key == "encoder"
        for value in values:
            assert settings_of(create(name, {key: value}))[key] == value
