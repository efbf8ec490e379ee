"""Tasks: sets of queries with a prompt and a metric, one lm-eval YAML file each.

Read here without lm-eval, for what the rest of the package needs to know of them. lm-eval itself runs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from recal_bench.errors import SettingsError
from recal_bench.folders import shipped, written_whole


@dataclass(frozen=True)
class Task:
    """`dataset` is the hub data set, its configuration where it has several, and the evaluated split, with colons."""

    name: str
    description: str
    dataset: str
    metrics: tuple[str, ...]
    path: Path


class _Loader(yaml.SafeLoader):
    """Safe, and content with lm-eval's `!function module.name`, which it keeps as text."""


def _function_as_text(loader: _Loader, node: yaml.ScalarNode) -> str:
    return f"!function {loader.construct_scalar(node)}"


_Loader.add_constructor("!function", _function_as_text)


def load_tasks(folder: Path | None = None) -> dict[str, Task]:
    """The tasks of a folder (the shipped one) by name. Files that begin with `_` are what others include.

    Raises SettingsError where the folder holds no task, or a file is not one.
    """
    folder = folder or shipped("tasks")
    paths = sorted(folder.glob("[!_]*.yaml"))
    if not paths:
        raise SettingsError(f"{folder} holds no task: give a folder of lm-eval YAML files, one task each")
    return {path.stem: _task(path) for path in paths}


def write_local_task(task: Task, data: Path | Mapping[str, Path], folder: Path, cache: Path | None = None) -> Path:
    """Write a task file that runs `task` offline on JSONL files: one object a line, `id, question, golden_answers`.

    `data` is a file for each split (`train`, `validation`, `test`), or a lone file, which is test. The task file goes
    to `folder` and keeps the task's name: lm-eval finds it there by `include_path`, as from the command line
    (`lm_eval --include_path FOLDER --tasks NAME`). `cache` is where `datasets` keeps its copy of the data. Raises
    RecalBenchError where a data file is absent.
    """
    files = {"test": data} if isinstance(data, Path) else data
    for path in files.values():
        if not path.is_file():
            raise SettingsError(f"task {task.name}: no file {path}: give a JSONL of id, question, golden_answers")
    located: dict[str, Any] = {"data_files": {split: str(path.resolve()) for split, path in files.items()}}
    if cache is not None:
        located["cache_dir"] = str(cache.resolve())
    overrides = {
        "include": str(task.path.resolve()),
        "task": task.name,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": located,
        "training_split": "train" if "train" in files else None,
        "validation_split": "validation" if "validation" in files else None,
        "test_split": "test" if "test" in files else None,
    }
    path, text = folder / f"{task.name}.yaml", yaml.safe_dump(overrides, sort_keys=False)
    # Another process may be reading it at this moment.
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        with written_whole(path) as draft:
            draft.write_text(text, encoding="utf-8")
    return path


def _task(path: Path) -> Task:
    config = _read(path, ())
    try:
        task = Task(
            name=config["task"],
            description=config["metadata"]["description"],
            dataset=":".join(config[key] for key in ("dataset_path", "dataset_name", "test_split") if config.get(key)),
            metrics=tuple(entry["metric"] for entry in config["metric_list"]),
            path=path,
        )
    except (KeyError, TypeError) as error:
        raise SettingsError(
            f"{path} is not a task: {error} is missing or of the wrong form; compare it with a shipped one "
            "(`recal-bench tasks`)"
        ) from error
    if task.name != path.stem:
        raise SettingsError(f"{path} names its task {task.name}: a task's file is called {task.name}.yaml")
    return task


def _read(path: Path, including: tuple[Path, ...]) -> dict[str, Any]:
    """A file with what it includes, as lm-eval merges them: top-level keys of the including file win."""
    if path in including:
        raise SettingsError(f"{path} includes itself by way of {including[-1].name}: remove one `include`")
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise SettingsError(f"{path} cannot be read as a task: {reason}") from error
    if not isinstance(config, dict):
        raise SettingsError(f"{path} is not a task: it must hold `key: value` lines, with `task: {path.stem}`")
    included = config.pop("include", [])
    merged: dict[str, Any] = {}
    for name in [included] if isinstance(included, str) else included:
        merged |= _read((path.parent / name).resolve(), (*including, path))
    return merged | config
