import contextlib
import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from recal_bench.errors import RecalBenchError
from recal_bench.outcomes import Arm, Outcomes
from recal_bench.outcomes.files import read_outcomes
from recal_bench.outcomes.splits import normalized_prompt, normalized_prompts, prepare

ARMS = (Arm("a", "cot"), Arm("b", "cot"), Arm("c", "cot"))


def outcomes(queries, score_QA=None, cost_QA=None, **changes) -> Outcomes:
    """From (split, task, prompt) of each query, in the order of the dense view; three arms."""
    queries = sorted(queries)
    score = np.tile([1.0, 0.0, 0.5], (len(queries), 1)) if score_QA is None else np.array(score_QA, dtype=float)
    cost = np.full_like(score, np.nan) if cost_QA is None else np.array(cost_QA, dtype=float)
    split, task, prompt = (np.array(column, dtype=object) for column in zip(*queries, strict=True))
    query_id = np.array([f"{row:04d}" for row in range(len(queries))], dtype=object)
    return Outcomes(task, query_id, prompt, split, ARMS[: score.shape[1]], score, cost, "log", "hash", **changes)


def split_of(splits):
    """Which split a query went to, by its identifier."""
    return {query: name for name, part in splits.parts.items() for query in part.query_id_Q}


def own(**prompts):
    return [(split, "nq", prompt) for split, names in prompts.items() for prompt in names.split()]


OWN = own(train="t1 t2 t3 t4", validation="v1 v2", test="e1 e2")


def assert_no_leak(splits) -> None:
    prompts = {name: {normalized_prompt(prompt) for prompt in part.prompt_Q} for name, part in splits.parts.items()}
    for name in splits.evaluation:
        assert not prompts[name] & (prompts["train"] | prompts["validation"])
    assert not prompts["validation"] & prompts["train"]


def test_the_files_own_splits_are_kept():
    splits = prepare(outcomes([*OWN, ("ood", "nq", "o1"), ("a-hard-one", "nq", "h1")]))
    assert list(splits.evaluation) == ["test", "a-hard-one", "ood"]
    assert list(splits.parts) == ["train", "validation", "test", "a-hard-one", "ood"]
    assert [len(part) for part in splits.parts.values()] == [4, 2, 2, 1, 1]
    assert splits.notes == ()
    assert splits.train.arms == ARMS
    assert splits.test is splits.evaluation["test"]
    assert all(set(part.split_Q) == {name} for name, part in splits.parts.items())


@pytest.mark.parametrize("name", ["val", "valid", "dev", "Dev"])
def test_other_names_of_validation(name):
    splits = prepare(outcomes(own(train="t1 t2", test="e1") + own(**{name: "v1"})))
    assert list(splits.validation.prompt_Q) == ["v1"]
    assert splits.notes == (f"split {name} is taken as validation",)


def test_two_names_for_one_split():
    with pytest.raises(RecalBenchError, match="log: splits dev and val both mean validation: rename one of them"):
        prepare(outcomes(own(train="t1", dev="v1", val="v2", test="e1")))


@pytest.mark.parametrize("queries", [own(train="t1 t2"), own(test="e1"), own(train="t1", validation="v1", ood="e1")])
def test_train_and_test_must_be_there(queries):
    with pytest.raises(RecalBenchError, match=r"log: there is no (train|test) query; the splits are \w+ \(\d quer"):
        prepare(outcomes(queries))


def test_notes_of_the_outcomes_go_along():
    assert prepare(outcomes(OWN, notes=("means over draws",))).notes == ("means over draws",)


# Leaks


def test_leaked_prompts_leave_train_and_validation():
    queries = [
        *own(train="t1 t2 t3 E1 v1", validation="v1 v2 e2", test="e1 e2 e3", ood="o1 t2"),
        ("train", "popqa", "e1 "),
    ]
    splits = prepare(outcomes(queries))
    assert_no_leak(splits)
    assert {name: set(part.prompt_Q) for name, part in splits.parts.items()} == {
        "train": {"t1", "t3"},
        "validation": {"v1", "v2"},
        "test": {"e1", "e2", "e3"},
        "ood": {"o1", "t2"},
    }
    assert splits.notes == (
        "1 of 3 test prompts (33%) are also in train: 2 train queries with those prompts dropped",
        "1 of 3 test prompts (33%) are also in validation: 1 validation query with those prompts dropped",
        "1 of 2 ood prompts (50%) are also in train: 1 train query with those prompts dropped",
        "1 of 2 validation prompts (50%) are also in train: 1 train query with those prompts dropped",
    )


