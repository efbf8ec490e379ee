"""Failure modes of a training, read off its log: reward design as debugging (the idea of arXiv 2605.28918).

Each mode is a function of the log's columns that returns a finding or None. Arrays in, findings out; docs/stability.md
says what the modes mean and why the thresholds are what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np

from recal_bench.evaluation.stability import Curve, at_end, at_start, gave_back, is_spike, max_drawdown

LogColumns: TypeAlias = Mapping[str, Curve]

# Differences of validation utility below this are the luck of some hundred validation queries.
NOISE = 0.02
# Falls of validation utility beyond this are more than the gain most routers have over the best single arm.
DRAWDOWN = 0.05
# The reward's own noise between two stretches of ten steps is about a tenth of this.
REWARD_RISE = 0.05
# Above this share of one arm a router decides next to nothing; some arm's share of half or more can well be right.
ONE_ARM = 0.95
# Where the cheapest arm has three queries in four, costs decide and not the answers.
CHEAPEST = 0.75
# A component that varies in fewer groups than this teaches nothing: one group in fifty.
STARVED = 0.02
# With more flat groups than this fewer than one query in five teaches anything; real logs of right and wrong answers
# alone have two in three, and are learnt from.
FLAT = 0.8
# "Still exploring" is half a nat an arm choice (two arms at 80 to 20): then groups of eight seldom draw one arm only.
# "Decided" is a twentieth of the first step's entropy.
EXPLORING, DECIDED = 0.5, 0.05
# Malformed actions that are left after training, as a share of all and of what there was at the start.
STUCK, STUCK_RATIO = 0.05, 0.5
# One task makes most of the update, and half as much again as its share of the queries.
DOMINANT, OVER_ITS_SHARE = 0.5, 1.5
# One step in a hundred: single spikes are clipped and forgotten.
SPIKES = 0.01
# Advice: one scale for the components of all tasks, or no division by a group's spread.
ONE_SCALE, NO_SPREAD = "--set estimator=recal", "--set estimator=dr-grpo"


class Finding(NamedTuple):
    """A failure mode: its name, one line of numbers, and what to change."""

    name: str
    evidence: str
    change: str


class Diagnosis(NamedTuple):
    """What was found, and the modes that the log lacks the columns for."""

    findings: tuple[Finding, ...]
    not_judged: tuple[str, ...]


def diagnose(columns: LogColumns) -> Diagnosis:
    """All failure modes that a training log shows, the likely causes first."""
    findings, not_judged = [], []
    for name, (mode, needed) in MODES.items():
        if not all(_has(columns, column) for column in needed):
            not_judged.append(name)
        elif (found := mode(columns)) is not None:
            findings.append(found)
    return Diagnosis(tuple(findings), tuple(not_judged))


def _has(columns: LogColumns, name: str) -> bool:
    """Whether there is such a column; one for any part where the name ends in a slash."""
    return any(column.startswith(name) for column in columns) if name.endswith("/") else name in columns


def no_signal(columns: LogColumns) -> Finding | None:
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
        "train on queries whose arms differ (--tasks), or draw more arms a query: --set group_size=32",
    )


def _arm_entropy(entropy_N: np.ndarray, malformed_N: np.ndarray) -> np.ndarray:
    """Entropy of the arms given a well-formed action, nats: that of the whole action without the format's."""
    share_N = np.clip(malformed_N, 1e-9, 1 - 1e-9)
    of_format_N = -share_N * np.log(share_N) - (1 - share_N) * np.log(1 - share_N)
    return np.asarray((entropy_N - of_format_N) / (1 - share_N))


def starved_component(columns: LogColumns) -> Finding | None:
    """A reward component whose gate never opens: it stays at 0 and varies in no group."""
    advice = {
        "format": "let the policy start well-formed more often: --set policy.malformed=0.2",
        "outcome": "no drawn arm is ever right: check the scores (recal-bench validate), or leave hopeless tasks out",
        "cost": "let the cost count for wrong answers too: --set cost_gate=false",
    }
    shown, changes = [], []
    for name, change in advice.items():
        spread, mean = columns.get(f"spread_share/{name}"), columns.get(f"component_mean/{name}")
        if spread is None or mean is None:
            continue
        share, level = float(spread.value_N.mean()), float(np.abs(mean.value_N).mean())
        if share < STARVED and level < STARVED:
            shown.append(f"{name} varies in {share:.1%} of the groups and is {level:.3f} on average")
            changes.append(change)
    return Finding("starved component", "; ".join(shown), "; ".join(changes)) if shown else None


