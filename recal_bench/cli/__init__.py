"""The commands: parse, call, print. Whatever is heavy is imported inside the commands."""

from recal_bench.cli import collecting, exporting, importing, lookup, records, reports, running, serving, viewing
from recal_bench.cli.base import cli, main

__all__ = [
    "cli",
    "collecting",
    "exporting",
    "importing",
    "lookup",
    "main",
    "records",
    "reports",
    "running",
    "serving",
    "viewing",
]
