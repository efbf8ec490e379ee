"""The commands: parse, call, print. Whatever is heavy is imported inside the commands."""

from recal_bench.cli import collecting, importing, lookup, reports, running, serving
from recal_bench.cli.base import cli, main

__all__ = ["cli", "collecting", "importing", "lookup", "main", "reports", "running", "serving"]
