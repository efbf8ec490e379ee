"""What `import recal_bench` offers: each function is a command of the command line, for a notebook (docs/python.md)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recal_bench import plugins, routers
from recal_bench.defaults import BASELINE
from recal_bench.errors import RecalBenchError, SettingsError, near_miss
from recal_bench.experiments import records, tuning
from recal_bench.experiments.bench import Bench, load_bench, load_outcomes
from recal_bench.experiments.deployed import Advice, DeployedRouter
from recal_bench.experiments.drift import Drift, compare_with, prepare_before
from recal_bench.experiments.plans import RunPlan, plan
from recal_bench.experiments.records import Run
from recal_bench.experiments.runs import run_plans
from recal_bench.experiments.signal import find_signal
from recal_bench.experiments.traffic import read_traffic
from recal_bench.experiments.trials import Search
from recal_bench.experiments.trials import tune as search_settings
from recal_bench.experiments.tuning import Tuned
from recal_bench.outcomes.reading import WHOLE_RANGE
from recal_bench.outcomes.validation import validate
from recal_bench.reporting.figures.frames import comparison_frame, runs_frame
from recal_bench.reporting.figures.logged import logged_tables
from recal_bench.reporting.figures.worlds import tables
from recal_bench.routers import Router, named

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "compare",
    "create",
    "drift",
    "find_signal",
    "list_routers",
    "list_runs",
    "load_bench",
    "load_outcomes",
    "load_router",
    "read_runs",
    "route",
    "run",
    "tune",
    "validate",
]

RUNS = Path("runs")


def list_routers() -> pd.DataFrame:
    """The routers by name: `summary`, and `settings` with their defaults."""
    import pandas as pd

    found = routers.discover()
    rows = [(spec.summary, routers.settings_of(routers.create(name))) for name, spec in found.items()]
    return pd.DataFrame(rows, index=pd.Index(list(found), name="router"), columns=["summary", "settings"])


def create(name: str, settings: Mapping[str, Any] | None = None) -> Router:
    """An unfitted router with its settings; dotted names reach into nested ones (`{"prior.k": 100}`).

    Raises SettingsError on an unknown name or setting, and on a value that it cannot have.
    """
    plugins.discover()
    router: Router = routers.create(name, settings)
    return router


def run(
    bench: Bench,
    routers: str | Router | Sequence[str | Router],
    *,
    seeds: int = 1,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    tuned: Tuned | Sequence[Tuned] | str | Path = (),
    device: str = "auto",
    runs: str | Path = RUNS,
    fresh: bool = False,
) -> list[Run]:
    """Fit routers on train, replay their decisions on the other splits, keep a record of each run.

    `routers` are names or instances, of registered classes or of your own; an instance is copied, never fitted itself.
    `arm:model|strategy` is a fixed arm; "all" are the registered ones, of which one that refuses the outcomes is left
    out with a warning.
    With them come the rows that every comparison needs: best-single, random, cheapest, knn and the references.
    `seeds` counts the training seeds (0, 1, ...); a deterministic router has one run. `settings` maps a router's name
    to settings that are not its defaults; `tuned` is what `tune` returned, or the file of `recal-bench tune`.
    `runs` is the folder of the records: a run that is there already is read, not run, but where `fresh` is set.

    Raises SettingsError on an unknown name or setting, OutcomesError where a router cannot learn from these outcomes,
    PluginError where an instance is not a router.
    """
    plugins.discover()
    given = [routers] if isinstance(routers, str) or not isinstance(routers, Sequence) else list(routers)
    by_name = [each for each in given if isinstance(each, str)]
    names, by_all = named(by_name) if by_name else ((), frozenset[str]())
    wanted: list[str | Router] = []
    for each in given:
        wanted += named([each]).names if isinstance(each, str) else [each]
    for name in settings or {}:
        if name not in names:
            raise SettingsError(
                f"settings for {name}{near_miss(name, names)}: it is not among the routers to run by name"
            )
    path = Path(tuned) if isinstance(tuned, str | Path) else None
    plans = plan(
        bench,
        wanted,
        settings=settings,
        tuned=tuning.read_tuned(path, bench) if path else _by_router(tuned, bench),
        tuned_path=path,
        seeds=seeds,
        device=device,
        optional=by_all,
    )

    def on_refused(each: RunPlan, error: RecalBenchError) -> None:
        warnings.warn(f"{each.name} is left out: {error}", stacklevel=3)

    return run_plans(bench, plans, Path(runs), fresh, on_refused=on_refused)


def _by_router(tuned: Any, bench: Bench) -> dict[str, Tuned]:
    each_tuned = [tuned] if isinstance(tuned, Tuned) else tuned
    return {each.router: tuning.check_tuned(each, bench, "tuned") for each in each_tuned}


def tune(
    bench: Bench,
    router: str,
    *,
    trials: int = 8,
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
) -> Tuned:
    """Choose the settings of a router on validation, with this many trials; `settings` are part of every trial.

    Raises SettingsError on an unknown name or setting, OutcomesError where the router cannot learn from these outcomes.
    """
    plugins.discover()
    if trials < 1:
        raise SettingsError(f"{trials} trials: give 1 or more")
    return search_settings(Search.of(bench, router, trials, device, settings))


def read_runs(folder: str | Path = RUNS) -> list[Run]:
    """All finished runs of a folder. A record that cannot be read is left out with a warning.

    Raises RunError where there is none.
    """
    found = records.find_runs(Path(folder))
    for line in found.left_out:
        warnings.warn(line, stacklevel=2)
    return found.runs


def load_router(run: Run | str | Path) -> DeployedRouter:
    """The trained router of a run, loaded once: `load_router(run).route(prompts)` reads nothing from the disk.

    Raises RunError where nothing can be loaded, PluginError where the run's router is a class that is not there.
    """
    plugins.discover()
    return DeployedRouter(run if isinstance(run, Run) else records.read_run(Path(run)))


def route(run: Run | str | Path, prompts: Sequence[str]) -> list[Advice]:
    """The arm that the trained router of a run chooses for each prompt, with the score and cost (USD) to expect.

    It is loaded at each call: `load_router` keeps it. Raises what `load_router` and `DeployedRouter.route` raise.
    """
    return load_router(run).route(prompts)


def drift(
    log: str | Path,
    run: Run | str | Path,
    *,
    outcomes: str | Path | None = None,
    score_range: tuple[float, float] = WHOLE_RANGE,
) -> Drift:
    """Whether a log of today's queries looks like what a run was fitted to and judged on.

    `log` is a table with the column `prompt`, and perhaps `model` and `strategy` (or `arm`), `score` and `cost_usd`;
    `score_range` are the ends of its scale. `outcomes` is the file that the run was made on, where the run's command
    does not lead there. Raises OutcomesError where the log cannot be used or holds fewer than 20 new prompts, RunError
    where the run's outcomes are not to be found or its router cannot be loaded.
    """
    plugins.discover()
    chosen = run if isinstance(run, Run) else records.read_run(Path(run))
    traffic = read_traffic(Path(log), score_range)
    return compare_with(prepare_before(chosen, None if outcomes is None else Path(outcomes)), traffic)


def list_runs(runs: Sequence[Run] | str | Path = RUNS) -> pd.DataFrame:
    """One row a run, with its figures on test (docs/python.md names the columns). Takes runs, or their folder."""
    return runs_frame(_runs(runs))


def compare(runs: Sequence[Run] | str | Path = RUNS, baseline: str = BASELINE, aggregate: str = "mean") -> pd.DataFrame:
    """One row a router with its settings, over all its seeds: the figures of `recal-bench compare`.

    The index is the router's label; docs/python.md names the columns, of which `outcomes` and `alpha` tell rows on
    different outcomes apart. `attrs["notes"]` holds what qualifies the figures. Takes runs, or their folder.
    Raises RunError where the baseline has no run.
    """
    found = _runs(runs)
    return comparison_frame([*tables(found, baseline, aggregate), *logged_tables(found, baseline)])


def _runs(runs: Sequence[Run] | str | Path) -> Sequence[Run]:
    return read_runs(runs) if isinstance(runs, str | Path) else runs
