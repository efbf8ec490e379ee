"""Outcomes files: reading one into the dense view, and saying all that is wrong with it in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from recal_bench.errors import OutcomesError
from recal_bench.outcomes.columns import read_columns
from recal_bench.outcomes.dense import Outcomes, standard_split
from recal_bench.outcomes.keys import Keys
from recal_bench.outcomes.ordering import first_of, ordered, split_in_order
from recal_bench.outcomes.reading import AS_WRITTEN, WHOLE_RANGE, Reading
from recal_bench.outcomes.rows import Rows
from recal_bench.outcomes.schema import (
    FEATURE_PREFIX,
    FEATURES,
    LATENCY,
    NAMES,
    NUMBERS,
    READ_BY_RUNS,
    REQUIRED,
    WITHOUT,
    misspelt,
    resembling,
)
from recal_bench.outcomes.unknown_costs import TOKENS, small
from recal_bench.outcomes.values import latencies, numbers, other_numbers, texts
from recal_bench.outcomes.view import dense_view, in_splits
from recal_bench.outcomes.writer import read_metadata
from recal_bench.outcomes.zero_costs import settled
from recal_bench.table_files import stem
from recal_bench.wording import counted, listed, share, show, some_of

LONG_PROMPT = 10_000
_LISTED = 20


@dataclass(frozen=True)
class FileReport:
    """What was found in an outcomes file; every entry is one line. `outcomes` is None where there are problems.

    `options` are those without which a run would ask, as words of the command line; `validation` finds them.
    """

    problems: tuple[str, ...]
    notes: tuple[str, ...]
    summary: tuple[str, ...]
    outcomes: Outcomes | None
    options: tuple[str, ...] = ()


def read_outcomes(
    path: Path, responses: bool = False, others: Sequence[str] = (), reading: Reading = AS_WRITTEN
) -> Outcomes:
    """The outcomes of a long table (see `table_files`), whatever the order of its rows.

    With responses, and with other numeric columns, where wanted.

    Raises OutcomesError with the first problem where the file is not usable.
    """
    report = check_file(path, responses, others, reading)
    if report.outcomes is None:
        more = len(report.problems) - 1
        rest = f" (and {more} more: `recal-bench validate {path}` lists all)" if more else ""
        raise OutcomesError(f"{path}: {report.problems[0]}{rest}")
    return report.outcomes


def check_file(
    path: Path, responses: bool = False, others: Sequence[str] = (), reading: Reading = AS_WRITTEN
) -> FileReport:
    """All that is wrong with an outcomes file, and what is worth knowing of it. Raises nothing, whatever the file."""
    counts = TOKENS if reading.tokens else ()
    order = (reading.split_by,) if reading.split_by else ()
    named = (*READ_BY_RUNS, *(["response"] if responses else []), *others, *counts, *order)
    # Where another column splits the file, its own split is as if it were not there.
    wanted = [name for name in dict.fromkeys(named) if not order or name != "split" or name in order]
    columns, problems = read_columns(path, wanted, NUMBERS | set(others), reading.features)
    if columns is None:
        return FileReport(tuple(problems), (), (), None)
    of_query = _features(columns.names) if reading.features else []
    problems += _absent(columns.names)
    if not problems and not columns.n_rows:
        problems.append("the file holds no rows: one row is needed for each query and arm")
    asked = tuple(dict.fromkeys((*others, *(name for name in counts if name in columns.names))))
    of_latency: list[str] = []
    found = latencies(columns, of_latency) | other_numbers(asked, columns, problems)
    every = Rows(columns, Keys(texts(columns, problems)), *numbers(columns, problems, reading), found)
    problems += every.key_problems()
    rows = replace(every, keys=every.keys.where(~np.isnan(every.score_N)))
    if not problems and not len(rows.keys):
        problems.append(f"score is missing in all {counted(len(every.keys), 'row')}: nothing can be learned from them")
    problems += rows.problems()
    feature_Q = rows.features([name for name in of_query if name in columns.columns], problems)
    if reading.features and not of_query:
        problems.append(
            f"a router reads columns {FEATURES}, and there is none: name what is known of a query besides its text so, "
            "as in feature_tenant"
        )
    place_N = [ordered(name, columns, problems) for name in order]
    if problems:
        return FileReport(tuple(problems), tuple(_without(columns.names)), every.summary(), None)
    summary = rows.summary()
    metadata = read_metadata(path)
    rows, zeros = settled(rows, reading.zero_cost, "price_book" in metadata)
    outcomes = dense_view(rows, stem(path))
    outcomes = replace(
        outcomes,
        unscored_QA=every.unscored_QA(rows.keys),
        latency_QA=outcomes.column_QA.get(LATENCY),
        column_QA={name: outcomes.column_QA[name] for name in asked},
        feature_Q=feature_Q,
    )
    of_order: list[str] = []
    for name, each_N in zip(order, place_N, strict=True):
        try:
            split_Q, note = split_in_order(first_of(rows.keys.of(each_N), rows.keys.query.group_N, len(outcomes)), name)
        except OutcomesError as error:
            return FileReport((str(error),), (), summary, None)
        outcomes, of_order = in_splits(outcomes, split_Q), [note]
    origin = [
        *of_order,
        *_without(columns.names),
        *_range(reading),
        *_unscored(every),
        *zeros,
        *of_latency,
        *rows.notes(),
        *_price_book(metadata),
    ]
    notes = [*_unknown(columns.names), *origin, *_notes(outcomes)]
    simulated = metadata.get("simulated") is True
    return FileReport((), tuple(notes), summary, replace(outcomes, notes=tuple(origin), simulated=simulated))


def _without(names: Sequence[str]) -> list[str]:
    """What a run should know of columns that are not there: what stands for them, and what may be meant by another."""
    notes, typed = [], misspelt(names)
    names = [typed.get(name, name) for name in names]  # a misspelt name is a problem, said there
    if "strategy" not in names:
        notes.append(f"there is no column strategy: each arm is a model with the strategy {WITHOUT['strategy']}")
    if "task" not in names:
        notes.append(f"there is no column task: all queries are one task, {WITHOUT['task']}")
    meant = resembling(names)
    notes += [
        f"column {show(name)} is not read: rename it to {field} if that is what it holds"
        for name, field in meant.items()
        if field in READ_BY_RUNS
    ]
    return notes


def _range(reading: Reading) -> list[str]:
    if reading.score_range == WHOLE_RANGE:
        return []
    low, high = reading.score_range
    return [f"scores from {low:g} to {high:g} are read as 0 to 1 (--score-range {low:g},{high:g})"]


def _unscored(rows: Rows) -> list[str]:
    if not rows.unscored:
        return []
    n, total = rows.unscored, len(rows.keys)
    return [f"{n:,} of {counted(total, 'row')} ({share(n, total)}) without a score are left out: missing outcomes"]


def _features(names: Sequence[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(FEATURE_PREFIX) and name != FEATURE_PREFIX)


def _unknown(names: Sequence[str]) -> list[str]:
    features = _features(names)
    of_query = [
        f"features of the queries: {some_of([*map(show, features)], _LISTED)} (read by routers whose encoder names "
        "features, as in --set encoder=tfidf+features)"
    ]
    unknown = [show(name) for name in names if name not in (*NAMES, *features)]
    if not unknown:
        return of_query if features else []
    return [
        *(of_query if features else []),
        f"columns that are not read: {some_of(unknown, _LISTED)} (routers may still ask for those that hold numbers)",
    ]


def _price_book(metadata: dict[str, Any]) -> list[str]:
    """Which prices made the costs, of a file that says so."""
    if "price_book" not in metadata:
        return []
    dates = sorted({str(price["date"]) for price in metadata["prices"].values()})
    of = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return [f"costs are by the price book {metadata['price_book']} of pool {metadata['pool']}, prices of {of}"]


def _absent(names: tuple[str, ...]) -> list[str]:
    """What is wrong with the columns that are there: a required one is not, or one is misspelt."""
    absent = [name for name in REQUIRED if name not in names]
    typed = misspelt(names)
    renamed = [f"{show(name)} to {field}" for name, field in typed.items()]
    meant = [f"{show(name)} to {field}" for name, field in resembling(names).items() if name not in typed]
    hint = f"; rename {listed(renamed)}" if renamed else ""
    hint += f"; perhaps rename {listed(meant)}" if meant else ""
    has = f"(it has {some_of([*map(show, names)], _LISTED)})"
    if {"model", "score"} <= set(absent):
        absent = [name for name in NAMES if name in absent or (name == "strategy" and name not in names)]
        return [
            f"the file holds no outcomes: {listed(absent)} are missing {has}; a row must say what one arm, a model "
            f"with a strategy, scored on one query{hint}"
        ]
    if absent:
        return [f"{listed(absent)} {'is' if len(absent) == 1 else 'are'} missing from the columns {has}{hint}"]
    if typed:
        return [f"columns are misspelt, and would not be read: rename {listed(renamed)}"]
    return []


def _notes(outcomes: Outcomes) -> list[str]:
    """What the dense view tells: coverage, costs, splits, scores, long prompts."""
    notes = []
    observed_QA = outcomes.observed_QA
    n_observed = int(observed_QA.sum())
    absent_QA = ~observed_QA if outcomes.unscored_QA is None else ~observed_QA & ~outcomes.unscored_QA
    n_missing = int(absent_QA.sum())
    if len(outcomes.arms) == 1:
        notes.append(f"there is only one arm ({outcomes.arms[0]}): every router chooses it")
    if n_missing and not outcomes.logged:
        n_short = int(absent_QA.any(axis=1).sum())
        notes.append(
            f"{n_missing:,} of {observed_QA.size:,} outcomes ({share(n_missing, observed_QA.size)}) are missing: "
            f"{n_short:,} of {counted(len(outcomes), 'query')} without some arm; `run` needs --missing restrict or zero"
        )
    n_unknown = int((observed_QA & np.isnan(outcomes.cost_QA)).sum())
    if n_unknown == n_observed:
        notes.append("no cost is known: the utility is the score")
    elif n_unknown:
        notes.append(
            f"the cost of {n_unknown:,} of {n_observed:,} outcomes ({share(n_unknown, n_observed)}) is unknown: "
            + (
                "`run` needs --unknown-cost drop or estimate"
                if small(n_unknown, n_observed - n_unknown)
                else "routers optimise the score, and no utility is reported (or give --unknown-cost drop or estimate)"
            )
        )
    splits = sorted(set(outcomes.split_Q))
    if splits == [""]:
        notes.append("no split: `run` makes train, validation and test")
    elif not any(standard_split(name) == "validation" for name in splits):
        notes.append(f"no validation split among {', '.join(show(name) for name in splits)}: `run` takes it from train")
    score = outcomes.score_QA[observed_QA]
    n_graded = int(((score > 0) & (score < 1)).sum())
    if n_graded:
        notes.append(f"scores between 0 and 1: {n_graded:,} of {n_observed:,} ({share(n_graded, n_observed)})")
    lengths = np.array([*map(len, outcomes.prompt_Q)])
    n_long = int((lengths > LONG_PROMPT).sum())
    if n_long:
        notes.append(f"prompts longer than {LONG_PROMPT:,} characters: {n_long:,} (the longest has {lengths.max():,})")
    return notes
