"""How routers are found, made from their settings, and held to what is on offer."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recal_bench.errors import RecalBenchError
from recal_bench.outcomes import Arm, Objective
from recal_bench.routers import (
    ROUTERS,
    Calls,
    Decisions,
    Predictions,
    Queries,
    assign_settings,
    create,
    decide,
    discover,
    load_folder,
    router,
    setting_names,
    settings_of,
)

BASELINES = {
    "random", "cheapest", "dearest", "best-single", "knn", "ridge", "logistic", "svm", "mlp", "gradient-boosting",
}  # fmt: skip
ARMS = tuple(Arm(model, "direct") for model in ("atlas", "codex", "euler"))


@dataclass
class Inner:
    rate: float = 0.5
    warm: bool = False


@dataclass
class Sample:
    """A router for tests.

    More of it.
    """

    deterministic: ClassVar[bool] = True

    k: int = 3
    flag: bool = False
    kind: Literal["a", "b"] = "a"
    inner: Inner = field(default_factory=Inner)


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    discover()  # modules are imported once, and register themselves in the real registry
    for name in ("_entries", "_origins"):
        monkeypatch.setattr(ROUTERS, name, dict(getattr(ROUTERS, name)))
    router("sample")(Sample)
    router("sample-warm", "A warm sample.", k=7, inner__warm=True)(Sample)


def plugin(folder: Path, name: str = "mine") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "mine.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from recal_bench.routers import router\n"
        f"@router('{name}')\n@dataclass\nclass Mine:\n    '''My own.'''\n    depth: int = 2\n"
    )
    return folder


# The registry


def test_all_baselines_are_discovered_with_one_line_each() -> None:
    found = discover()
    assert set(found) >= BASELINES
    assert list(found) == sorted(found)
    assert all(spec.summary and "\n" not in spec.summary for spec in found.values())


def test_the_summary_is_the_docstrings_first_line_unless_given() -> None:
    found = discover()
    assert found["sample"].summary == "A router for tests."
    assert found["sample-warm"].summary == "A warm sample."


def test_routers_of_an_include_path_are_found_and_made(tmp_path: Path) -> None:
    folder = plugin(tmp_path / "routers")
    (folder / "_helper.py").write_text("raise RuntimeError('files with an underscore are not loaded')\n")
    assert discover((folder,))["mine"].summary == "My own."
    assert create("mine", {"depth": "5"}).depth == 5


def test_an_include_path_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecalBenchError, match="is not a folder: --include-path takes a folder"):
        load_folder(tmp_path / "absent")


def test_a_file_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import no_such_module_anywhere\n")
    with pytest.raises(RecalBenchError, match=r"broken\.py cannot be imported: ModuleNotFoundError"):
        load_folder(tmp_path)


def test_the_same_file_name_in_two_folders_is_two_routers(tmp_path: Path) -> None:
    found = discover((plugin(tmp_path / "one", "first"), plugin(tmp_path / "two", "second")))
    assert {"first", "second"} <= set(found)
    assert found["first"].cls is not found["second"].cls


def test_routers_of_installed_packages_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def entry_points(group: str) -> list[Any]:
        asked.append(group)
        load = (lambda: router("packaged")(Sample)) if group == "recal_bench.routers" else (lambda: None)
        return [SimpleNamespace(name="packaged", value="packaged.routers", load=load)]

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    assert "packaged" in discover()
    assert asked == [f"recal_bench.{kind}" for kind in ("routers", "estimators", "components", "encoders")]


# Settings


def test_a_preset_is_a_setting_that_can_be_set_again() -> None:
    assert settings_of(create("sample-warm")) == {
        "k": 7,
        "flag": False,
        "kind": "a",
        "inner.rate": 0.5,
        "inner.warm": True,
    }
    assert settings_of(create("sample-warm", {"inner.warm": "off", "k": "1"}))["inner.warm"] is False


def test_nested_settings_are_dotted() -> None:
    assert setting_names(Sample) == ["k", "flag", "kind", "inner.rate", "inner.warm"]
    made = create("sample", {"inner.rate": "1e-3"})
    assert made.inner == Inner(rate=1e-3)


@pytest.mark.parametrize("word", ["on", "true", "True", "yes", "1"])
def test_words_for_on(word: str) -> None:
    assert create("sample", {"flag": word, "inner.warm": word}).flag is True


@pytest.mark.parametrize("word", ["off", "false", "False", "no", "0"])
def test_words_for_off(word: str) -> None:
    assert create("sample", {"flag": word}).flag is False


@pytest.mark.parametrize(
    ("key", "value"),
    [("k", "three"), ("k", "2.5"), ("flag", "perhaps"), ("kind", "c"), ("inner.rate", "fast")],
)
def test_a_value_of_the_wrong_type_is_named(key: str, value: str) -> None:
    with pytest.raises(RecalBenchError, match=f"router sample, setting {key}={value}: "):
        create("sample", {key: value})


def test_near_misses_are_hinted_at() -> None:
    with pytest.raises(RecalBenchError, match=r"no router is called sampel \(did you mean sample\?\)"):
        create("sampel")
    with pytest.raises(
        RecalBenchError, match=r"has no setting inner\.rat \(did you mean inner\.rate\?\): it has k, flag"
    ):
        create("sample", {"inner.rat": "1"})
    with pytest.raises(RecalBenchError, match=r"no router is called zzz: `recal-bench routers`"):
        create("zzz")


@given(st.integers(-(10**9), 10**9), st.floats(allow_nan=False), st.booleans())
def test_settings_survive_being_written_and_read(k: int, rate: float, flag: bool) -> None:
    written = {"k": str(k), "inner.rate": repr(rate), "flag": str(flag)}
    read = settings_of(create("sample", written))
    assert (read["k"], read["inner.rate"], read["flag"]) == (k, rate, flag)
    assert settings_of(create("sample", read)) == read


def test_assignments_go_to_every_router_that_has_the_setting(tmp_path: Path) -> None:
    load_folder(plugin(tmp_path / "routers"))
    names = ["sample", "mine"]
    assert assign_settings(names, ["k=4", "mine:depth=9", "kind=a=b"]) == {
        "sample": {"k": "4", "kind": "a=b"},
        "mine": {"depth": "9"},
    }


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("k", "write KEY=VALUE"),
        ("=4", "write KEY=VALUE"),
        ("knn:k=4", r"router knn is not among those to run \(sample\)"),
        ("kin=a", r"no named router has a setting kin \(did you mean kind\?\)"),
    ],
)
def test_assignments_of_another_form_are_refused(word: str, message: str) -> None:
    with pytest.raises(RecalBenchError, match=message):
        assign_settings(["sample"], [word])


# Choosing among what is on offer


def calls(available_QA: Any, mean_cost_A: Any = (3.0, 1.0, 2.0), objective: Objective | None = None) -> Calls:
    return Calls(ARMS, objective or Objective(), np.array(available_QA, dtype=bool), np.array(mean_cost_A))


def queries(count: int) -> Queries:
    return Queries(tuple(f"q{row}" for row in range(count)), ("a prompt",) * count)


class Chooses:
    deterministic: ClassVar[bool] = True

    def __init__(self, arm_Q: Any) -> None:
        self.arm_Q = np.array(arm_Q)

    def route(self, queries: Queries, calls: Calls) -> Decisions:
        return Decisions(self.arm_Q)


class Foresees:
    deterministic: ClassVar[bool] = True

    def __init__(self, score_QA: Any, cost_QA: Any) -> None:
        self.predictions = Predictions(np.array(score_QA, dtype=float), np.array(cost_QA, dtype=float))

    def predict(self, queries: Queries) -> Predictions:
        return self.predictions


def test_the_highest_value_on_offer_is_chosen() -> None:
    offered = calls([[1, 1, 1], [0, 1, 1]])
    np.testing.assert_array_equal(offered.choose(np.array([[3.0, 1, 2], [3.0, 1, 2]])).arm_Q, [0, 2])


def test_a_tie_goes_to_the_arm_that_is_cheaper_on_train() -> None:
    offered = calls([[1, 1, 1], [1, 0, 1]])
    np.testing.assert_array_equal(offered.choose(np.ones((2, 3))).arm_Q, [1, 2])


def test_a_tie_of_value_and_cost_goes_by_name_and_an_unknown_cost_comes_last() -> None:
    assert calls([[1, 1, 1]], (2.0, 2.0, 2.0)).choose(np.ones((1, 3))).arm_Q == [0]
    assert calls([[1, 1, 1]], (np.nan, 2.0, 1.0)).choose(np.ones((1, 3))).arm_Q == [2]
    assert calls([[1, 1, 1]], (np.nan, np.nan, np.nan)).choose(np.ones((1, 3))).arm_Q == [0]


@given(st.integers(0, 10_000))
def test_what_is_chosen_is_on_offer_and_nothing_on_offer_is_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    available_QA = rng.random((8, 3)) < 0.5
    available_QA[np.arange(8), rng.integers(3, size=8)] = True
    value_QA = rng.integers(0, 3, size=(8, 3)).astype(float)
    arm_Q = calls(available_QA).choose(value_QA).arm_Q
    rows = np.arange(8)
    assert available_QA[rows, arm_Q].all()
    np.testing.assert_array_equal(value_QA[rows, arm_Q], np.where(available_QA, value_QA, -1).max(axis=1))


def test_a_router_that_predicts_is_judged_by_the_utility() -> None:
    foresees = Foresees([[0.8, 0.75, 0.0]], [[1.0, 0.1, 0.1]])
    available = [[1, 1, 1]]
    assert decide(foresees, queries(1), calls(available, objective=Objective(0.2, 1.0))).arm_Q == [1]
    assert decide(foresees, queries(1), calls(available, objective=Objective(0.0, 1.0))).arm_Q == [0]
    assert decide(foresees, queries(1), calls(available, objective=Objective(0.2, None))).arm_Q == [0]


@pytest.mark.parametrize("arm_Q", [[0], [0, 1, 2], [[0, 1]], [0, 3], [-1, 0]])
def test_decisions_of_another_shape_or_out_of_range_are_refused(arm_Q: Any) -> None:
    with pytest.raises(RecalBenchError, match=r"Chooses must give one arm index in 0\.\.2 a query"):
        decide(Chooses(arm_Q), queries(2), calls([[1, 1, 1], [1, 1, 1]]))


def test_an_arm_that_is_not_on_offer_is_refused() -> None:
    with pytest.raises(RecalBenchError, match=r"chose an arm without an outcome for 1 queries.*calls\.choose"):
        decide(Chooses([0, 0]), queries(2), calls([[1, 1, 1], [0, 1, 1]]))


def test_a_router_that_can_do_neither_is_refused() -> None:
    with pytest.raises(RecalBenchError, match=r"has neither route\(\) nor predict\(\)"):
        decide(SimpleNamespace(), queries(1), calls([[1, 1, 1]]))


def test_a_routers_own_cost_adds_up_and_is_never_negative() -> None:
    offered = calls([[1, 1, 1], [1, 1, 1]])
    offered.bill(1, 0.25)
    offered.bill(1, 0.5)
    np.testing.assert_array_equal(offered.router_cost_Q, [0, 0.75])
    for usd in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="a cost is a number >= 0"):
            offered.bill(0, usd)
