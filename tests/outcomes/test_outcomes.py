import numpy as np
import pytest
from small_log import small_log

from recal_bench.errors import OutcomesError
from recal_bench.outcomes import Arm, Outcomes
from recal_bench.outcomes.dense import content_hash, standard_split
from recal_bench.outcomes.files import read_outcomes


def outcomes(**changes: object) -> Outcomes:
    values: dict[str, object] = {
        "task_Q": np.array(["nq", "nq", "popqa"], dtype=object),
        "query_id_Q": np.array(["1", "2", "1"], dtype=object),
        "prompt_Q": np.array(["who?", "when?", "where?"], dtype=object),
        "split_Q": np.array(["train", "test", "test"], dtype=object),
        "arms": (Arm("a", "cot"), Arm("b", "direct")),
        "score_QA": np.array([[1.0, 0.0], [np.nan, 1.0], [0.5, 0.0]]),
        "cost_QA": np.array([[0.1, 0.2], [np.nan, 0.2], [np.nan, 0.0]]),
        "name": "three",
        "data_hash": "",
    }
    return Outcomes(**{**values, **changes})  # type: ignore[arg-type]


def test_an_arm_is_written_model_strategy():
    assert str(Arm("gpt", "cot")) == "gpt|cot"


def test_take_keeps_arms_and_expectations_in_step():
    expected_QA = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.3]])
    taken = outcomes(expected_score_QA=expected_QA, expected_cost_QA=expected_QA).take(np.array([2, 0]))
    assert list(taken.query_id_Q) == ["1", "1"]
    np.testing.assert_array_equal(taken.score_QA, [[0.5, 0.0], [1.0, 0.0]])
    np.testing.assert_array_equal(taken.expected_score_QA, expected_QA[[2, 0]])


@pytest.mark.parametrize("keep_A", [np.array([False, True]), np.array([1])])
def test_take_arms_takes_a_mask_or_indices(keep_A):
    expected_QA = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.3]])
    taken = outcomes(expected_score_QA=expected_QA, expected_cost_QA=expected_QA).take_arms(keep_A)
    assert taken.arms == (Arm("b", "direct"),)
    np.testing.assert_array_equal(taken.score_QA, [[0.0], [1.0], [0.0]])
    np.testing.assert_array_equal(taken.expected_cost_QA, expected_QA[:, [1]])
    assert len(taken) == 3


def test_of_split_tasks_and_observed():
    test = outcomes().of_split("test")
    assert test.tasks == ("nq", "popqa")
    np.testing.assert_array_equal(test.observed_QA, [[False, True], [True, True]])


def test_content_hash_names_the_content_alone():
    base = outcomes()
    other_nan = base.cost_QA.copy()
    other_nan[np.isnan(other_nan)] = -np.float64("nan")
    assert content_hash(base) == content_hash(outcomes(name="other", cost_QA=other_nan + -0.0, notes=("x",)))
    assert len(content_hash(base)) == 16
    changed = [
        outcomes(score_QA=base.score_QA * 0.5),
        outcomes(cost_QA=base.cost_QA * 2),
        outcomes(score_QA=base.cost_QA, cost_QA=base.score_QA),
        outcomes(arms=(Arm("a", "cot"), Arm("b", "cot"))),
        outcomes(split_Q=np.array(["test", "train", "test"], dtype=object)),
        outcomes(prompt_Q=np.array(["who", "when?", "where?"], dtype=object)),
        outcomes(task_Q=outcomes().query_id_Q, query_id_Q=outcomes().task_Q),
    ]
    assert len({content_hash(each) for each in [base, *changed]}) == len(changed) + 1


@pytest.mark.parametrize(
    ("name", "meaning"),
    [("val", "validation"), ("Dev", "validation"), ("valid ", "validation"), ("TEST", "test"), ("OOD", "OOD")],
)
def test_standard_split(name, meaning):
    assert standard_split(name) == meaning


def test_another_numeric_column_is_read_where_it_is_asked_for(tmp_path):
    frame = small_log(20).assign(latency_s=lambda rows: np.arange(len(rows), dtype=float), note="a text")
    frame.loc[3, "latency_s"] = np.nan
    path = tmp_path / "log.csv"
    frame.sample(frac=1, random_state=0).to_csv(path, index=False)
    plain, asked = read_outcomes(path), read_outcomes(path, others=["latency_s"])
    assert plain.data_hash == asked.data_hash
    assert not plain.column_QA
    arm_A = {str(arm): number for number, arm in enumerate(asked.arms)}
    row_Q = {query: number for number, query in enumerate(asked.query_id_Q)}
    for each in frame.itertuples():
        found = asked.column_QA["latency_s"][row_Q[each.query_id], arm_A[f"{each.model}|{each.strategy}"]]
        assert found == each.latency_s or (np.isnan(found) and np.isnan(each.latency_s))
    part = asked.of_split("train").take_arms(np.array([1]))
    assert part.column_QA["latency_s"].shape == part.score_QA.shape
    with pytest.raises(OutcomesError, match="column retries is asked for and not there"):
        read_outcomes(path, others=["retries"])
    with pytest.raises(OutcomesError, match="note is not a number in 60 of 60 rows"):
        read_outcomes(path, others=["note"])
