"""The curves of the stress test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stress_report import measures

from recal_bench.reporting.pictures.drawing import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION

LINES = {
    "recal": (BLUE, "-"),
    "recal-unbiased": (GREEN, "-"),
    "recal-plain": (SKY, "-"),
    "recal-no-dataset-norm": (BLUE, "--"),
    "grpo": (VERMILION, "-"),
    "dr-grpo": (ORANGE, "-"),
    "popart": (PURPLE, "-"),
    "expected": (BLACK, ":"),
    "hierarchy": (BLACK, "--"),
}
OTHERS = "#bbbbbb"


def draw(content: dict[str, Any], stem: Path) -> None:
    """Worst regret and macro utility against steps. The same numbers give the same bytes."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    plan = content["plan"]
    names = [*plan["names"], *plan["untrained"]]
    panels = (
        ("worst_regret", "regret of the worst task\n(0: Bayes, 1: a random arm)"),
        ("macro", "macro utility (true, expected)"),
    )
    last = {name: measures(content, name, plan["steps"][-1]).worst_regret.mean() for name in names}
    coloured = sorted((name for name in LINES if name in last), key=lambda name: -last[name])
    with matplotlib.rc_context({"svg.hashsalt": "stress", "svg.fonttype": "none"}):
        figure = Figure(figsize=(11, 4.8), layout="constrained")
        FigureCanvasAgg(figure)
        for axes, (measure, label) in zip(figure.subplots(1, 2), panels, strict=True):
            curve = {
                name: [float(getattr(measures(content, name, steps), measure).mean()) for steps in plan["steps"]]
                for name in names
            }
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(alpha=0.25, linewidth=0.6)
            for name, value in curve.items():
                if name not in LINES:
                    axes.plot(plan["steps"], value, color=OTHERS, linewidth=0.9, zorder=1)
            for name in coloured:
                colour, dash = LINES[name]
                axes.plot(plan["steps"], curve[name], dash, color=colour, linewidth=1.8, label=name, zorder=2)
            axes.plot([], [], color=OTHERS, linewidth=0.9, label="other estimators")
            axes.set_xscale("log", base=2)
            axes.set_xticks(plan["steps"], [str(steps) for steps in plan["steps"]])
            axes.set_xlabel("training steps (learning rate falls to 0 at each)")
            axes.set_ylabel(label)
        # In the order in which the lines of the left panel end, from above.
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        figure.suptitle(
            f"{content['title']}: mean of {len(plan['worlds'])} worlds x {plan['seeds']} seeds", fontsize=10
        )
        figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})
        figure.savefig(stem.with_suffix(".png"), dpi=150, metadata={"Software": None})
