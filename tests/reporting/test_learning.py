"""How much log is enough: nested shares of train, the same yardstick, one curve for each router."""

import re

import numpy as np
import pytest
from click.testing import CliRunner
from small_log import write_small_log

from recal_bench.cli import cli
from recal_bench.errors import RecalBenchError
from recal_bench.experiments.bench import load_bench
from recal_bench.experiments.records import read_runs
from recal_bench.experiments.variants import with_labels_per_query, with_train_fraction
from recal_bench.reporting.figures.compare import tables
from recal_bench.reporting.figures.learning import learning


@pytest.fixture(scope="module")
def bench():
    return load_bench()


def test_shares_of_train_are_nested_and_keep_the_yardstick(bench):
    shares = [with_train_fraction(bench, fraction) for fraction in (0.002, 0.01, 0.1, 0.5)]
    seen: set[tuple[str, str]] = set()
    for part, expected in zip(shares, (2, 10, 100, 500), strict=True):
        train = part.splits.train
        names, counts = np.unique(train.task_Q, return_counts=True)
        assert len(names) == 7
        assert set(counts) == {expected}
        keys = set(zip(train.task_Q, train.query_id_Q, strict=True))
        assert seen <= keys
        seen = keys
        assert part.objective == bench.objective
        assert part.splits.evaluation is bench.splits.evaluation
        assert part.data.n_queries["train"] == 7 * expected
        assert part.data != bench.data
        assert part.mean_score_A == pytest.approx(train.score_QA.mean(axis=0))


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1, float("nan")])
def test_what_is_no_share_is_refused(bench, fraction):
    with pytest.raises(RecalBenchError, match="above 0, at most 1"):
        with_train_fraction(bench, fraction)


def test_several_shares_give_curves_in_the_terminal_and_on_the_board(tmp_path):
    runs, board = tmp_path / "runs", tmp_path / "board"
    words = ["run", "--router", "ridge", "--tasks", "nq", "--train-fraction", "1,0.02", "--runs", str(runs)]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    assert "Expected utility on test by number of train queries (share), embedded, simulated" in result.output
    (found,) = learning(tables(read_runs(runs)))
    assert found.count_P == [20, 1000]
    assert {"ridge", "knn", "best-single"} < set(found.routers)
    assert "oracle" not in found.routers
    row = found.value_RP[found.routers.index("ridge")]
    # Simulated: with 2% of the log it learns less than with all of it.
    assert row[0] < row[1]
    assert (found.low_RP <= found.value_RP).all()
    assert (found.value_RP <= found.high_RP).all()
    assert any("--train-fraction 0.02" in run.record.command for run in read_runs(runs))
    assert CliRunner().invoke(cli, ["leaderboard", str(runs), "--out", str(board)]).exit_code == 0
    page = (board / "README.md").read_text(encoding="utf-8")
    assert "0.02 of train (20 queries)" in page
    assert "(learning-1.svg)" in page
    assert (board / "learning-1.png").stat().st_size > 10_000


@pytest.mark.parametrize("value", ["0", "2", "x", "0.1,,1", ""])
def test_a_mistyped_share_is_one_line(value):
    result = CliRunner().invoke(cli, ["run", "--router", "ridge", "--train-fraction", value])
    assert result.exit_code == 2
    assert "--train-fraction" in result.output
    assert "Traceback" not in result.output


def test_labels_are_nested_and_keep_the_yardstick(bench):
    one, two = (with_labels_per_query(bench, labels) for labels in (1, 2))
    for part, labels in ((one, 1), (two, 2)):
        train = part.splits.train
        assert (train.observed_QA.sum(axis=1) == labels).all()
        assert (np.isnan(train.cost_QA) == ~train.observed_QA).all()
        assert part.objective == bench.objective
        assert part.splits.validation is bench.splits.validation
        assert part.data.identity != bench.data.identity
        seen = train.observed_QA
        assert (train.score_QA[seen] == bench.splits.train.score_QA[seen]).all()
    assert (one.splits.train.observed_QA <= two.splits.train.observed_QA).all()
    # Every arm has about its share of the labels.
    share_A = one.splits.train.observed_QA.mean(axis=0)
    assert share_A == pytest.approx(1 / len(share_A), rel=0.3)


def run(log, folder, *words):
    return CliRunner().invoke(cli, ["run", "--outcomes", str(log), "--runs", str(folder), *words])


def test_several_numbers_of_labels_give_a_curve(tmp_path):
    log, runs, board = write_small_log(tmp_path / "log.parquet"), tmp_path / "runs", tmp_path / "board"
    result = run(log, runs, "--router", "ridge", "--labels-per-query", "all,1,2")
    assert result.exit_code == 0, result.output
    assert "Utility on test by number of labels of each train query, log" in result.output
    assert "all (3)" in result.output
    (found,) = learning(tables(read_runs(runs)))
    assert found.count_P == [1, 2, 3]
    assert any("--labels-per-query 2" in run.record.command for run in read_runs(runs))
    assert CliRunner().invoke(cli, ["leaderboard", str(runs), "--out", str(board)]).exit_code == 0
    page = (board / "README.md").read_text(encoding="utf-8")
    assert "1 label a train query" in page
    assert re.search(r"\| router +\| +1 +\| +2 +\| +all \(3\) +\|", page)
    assert (board / "learning-1.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--labels-per-query", "0"], "as in 1,2,4,all"),
        (["--labels-per-query", "x"], "as in 1,2,4,all"),
        (["--labels-per-query", "1,,2"], "as in 1,2,4,all"),
        (["--labels-per-query", "3"], "has 3 arms: give a smaller number, or all"),
        (["--labels-per-query", "2", "--hold-out-arms", "atlas"], "--hold-out-arms"),
        (["--labels-per-query", "1", "--router", "elo"], "--labels-per-query 1 leaves one arm a query"),
        (["--labels-per-query", "1", "--train-fraction", "0.01"], "no outcome of"),
    ],
)
def test_labels_that_cannot_be_drawn_are_one_line(tmp_path, words, message):
    result = run(write_small_log(tmp_path / "log.parquet"), tmp_path / "runs", "--router", "ridge", *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
