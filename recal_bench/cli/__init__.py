"""The commands: parse, call, print. Whatever is heavy is imported inside the commands."""

from recal_bench.cli import (
    collecting,
    drift,
    gateway,
    importing,
    lookup,
    records,
    reports,
    routing,
    running,
    serving,
    viewing,
)
from recal_bench.cli.base import cli, main

__all__ = [
    "cli",
    "collecting",
    "drift",
    "gateway",
    "importing",
    "lookup",
    "main",
    "records",
    "reports",
    "routing",
    "running",
    "serving",
    "viewing",
]
