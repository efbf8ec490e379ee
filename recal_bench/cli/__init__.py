"""The commands: parse, call, print. Whatever is heavy is imported inside the commands."""

from recal_bench.cli import (
    collecting,
    drift,
    exporting,
    gateway,
    importing,
    lookup,
    payback,
    records,
    reports,
    routing,
    running,
    serving,
    training,
    tuning,
    viewing,
)
from recal_bench.cli.base import cli, main

__all__ = [
    "cli",
    "collecting",
    "drift",
    "exporting",
    "gateway",
    "importing",
    "lookup",
    "main",
    "payback",
    "records",
    "reports",
    "routing",
    "running",
    "serving",
    "training",
    "tuning",
    "viewing",
]
