"""The column harm: on how many tasks a router is worse than the best single arm."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from synthetic_runs import World, write_run

from recal_bench.cli import cli
from recal_bench.reporting.figures.compare import compare, tables
from recal_bench.reporting.page.columns import REPLAYED, filled
from recal_bench.reporting.text.rows import as_json


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def runs(folder: Path) -> list:
    world = World(splits=("test", "ood"), queries=200, cost=False)
    task_Q, split_Q = world.keys["task"].to_numpy(), world.keys["split"].to_numpy()
    best_Q, worst_Q = np.zeros(len(task_Q), dtype=int), np.full(len(task_Q), 3)
    one_of_six_Q = np.where((task_Q == "nq") & (split_Q == "ood"), worst_Q, best_Q)
    return [
        write_run(folder, world, "best-single", best_Q),
        write_run(folder, world, "harmful", worst_Q),
        write_run(folder, world, "harmful-once", one_of_six_Q),
        write_run(folder, world, "copy", best_Q),
    ]


def test_it_is_the_share_of_tasks_of_all_splits_that_are_significantly_worse(runs):
    found = {row.router: row.harm for row in compare(runs)}
    assert found == {"best-single": None, "harmful": 1.0, "harmful-once": pytest.approx(1 / 6), "copy": 0.0}
    # It is held against best-single, whatever the baseline.
    assert {row.router: row.harm for row in compare(runs, "harmful")} == found
    assert tables(runs[1:], "copy")[0].rows[0].harm is None


def test_every_face_of_a_comparison_has_it(runs, folder):
    found = {}
    for kind in ("table", "markdown", "csv", "json"):
        done = CliRunner().invoke(cli, ["compare", str(folder), "--format", kind], env={"COLUMNS": "300"})
        assert done.exit_code == 0, done.output
        found[kind] = done.output
    assert {row["router"]: row["harm"] for row in json.loads(found["json"])}["harmful"] == 1.0
    for kind in ("table", "markdown", "csv"):
        assert "harm" in found[kind]
    # It tells of all splits, so it stands once, in the table of test.
    assert "harm " not in found["table"].partition("Split ood")[2].partition("Accuracy by task")[0].replace(
        "harmful", ""
    )
    line = next(line for line in found["table"].splitlines() if line.startswith("harmful-once"))
    assert "17%" in line
    assert "harm" in [column.label for column in filled(REPLAYED, map(as_json, compare(runs)))]
