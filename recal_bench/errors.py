"""The one error that users see."""


class RecalBenchError(Exception):
    """Bad input or usage. The message is one line: what is wrong, where, and what to do. The CLI exits with 2."""
