"""Streams, names and facts of the embedded world."""

from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recal_bench.simulation import World
from recal_bench.simulation.lexicon import DOMAINS, ENDINGS, GIVEN_ENDINGS, KINDS, RELATIONS, TIERS
from recal_bench.simulation.streams import Draws, evenly, mix, mix_all, uniform
from recal_bench.simulation.world import SPLITS, Entity

KEYS = st.integers(0, 2**64 - 1)
SIZES = {"train": 1200, "validation": 240, "test": 560}


def test_the_stream_is_splitmix64():
    assert mix(0) == 0xE220A8397B1DCDAF


@settings(deadline=None, max_examples=50)
@given(st.lists(KEYS, min_size=1, max_size=5))
def test_single_keys_and_arrays_of_keys_mix_alike(keys):
    assert mix_all(np.array(keys, dtype=np.uint64)).tolist() == [mix(key) for key in keys]


def test_uniform_draws_are_uniform_and_independent():
    keys = mix_all(np.arange(200_000, dtype=np.uint64))
    first, second = uniform(keys, 0), uniform(keys, 1)
    assert 0 < first.min() < 1e-4
    assert 1 - 1e-4 < first.max() < 1
    counts = np.histogram2d(first, second, bins=10, range=[[0, 1], [0, 1]])[0]
    assert np.abs(counts - 2000).max() < 5 * np.sqrt(2000)


def test_an_even_sequence_has_the_same_mix_whatever_its_key():
    points = np.array([[evenly(key, index) for index in range(500)] for key in (1, 2, 3)])
    assert np.abs((points < 0.2).mean(axis=1) - 0.2).max() < 0.01


def test_draws_stay_below_their_bound():
    draws = Draws(7)
    assert {draws.below(3) for _ in range(100)} == {0, 1, 2}


def test_no_ending_shows_two_tiers():
    for endings in (ENDINGS, GIVEN_ENDINGS):
        for (tier, group), (other_tier, others) in product(enumerate(endings), repeat=2):
            if tier != other_tier:
                assert not any(one.endswith(other) for one in group for other in others)


def test_names_are_unique_within_a_kind_and_show_the_tier():
    world, persons = World(5), set()
    n_persons = 0
    for kind, tier in product(KINDS, range(TIERS)):
        entities = [Entity(kind, tier, split, number) for split in SPLITS for number in range(SIZES[split])]
        names = {world.name(entity) for entity in entities}
        assert len(names) == len(entities)
        assert all(any(part.endswith(ENDINGS[tier]) for part in name.split()) for name in names)
        if not KINDS[kind].modifiers:
            persons |= names
            n_persons += len(names)
    assert len(persons) == n_persons


def test_every_relation_leads_somewhere_within_split_and_tier():
    world = World(3)
    for relation, tier, split in product(RELATIONS, range(TIERS), SPLITS):
        for number in range(20):
            subject = Entity(relation.subject, tier, split, number)
            value = world.object(subject, relation)
            assert value == world.object(subject, relation)
            if isinstance(value, Entity):
                assert (value.kind, value.tier, value.split) == (relation.object, tier, split)
                assert value != subject
                assert 0 <= value.number < SIZES[split]
            else:
                assert relation.object not in KINDS
                assert value in world.value_names(value)


def test_worlds_of_different_seeds_differ():
    entities = [Entity("film", 0, "test", number) for number in range(50)]
    names = [{World(seed).name(entity) for entity in entities} for seed in (0, 1)]
    assert names[0] != names[1]


def test_every_domain_has_entities_and_relations():
    assert {kind.domain for kind in KINDS.values()} == set(DOMAINS)
    assert {relation.subject for relation in RELATIONS} == set(KINDS)
