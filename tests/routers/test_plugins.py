"""Plug-ins in folders and packages: loaded once, sharing helpers, and told apart from mistakes."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from recal_bench import provenance
from recal_bench.errors import PluginError
from recal_bench.outcomes import Arm, Objective, Outcomes
from recal_bench.routers import (
    ROUTERS,
    Context,
    Feedback,
    Flags,
    Queries,
    Train,
    discover,
    fit_seeds,
    flags_of,
    load_folder,
    router,
)

CLI = [sys.executable, "-m", "recal_bench.cli"]
ROUTER = """
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from recal_bench.routers import router
{imports}

@router("{name}")
@dataclass
class Mine:
    '''A router of my own.'''
    deterministic: ClassVar[bool] = True
    {flag}

    def fit(self, train, validation, context):
        {fit}

    def route(self, queries, calls):
        return calls.choose(np.zeros(calls.available_QA.shape))

    def save(self, folder): pass
    def load(self, folder): pass
"""


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    discover()
    for name in ("_entries", "_origins"):
        monkeypatch.setattr(ROUTERS, name, dict(getattr(ROUTERS, name)))


def written(folder: Path, name: str, imports: str = "", flag: str = "", fit: str = "pass") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(ROUTER.format(name=name, imports=imports, flag=flag, fit=fit))
    return folder


def test_the_files_of_a_folder_share_a_helper(tmp_path: Path) -> None:
    folder = written(tmp_path / "mine", "far", imports="from ._shared import LEVEL", fit="self.level = LEVEL")
    written(folder, "near", imports="from ._shared import LEVEL")
    (folder / "_shared.py").write_text("LEVEL = 7\n")
    load_folder(folder)
    far = ROUTERS["far"].cls()
    far.fit(None, None, None)
    assert far.level == 7
    before = provenance.source_hash(ROUTERS["far"].cls)
    (folder / "_shared.py").write_text("LEVEL = 8\n")
    assert provenance.source_hash(ROUTERS["far"].cls) != before


def test_a_helper_that_is_imported_as_a_module_of_its_own_gets_a_hint(tmp_path: Path) -> None:
    folder = written(tmp_path / "mine", "far", imports="from shared import LEVEL")
    (folder / "shared.py").write_text("LEVEL = 7\n")
    with pytest.raises(PluginError, match=r"write `from \.shared import \.\.\.`"):
        load_folder(folder)


def test_loading_twice_gives_the_same_class(tmp_path: Path) -> None:
    folder = written(tmp_path / "mine", "far")
    first = discover((folder,))["far"].cls
    assert discover((folder,))["far"].cls is first
    assert discover((tmp_path / "mine" / ".." / "mine",))["far"].cls is first


def test_the_same_name_twice_in_a_module_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "mine", "far")
    text = (folder / "far.py").read_text()
    (folder / "far.py").write_text(text + text)
    with pytest.raises(PluginError, match=r"two routers are called far, twice in .*far\.py: rename one of them"):
        load_folder(folder)


def test_a_name_that_no_command_line_could_take_is_refused() -> None:
    with pytest.raises(PluginError, match="lower-case words joined by hyphens"):
        router("My Router")(Bandit)


@pytest.mark.parametrize(
    ("flag", "meant"),
    [
        ("partial_feedbak: ClassVar[bool] = True", "partial_feedback"),
        ("compare_arms = True", "compares_arms"),
        ("def fit_seed(self): ...", "fit_seeds"),
        ("def adapts(self, arms, few): ...", "adapt"),
    ],
)
def test_a_mistyped_flag_or_method_is_an_error(tmp_path: Path, flag: str, meant: str) -> None:
    folder = written(tmp_path / "mine", "far", flag=flag)
    with pytest.raises(PluginError, match=rf"which nothing reads \(did you mean {meant}\?\)"):
        load_folder(folder)


@pytest.mark.parametrize("flag", ["sweeps = 'yes'", "space = {'k': [1, 2]}", "reads_columns = 'latency_s'"])
def test_a_flag_of_another_type_is_an_error(tmp_path: Path, flag: str) -> None:
    with pytest.raises(PluginError, match="must be"):
        load_folder(written(tmp_path / "mine", "far", flag=flag))


def test_flags_have_defaults() -> None:
    assert flags_of(Bandit) == Flags(deterministic=False, partial_feedback=True)
    with pytest.raises(PluginError, match="router class object lacks deterministic"):
        flags_of(object)


def run(folder: Path, name: str, log: Path, runs: Path) -> subprocess.CompletedProcess[str]:
    words = ["run", "--router", name, "--include-path", str(folder), "--outcomes", str(log), "--runs", str(runs)]
    return subprocess.run([*CLI, *words], capture_output=True, text=True, check=False)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.csv"
    rows = [f"t,q{q},prompt {q},{model},direct,{q % 2}" for q in range(20) for model in ("one", "two")]
    path.write_text("\n".join(["task,query_id,prompt,model,strategy,score", *rows]) + "\n")
    return path


def test_an_exception_of_a_plug_in_keeps_its_traceback(tmp_path: Path, log: Path) -> None:
    failed = run(written(tmp_path / "mine", "far", imports="1 / 0"), "far", log, tmp_path / "runs")
    assert failed.returncode == 2
    assert re.search(r'far\.py", line \d+, in <module>', failed.stderr)
    assert failed.stderr.splitlines()[-1].endswith("far.py cannot be imported: ZeroDivisionError: division by zero")

    folder = written(tmp_path / "other", "fits", fit="open('/nowhere/at/all')")
    failed = run(folder, "fits", log, tmp_path / "runs")
    assert failed.returncode == 1
    assert "open('/nowhere/at/all')" in failed.stderr
    assert "check the path" not in failed.stderr


# Partial feedback


@dataclass
class Bandit:
    deterministic: ClassVar[bool] = False
    partial_feedback: ClassVar[bool] = True

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        assert np.isnan(train.outcomes.score_QA).all()
        assert np.isnan(validation.outcomes.score_QA).all()
        assert isinstance(train.feedback, Feedback)
        self.outcome = train.feedback.ask(0, context.seed % 2)

    @classmethod
    def fit_seeds(cls, seeds: Any, train: Train, validation: Train, contexts: Any) -> None:
        raise AssertionError("each seed asks for outcomes of its own")


def test_seeds_with_partial_feedback_see_no_more_than_one_does() -> None:
    texts = np.array(["a", "b"], dtype=object)
    arms = (Arm("one", "direct"), Arm("two", "direct"))
    score_QA = np.array([[0.0, 1.0], [1.0, 0.0]])
    outcomes = Outcomes(texts, texts, texts, texts, arms, score_QA, np.full((2, 2), np.nan), "log", "")
    split = Train(Queries(("0", "1"), ("a", "b")), outcomes, Objective())
    seeds = [Bandit(), Bandit()]
    contexts = [Context(seed, "cpu", Path(), lambda line: None) for seed in range(2)]
    fit_seeds(seeds, split, split, contexts)  # type: ignore[arg-type]
    assert [each.outcome.score for each in seeds] == [0.0, 1.0]
