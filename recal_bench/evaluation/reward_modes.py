"""Failure modes of what is rewarded: signal, components, format, tasks, cost."""

from __future__ import annotations

import numpy as np

from recal_bench.evaluation.advice import Settings, Way, advice
from recal_bench.evaluation.findings import (
    NO_SPREAD,
    NOISE,
    ONE_SCALE,
    Finding,
    LogColumns,
    best_single,
    drawn_score,
    ends,
    rate,
    single,
)
from recal_bench.evaluation.stability import at_end, at_start

# The reward's own noise between two stretches of ten steps is about a tenth of this.
REWARD_RISE = 0.05
# Where the cheapest arm has three queries in four, costs decide and not the answers.
CHEAPEST = 0.75
# A component that varies in fewer groups than this teaches nothing: one group in fifty.
STARVED = 0.02
# With more flat groups than this fewer than one query in five teaches anything; real logs of right and wrong answers
# alone have two in three, and are learnt from.
FLAT = 0.8
# Malformed actions that are left after training, as a share of all and of what there was at the start.
STUCK, STUCK_RATIO = 0.05, 0.5
# One task makes most of the update, and half as much again as its share of the queries.
DOMINANT, OVER_ITS_SHARE = 0.5, 1.5
# "Still exploring" is half a nat an arm choice (two arms at 80 to 20): then groups of eight seldom draw one arm only.
EXPLORING = 0.5


def no_signal(columns: LogColumns, settings: Settings | None) -> Finding | None:
    """While the policy still explores arms, well-formed groups have no spread: all it draws is worth the same."""
    flat_N, malformed_N = columns["groups_without_spread"].value_N, columns["malformed_share"].value_N
    format_N = columns["spread_share/format"].value_N if "spread_share/format" in columns else np.zeros_like(flat_N)
    explores_N = _arm_entropy(columns["entropy"].value_N, malformed_N) >= EXPLORING
    settled = float((1 - format_N)[explores_N].sum())
    share = float(flat_N[explores_N].sum()) / settled if settled > 0 else 0.0
    if share < FLAT:
        return None
    return Finding(
        "no signal",
        f"while the policy explored ({explores_N.sum()} steps), {share:.0%} of the well-formed groups had no spread",
        advice(
            settings,
            "train on queries whose arms differ (--tasks)",
            Way("or draw more arms a query", ["group_size>=32"]),
        ),
    )


def _arm_entropy(entropy_N: np.ndarray, malformed_N: np.ndarray) -> np.ndarray:
    """Entropy of the arms given a well-formed action, nats: that of the whole action without the format's."""
    share_N = np.clip(malformed_N, 1e-9, 1 - 1e-9)
    of_format_N = -share_N * np.log(share_N) - (1 - share_N) * np.log(1 - share_N)
    return np.asarray((entropy_N - of_format_N) / (1 - share_N))


def starved_component(columns: LogColumns, settings: Settings | None) -> Finding | None:
    """A reward component whose gate never opens: it stays at 0 and varies in no group."""
    ways: dict[str, Way | str] = {
        "format": Way("let the policy start well-formed more often", ["policy.malformed<=0.2"]),
        "outcome": "no drawn arm is ever right: check the scores (recal-bench validate), or leave hopeless tasks out",
        "cost": Way("let the cost count for wrong answers too", ["cost_gate=false"]),
    }
    shown, tried = [], []
    for name, way in ways.items():
        spread, mean = columns.get(f"spread_share/{name}"), columns.get(f"component_mean/{name}")
        if spread is None or mean is None:
            continue
        share, level = float(spread.value_N.mean()), float(np.abs(mean.value_N).mean())
        if share < STARVED and level < STARVED:
            shown.append(f"{name} varies in {share:.1%} of the groups and is {level:.3f} on average")
            tried.append(way)
    return Finding("starved component", "; ".join(shown), advice(settings, *tried)) if shown else None