@pytest.mark.parametrize(
    ("queries", "said"),
    [
        (own(train="e1 e2", test="e1 e2 e3 e4"), r"2 of 4 test prompts \(50%\) are also in train, and without them no"),
        (own(train="t1", validation="e1", test="e1"), "without them no validation query is left"),
        (own(train="v1", validation="v1 v2", test="e1"), "without them no train query is left"),
    ],
)
def test_a_split_emptied_by_leaks(queries, said):
    with pytest.raises(RecalBenchError, match=said):
        prepare(outcomes(queries))


# Splits of ours


prompt_names = st.integers(0, 60).map(lambda number: f"Question {number}")


@settings(max_examples=100)
@given(
    queries=st.lists(st.tuples(st.sampled_from(["", "x"]), st.sampled_from("abc"), prompt_names), min_size=1).map(
        lambda found: [("", task, prompt + space) for space, task, prompt in found]
    )
)
def test_a_new_split_has_no_leak_and_loses_nothing(queries):
    made = outcomes(queries)
    prompts = {task: {prompt.strip() for _, other, prompt in queries if other == task} for task in made.tasks}
    if max(map(len, prompts.values())) < 3:
        with contextlib.suppress(RecalBenchError):  # Small tasks may reach all three splits between them.
            prepare(made)
        return
    if sum(map(len, prompts.values())) > len(set.union(*prompts.values())):
        # Tasks that share prompts may leave a small one none for a split.
        assume(max(map(len, prompts.values())) >= 10)
    splits = prepare(made)
    assert_no_leak(splits)
    assert Counter(query for part in splits.parts.values() for query in part.query_id_Q) == Counter(made.query_id_Q)
    assert len(splits.notes) == 1


def task_of_prompts(task, n, repeats=1, offset=0):
    return [("", task, f"{task} {number + offset}") for number in range(n) for _ in range(repeats)]


@pytest.mark.parametrize("n", range(3, 60))
def test_each_task_is_shared_out_to_within_one_prompt(n):
    splits = prepare(outcomes(task_of_prompts("a", n, repeats=2) + task_of_prompts("b", 40)))
    for part, percent in ((splits.train, 60), (splits.validation, 10), (splits.test, 30)):
        count = len(set(part.prompt_Q[part.task_Q == "a"]))
        assert count >= 1
        assert abs(count - n * percent / 100) <= 1
    assert [len(part.of_split(name).take(part.task_Q == "b")) for name, part in splits.parts.items()] == [24, 4, 12]


def test_a_task_of_ten_shared_prompts_reaches_every_split():
    shared = [("", "small", f"large {number}") for number in range(10)]
    splits = prepare(outcomes(task_of_prompts("large", 200) + shared))
    assert_no_leak(splits)
    assert [int((part.task_Q == "small").sum()) for part in splits.parts.values()] == [6, 1, 3]
    assert [int((part.task_Q == "large").sum()) for part in splits.parts.values()] == [120, 20, 60]


def test_a_split_of_one_task_does_not_depend_on_the_others():
    one = prepare(outcomes(task_of_prompts("a", 50)))
    of_two = prepare(outcomes(task_of_prompts("a", 50) + task_of_prompts("b", 17)))
    chosen = prepare(outcomes(task_of_prompts("a", 50) + task_of_prompts("b", 17)), tasks=("a",))
    for name, part in one.parts.items():
        same = of_two.parts[name]
        assert set(part.prompt_Q) == set(same.prompt_Q[same.task_Q == "a"]) == set(chosen.parts[name].prompt_Q)


def test_the_rule_of_a_new_split_is_in_a_note():
    (note,) = prepare(outcomes(task_of_prompts("a", 10))).notes
    assert note == (
        "no split in the file: 60% of each task's prompts became train, 10% validation and 30% test, in the order of "
        "their SHA-256: test (3 queries), train (6 queries), validation (1 query)"
    )


def test_too_few_prompts_for_a_split():
    with pytest.raises(RecalBenchError, match="log: there is no split, and 2 prompts are too few"):
        prepare(outcomes(task_of_prompts("a", 2, repeats=5)))