def format_stuck(columns: LogColumns) -> Finding | None:
    """The share of malformed actions does not fall."""
    start, end = at_start(columns["malformed_share"]), at_end(columns["malformed_share"])
    if end < STUCK or end < STUCK_RATIO * start:
        return None
    longer = 2 * int(columns["malformed_share"].step_N[-1])
    change = f"learn faster or longer: --set learning_rate={_rate(columns, 10)} --set steps={longer}; "
    change += "or start better: --set policy.malformed=0.1"
    return Finding("format stuck", f"malformed actions went from {start:.0%} to {end:.0%}", change)


def dominant_task(columns: LogColumns) -> Finding | None:
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
        f"one scale for every task: {ONE_SCALE} --set calibration.dataset_norm=true "
        "(where it is on, a higher calibration.cap)",
    )


def unstable_steps(columns: LogColumns) -> Finding | None:
    """Validation utility fell far from a peak, or fell while gradients spiked."""
    fall, spikes = max_drawdown(columns["validation_utility"]), is_spike(columns["gradient_norm"])
    if fall < DRAWDOWN and (fall < NOISE or spikes.mean() < SPIKES):
        return None
    return Finding(
        "unstable steps",
        f"validation utility fell by {fall:.3f} from a peak; {spikes.sum()} of {len(spikes)} gradient norms are spikes",
        f"smaller steps: --set learning_rate={_rate(columns, 0.2)} --set batch_size=512",
    )


def entropy_collapse(columns: LogColumns) -> Finding | None:
    """The policy has decided, on less than it had or on no more than a single arm gives: it cannot explore back."""
    step_N, value_N = columns["entropy"]
    decided_N = value_N < DECIDED * value_N[0]
    if not decided_N.any():
        return None
    step, (peak, last) = float(step_N[np.argmax(decided_N)]), _ends(columns)
    if peak - last < NOISE and not last <= _single(columns):
        return None
    return Finding(
        "entropy collapse",
        f"entropy fell below {DECIDED:.0%} of its start ({value_N[0]:.2f} nats) by step {step:.0f}; "
        f"validation utility {last:.3f} in the end, {peak:.3f} at best{_best_single(columns)}",
        f"keep it exploring: --set entropy=0.01 --set learning_rate={_rate(columns, 0.2)}",
    )


def one_arm(columns: LogColumns) -> Finding | None:
    """In the end nearly every query goes to the same arm."""
    share = columns["validation_top_arm_share"]
    if share.value_N[-1] < ONE_ARM:
        return None
    return Finding(
        "collapse to one arm",
        f"{share.value_N[-1]:.0%} of validation goes to one arm (at first {share.value_N[0]:.0%}); "
        f"validation utility {_ends(columns)[1]:.3f}{_best_single(columns)}",
        f"--set entropy=0.01 --set learning_rate={_rate(columns, 0.2)}; "
        "or start from what similar queries say: --set prior.kind=knn",
    )


def cost_hacking(columns: LogColumns) -> Finding | None:
    """Nearly always the cheapest arm, although a better utility is to be had."""
    share, (peak, last) = float(columns["validation_cheapest_share"].value_N[-1]), _ends(columns)
    better = max(peak, _single(columns))
    if share < CHEAPEST or better - last < NOISE:
        return None
    return Finding(
        "cost hacking",
        f"{share:.0%} of validation goes to the cheapest arm, utility {last:.3f}, where {better:.3f} was to be had",
        f"keep cost gaps from outvoting rare right answers: {ONE_SCALE} or {NO_SPREAD} (and --set reward=components)",
    )


def overfitting(columns: LogColumns) -> Finding | None:
    """What is drawn is right more often, what is chosen on validation less often: train queries learnt by heart."""
    drawn, score_N = _drawn_score(columns), columns["validation_score"].value_N
    rise, gain = drawn[1] - drawn[0], float(score_N[-1] - score_N[0])
    if rise < NOISE or gain > -NOISE:
        return None
    return Finding(
        "overfitting",
        f"the score of drawn arms went from {drawn[0]:.3f} to {drawn[1]:.3f}, "
        f"that on validation from {score_N[0]:.3f} to {score_N[-1]:.3f}",
        f"stay near the start: --set kl=0.05 --set learning_rate={_rate(columns, 0.2)}, or train on more queries",
    )


