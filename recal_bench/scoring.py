"""Exact match, token F1 and answer extraction, as Router-R1 scores its answers (arXiv 2506.09033).

An answer is compared with every gold alias after normalisation; the best alias counts. One thing differs: a text of
which normalisation leaves nothing (the band `The The`, the answer `*`) is compared as it is written, so that a blank
answer is never right.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
# No `<answer>` inside: a response that speaks of its tags before it uses them is read from the last one on.
_ANSWER_TAG = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL | re.IGNORECASE)
_TEXT_AFTER = re.compile(r"\s*(\S.*)?")
_ANSWER_MARK = re.compile(r"answer(?:\s+is)?\**\s*:", re.IGNORECASE)


@lru_cache(maxsize=200_000)
def normalize(text: str) -> str:
    """Lower-case, without ASCII punctuation, without a/an/the, white space collapsed (the SQuAD order)."""
    without_punctuation = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", without_punctuation).split())


def extract_answer(response: str) -> str:
    """The answer of a response: its last `<answer>` element, else what follows its last `answer:`, else all of it."""
    found = _ANSWER_TAG.findall(response) or _after_marks(response)
    return str(found[-1] if found else response).strip()


def _after_marks(response: str) -> list[str]:
    """What follows the last `answer:` of each line, to the end of the line; of the next one with text if none does.

    It takes a time that grows with the response and no faster: a model can loop on blanks for thousands of them.
    """
    found: list[str] = []
    marks = list(_ANSWER_MARK.finditer(response))
    done, place = 0, 0
    while place < len(marks):
        first = place
        line_end = response.find("\n", marks[first].start())
        line_end = len(response) if line_end < 0 else line_end
        while place < len(marks) and marks[place].start() < line_end:
            place += 1
        if marks[first].start() < done:
            continue
        for mark in reversed(marks[first:place]):
            rest = _TEXT_AFTER.match(response, mark.end())
            if rest and (rest[1] or rest[0].strip("\n")):
                found.append(rest[1] or "")
                done = rest.end()
                break
    return found


def exact_match(answer: str, gold: str | Sequence[str]) -> float:
    """1.0 where the answer equals any gold alias after normalisation, else 0.0."""
    compared = _comparable(answer)
    return float(compared != "" and any(compared == _comparable(alias) for alias in _aliases(gold)))


def f1(answer: str, gold: str | Sequence[str]) -> float:
    """The best token F1 over the gold aliases. As in Router-R1, `yes`, `no` and `noanswer` count only when equal."""
    compared = _comparable(answer)
    return max((_f1(compared, _comparable(alias)) for alias in _aliases(gold)), default=0.0)


def _aliases(gold: str | Sequence[str]) -> Sequence[str]:
    """A lone string is one alias, not a sequence of letters."""
    return (gold,) if isinstance(gold, str) else gold


def _comparable(text: str) -> str:
    return normalize(text) or " ".join(text.lower().split())


def _f1(answer: str, alias: str) -> float:
    if answer != alias and {answer, alias} & {"yes", "no", "noanswer"}:
        return 0.0
    answer_tokens, alias_tokens = answer.split(), alias.split()
    common = sum((Counter(answer_tokens) & Counter(alias_tokens)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(answer_tokens), common / len(alias_tokens)
    return 2 * precision * recall / (precision + recall)