def test_validation_is_taken_from_train():
    train = [("train", task, f"{task} {number}") for task, n in (("a", 100), ("b", 20)) for number in range(n)]
    splits = prepare(outcomes([*train, ("test", "a", "e1"), ("test", "a", "a 7")]))
    assert_no_leak(splits)
    assert Counter(splits.validation.task_Q) == {"a": 15, "b": 3}
    assert Counter(splits.train.task_Q) == {"a": 84, "b": 17}
    assert splits.notes == (
        "1 of 2 test prompts (50%) are also in train: 1 train query with those prompts dropped",
        "no validation split in the file: 18 of 119 train queries (15% of each task's prompts, in the order of their "
        "SHA-256) became validation",
    )
    again = prepare(outcomes([*train, ("test", "a", "e1"), ("test", "a", "a 7")][::-1]))
    assert split_of(again) == split_of(splits)


def test_a_train_split_too_small_for_a_validation():
    with pytest.raises(RecalBenchError, match=r"there is no validation split, and train \(1 query\) is too small"):
        prepare(outcomes(own(train="t1", test="e1")))


# Tasks


def test_tasks_filter_every_split():
    queries = [(split, task, f"{split} {task} {n}") for split, task, n in itertools.product(
        ["train", "validation", "test", "ood"], ["a", "b", "c"], range(2)
    )]  # fmt: skip
    splits = prepare(outcomes(queries), tasks=("a", "c"))
    assert all(part.tasks == ("a", "c") and len(part) == 4 for part in splits.parts.values())


def test_an_unknown_task():
    with pytest.raises(
        RecalBenchError, match=r"log has no task hotpot \(did you mean hotpotqa\?\): it has hotpotqa, nq"
    ):
        prepare(outcomes([*OWN, ("test", "hotpotqa", "h")]), tasks=("nq", "hotpot"))


def test_an_arm_that_was_never_tried_on_the_tasks_is_dropped():
    score = [[1, 0, np.nan]] * 8 + [[1, 0, 1]]
    splits = prepare(outcomes([*OWN, ("train", "popqa", "p1")][::-1], score_QA=sorted_like(OWN, score)), tasks=("nq",))
    assert splits.train.arms == ARMS[:2]
    assert splits.notes == ("1 of 3 arms dropped, no outcome in these tasks: c|cot",)


def sorted_like(queries, score):
    """Scores given for `queries` and one more of train, in the order in which `outcomes` sorts them."""
    names = sorted([*queries, ("train", "popqa", "p1")])
    return [score[-1] if name[1] == "popqa" else score[0] for name in names]


# Missing outcomes: rows are test, train, validation


MISSING = own(test="e1 e2", train="t1 t2 t3", validation="v1")
nan = np.nan
SCORE = [[nan, 1, nan], [1, 0, nan], [1, nan, nan], [0, 1, nan], [1, 1, nan], [nan, 1, 0]]
COST = [[nan, 4, nan], [1, 4, nan], [2, nan, nan], [4, nan, nan], [3, nan, nan], [nan, nan, 9]]


def test_missing_outcomes_are_an_error_that_names_the_flags():
    with pytest.raises(RecalBenchError) as caught:
        prepare(outcomes(MISSING, SCORE, COST))
    assert str(caught.value).startswith("log: 8 of 18 outcomes (44%) are missing: choose --missing restrict (")
    assert "--missing zero (a missing outcome counts as score 0, at the arm's mean train cost)" in str(caught.value)


def test_restrict_leaves_them_missing():
    splits = prepare(outcomes(MISSING, SCORE, COST), missing="restrict")
    assert splits.train.arms == ARMS[:2]
    np.testing.assert_array_equal(splits.test.score_QA, [[nan, 1], [1, 0]])
    np.testing.assert_array_equal(splits.test.cost_QA, [[nan, 4], [1, 4]])
    assert splits.notes == (
        "1 of 3 arms dropped, no outcome in train: c|cot",
        "3 of 12 outcomes are missing: for each query, routers choose among the arms observed (--missing restrict)",
    )


def test_zero_counts_them_as_wrong_at_the_mean_train_cost():
    splits = prepare(outcomes(MISSING, SCORE, COST), missing="zero")
    assert splits.train.arms == ARMS[:2]
    np.testing.assert_array_equal(splits.test.score_QA, [[0, 1], [1, 0]])
    np.testing.assert_array_equal(splits.test.cost_QA, [[3, 4], [1, 4]])
    np.testing.assert_array_equal(splits.train.score_QA, [[1, 0], [0, 1], [1, 1]])
    # b has no known cost in train, and what is observed at an unknown cost stays so.
    np.testing.assert_array_equal(splits.train.cost_QA, [[2, nan], [4, nan], [3, nan]])
    np.testing.assert_array_equal(splits.validation.cost_QA, [[3, nan]])
    assert splits.notes[1] == (
        "3 of 12 outcomes are missing and count as score 0 at the arm's mean train cost, unknown where the arm has "
        "none (--missing zero)"
    )


