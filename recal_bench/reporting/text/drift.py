"""Whether today's traffic looks like what a run was made on, as text and as JSON."""

from __future__ import annotations

import json
from typing import Any

from recal_bench.arrays import finite_or_none
from recal_bench.evaluation.drift import Shares, Shift
from recal_bench.evaluation.statistics import Interval
from recal_bench.experiments.drift import LEAST_FOLLOWED, Drift
from recal_bench.reporting.text.columns import p_value
from recal_bench.reporting.text.layout import filled, terminal_table
from recal_bench.wording import counted, harmless, listed

_HEADERS = ("", "before", "today", "change", "p", "p adjusted")
_ARMS = 12


def as_text(drift: Drift) -> str:
    """The verdict, what was compared, the arms, and what qualifies the figures."""
    run = drift.run.folder.name
    title = (
        f"Drift: {drift.today:,} prompts of {drift.log} against {drift.before:,} of validation and test of {run} "
        f"(encoder {drift.encoder}; each prompt counts once)"
    )
    lines = [_apart(drift), _foreign(drift)]
    if drift.score is not None:
        lines.append(_shift(drift, "score", f"score less {_expected(drift)}", drift.score, 1.0, ".3f"))
    if drift.cost is not None:
        lines.append(_shift(drift, "cost", f"USD per 1,000 less {_expected(drift)}", drift.cost, 1000.0, ".2g"))
    if drift.arms is not None:
        lines.append(["the router's choices", "", "", "", *_ps(drift, "arms")])
    parts = [filled(title), filled(verdict(drift)), terminal_table(_HEADERS, lines)]
    if drift.arms is not None:
        parts.append(_arms(drift.arms))
    return "\n\n".join([*parts, *(filled(f"Note: {harmless(note)}.") for note in _notes(drift))])


def as_json(drift: Drift) -> str:
    """One object with all figures; null where something is not known."""
    arms = None if drift.arms is None else {arm: _shares_json(each) for arm, each in drift.arms.items()}
    found = {
        "run": drift.run.folder.name,
        "log": drift.log,
        "encoder": drift.encoder,
        "drift": bool(drift.changed),
        "changed": list(drift.changed),
        "verdict": verdict(drift),
        "rows": drift.rows,
        "prompts": drift.prompts,
        "prompts_in_train": drift.seen,
        "compared": {"before": drift.before, "today": drift.today},
        "queries": {"auc": drift.queries.auc.value, "ci": [drift.queries.auc.low, drift.queries.auc.high]},
        "foreign": _shares_json(drift.foreign),
        "predicted": drift.predicted,
        "score": None if drift.score is None else _shift_json(drift.score),
        "cost_usd": None if drift.cost is None else _shift_json(drift.cost),
        "arms": arms,
        "rows_with_the_routers_choice": drift.followed[0],
        "rows_with_an_arm": drift.followed[1],
        "p": {name: {"p": each.p, "p_adjusted": each.p_adjusted} for name, each in drift.checks.items()},
        "notes": list(_notes(drift)),
    }
    return json.dumps(found, ensure_ascii=False, indent=2)


def verdict(drift: Drift) -> str:
    """What has changed, and what to do, in plain words."""
    if not drift.changed:
        auc = drift.queries.auc
        return (
            f"No drift found in {listed([_CHECKS[name] for name in drift.checks])}: keep the router. What "
            f"{drift.today:,} prompts cannot rule out is an AUC of up to {auc.high:.2f}."
        )
    found = [_CHANGED[name] for name in drift.changed if name not in ("score", "cost")]
    advice = list[str]()
    for what, shift, worse, better in (
        ("score", drift.score, "answers are worse than they were expected to be", "answers are better than expected"),
        ("cost", drift.cost, "answers cost more than they were expected to", "answers cost less than expected"),
    ):
        if what in drift.changed and shift is not None:
            bad = (shift.difference.estimate < 0) == (what == "score")
            found.append(worse if bad else better)
            if bad and what == "score":
                advice.append("collect outcomes of all arms on today's queries and train again")
            elif what == "cost":
                advice.append("check the pool's prices and the lengths of replies, and train again with today's costs")
    if "foreign" in drift.changed and drift.foreign.difference.value > 0:
        advice.append("collect outcomes of all arms on today's queries and train again: train says little about them")
    if not advice:
        known = drift.score is not None
        advice.append(
            "no change of the score was found, so keep the router and watch the score"
            if known
            else "score some of today's answers, since whether the router still does well is not known"
        )
    return f"Drift: {listed(found)}. What to do: {'; '.join(dict.fromkeys(advice))}."


