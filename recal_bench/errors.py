"""The errors that users see, and the hint for a mistyped name."""

from __future__ import annotations

from collections.abc import Iterable


class RecalBenchError(Exception):
    """Bad input or usage. The message is one line: what is wrong, where, and what to do. The CLI exits with 2."""


class OutcomesError(RecalBenchError):
    """Outcomes that cannot be used, or that lack what was asked of them; a source that cannot be imported."""


class SettingsError(RecalBenchError):
    """A name that is not known, an option or a setting with a value that it cannot have."""


class PluginError(RecalBenchError):
    """A router, estimator, reward component or encoder that cannot be loaded or breaks its interface."""


class EndpointError(RecalBenchError):
    """A pool file, an endpoint or a key that cannot be used; an answer that could not be got or priced."""


class RunError(RecalBenchError):
    """A run record that is absent, damaged or of another version, or that does not go with the others."""


def near_miss(word: str, known: Iterable[str]) -> str:
    """' (did you mean X?)', or nothing where no known word is close."""
    import difflib

    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""
