"""Several jobs: the same records as with one, whatever does them; worker processes that die, and Ctrl-C."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest
from click.testing import CliRunner
from small_log import write_small_log

from recal_bench import routers
from recal_bench.cli import cli
from recal_bench.experiments.bench import load_bench
from recal_bench.experiments.plans import RunPlan
from recal_bench.experiments.trials import Search, forget, tune

# The commit, too, may be another for a process that starts later.
VARYING = ("started", "fit_seconds", "route_us_per_query", "route_us_p95", "code")
# A shell's background job ignores SIGINT, and its children inherit that.
HEARING = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
MOODY = '''
import json, os, signal, time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
import numpy as np
from recal_bench.errors import SettingsError
from recal_bench.routers import Decisions, router

@dataclass
class Moody:
    """Notes each fit in a folder; it may die in one, sleep or refuse."""
    where: str = ""
    number: int = 0
    mood: str = "calm"
    deterministic: ClassVar[bool] = True
    space: ClassVar[dict] = {"mood": ("calm", "slow")}

    def fit(self, train, validation, context):
        from threadpoolctl import threadpool_info
        fits = Path(self.where)
        again = any(fits.glob(f"{self.number}-*"))
        threads = max(each["num_threads"] for each in threadpool_info())
        (fits / f"{self.number}-{os.getpid()}-{time.monotonic_ns()}").write_text(f"{threads}")
        if self.mood == "dies" or (self.mood == "dies once" and not again):
            while not list(context.folder.parent.glob("moody-0-*/run.json")):
                time.sleep(0.01)  # something is finished then
            os.kill(os.getpid(), signal.SIGKILL)
        if self.mood == "sleeps":
            time.sleep(600)
        if self.mood == "refuses":
            raise SettingsError("moody: nothing to learn here")
        if self.mood == "breaks":
            raise KeyError("a defect")

    def route(self, queries, calls):
        return Decisions(np.full(len(queries.prompt), self.number))

    def save(self, folder):
        (folder / "number.json").write_text(json.dumps(self.number))

    def load(self, folder):
        self.number = json.loads((folder / "number.json").read_text())

for number in range(3):
    router(f"moody-{number}", number=number)(Moody)
'''


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    """The folder of the plug-in: a process may import it from one place only."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "moody.py").write_text(MOODY)
    return folder


@pytest.fixture
def moody(tmp_path, plugins):
    """The words of a command with three routers of the plug-in, whose fits leave files in `fits/`."""
    (tmp_path / "fits").mkdir()
    log = write_small_log(tmp_path / "log.parquet")
    named = ("--router", "moody-0,moody-1,moody-2", "--set", f"where={tmp_path / 'fits'}")
    return (*named, "--include-path", str(plugins), "--outcomes", str(log))