def reward_flooding(columns: LogColumns) -> Finding | None:
    """The reward rises although arms are chosen no better, even on train: validation falls, or gains nothing.

    "Gains nothing" is: no rise, and no more than the best single arm.
    """
    rise, utility_N = at_end(columns["reward"]) - at_start(columns["reward"]), columns["validation_utility"].value_N
    gain, drawn = float(utility_N[-1] - utility_N[0]), _drawn_score(columns)
    useless = gain < NOISE and utility_N[-1] <= _single(columns)
    if rise < REWARD_RISE or drawn[1] - drawn[0] >= NOISE or not (gain < -NOISE or useless):
        return None
    named = [(name.partition("component_mean/")[2], curve) for name, curve in columns.items()]
    parts = [f"{name} {at_end(curve) - at_start(curve):+.3f}" for name, curve in named if name]
    return Finding(
        "reward flooding",
        f"the reward rose by {rise:.3f} ({', '.join(parts)}), validation utility went from {utility_N[0]:.3f} to "
        f"{utility_N[-1]:.3f}{_best_single(columns)}",
        f"reward what is judged: --set reward=components {ONE_SCALE} (or {NO_SPREAD}); "
        "where the format makes the rise: --set policy.malformed=0.05",
    )


def _drawn_score(columns: LogColumns) -> tuple[float, float]:
    """Mean score of the drawn well-formed actions at the start and at the end; 0 where none was well-formed."""
    right, formed = columns["component_mean/outcome"], columns["component_mean/format"]
    pairs = ((edge(right), edge(formed)) for edge in (at_start, at_end))
    start, end = (score / share if share > 0 else 0.0 for score, share in pairs)
    return start, end


def score_collapse(columns: LogColumns) -> Finding | None:
    """The last iterate gave back half of the peak gain over best-single or more."""
    utility, (peak, last) = columns["validation_utility"], _ends(columns)
    if not gave_back(utility, _single(columns)) or peak - last < NOISE:
        return None
    at = utility.step_N[int(np.argmax(utility.value_N))]
    return Finding(
        "collapse of the score",
        f"validation utility {peak:.3f} at step {at:.0f}, {last:.3f} in the end{_best_single(columns)}",
        f"--set learning_rate={_rate(columns, 0.2)} --set kl=0.01; "
        "the run keeps its best policy, so the comparison shows nothing of it",
    )


def _ends(columns: LogColumns) -> tuple[float, float]:
    """The peak of validation utility, and where it ended."""
    utility_N = columns["validation_utility"].value_N
    return float(utility_N.max()), float(utility_N[-1])


def _single(columns: LogColumns) -> float:
    """Validation utility of the best single arm; below everything where the log does not tell it."""
    curve = columns.get("validation_best_single")
    return -np.inf if curve is None else float(curve.value_N[-1])


def _best_single(columns: LogColumns) -> str:
    single = _single(columns)
    return f" (best-single {single:.3f})" if np.isfinite(single) else ""


def _rate(columns: LogColumns, factor: float) -> str:
    """The first learning rate, changed by a factor."""
    return f"{columns['learning_rate'].value_N[0] * factor:.2g}"


_COMPONENTS = ("component_mean/outcome", "component_mean/format")
# Causes come before what they lead to. A mode is judged where the log has the columns it needs.
MODES: dict[str, tuple[Callable[[LogColumns], Finding | None], tuple[str, ...]]] = {
    "no signal": (no_signal, ("entropy", "groups_without_spread", "malformed_share")),
    "starved component": (starved_component, ("spread_share/", "component_mean/")),
    "format stuck": (format_stuck, ("malformed_share", "learning_rate")),
    "one task dominates": (dominant_task, ("update_share/", "batch_share/", "groups_without_spread")),
    "cost hacking": (cost_hacking, ("validation_cheapest_share", "validation_utility")),
    "overfitting": (overfitting, (*_COMPONENTS, "validation_score", "learning_rate")),
    "reward flooding": (reward_flooding, (*_COMPONENTS, "reward", "validation_utility")),
    "unstable steps": (unstable_steps, ("validation_utility", "gradient_norm", "learning_rate")),
    "entropy collapse": (entropy_collapse, ("entropy", "validation_utility", "learning_rate")),
    "collapse to one arm": (one_arm, ("validation_top_arm_share", "validation_utility", "learning_rate")),
    "collapse of the score": (score_collapse, ("validation_utility", "validation_best_single", "learning_rate")),
}