def format_stuck(columns: LogColumns, settings: Settings | None) -> Finding | None:
    """The share of malformed actions does not fall."""
    start, end = at_start(columns["malformed_share"]), at_end(columns["malformed_share"])
    if end < STUCK or end < STUCK_RATIO * start:
        return None
    longer = 2 * int(columns["malformed_share"].step_N[-1])
    change = advice(
        settings,
        Way("learn faster or longer", [rate(columns, 10), f"steps={longer}"]),
        Way("or start better", ["policy.malformed<=0.1"]),
    )
    return Finding("format stuck", f"malformed actions went from {start:.0%} to {end:.0%}", change)


def dominant_task(columns: LogColumns, settings: Settings | None) -> Finding | None:
    """One task makes most of the updates, far beyond its share of the queries."""
    names = [column.partition("/")[2] for column in columns if column.startswith("update_share/")]
    shares_TN = np.stack([columns[f"update_share/{name}"].value_N for name in names])
    # Towards the end single groups make whole updates: a step counts by the groups that had anything to teach.
    weight_N = shares_TN.sum(axis=0) * (1 - columns["groups_without_spread"].value_N)
    if len(names) < 2 or not weight_N.any():
        return None
    share_T = shares_TN @ weight_N / weight_N.sum()
    top = int(np.argmax(share_T))
    drawn = float(columns[f"batch_share/{names[top]}"].value_N.mean())
    if share_T[top] < DOMINANT or share_T[top] < OVER_ITS_SHARE * drawn:
        return None
    return Finding(
        "one task dominates",
        f"{names[top]} has {drawn:.0%} of the queries and {share_T[top]:.0%} of the updates",
        advice(
            settings, Way("one scale for every task", [ONE_SCALE, "calibration.dataset_norm=true", *_cap(settings)])
        ),
    )


def _cap(settings: Settings | None) -> list[str]:
    """Twice the cap of a scale, where there is one already."""
    cap = (settings or {}).get("calibration.cap")
    on = settings is not None and str(settings.get("calibration.dataset_norm")).lower() == "true"
    return [f"calibration.cap={2 * cap:g}"] if on and isinstance(cap, int | float) else []


def cost_hacking(columns: LogColumns, settings: Settings | None) -> Finding | None:
    """Nearly always the cheapest arm, although a better utility is to be had."""
    share, (peak, last) = float(columns["validation_cheapest_share"].value_N[-1]), ends(columns)
    better = max(peak, single(columns))
    if share < CHEAPEST or better - last < NOISE:
        return None
    return Finding(
        "cost hacking",
        f"{share:.0%} of validation goes to the cheapest arm, utility {last:.3f}, where {better:.3f} was to be had",
        advice(
            settings,
            Way("keep cost gaps from outvoting rare right answers", [ONE_SCALE]),
            Way("or without a division by each group's spread", [NO_SPREAD]),
            Way("and reward the components", ["reward=components"]),
        ),
    )


def reward_flooding(columns: LogColumns, settings: Settings | None) -> Finding | None:
    """The reward rises although arms are chosen no better, even on train: validation falls, or gains nothing.

    "Gains nothing" is: no rise, and no more than the best single arm.
    """
    rise, utility_N = at_end(columns["reward"]) - at_start(columns["reward"]), columns["validation_utility"].value_N
    gain, drawn = float(utility_N[-1] - utility_N[0]), drawn_score(columns)
    useless = gain < NOISE and utility_N[-1] <= single(columns)
    if rise < REWARD_RISE or drawn[1] - drawn[0] >= NOISE or not (gain < -NOISE or useless):
        return None
    named = [(name.partition("component_mean/")[2], curve) for name, curve in columns.items()]
    parts = [f"{name} {at_end(curve) - at_start(curve):+.3f}" for name, curve in named if name]
    return Finding(
        "reward flooding",
        f"the reward rose by {rise:.3f} ({', '.join(parts)}), validation utility went from {utility_N[0]:.3f} to "
        f"{utility_N[-1]:.3f}{best_single(columns)}",
        advice(
            settings,
            Way("reward what is judged", ["reward=components", ONE_SCALE]),
            Way("or without a division by each group's spread", [NO_SPREAD]),
            Way("where the format makes the rise", ["policy.malformed<=0.05"]),
        ),
    )
