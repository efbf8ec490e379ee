"""Training on a GPU against training on the CPU: `pytest -m cuda`. Skipped where torch sees no CUDA device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from small_log import write_small_log

from recal_bench import provenance, routers
from recal_bench.cli import cli
from recal_bench.experiments.bench import load_bench, queries_of
from recal_bench.recal import RecalRouter
from recal_bench.routers import Context
from recal_bench.training.checkpoint import read_checkpoint, write_checkpoint

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
gpu = pytest.importorskip("gpu", reason="benchmarks/ is not in this checkout")

DEVICE = "cuda"
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_log(tmp_path_factory.mktemp("cuda") / "log.parquet", queries=200)


def test_a_training_is_the_cpus_within_the_tolerance() -> None:
    found = gpu.parity(DEVICE, gpu.Size(3, 64, 6), 20)
    assert found["within"], found


def test_seeds_fitted_together_are_the_cpus_and_are_kept_on_the_cpu(log: Path, tmp_path: Path) -> None:
    bench = load_bench(log)
    fitted = []
    for device in ("cpu", DEVICE):
        made = [RecalRouter(steps=20) for _ in range(3)]
        contexts = [Context(seed, device, tmp_path / device / str(seed), lambda line: None) for seed in range(3)]
        RecalRouter.fit_seeds(made, bench.train, bench.validation, contexts)
        fitted.append(made)
    test = bench.splits.test
    for on_cpu, on_device in zip(*fitted, strict=True):
        assert {each.device.type for each in on_device._policy.parameters()} == {"cpu"}
        queries = bench.validation.queries
        expected_QA, found_QA = (each.utilities(queries, bench.calls(test)) for each in (on_cpu, on_device))
        assert abs(expected_QA - found_QA).max() < 0.01


@pytest.mark.parametrize("estimator", ["expected", "hero", "popart", "disco"])
def test_estimators_with_other_states_and_actions_train_there(log: Path, tmp_path: Path, estimator: str) -> None:
    bench, lines = load_bench(log), []
    made = routers.create(estimator, {"steps": 5, "policy.alpha": "conditioned", "epochs": 2})
    made.fit(bench.train, bench.validation, Context(0, DEVICE, tmp_path, lines.append))
    assert [line["step"] for line in lines] == list(range(6))


def test_a_checkpoint_goes_on_to_the_result_of_an_undisturbed_training(tmp_path: Path) -> None:
    size = gpu.Size(2, 32, 4)
    whole = gpu.learner_of(size, DEVICE, 400, 100)
    for _ in range(3):
        whole.improve()
    whole.evaluate()
    packed = [whole.pack(seed) for seed in range(size.seeds)]
    write_checkpoint(tmp_path, {"configuration": "same", "step": 3, "learner": {"seeds": packed}})
    broken, found = gpu.learner_of(size, DEVICE, 400, 100), read_checkpoint(tmp_path)
    assert found is not None
    broken.restore(found["learner"]["seeds"])
    for _ in range(3):
        whole.improve()
        broken.improve()
    broken.evaluate()
    for one, other in zip(whole.policy.parameters(), broken.policy.parameters(), strict=True):
        assert one.device.type == other.device.type == DEVICE
        torch.testing.assert_close(one, other, rtol=0, atol=1e-3)


def test_a_run_there_says_so_and_routes_where_there_is_no_gpu(log: Path, tmp_path: Path) -> None:
    words = ["--runs", str(tmp_path), "--router", "recal", "--set", "steps=20", "--device", DEVICE]
    result = CliRunner().invoke(cli, ["run", "--outcomes", str(log), *words])
    assert result.exit_code == 0, result.output
    (folder,) = (path.parent for path in tmp_path.glob("recal-*/run.json"))
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert record["configuration"]["device"] == DEVICE
    assert record["device_name"] == provenance.device_name(DEVICE)
    question = ["question 1: river island", "question 2: court verdict"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "recal_bench", "route", "--run", str(folder), "--format", "json", *question]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    here = CliRunner().invoke(cli, command[3:])
    assert here.exit_code == 0, here.output
    assert printed == here.output


@pytest.mark.parametrize("name", ["embedllm", "graphrouter", "irt", "routellm-mf", "routerdc", "rtr"])
def test_baselines_train_there_and_are_kept_on_the_cpu(log: Path, tmp_path: Path, name: str) -> None:
    routers.discover()
    bench = load_bench(log)
    short = {"steps": 2} if name in ("graphrouter", "routerdc") else {"epochs": 2}
    made = routers.create(name, short)
    assert routers.flags_of(made).accelerated
    made.fit(bench.train, bench.validation, Context(0, DEVICE, tmp_path, lambda line: None))
    test = bench.splits.test
    decisions = routers.decide(made, queries_of(test), bench.calls(test, made))
    assert len(decisions.arm_Q) == len(test)
