"""What the simulated models answer to a query in a policy's own words, such as one hop of a question.

A question of the world is itself. Other texts are understood where they chain relations of the world, in any wording
that its questions have: `who directed The Harbour of Keluuft?`, `the birthplace of Damira Fariford`. An answer then
follows from what the model knows of these facts, as for a question. To anything else a model says nothing useful.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from recal_bench.outcomes import Arm
from recal_bench.pools.strategies import STRATEGIES
from recal_bench.simulation import models
from recal_bench.simulation.embedded import questions_by_prompt
from recal_bench.simulation.lexicon import EPITHETS, KINDS, RELATIONS, TIERS, Relation
from recal_bench.simulation.pool import SimulatedPool, SimulatedReply
from recal_bench.simulation.questions import Question, right_and_wrong
from recal_bench.simulation.streams import Draws, key_of
from recal_bench.simulation.world import Entity, Fact, World

UNUSABLE = "It is not clear what is asked."
_LIKE = "2wiki"
"""The task whose way of asking a query is taken to have."""
_BEFORE = re.compile(r"^(for one point, |name |who is |who was |what is |what was )")
_MENTION = re.compile(rf"^(?:the )?(?:(?:{'|'.join(word for words in EPITHETS for word in words)}) )?")


class Respondent:
    """The simulated models of a world, asked in any words. The same words get the same reply."""

    def __init__(self, world_seed: int = 0, world_arms: str = "standard") -> None:
        self.pool = SimulatedPool(world_seed, world_arms)
        self.usd_per_token_A = models.price(self.pool.arms)
        self._world, self._questions = World(world_seed), questions_by_prompt(world_seed)
        self._entities = lru_cache(maxsize=None)(self._entities_of)

    def reply(self, arm: Arm, query: str) -> SimulatedReply:
        """Raises SettingsError on an arm that the pool does not have."""
        question = self.understood(query)
        if question is not None:
            return self.pool.answer(question, arm)
        instruction = STRATEGIES[models.spoken_as(arm).strategy].instruction
        return SimulatedReply(UNUSABLE, len(f"{instruction} {query}".split()), len(UNUSABLE.split()))

    def understood(self, query: str) -> Question | None:
        """The question that a query puts to the world; None where it puts none."""
        prompt = " ".join(query.split())
        if prompt in self._questions:
            return self._questions[prompt]
        text = _BEFORE.sub("", prompt.rstrip("?. ").lower(), count=1)
        for relation in RELATIONS:
            for mention in (*_mentions(relation.ask, text), *_named(relation, text)):
                for subject, facts in self._meant(relation.subject, mention):
                    return self._question(prompt, subject, relation, facts)
        return None

    def _question(self, prompt: str, subject: Entity, relation: Relation, facts: tuple[Fact, ...]) -> Question:
        value, key = self._world.object(subject, relation), key_of(prompt)
        right, wrong = right_and_wrong(self._world, value, relation, subject.tier, subject.split, Draws(key))
        every = (*facts, self._world.fact(subject, relation))
        return Question(f"{key:016x}", _LIKE, subject.split, prompt, right, right, wrong, every, comparison=False)

    def _meant(self, kind: str, mention: str) -> Iterator[tuple[Entity, tuple[Fact, ...]]]:
        """The entity of a kind that a mention means, and the facts that lead to it."""
        name = _MENTION.sub("", mention).removeprefix(f"{KINDS[kind].noun} ")
        for known in (mention, name):
            if known in self._entities(kind):
                yield self._entities(kind)[known], ()
                return
        for relation in RELATIONS:
            if relation.object == kind:
                for inner in _named(relation, mention):
                    for subject, facts in self._meant(relation.subject, inner):
                        value = self._world.object(subject, relation)
                        assert isinstance(value, Entity)
                        yield value, (*facts, self._world.fact(subject, relation))
                        return

    def _entities_of(self, kind: str) -> dict[str, Entity]:
        """Those of a kind by their names in small letters."""
        every = self._world.every(kind, range(TIERS))
        return {self._world.name(each).lower(): each for each in every}


def _named(relation: Relation, text: str) -> tuple[str, ...]:
    return tuple(each for form in (relation.phrase, relation.clause) for each in _mentions(form, text))


def _mentions(form: str, text: str) -> tuple[str, ...]:
    """What stands for `{x}` in a text of this form; none where it has another."""
    before, slot, after = form.lower().partition("{x}")
    fits = slot and text.startswith(before) and text.endswith(after) and len(text) > len(before) + len(after)
    return (text[len(before) : len(text) - len(after)],) if fits else ()
