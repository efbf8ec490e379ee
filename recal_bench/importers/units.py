"""Units that the names of columns speak of, so that cents are not taken for dollars nor milliseconds for seconds."""

from __future__ import annotations

import re

from recal_bench.errors import OutcomesError
from recal_bench.wording import show

FACTORS = {
    "score": {"percent": 0.01, "pct": 0.01, "percentage": 0.01},
    "cost_usd": {"cents": 0.01, "cent": 0.01, "microusd": 1e-6, "micros": 1e-6, "millicents": 1e-5},
    "latency_s": {"ms": 1e-3, "millis": 1e-3, "milliseconds": 1e-3, "us": 1e-6, "ns": 1e-9, "minutes": 60.0},
}
"""What a column's values are to be multiplied by, where its name ends in this word."""
_CURRENCIES = frozenset(("eur", "gbp", "cny", "rmb", "jpy", "inr", "chf", "cad", "aud", "krw"))
_SHARED = re.compile(r"per_(1?k|1000|1m|million|token|query)s?$")
SCALED = (*FACTORS, "billed_usd", "propensity")
"""The columns whose values may be scaled; counts of tokens are counts."""


def check_unit(path: object, source: str, name: str) -> None:
    """Raises OutcomesError where the name of a source's column says another unit than column `name` has.

    To be called for a column that nobody said a scale of.
    """
    plain = re.sub(r"[^0-9a-z]+", "_", source.casefold()).strip("_")
    last = plain.rpartition("_")[2]
    unit = "cost_usd" if name == "billed_usd" else name
    factor = FACTORS.get(unit, {}).get(last)
    wanted = {"cost_usd": "USD", "latency_s": "seconds", "score": "a number from 0 to 1"}.get(unit, "")
    if factor is not None:
        raise OutcomesError(
            f"{path}: by its name, column {show(source)} is not in {wanted}, which {name} is: give --scale "
            f"{name}={factor:g}, or --scale {name}=1 if it is"
        )
    if unit == "cost_usd" and last in _CURRENCIES:
        raise OutcomesError(
            f"{path}: by its name, column {show(source)} is not in USD, which {name} is: give the rate, --scale "
            f"{name}=RATE, or --scale {name}=1 if it is"
        )
    if unit == "cost_usd" and _SHARED.search(plain):
        raise OutcomesError(
            f"{path}: by its name, column {show(source)} is a price, and {name} is what one call cost: convert it, or "
            f"give --scale {name}=1 if it is that"
        )