_CHECKS = {
    "queries": "the texts of queries",
    "foreign": "the share of foreign queries",
    "score": "score",
    "cost": "cost",
    "arms": "the router's choices",
}
_CHANGED = {
    "queries": "today's queries differ from those before",
    "foreign": "another share of them is foreign to all tasks of train",
    "arms": "the router chooses other arms",
}


def _expected(drift: Drift) -> str:
    return "predicted" if drift.predicted else "train mean"


def _ps(drift: Drift, name: str) -> list[str]:
    check = drift.checks[name]
    return [p_value(check.p), p_value(check.p_adjusted)]


def _apart(drift: Drift) -> list[str]:
    auc = drift.queries.auc
    return [
        "AUC, telling queries",
        "",
        f"{auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}]",
        "",
        *_ps(drift, "queries"),
    ]


def _foreign(drift: Drift) -> list[str]:
    return ["foreign queries", *_shares(drift.foreign), *_ps(drift, "foreign")]


def _shares(found: Shares) -> list[str]:
    before, today, change = found
    return [
        f"{before.value:.1%} [{before.low:.1%}, {before.high:.1%}]",
        f"{today.value:.1%} [{today.low:.1%}, {today.high:.1%}]",
        f"{change.value:+.1%} [{change.low:+.1%}, {change.high:+.1%}]",
    ]


def _shift(drift: Drift, name: str, label: str, found: Shift, scale: float, spec: str) -> list[str]:
    figures = [" ".join([format(scale * each.estimate, f"+{spec}"), _bounds(each, scale, spec)]) for each in found]
    return [label, *figures, *_ps(drift, name)]


def _bounds(found: Interval, scale: float, spec: str) -> str:
    return f"[{scale * found.low:+{spec}}, {scale * found.high:+{spec}}]"


def _arms(arms: dict[str, Shares]) -> str:
    chosen = {arm: max(each.before.value, each.today.value) for arm, each in arms.items()}
    order = sorted((arm for arm in chosen if chosen[arm]), key=lambda arm: -chosen[arm])
    lines = [[harmless(arm), *_shares(arms[arm])] for arm in order[:_ARMS]]
    table = terminal_table(("the router's choices", "on test", "today", "change"), lines)
    more = len(order) - _ARMS
    return table + (f"\n({counted(more, 'arm')} of lower shares not shown)" if more > 0 else "")


def _notes(drift: Drift) -> list[str]:
    notes = list(drift.notes)
    if drift.seen:
        notes.insert(
            0,
            f"{drift.seen:,} of {counted(drift.prompts, 'prompt')} of the log are word for word in train: not compared",
        )
    followed, named = drift.followed
    if named > followed >= LEAST_FOLLOWED * named:
        notes.append(
            f"in {named - followed:,} of {named:,} rows another arm answered than the router chooses: their score and "
            "cost are left out"
        )
    return notes


def _shares_json(found: Shares) -> dict[str, Any]:
    before, today, change = found
    return {
        "before": before.value,
        "before_ci": [before.low, before.high],
        "today": today.value,
        "today_ci": [today.low, today.high],
        "change": change.value,
        "change_ci": [change.low, change.high],
    }


def _shift_json(found: Shift) -> dict[str, Any]:
    def both(name: str, each: Interval) -> dict[str, Any]:
        return {name: each.estimate, f"{name}_ci": [finite_or_none(each.low), finite_or_none(each.high)]}

    return both("before", found.before) | both("today", found.today) | both("change", found.difference)
