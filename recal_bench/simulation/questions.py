"""The questions of the seven tasks, written from the facts of a world, with their gold answers.

What a text shows, exactly: its task's way of asking, its relations (and so the domains), the number of hops, and the
tier of every entity (by the names). What it does not show: which facts a model happens to know.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import accumulate

from recal_bench.errors import SettingsError
from recal_bench.scoring import normalize
from recal_bench.simulation.lexicon import DOMAINS, EPITHETS, KINDS, RELATIONS, Relation
from recal_bench.simulation.streams import Draws, evenly, key_of, mix
from recal_bench.simulation.world import SPLITS, Entity, Fact, World

_WRONG = 5
_YES_OR_NO = 0.4
_EPITHET = 0.3
_ATTEMPTS_PER_QUESTION = 40


@dataclass(frozen=True)
class Profile:
    """What a task asks. Weights are relative; `hops` is the weight of 1, 2, 3, 4 hops; `comparison` a probability.

    `domains` in the order of lexicon.DOMAINS, `tiers` from famous to obscure.
    """

    domains: tuple[int, ...]
    tiers: tuple[int, ...]
    hops: tuple[int, ...]
    comparison: float = 0.0
    canonical_only: bool = False


#                      screen music letters science sport history business geography
TASKS: dict[str, Profile] = {
    "nq":        Profile((4, 3, 2, 3, 4, 5, 2, 5), (4, 4, 2, 0), (1,), canonical_only=True),
    "triviaqa":  Profile((3, 5, 5, 3, 5, 3, 2, 2), (5, 3, 2, 0), (1,)),
    "popqa":     Profile((6, 5, 6, 1, 4, 1, 2, 3), (0, 2, 4, 4), (1,)),
    "hotpotqa":  Profile((4, 4, 3, 1, 5, 3, 3, 2), (2, 4, 3, 1), (0, 1), comparison=0.2),
    "2wiki":     Profile((8, 2, 2, 1, 1, 7, 1, 2), (2, 3, 4, 1), (0, 1), comparison=0.2),
    "musique":   Profile((3, 3, 3, 4, 2, 4, 3, 2), (3, 4, 3, 0), (0, 5, 3, 2)),
    "bamboogle": Profile((2, 2, 4, 6, 2, 4, 4, 2), (8, 2, 0, 0), (0, 1)),
}  # fmt: skip


@dataclass(frozen=True)
class Question:
    """One query: its prompt, what counts as right, and the facts that it takes.

    `right` holds the canonical answer and its other wordings, `gold` those that the task accepts, `wrong` what models
    answer when they fail. A comparison is failed and then guessed. `key` is the query's 64-bit stream.
    """

    query_id: str
    task: str
    split: str
    prompt: str
    gold: tuple[str, ...]
    right: tuple[str, ...]
    wrong: tuple[str, ...]
    facts: tuple[Fact, ...]
    comparison: bool

    @property
    def key(self) -> int:
        return int(self.query_id, 16)


_KINDS_OF = {domain: tuple(kind for kind, each in KINDS.items() if each.domain == domain) for domain in DOMAINS}
_BY_SUBJECT = {kind: tuple(each for each in RELATIONS if each.subject == kind) for kind in KINDS}
_DATED = {kind: next((each for each in rows if each.object == "year"), None) for kind, rows in _BY_SUBJECT.items()}


@cache
def _paths(kind: str, hops: int) -> tuple[tuple[Relation, ...], ...]:
    """All chains of relations of a length from a kind of entity, none of them twice in a chain (facts differ)."""
    found: list[tuple[Relation, ...]] = []
    for relation in _BY_SUBJECT[kind]:
        if hops == 1:
            found.append((relation,))
        elif relation.object in KINDS:
            found += [(relation, *rest) for rest in _paths(relation.object, hops - 1) if relation not in rest]
    return tuple(found)


def write(world: World, task: str, split: str, count: int) -> tuple[Question, ...]:
    """The first `count` questions of a task and split; a smaller count gives a beginning of a larger one.

    Raises SettingsError where the world does not hold that many.
    """
    found: dict[str, Question] = {}
    for question in _attempts(world, task, split, count * _ATTEMPTS_PER_QUESTION):
        if len(found) == count:
            break
        if question is not None:
            found.setdefault(question.prompt, question)
    if len(found) < count:
        raise SettingsError(
            f"the embedded world holds only about {len(found):,} questions of {task} in {split}: ask for fewer"
        )
    return tuple(found.values())


def _attempts(world: World, task: str, split: str, limit: int) -> Iterator[Question | None]:
    profile = TASKS[task]
    key = key_of(world.seed, "question", task, split)
    for attempt in range(limit):
        for_form, for_domain, for_tier = evenly(key, attempt)
        domain = DOMAINS[_weighted(profile.domains, for_domain)]
        tier = _weighted(profile.tiers, for_tier)
        draws = Draws(mix(key ^ attempt))
        if for_form < profile.comparison:
            yield _comparison(world, task, split, domain, tier, draws)
        else:
            hops = 1 + _weighted(profile.hops, (for_form - profile.comparison) / (1 - profile.comparison))
            yield _chain(world, task, split, domain, tier, hops, draws)


def _chain(world: World, task: str, split: str, domain: str, tier: int, hops: int, draws: Draws) -> Question | None:
    kinds = [kind for kind in _KINDS_OF[domain] if _paths(kind, hops)]
    if not kinds:
        return None
    kind = kinds[draws.below(len(kinds))]
    path = _paths(kind, hops)[draws.below(len(_paths(kind, hops)))]
    anchor = world.entity(kind, tier, split, draws)
    subject, facts = anchor, []
    for relation in path:
        facts.append(world.fact(subject, relation))
        value = world.object(subject, relation)
        if isinstance(value, Entity):
            subject = value
    right, wrong = right_and_wrong(world, value, path[-1], anchor.tier, split, draws)
    gold = right[:1] if TASKS[task].canonical_only else right
    prompt = _PHRASING[task](path, _mention(world, anchor, draws), draws)
    return _question(task, split, prompt, gold, right, wrong, tuple(facts), comparison=False)


def right_and_wrong(
    world: World, value: Entity | str, relation: Relation, tier: int, split: str, draws: Draws
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The wordings of what a relation gives, and what models answer instead when they fail."""
    right = world.names(value) if isinstance(value, Entity) else world.value_names(value)
    accepted = {normalize(alias) for alias in right}
    wrong: list[str] = []
    while len(wrong) < _WRONG:
        candidate = world.wrong(value, relation, tier, split, draws)
        if normalize(candidate) not in accepted and candidate not in wrong:
            wrong.append(candidate)
    return right, tuple(wrong)


