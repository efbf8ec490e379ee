"""Failure modes of what is learnt: nothing, by heart, in leaps, or lost again."""

from __future__ import annotations

import numpy as np

from recal_bench.evaluation.advice import Settings, Way, advice
from recal_bench.evaluation.findings import NOISE, Finding, LogColumns, best_single, drawn_score, ends, rate, single
from recal_bench.evaluation.stability import gave_back, is_spike, max_drawdown

# Falls of validation utility beyond this are more than the gain most routers have over the best single arm.
DRAWDOWN = 0.05
# Above this share of one arm a router decides next to nothing; some arm's share of half or more can well be right.
ONE_ARM = 0.95
# One step in a hundred: single spikes are clipped and forgotten.
SPIKES = 0.01
# "Decided" is a twentieth of the first step's entropy.
DECIDED = 0.05


def overfitting(columns: LogColumns, settings: Settings | None) -> Finding | None:
    """What is drawn is right more often, what is chosen on validation less often: train queries learnt by heart."""
    drawn, score_N = drawn_score(columns), columns["validation_score"].value_N
    rise, gain = drawn[1] - drawn[0], float(score_N[-1] - score_N[0])
    if rise < NOISE or gain > -NOISE:
        return None
    return Finding(
        "overfitting",
        f"the score of drawn arms went from {drawn[0]:.3f} to {drawn[1]:.3f}, "
        f"that on validation from {score_N[0]:.3f} to {score_N[-1]:.3f}",
        advice(settings, Way("stay near the start", ["kl>=0.05", rate(columns, 0.2)]), "or train on more queries"),
    )


def nothing_added(columns: LogColumns, settings: Settings | None) -> Finding | None:
    """The kept policy is the untrained one, or decides otherwise and no better than it (within a standard error).

    One that decides alike is no failure: it may have been right to.
    """
    step, gain, error = (float(columns[name].value_N[-1]) for name in ("kept_step", "kept_gain", "kept_gain_error"))
    if step > 0 and not (error > 0 and gain <= error):
        return None
    return Finding(
        "training adds nothing to its prior",
        f"the policy of step {step:.0f} is kept; on validation it gains {gain:+.4f} (standard error {error:.4f}) over "
        "the untrained one",
        advice(
            settings,
            "compare with routers that need no training (knn): they may be as good",
            Way("or let training change more", [*_weaker_prior(settings), rate(columns, 3)]),
            "or train on more queries",
        ),
    )


def _weaker_prior(settings: Settings | None) -> list[str]:
    scale = (settings or {}).get("prior.scale")
    return [f"prior.scale={scale / 2:g}"] if isinstance(scale, int | float) else []


def unstable_steps(columns: LogColumns, settings: Settings | None) -> Finding | None:
    """Validation utility fell far from a peak, or fell while gradients spiked."""
    fall, spikes = max_drawdown(columns["validation_utility"]), is_spike(columns["gradient_norm"])
    if fall < DRAWDOWN and (fall < NOISE or spikes.mean() < SPIKES):
        return None
    return Finding(
        "unstable steps",
        f"validation utility fell by {fall:.3f} from a peak; {spikes.sum()} of {len(spikes)} gradient norms are spikes",
        advice(settings, Way("smaller steps", [rate(columns, 0.2), "batch_size>=512"])),
    )


def entropy_collapse(columns: LogColumns, settings: Settings | None) -> Finding | None:
    """The policy has decided, on less than it had or on no more than a single arm gives: it cannot explore back."""
    step_N, value_N = columns["entropy"]
    decided_N = value_N < DECIDED * value_N[0]
    if not decided_N.any():
        return None
    step, (peak, last) = float(step_N[np.argmax(decided_N)]), ends(columns)
    if peak - last < NOISE and not last <= single(columns):
        return None
    return Finding(
        "entropy collapse",
        f"entropy fell below {DECIDED:.0%} of its start ({value_N[0]:.2f} nats) by step {step:.0f}; "
        f"validation utility {last:.3f} in the end, {peak:.3f} at best{best_single(columns)}",
        advice(settings, Way("keep it exploring", ["entropy>=0.01", rate(columns, 0.2)])),
    )


def one_arm(columns: LogColumns, settings: Settings | None) -> Finding | None:
    """In the end nearly every query goes to the same arm."""
    share = columns["validation_top_arm_share"]
    if share.value_N[-1] < ONE_ARM:
        return None
    return Finding(
        "collapse to one arm",
        f"{share.value_N[-1]:.0%} of validation goes to one arm (at first {share.value_N[0]:.0%}); "
        f"validation utility {ends(columns)[1]:.3f}{best_single(columns)}",
        advice(
            settings,
            Way("", ["entropy>=0.01", rate(columns, 0.2)]),
            Way("or start from what train says of the text", ["prior.kind=hierarchy"]),
        ),
    )


def score_collapse(columns: LogColumns, settings: Settings | None) -> Finding | None:
    """The last iterate gave back half of the peak gain over best-single or more."""
    utility, (peak, last) = columns["validation_utility"], ends(columns)
    if not gave_back(utility, single(columns)) or peak - last < NOISE:
        return None
    at = utility.step_N[int(np.argmax(utility.value_N))]
    return Finding(
        "collapse of the score",
        f"validation utility {peak:.3f} at step {at:.0f}, {last:.3f} in the end{best_single(columns)}",
        advice(
            settings,
            Way("", [rate(columns, 0.2), "kl>=0.01"]),
            "the run keeps its best policy, so the comparison shows nothing of it",
        ),
    )
