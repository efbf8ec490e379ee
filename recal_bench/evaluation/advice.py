"""What to change, as `--set` words, without what is on already."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

Settings: TypeAlias = Mapping[str, Any]
_WISH = re.compile(r"([\w.]+?)(>=|<=|=)(.+)")
# Any prior is better than none; which one is not for a training log to say.
_UNSET = {"prior.kind": "none"}


class Way(NamedTuple):
    """One thing to try: why, and the settings that do it, each as `key=value`, `key>=least` or `key<=most`."""

    why: str
    wishes: Sequence[str]


def advice(settings: Settings | None, *ways: Way | str) -> str:
    """The ways in one line, without wishes that come true already, and without ways of which nothing is left.

    `settings` are all of the router's (None: unknown); what it does not have cannot be set. Texts are kept as they are.
    """
    shown, on = [], []
    for way in ways:
        if isinstance(way, str):
            shown.append(way)
            continue
        words = [_word(wish) for wish in way.wishes if not _is_on(settings, wish)]
        on += [_word(wish) for wish in way.wishes if _is_on(settings, wish)]
        if words:
            shown.append(f"{way.why}: {' '.join(words)}" if way.why else " ".join(words))
    if not shown:
        return f"what helps is on already, or is no setting of this router ({', '.join(on)}): look at the data"
    return "; ".join(shown)


def _parts(wish: str) -> tuple[str, str, str]:
    found = _WISH.fullmatch(wish)
    assert found, wish
    return found[1], found[2], found[3]


def _word(wish: str) -> str:
    key, _, value = _parts(wish)
    return f"--set {key}={value}"


def _is_on(settings: Settings | None, wish: str) -> bool:
    if settings is None:
        return False
    key, sign, value = _parts(wish)
    if key not in settings:
        return True
    now = settings[key]
    if key in _UNSET:
        return bool(now != _UNSET[key])
    if isinstance(now, int | float) and not isinstance(now, bool):
        wanted = float(value)
        return bool(now >= wanted if sign == ">=" else now <= wanted if sign == "<=" else now == wanted)
    return str(now).lower() == value