def _comparison(world: World, task: str, split: str, domain: str, tier: int, draws: Draws) -> Question | None:
    kind = _KINDS_OF[domain][draws.below(len(_KINDS_OF[domain]))]
    first = world.entity(kind, tier, split, draws)
    second = world.entity(kind, _weighted(TASKS[task].tiers, draws.fraction()), split, draws)
    relation = _DATED[kind]
    if relation is None or first == second:
        return None
    years = [world.object(entity, relation) for entity in (first, second)]
    if years[0] == years[1]:
        return None
    facts = (world.fact(first, relation), world.fact(second, relation))
    mentions = _mention(world, first, draws), _mention(world, second, draws)
    earlier = 0 if str(years[0]) < str(years[1]) else 1
    ask_yes_or_no, ask_which = _COMPARISONS[task]
    if draws.chance(_YES_OR_NO):
        prompt = ask_yes_or_no.format(*mentions)
        sides: tuple[tuple[str, ...], ...] = (("yes",), ("no",))
    else:
        prompt = ask_which.format(*mentions)
        sides = world.names(first), world.names(second)
    right, wrong = sides[earlier], sides[1 - earlier][:1]
    if normalize(wrong[0]) in {normalize(alias) for alias in right}:
        return None
    return _question(task, split, prompt, right, right, wrong, facts, comparison=True)


