"""The embedded world: entities and facts, all of them functions of the world seed. Nothing is stored.

Facts lie within one split and one popularity tier: whoever directed an obscure film is obscure, and its director is
asked about in the same split only. So a text that names an entity shows the tier of every entity in its chain, and no
fact that is asked in train is asked in validation or test.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from math import gcd
from typing import NamedTuple

from recal_bench.simulation.lexicon import COINED, COINS, GIVEN, KINDS, SEAS, Relation
from recal_bench.simulation.streams import Draws, key_of, mix

SPLITS = ("train", "validation", "test")
_ENTITIES = {"train": 1200, "validation": 240, "test": 560}
"""Entities of one kind and tier, by split."""
_OFFSET = {"train": 0, "validation": 1200, "test": 1440}
_PER_KIND = sum(_ENTITIES.values())
_PERSONS = tuple(kind for kind, each in KINDS.items() if not each.modifiers)
_FIRST_YEAR, _YEARS = 1780, 220


class Entity(NamedTuple):
    kind: str
    tier: int
    split: str
    number: int


class Fact(NamedTuple):
    """One fact: what a model knows or does not know. `key` names it within the world."""

    key: int
    domain: str
    tier: int


class World:
    """A seeded world. Its methods are pure."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.name = lru_cache(maxsize=None)(self._name)
        self._stream = lru_cache(maxsize=None)(self._stream_of)

    def entity(self, kind: str, tier: int, split: str, draws: Draws) -> Entity:
        """A random entity of a kind, tier and split."""
        return Entity(kind, tier, split, draws.below(_ENTITIES[split]))

    def every(self, kind: str, tiers: Iterable[int]) -> Iterator[Entity]:
        """All entities of a kind, in these tiers."""
        for tier in tiers:
            for split, count in _ENTITIES.items():
                yield from (Entity(kind, tier, split, number) for number in range(count))

    def fact(self, subject: Entity, relation: Relation) -> Fact:
        key = self._fact_key(subject, relation)
        return Fact(key, KINDS[subject.kind].domain, subject.tier)

    def object(self, subject: Entity, relation: Relation) -> Entity | str:
        """What the relation gives for the subject: an entity, or the text of a year, a currency or a sea."""
        drawn = Draws(mix(self._fact_key(subject, relation)))
        if relation.object == "year":
            return str(_FIRST_YEAR + drawn.below(_YEARS))
        if relation.object == "sea":
            return f"Sea of {SEAS[drawn.below(len(SEAS))]}"
        if relation.object == "currency":
            return f"{SEAS[drawn.below(len(SEAS))]} {COINS[drawn.below(len(COINS))]}"
        size = _ENTITIES[subject.split]
        if relation.object == subject.kind:  # nobody is their own spouse
            return subject._replace(number=(subject.number + 1 + drawn.below(size - 1)) % size)
        return Entity(relation.object, subject.tier, subject.split, drawn.below(size))

    def names(self, entity: Entity) -> tuple[str, ...]:
        """The name of an entity and its other wordings."""
        coined, modifier = self._parts(entity)
        name = self.name(entity)
        variants = KINDS[entity.kind].variants
        return (name, *(text.format(c=coined, m=modifier, n=name, initial=modifier[0]) for text in variants))

    def value_names(self, value: str) -> tuple[str, ...]:
        """A year, currency or sea and its other wordings."""
        if value.isdigit():
            return (value, f"in {value}", f"AD {value}")
        if value.startswith("Sea of "):
            return (value, f"{value[7:]} Sea")
        return (value, f"{value}s", f"{value} (coin)")

    def wrong(self, answer: Entity | str, relation: Relation, tier: int, split: str, draws: Draws) -> str:
        """A wrong answer of the same type. It may equal the right one by chance: the caller leaves that out."""
        if isinstance(answer, Entity):
            return self.name(self.entity(answer.kind, tier, split, draws))
        if relation.object == "year":
            return str(int(answer) + draws.below(41) - 20)
        sea = SEAS[draws.below(len(SEAS))]
        return f"Sea of {sea}" if relation.object == "sea" else f"{sea} {COINS[draws.below(len(COINS))]}"

    def _name(self, entity: Entity) -> str:
        coined, modifier = self._parts(entity)
        return KINDS[entity.kind].pattern.format(c=coined, m=modifier)

    def _parts(self, entity: Entity) -> tuple[str, str]:
        """Coined word and modifier: an affine permutation of all combinations, so that no name is given twice."""
        kind, tier, split, number = entity
        slot = _OFFSET[split] + number
        modifiers = KINDS[kind].modifiers
        space = kind
        if not modifiers:
            modifiers, space = GIVEN[tier], "person"
            slot += _PERSONS.index(kind) * _PER_KIND
        coined = COINED[tier]
        factor, shift = _permutation(self.seed, space, tier, len(coined) * len(modifiers))
        combination = (slot * factor + shift) % (len(coined) * len(modifiers))
        return coined[combination % len(coined)], modifiers[combination // len(coined)]

    def _fact_key(self, subject: Entity, relation: Relation) -> int:
        return mix(self._stream(subject.kind, subject.tier, subject.split, relation.name) + subject.number)

    def _stream_of(self, kind: str, tier: int, split: str, relation: str) -> int:
        return key_of(self.seed, "fact", kind, tier, split, relation)


@lru_cache(maxsize=1024)
def _permutation(seed: int, space: str, tier: int, size: int) -> tuple[int, int]:
    draws = Draws(key_of(seed, "names", space, tier))
    factor = draws.below(size)
    while gcd(factor, size) != 1:
        factor = draws.below(size)
    return factor, draws.below(size)
