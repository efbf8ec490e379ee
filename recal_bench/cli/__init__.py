"""The commands: parse, call, print. Whatever is heavy is imported inside the commands."""

from recal_bench.cli import lookup, reports, running
from recal_bench.cli.base import cli, main

__all__ = ["cli", "lookup", "main", "reports", "running"]