def _question(
    task: str,
    split: str,
    prompt: str,
    gold: tuple[str, ...],
    right: tuple[str, ...],
    wrong: tuple[str, ...],
    facts: tuple[Fact, ...],
    *,
    comparison: bool,
) -> Question:
    # A digest, not a number: a router that sees the identifier learns neither the task nor the order from it.
    return Question(f"{key_of(prompt):016x}", task, split, prompt, gold, right, wrong, facts, comparison)


def _weighted(weights: tuple[int, ...], fraction: float) -> int:
    """The index into which a fraction of the total weight falls."""
    return bisect_right(list(accumulate(weights)), fraction * sum(weights))


def _mention(world: World, entity: Entity, draws: Draws) -> str:
    epithet = f"{EPITHETS[entity.tier][draws.below(2)]} " if draws.chance(_EPITHET) else ""
    return f"the {epithet}{KINDS[entity.kind].noun} {world.name(entity)}"


def _nested(path: tuple[Relation, ...], mention: str, form: str) -> str:
    """The noun phrase of all hops but the last, around the mention."""
    for relation in path[:-1]:
        mention = getattr(relation, form).format(x=mention)
    return mention


def _asked(path: tuple[Relation, ...], mention: str, form: str) -> str:
    return path[-1].ask.format(x=_nested(path, mention, form))


def _named(path: tuple[Relation, ...], mention: str, form: str) -> str:
    return path[-1].phrase.format(x=_nested(path, mention, form))


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _nq(path: tuple[Relation, ...], mention: str, draws: Draws) -> str:
    return _asked(path, mention, "phrase").lower()


def _triviaqa(path: tuple[Relation, ...], mention: str, draws: Draws) -> str:
    if draws.chance(0.5):
        return f"Name {_named(path, mention, 'phrase')}."
    return f"For one point, {_asked(path, mention, 'phrase')}?"


def _popqa(path: tuple[Relation, ...], mention: str, draws: Draws) -> str:
    return f"{'Who' if path[-1].human else 'What'} is {_named(path, mention, 'phrase')}?"


def _hotpotqa(path: tuple[Relation, ...], mention: str, draws: Draws) -> str:
    return f"{_sentence(_asked(path, mention, 'phrase'))}?"


def _2wiki(path: tuple[Relation, ...], mention: str, draws: Draws) -> str:
    return f"{'Who' if path[-1].human else 'What'} is {_named(path, mention, 'phrase')}?"


def _musique(path: tuple[Relation, ...], mention: str, draws: Draws) -> str:
    return f"{_sentence(_asked(path, mention, 'clause'))}?"


def _bamboogle(path: tuple[Relation, ...], mention: str, draws: Draws) -> str:
    return f"{'Who' if path[-1].human else 'What'} was {_named(path, mention, 'clause')}?"


_PHRASING: dict[str, Callable[[tuple[Relation, ...], str, Draws], str]] = {
    "nq": _nq,
    "triviaqa": _triviaqa,
    "popqa": _popqa,
    "hotpotqa": _hotpotqa,
    "2wiki": _2wiki,
    "musique": _musique,
    "bamboogle": _bamboogle,
}
_COMPARISONS = {
    "hotpotqa": ("Was {0} earlier than {1}?", "Which came first, {0} or {1}?"),
    "2wiki": ("Did {0} begin before {1}?", "Of {0} and {1}, which is the older one?"),
}


@lru_cache(maxsize=4)
def all_questions(world_seed: int, train: int, validation: int, test: int) -> tuple[Question, ...]:
    """All questions of a world, sorted by (split, task, query_id). Sizes are per task."""
    world = World(world_seed)
    sizes = dict(zip(SPLITS, (train, validation, test), strict=True))
    questions = [each for task in TASKS for split in SPLITS for each in write(world, task, split, sizes[split])]
    return tuple(sorted(questions, key=lambda each: (each.split, each.task, each.query_id)))
