"""How much of a long prompt is read."""

from __future__ import annotations

_MAX_CHARACTERS = 4_000


def shorten(prompt: str) -> str:
    """A prompt of more than 4,000 characters without what is between its first and its last 2,000."""
    if len(prompt) <= _MAX_CHARACTERS:
        return prompt
    half = _MAX_CHARACTERS // 2
    return f"{prompt[:half]} {prompt[-half:]}"