@pytest.mark.parametrize("missing", ["restrict", "zero"])
def test_a_query_that_no_arm_is_left_for_is_dropped(missing):
    score = [[nan, nan, 1], *SCORE[1:]]
    splits = prepare(outcomes(MISSING, score), missing=missing)
    assert list(splits.test.prompt_Q) == ["e2"]
    assert splits.notes[1] == "queries dropped that no arm is left for: test (1 query)"
    score[-1] = [nan, nan, 1]
    with pytest.raises(
        RecalBenchError, match="log: no validation query has an outcome of an arm that is seen in train"
    ):
        prepare(outcomes(MISSING, score), missing=missing)


def test_complete_outcomes_need_no_rule():
    for missing in ("error", "restrict", "zero"):
        assert prepare(outcomes(OWN), missing=missing).notes == ()


def test_an_unknown_rule():
    with pytest.raises(
        RecalBenchError, match=r"--missing zeros \(did you mean zero\?\): it is one of error, restrict, zero"
    ):
        prepare(outcomes(OWN), missing="zeros")


def test_expectations_stay_in_step():
    expected_QA = np.arange(18.0).reshape(6, 3)
    made = outcomes(MISSING, SCORE, COST, expected_score_QA=expected_QA, expected_cost_QA=expected_QA)
    splits = prepare(made, missing="restrict")
    np.testing.assert_array_equal(splits.train.expected_score_QA, expected_QA[2:5, :2])


@given(data=st.data())
def test_whatever_is_lost_is_in_a_note(data):
    names = st.sampled_from(["train", "validation", "test", "ood"])
    queries = data.draw(st.lists(st.tuples(names, st.sampled_from("ab"), prompt_names), min_size=8, max_size=40))
    shape = (len(queries), 3)
    cells = st.lists(st.sampled_from([0.0, 1.0, nan]), min_size=shape[0] * 3, max_size=shape[0] * 3)
    made = outcomes(queries, np.reshape(data.draw(cells), shape))
    made = made.take(made.observed_QA.any(axis=1))
    missing = data.draw(st.sampled_from(["restrict", "zero"]))
    splits = None
    with contextlib.suppress(RecalBenchError):
        splits = prepare(made, missing=missing)
    assume(splits is not None)
    assert_no_leak(splits)
    kept = Counter(query for part in splits.parts.values() for query in part.query_id_Q)
    assert max(kept.values()) == 1
    n_lost = len(made) - len(kept)
    dropped = [note for note in splits.notes if "quer" in note and "dropped" in note]
    assert bool(n_lost) == bool(dropped)
    for part in splits.parts.values():
        assert len(part)
        assert part.arms == splits.train.arms
        assert part.observed_QA.any(axis=1).all()
        assert missing == "restrict" or part.observed_QA.all()
    assert splits.train.observed_QA.any(axis=0).all()


def test_the_logs_of_real_models(data_folder):
    def read(name):
        return read_outcomes(data_folder / f"{name}.parquet")

    sizes = {
        name: [len(part) for part in prepare(read(name)).parts.values()]
        for name in ("bamboogle_model_x_strategy", "routerr1_pool_nq500", "routerdc_7llm", "llmrouter_default14")
    }
    assert sizes == {
        "bamboogle_model_x_strategy": [75, 13, 37],
        "routerr1_pool_nq500": [300, 50, 150],
        "routerdc_7llm": [6_438, 1_137, 10_121, 2_881],
        "llmrouter_default14": [4_666, 823, 500],
    }
    leaky = prepare(read("llmrouter_default14"))
    assert_no_leak(leaky)
    assert leaky.notes[0] == (
        "119 of 500 test prompts (24%) are also in train: 119 train queries with those prompts dropped"
    )
    incomplete = read("thoughtsource_model_x_strategy")
    with pytest.raises(
        RecalBenchError, match=r"104,736 of 125,812 outcomes \(83%\) are missing: choose --missing restr"
    ):
        prepare(incomplete)
    assert prepare(incomplete, missing="restrict").test.score_QA.shape == (535, 71)
    assert prepare(incomplete, missing="zero").test.observed_QA.all()


@given(st.lists(st.text(max_size=12), max_size=5))
def test_many_prompts_are_normalised_as_each_is(prompts: list[str]) -> None:
    assert normalized_prompts(prompts).tolist() == [normalized_prompt(prompt) for prompt in prompts]
