"""`train`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from recal_bench.cli.base import DataOptions, command, data_options, device_option, runs_option
from recal_bench.cli.benches import load_benches
from recal_bench.cli.progress import RunBar, progress_bars
from recal_bench.errors import SettingsError

ROUTER = "recal-lm"


def settings_in(path: Path) -> dict[str, Any]:
    """The settings that a YAML file holds, nested ones dotted; `trl` as the JSON that the setting is.

    Raises SettingsError where it holds no mapping.
    """
    import json

    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise SettingsError(f"--config {path} cannot be read: {reason}") from error
    if not isinstance(content, Mapping):
        raise SettingsError(f"--config {path} holds no settings: write one a line, as in `steps: 100`")
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if key == "trl":
            flat[key] = json.dumps(value)
        elif isinstance(value, Mapping):
            flat |= {f"{key}.{name}": each for name, each in value.items()}
        else:
            flat[str(key)] = value
    return flat


@command(
    "recal-bench train --policy tiny --seeds 3\n"
    "recal-bench train --policy smollm2 --config lm.yaml --outcomes my_log.parquet\n"
    "torchrun --nproc_per_node 8 -m recal_bench train --policy Qwen/Qwen2.5-3B-Instruct --config lm.yaml"
)
@click.option(
    "--policy",
    required=True,
    metavar="NAME|DIR",
    help="tiny (made on the spot), smollm2, a folder with a model of transformers, or a name of Hugging Face.",
)
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Settings of the router in YAML, such as steps: 100; trl: what TRL's GRPOConfig takes besides.",
)
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="A setting (repeatable).")
@data_options
@device_option
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Training seeds 0 .. N-1.")
@click.option(
    "--max-usd",
    type=click.FloatRange(min=0),
    help="With live=POOL: stop before the answers in the pool's journal can cost more.",
)
@runs_option
@click.option("--fresh", is_flag=True, help="Train again what is already there.")
def train(
    policy: str,
    config_path: Path | None,
    assignments: tuple[str, ...],
    data: DataOptions,
    device: str,
    seeds: int,
    max_usd: float | None,
    runs: Path,
    fresh: bool,
) -> None:
    """Train a language model as the router, and run it: `run --router recal-lm` with settings from a file.

    Under torchrun the processes train together, and the first of them keeps the record.
    """
    from recal_bench import routers
    from recal_bench.experiments.fits import follow
    from recal_bench.experiments.plans import plan
    from recal_bench.experiments.runs import run_plans
    from recal_bench.language_model.local import require_packages
    from recal_bench.language_model.processes import is_first
    from recal_bench.reporting.text.report import overview

    routers.discover()
    settings = {**(settings_in(config_path) if config_path else {}), "policy": policy}
    settings |= routers.assign_settings([ROUTER], assignments)[ROUTER]
    require_packages(routers.create(ROUTER, settings).policy)
    with progress_bars() as progress:
        done = []
        for bench in load_benches(progress, data, {ROUTER: settings}, frozenset()):
            plans = plan(bench, [ROUTER], settings={ROUTER: settings}, seeds=seeds, device=device)
            plans = [replace(each, max_usd=max_usd) for each in plans]
            if not is_first():
                follow(bench, plans[0], runs, fresh)
                continue
            bar = RunBar(progress, plans)
            done += run_plans(bench, plans, runs, fresh, bar.begin, bar.step, on_seed=bar.seed)
            bar.end()
    if done:
        click.echo(overview(done))
        click.echo(f"\n{len(done)} run records in {runs}/")