def invoke(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


def contents(runs):
    """Every file of the records, without what is timed, and the commit."""
    found = {}
    for path in runs.glob("[!.]*/**/*"):
        if path.is_file():
            content = path.read_bytes()
            if path.name == "run.json":
                record = json.loads(content)
                content = json.dumps({key: value for key, value in record.items() if key not in VARYING})
            found[str(path.relative_to(runs))] = content
    return found


def fits_of(folder, number):
    return [path.name for path in (folder / "fits").glob(f"{number}-*")]


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_records_are_the_same_with_several_jobs(tmp_path, backend):
    log = write_small_log(tmp_path / "log.parquet")
    words = ("run", "--router", "recal,ridge,guarded-knn", "--seeds", 2, "--set", "recal:steps=10", "--outcomes", log)
    one = invoke(*words, "--runs", tmp_path / "one")
    assert one.exit_code == 0, one.output
    several = invoke(*words, "--runs", tmp_path / "several", "--jobs", 2, "--backend", backend)
    assert several.exit_code == 0, several.output
    assert len(contents(tmp_path / "one")) > 20
    assert contents(tmp_path / "several") == contents(tmp_path / "one")
    started = {path: json.loads(path.read_bytes())["started"] for path in (tmp_path / "several").glob("*/run.json")}
    again = invoke(*words, "--runs", tmp_path / "several", "--jobs", 2, "--backend", backend, "--fresh")
    assert again.exit_code == 0
    assert all(json.loads(path.read_bytes())["started"] > before for path, before in started.items())
    assert contents(tmp_path / "several") == contents(tmp_path / "one")


def test_a_worker_that_is_killed_costs_only_its_own_unit(tmp_path, moody):
    calm = invoke("run", *moody, "--runs", tmp_path / "calm")
    assert calm.exit_code == 0, calm.output
    for path in (tmp_path / "fits").iterdir():
        path.unlink()
    words = ("run", *moody, "--set", "moody-1:mood=dies once", "--runs", tmp_path / "killed", "--jobs", 2)
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    assert [len(fits_of(tmp_path, number)) for number in range(2)] == [1, 2]
    # Each fit had one thread, and none was made in this process.
    assert {path.read_text() for path in (tmp_path / "fits").iterdir()} == {"1"}
    assert not any(f"-{os.getpid()}-" in path.name for path in (tmp_path / "fits").iterdir())
    names = {path.parent.name.partition("-s0")[0][:7] for path in (tmp_path / "killed").glob("moody-*/run.json")}
    assert names == {"moody-0", "moody-1", "moody-2"}
    for name in ("moody-0", "moody-2"):
        ((_, before),) = [pair for pair in decisions(tmp_path / "calm") if pair[0] == name]
        ((_, after),) = [pair for pair in decisions(tmp_path / "killed") if pair[0] == name]
        assert before == after


def decisions(runs):
    return [(path.parent.name[:7], path.read_bytes()) for path in runs.glob("moody-*/decisions.parquet")]


def test_workers_that_die_again_and_again_end_the_command_in_one_line(tmp_path, moody, monkeypatch):
    monkeypatch.setattr("recal_bench.experiments.jobs.DEATHS", 2)
    result = invoke("run", *moody, "--set", "moody-1:mood=dies", "--runs", tmp_path / "runs", "--jobs", 2)
    assert result.exit_code == 2
    (line,) = result.output.splitlines()
    assert "died 2 times" in line
    assert "--jobs" in line
    assert list((tmp_path / "runs").glob("moody-0-*/run.json"))
    assert len(fits_of(tmp_path, 0)) == 1


@pytest.mark.parametrize(("mood", "backend"), [("refuses", "loky"), ("breaks", "threading")])
def test_an_error_of_one_unit_is_the_same_as_with_one_job(tmp_path, moody, mood, backend):
    words = ("run", *moody, "--set", f"moody-1:mood={mood}", "--runs", tmp_path / "runs")
    one, several = invoke(*words), invoke(*words, "--jobs", 2, "--backend", backend)
    assert several.exit_code == one.exit_code == (2 if mood == "refuses" else 1)
    assert several.output == one.output
    assert repr(several.exception) == repr(one.exception)


def test_trials_are_the_same_with_several_jobs(tmp_path, moody):
    one = invoke("tune", *moody, "--trials", 2, "--out", tmp_path / "one.json")
    assert one.exit_code == 0, one.output
    trials = len(fits_of(tmp_path, 0))
    several = invoke("tune", *moody, "--trials", 2, "--out", tmp_path / "several.json", "--jobs", 2)
    assert several.exit_code == 0, several.output
    assert (tmp_path / "several.json").read_bytes() == (tmp_path / "one.json").read_bytes()
    assert len(fits_of(tmp_path, 0)) == 2 * trials
    assert not list(tmp_path.glob(".*.trials"))


def test_trials_that_are_finished_are_found_again(tmp_path, moody, plugins):
    routers.discover((plugins,))
    bench, kept = load_bench(tmp_path / "log.parquet"), tmp_path / "kept"
    search = Search.of(bench, "moody-0", 2, fixed={"where": str(tmp_path / "fits")})
    first = tune(search, kept=kept)
    fits = fits_of(tmp_path, 0)
    assert len(fits) == len(first.trials) == 2
    assert tune(search, kept=kept) == first
    assert fits_of(tmp_path, 0) == fits
    forget(search, kept)
    assert not kept.exists()


def test_ctrl_c_ends_all_workers_and_keeps_what_is_finished(tmp_path, moody):
    words = ["run", *moody, "--set", "moody-1:mood=sleeps", "--set", "moody-2:mood=sleeps", "--jobs", "2"]
    program = [sys.executable, "-c", f"{HEARING}; from recal_bench.cli import main; main()"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [*program, *words, "--runs", str(tmp_path / "runs")]
    with subprocess.Popen(command, **pipes, start_new_session=True) as process:
        deadline, sleeping = time.monotonic() + 120, []
        while len(sleeping) < 2 and time.monotonic() < deadline and process.poll() is None:
            sleeping = [*fits_of(tmp_path, 1), *fits_of(tmp_path, 2)]
            time.sleep(0.02)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Aborted" in error
    assert "Traceback" not in error
    workers = [int(name.split("-")[1]) for name in sleeping]
    assert len(set(workers)) == 2
    deadline = time.monotonic() + 60
    while any(alive(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(alive(worker) for worker in workers)
    assert len(list((tmp_path / "runs").glob("moody-*/run.json"))) == 1


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_backend_that_is_unknown_or_absent_is_refused_in_one_line(tmp_path, monkeypatch):
    words = ("run", "--router", "knn", "--runs", tmp_path / "runs", "--jobs", 2)
    unknown = invoke(*words, "--backend", "lokey")
    assert unknown.exit_code == 2
    assert unknown.output == ("Error: --backend lokey (did you mean loky?): it is one of loky, threading, ray, dask\n")
    monkeypatch.setattr("recal_bench.experiments.jobs.find_spec", lambda name: None)
    for backend in ("ray", "dask"):
        absent = invoke(*words, "--backend", backend)
        assert absent.exit_code == 2
        assert len(absent.output.splitlines()) == 1
        assert f"recal-bench[{backend}]" in absent.output
    alone = invoke(*words[:-2], "--backend", "loky")
    assert alone.exit_code == 2
    assert "--jobs" in alone.output
    assert not (tmp_path / "runs").exists()


def test_a_plan_is_the_same_in_another_process():
    for name in routers.discover():
        router = routers.create(name)
        sent = pickle.loads(pickle.dumps(RunPlan(name, router, (3, 4), "cpu", "a command", optional=True)))
        assert routers.settings_of(sent.router) == routers.settings_of(router)
        assert type(sent.router) is type(router)
        assert (sent.name, sent.seeds, sent.device, sent.command) == (name, (3, 4), "cpu", "a command")
        assert sent.optional


@pytest.mark.parametrize("backend", ["ray", "dask"])
def test_a_cluster_of_this_machine_makes_the_same_records(tmp_path, moody, backend):
    needs = {"ray": "ray", "dask": "distributed"}[backend]
    if find_spec(needs) is None:
        pytest.skip(f"{needs} is not installed")
    one = invoke("run", *moody, "--runs", tmp_path / "one")
    assert one.exit_code == 0, one.output
    # Their own warnings are not ours to turn into errors.
    words = [sys.executable, "-m", "recal_bench.cli", "run", *moody, "--runs", str(tmp_path / "several")]
    done = subprocess.run([*words, "--jobs", "2", "--backend", backend], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "several") == contents(tmp_path / "one")
    assert len(fits_of(tmp_path, 0)) == 2
