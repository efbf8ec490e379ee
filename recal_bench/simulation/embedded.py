"""The embedded pool's outcomes: built from a seed, kept in the user's cache folder.

`RECAL_BENCH_CACHE` names another folder for the cache.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from recal_bench.arrays import FloatQA, ObjectQA, StrQ
from recal_bench.errors import SettingsError
from recal_bench.folders import cache_folder, written_whole
from recal_bench.outcomes import Outcomes
from recal_bench.outcomes.dense import content_hash
from recal_bench.simulation import models
from recal_bench.simulation.pool import SimulatedPool, score_all
from recal_bench.simulation.questions import Question, all_questions

if TYPE_CHECKING:
    import pandas as pd

TRAIN, VALIDATION, TEST = 1000, 200, 500
_BLOCK = 1700
"""Queries simulated at once: bounds the memory, and is a step of the progress."""
_SHARE_OF_WRITING = 0.3
_TEXTS = ("task_Q", "query_id_Q", "prompt_Q", "split_Q")
_NUMBERS = ("score_QA", "cost_QA", "expected_score_QA", "expected_cost_QA")


def embedded_outcomes(
    world_seed: int = 0,
    train: int = TRAIN,
    validation: int = VALIDATION,
    test: int = TEST,
    *,
    world_arms: str = "standard",
    progress: Callable[[float], None] | None = None,
) -> Outcomes:
    """The outcomes of the embedded pool, from the cache or built (and then cached). Sizes are queries per task.

    `world_arms` are `standard`, or `efforts`: see `SimulatedPool`.

    `progress` is told the share done, 0 to 1, while it builds. Raises SettingsError on sizes that the world does
    not hold.
    """
    sizes = (train, validation, test)
    _check(world_seed, sizes)
    models.arms_of(world_arms)
    folder = cache_folder() / "embedded"
    path = folder / f"{_name(world_seed, sizes, world_arms)}-{_simulation_hash()}.npz"
    kept = _load(path, world_arms)
    if kept is not None:
        return kept
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Two processes at once: the second waits, and then finds the file of the first.
        with FileLock(path.with_suffix(".lock")):
            kept = _load(path, world_arms)
            if kept is None:
                kept = _build(world_seed, sizes, world_arms, progress)
                _store(kept, path)
            return kept
    except OSError:
        # A cache that cannot be written costs time, not the result.
        return _build(world_seed, sizes, world_arms, progress) if kept is None else kept


def embedded_questions(
    world_seed: int = 0, train: int = TRAIN, validation: int = VALIDATION, test: int = TEST
) -> tuple[Question, ...]:
    """The questions behind the rows of `embedded_outcomes`, in their order: gold answers, facts, what arms may say."""
    _check(world_seed, (train, validation, test))
    return all_questions(world_seed, train, validation, test)


@lru_cache(maxsize=2)
def questions_by_prompt(
    world_seed: int = 0, train: int = TRAIN, validation: int = VALIDATION, test: int = TEST
) -> dict[str, Question]:
    """The same questions by their prompt, for a server, which is given only a text."""
    return {question.prompt: question for question in embedded_questions(world_seed, train, validation, test)}


def embedded_responses(
    world_seed: int = 0,
    train: int = TRAIN,
    validation: int = VALIDATION,
    test: int = TEST,
    *,
    world_arms: str = "standard",
) -> ObjectQA:
    """What every arm answers to every query, in the order of `embedded_outcomes`. Built at each call."""
    questions = embedded_questions(world_seed, train, validation, test)
    pool = SimulatedPool(world_seed, world_arms)
    arms = range(len(pool.arms))
    rows: list[list[str]] = []
    for start in range(0, len(questions), _BLOCK):
        block = questions[start : start + _BLOCK]
        replies = pool.answer_all(block)
        rows += [[replies.text(each, row, arm) for arm in arms] for row, each in enumerate(block)]
    return np.array(rows, dtype=object)


def embedded_frame(
    world_seed: int = 0,
    train: int = TRAIN,
    validation: int = VALIDATION,
    test: int = TEST,
    *,
    world_arms: str = "standard",
) -> pd.DataFrame:
    """The same outcomes in long form, with gold answers (JSON), tokens and responses: what an outcomes file holds.

    One row a query and arm. Built at each call, in seconds. `reasoning_tokens` are there where arms reason.
    """
    import pandas as pd

    questions = embedded_questions(world_seed, train, validation, test)
    pool = SimulatedPool(world_seed, world_arms)
    n_arms = len(pool.arms)
    parts = []
    for start in range(0, len(questions), _BLOCK):
        block = questions[start : start + _BLOCK]
        replies = pool.answer_all(block)
        tokens_QA = replies.prompt_tokens_QA + replies.completion_tokens_QA
        by_query = {
            "task": [each.task for each in block],
            "query_id": [each.query_id for each in block],
            "prompt": [each.prompt for each in block],
            "gold": [json.dumps(each.gold) for each in block],
            "split": [each.split for each in block],
        }
        columns = {name: np.repeat(np.array(values, dtype=object), n_arms) for name, values in by_query.items()}
        columns["model"] = np.array([arm.model for arm in pool.arms] * len(block), dtype=object)
        columns["strategy"] = np.array([arm.strategy for arm in pool.arms] * len(block), dtype=object)
        columns["score"] = score_all(block, replies).ravel()
        columns["prompt_tokens"] = replies.prompt_tokens_QA.ravel()
        columns["completion_tokens"] = replies.completion_tokens_QA.ravel()
        if world_arms != "standard":
            columns["reasoning_tokens"] = replies.reasoning_tokens_QA.ravel()
        columns["cost_usd"] = (tokens_QA * models.price(pool.arms)).ravel()
        columns["response"] = np.array(
            [replies.text(each, row, arm) for row, each in enumerate(block) for arm in range(n_arms)], dtype=object
        )
        parts.append(pd.DataFrame(columns))
    frame: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return frame


def _check(world_seed: int, sizes: tuple[int, int, int]) -> None:
    if world_seed < 0:
        raise SettingsError(f"the world seed is {world_seed}: give a whole number >= 0")
    if min(sizes) < 1:
        raise SettingsError(f"the embedded pool was asked for {sizes} queries a task: give at least 1 for each split")


def _name(world_seed: int, sizes: tuple[int, int, int], world_arms: str) -> str:
    arms = f"-{world_arms}" if world_arms != "standard" else ""
    seed = f"-seed{world_seed}" if world_seed else ""
    size = "" if sizes == (TRAIN, VALIDATION, TEST) else "-" + "x".join(map(str, sizes))
    return f"embedded{arms}{seed}{size}"


@lru_cache(maxsize=1)
def _simulation_hash() -> str:
    """Names the simulation: its source and parameters, and what scores and names its outcomes."""
    package = Path(__file__).parent
    sources = [path for path in package.glob("*.py") if not path.name.startswith("server")]
    sources.append(package / "parameters.json")
    sources += [package.parent / name for name in ("scoring.py", "outcomes/dense.py", "pools/strategies.py")]
    digest = hashlib.sha256()
    for path in sorted(sources):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _build(
    world_seed: int, sizes: tuple[int, int, int], world_arms: str, progress: Callable[[float], None] | None
) -> Outcomes:
    tell = progress or (lambda share: None)
    tell(0.0)
    questions = all_questions(world_seed, *sizes)
    tell(_SHARE_OF_WRITING)
    pool = SimulatedPool(world_seed, world_arms)
    blocks: dict[str, list[FloatQA]] = {name: [] for name in _NUMBERS}
    for start in range(0, len(questions), _BLOCK):
        block = questions[start : start + _BLOCK]
        replies, features = pool.answer_all(block), models.features_of(block)
        tokens_QA = replies.prompt_tokens_QA + replies.completion_tokens_QA
        mean_tokens_QA = models.prompt_tokens(features, pool.arms) + models.expected_tokens(
            pool.parameters, features, pool.arms
        )
        blocks["score_QA"].append(score_all(block, replies))
        blocks["cost_QA"].append(tokens_QA * models.price(pool.arms))
        blocks["expected_score_QA"].append(models.expected_score(pool.parameters, features, pool.arms))
        blocks["expected_cost_QA"].append(mean_tokens_QA * models.price(pool.arms))
        tell(_SHARE_OF_WRITING + (1 - _SHARE_OF_WRITING) * min(1.0, (start + _BLOCK) / len(questions)))
    numbers: dict[str, Any] = {name: np.concatenate(parts) for name, parts in blocks.items()}
    outcomes = Outcomes(
        task_Q=np.array([each.task for each in questions], dtype=object),
        query_id_Q=np.array([each.query_id for each in questions], dtype=object),
        prompt_Q=np.array([each.prompt for each in questions], dtype=object),
        split_Q=np.array([each.split for each in questions], dtype=object),
        arms=pool.arms,
        name=_name(world_seed, sizes, world_arms),
        data_hash="",
        simulated=True,
        **numbers,
    )
    return replace(outcomes, data_hash=content_hash(outcomes))


def _store(outcomes: Outcomes, path: Path) -> None:
    arrays: dict[str, Any] = {name: _packed(getattr(outcomes, name)) for name in _TEXTS}
    arrays |= {name: getattr(outcomes, name) for name in _NUMBERS}
    arrays["name"], arrays["data_hash"] = np.array(outcomes.name), np.array(outcomes.data_hash)
    with written_whole(path) as draft, draft.open("wb") as file:
        np.savez(file, **arrays)


def _load(path: Path, world_arms: str) -> Outcomes | None:
    """The outcomes of a cache file; None where there is none, or where it is damaged (it is then built again)."""
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            texts: dict[str, Any] = {name: _unpacked(file[name]) for name in _TEXTS}
            numbers: dict[str, Any] = {name: file[name] for name in _NUMBERS}
            name, data_hash = str(file["name"]), str(file["data_hash"])
    except Exception:  # Arbitrary bytes make the zip and npy readers raise almost anything.
        return None
    return Outcomes(**texts, **numbers, arms=models.arms_of(world_arms), name=name, data_hash=data_hash, simulated=True)


def _packed(text_Q: StrQ) -> NDArray[np.uint8]:
    """Texts as UTF-8 bytes, one a line (none holds a line break): half the size of numpy's strings, and no pickle."""
    return np.frombuffer("\n".join(text_Q).encode(), dtype=np.uint8)


def _unpacked(packed: NDArray[np.uint8]) -> StrQ:
    return np.array(packed.tobytes().decode().split("\n"), dtype=object)
