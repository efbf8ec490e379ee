"""Defaults that the command line shows without importing what uses them, and the rows that every comparison holds."""

DEFAULT_ALPHA = 0.2

BASELINE = "best-single"
"""What others are compared with unless another router is named; the gap to the upper bound starts here."""
COST_FLOOR = "cheapest"
"""Always the cheapest arm. There is none where no cost is known."""
STANDARD_ROUTERS = (BASELINE, "random", COST_FLOOR, "knn")
"""Every run adds these, at their defaults."""

UPPER_BOUND = "oracle"
"""The best arm of every query, known from its outcomes; the gap ends here. A log of single choices has none."""
TASK_BEST = "task-best"
"""The best arm of every task on train."""
SAVINGS_TARGET = "best-accuracy"
"""The most accurate arm on train; savings are shares of its cost, at its accuracy."""
KNOWN_TRUTH = "bayes"
"""The best arm by the true expected scores, which only simulated outcomes have."""
STANDARD_REFERENCES = (UPPER_BOUND, TASK_BEST, SAVINGS_TARGET)
"""What a leaderboard needs beside the standard routers."""

TRAINING_BASELINE = "grpo"
"""The router whose training others' stability is compared with unless another is named."""
