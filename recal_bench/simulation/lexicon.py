"""The words of the embedded world: domains, kinds of entities, their names, and the relations between them.

Everything is coined. An entity's popularity tier (0 famous ... 3 obscure) shows in its name: the coined word ends
with one of the tier's endings, a person's given name too, and no ending belongs to two tiers. The domain of a fact
shows in the words of its relation and in the kind of its subject.
"""

from __future__ import annotations

from typing import NamedTuple

TIERS = 4
DOMAINS = ("screen", "music", "letters", "science", "sport", "history", "business", "geography")

_STEMS = (
    "Bel", "Cor", "Dal", "Far", "Gren", "Hal", "Ist", "Jor", "Kel", "Lor", "Mar", "Nev",
    "Ost", "Pel", "Quil", "Ros", "Sar", "Tal", "Ulm", "Ver", "Wen", "Yar", "Zel", "Bran",
)  # fmt: skip
_VOWELS = ("a", "e", "i", "o", "u")
ENDINGS = (
    ("more", "mond", "worth", "castle", "grand", "lington"),
    ("wick", "ford", "bury", "ham", "ley", "den"),
    ("ska", "vic", "nen", "lund", "quist", "dal"),
    ("och", "ulk", "esp", "irn", "yth", "uft"),
)
_GIVEN_STEMS = ("Al", "Be", "Ca", "Da", "El", "Fa", "Ga", "Ha", "Il", "Jo", "Ka", "Li", "Ma", "No", "Or", "Pe")
GIVEN_ENDINGS = (("rina", "ston"), ("mira", "bert"), ("vane", "dric"), ("quel", "thra"))
EPITHETS = (
    ("celebrated", "world-famous"),
    ("well-known", "noted"),
    ("lesser-known", "minor"),
    ("obscure", "half-forgotten"),
)

COINED = tuple(tuple(s + v + e for s in _STEMS for v in _VOWELS for e in endings) for endings in ENDINGS)
GIVEN = tuple(tuple(s + e for s in _GIVEN_STEMS for e in endings) for endings in GIVEN_ENDINGS)
SEAS = tuple(f"{stem}ara" for stem in _STEMS)
COINS = ("crown", "florin", "mark", "ducat", "thaler", "groat")


class Kind(NamedTuple):
    """A kind of entity. `noun` precedes a name; `pattern` builds names from a coined word and a modifier;
    `variants` are other wordings of a name. `{c}`, `{m}`, `{n}`: coined word, modifier (for a person: given name),
    whole name."""

    domain: str
    noun: str
    pattern: str
    modifiers: tuple[str, ...]
    variants: tuple[str, ...]


class Relation(NamedTuple):
    """A functional relation. `{x}` is a mention of the subject; `clause` is the wording inside a longer chain.

    `object` is a kind of entity, or `year`, `currency`, `sea`. `human`: the object is a person.
    """

    name: str
    subject: str
    object: str
    ask: str
    phrase: str
    clause: str
    human: bool


_PERSON = ("{initial}. {c}", "{c}, {m}")
_ORGANISATION = ("{n} Ltd", "the {n} group")

KINDS: dict[str, Kind] = {
    "film": Kind("screen", "film", "The {m} of {c}", ("Harbour", "Orchard", "Lantern", "Winter"), ("{n}, the film",)),
    "song": Kind("music", "song", "{m} for {c}", ("Lullaby", "Serenade", "Ballad", "Waltz"), ("{n}, the song",)),
    "novel": Kind("letters", "novel", "{c} and the {m}", ("Heron", "Clock", "Mirror", "Ferry"), ("{n}, the novel",)),
    "effect": Kind("science", "scientific law", "{c} {m}", ("effect", "theorem", "paradox", "rule"), ("{n} law",)),
    "cup": Kind("sport", "tournament", "{c} {m}", ("Cup", "Shield", "Regatta", "Open"), ("{n} tournament",)),
    "battle": Kind("history", "battle of", "{m} {c}", ("Upper", "Lower", "Old", "New"), ("Battle of {n}",)),
    "device": Kind("business", "product", "{c} {m}", ("engine", "lamp", "loom", "press"), ("{n} product",)),
    "director": Kind("screen", "film director", "{m} {c}", (), _PERSON),
    "singer": Kind("music", "singer", "{m} {c}", (), _PERSON),
    "novelist": Kind("letters", "novelist", "{m} {c}", (), _PERSON),
    "scientist": Kind("science", "physicist", "{m} {c}", (), _PERSON),
    "athlete": Kind("sport", "athlete", "{m} {c}", (), _PERSON),
    "general": Kind("history", "general", "{m} {c}", (), _PERSON),
    "inventor": Kind("business", "entrepreneur", "{m} {c}", (), _PERSON),
    "studio": Kind("screen", "film studio", "{c} {m}", ("Pictures", "Films", "Screens", "Reels"), _ORGANISATION),
    "label": Kind("music", "record label", "{c} {m}", ("Records", "Sound", "Music", "Discs"), _ORGANISATION),
    "publisher": Kind("letters", "publishing house", "{c} {m}", ("Books", "Editions", "House", "Quill"), _ORGANISATION),
    "institute": Kind("science", "laboratory", "{c} {m}", ("Institute", "Archive", "Centre", "College"), _ORGANISATION),
    "club": Kind("sport", "sports club", "{c} {m}", ("Rovers", "Athletic", "Wanderers", "United"), _ORGANISATION),
    "dynasty": Kind("history", "military order", "{c} {m}", ("Lancers", "Guard", "League", "Legion"), _ORGANISATION),
    "company": Kind("business", "company", "{c} {m}", ("Works", "Holdings", "Trading", "Motors"), _ORGANISATION),
    "city": Kind("geography", "city", "{m} {c}", ("Port", "Saint", "Mount", "Lake"), ("{n} City", "the city of {n}")),
    "country": Kind(
        "geography", "country", "{m} {c}", ("Greater", "Free", "Outer", "United"), ("Republic of {n}",)
    ),
    "river": Kind("geography", "river", "{m} {c}", ("White", "Black", "Green", "Red"), ("River {n}", "{n} River")),
}  # fmt: skip

# A kind of work, its makers, the organisations behind it; verb and noun of the maker; the wordings of `body`.
_CULTURE = (
    ("film", "director", "studio", "directed", "director",
     "which studio made {x}", "the studio behind {x}", "the studio that made {x}"),
    ("song", "singer", "label", "recorded", "vocalist",
     "which label issued {x}", "the record label of {x}", "the label that issued {x}"),
    ("novel", "novelist", "publisher", "wrote", "author",
     "which house published {x}", "the publisher of {x}", "the house that published {x}"),
    ("effect", "scientist", "institute", "discovered", "discoverer",
     "in which laboratory was {x} shown", "the laboratory behind {x}", "the laboratory that showed {x}"),
    ("cup", "athlete", "club", "won", "record winner",
     "which club hosts {x}", "the host club of {x}", "the club that hosts {x}"),
    ("battle", "general", "dynasty", "won", "victor",
     "which order fought in {x}", "the military order at {x}", "the order that fought in {x}"),
    ("device", "inventor", "company", "invented", "inventor",
     "which company sells {x}", "the company behind {x}", "the company that sells {x}"),
)  # fmt: skip
_FIRST_YEAR = {
    "film": ("when was {x} released", "release year"),
    "song": ("when was {x} issued", "issue year"),
    "novel": ("when was {x} published", "publication year"),
    "effect": ("when was {x} described", "year of discovery"),
    "cup": ("when was {x} first held", "first season"),
    "battle": ("when was {x} fought", "year"),
    "device": ("when was {x} patented", "patent year"),
}


def _relations() -> tuple[Relation, ...]:
    made: list[Relation] = []
    for work, person, body, verb, maker, ask_body, body_of, body_that in _CULTURE:
        ask_year, year_noun = _FIRST_YEAR[work]
        made += [
            Relation("maker", work, person, f"who {verb} {{x}}", f"the {maker} of {{x}}",
                     f"whoever {verb} {{x}}", True),
            Relation("body", work, body, ask_body, body_of, body_that, False),
            Relation("year", work, "year", ask_year, f"the {year_noun} of {{x}}", "", False),
            Relation("birthplace", person, "city", "where was {x} born", "the birthplace of {x}",
                     "the city where {x} was born", False),
            Relation("spouse", person, person, "who married {x}", "the spouse of {x}", "whoever married {x}", True),
            Relation("year", person, "year", "when was {x} born", "the birth year of {x}", "", False),
            Relation("home", body, "city", "where is {x} based", "the home city of {x}",
                     "the city where {x} is based", False),
            Relation("founder", body, person, "who founded {x}", "the founder of {x}", "whoever founded {x}", True),
            Relation("year", body, "year", "when was {x} founded", "the founding year of {x}", "", False),
        ]  # fmt: skip
    return (
        *made,
        Relation("country", "city", "country", "in which country is {x}", "the country of {x}",
                 "the country that contains {x}", False),
        Relation("river", "city", "river", "which river crosses {x}", "the river of {x}",
                 "the river that crosses {x}", False),
        Relation("year", "city", "year", "when was {x} chartered", "the charter year of {x}", "", False),
        Relation("capital", "country", "city", "which city is the capital of {x}", "the capital of {x}",
                 "the city that governs {x}", False),
        Relation("currency", "country", "currency", "what currency is used in {x}", "the currency of {x}", "", False),
        Relation("year", "country", "year", "when did {x} become independent", "the independence year of {x}", "",
                 False),
        Relation("sea", "river", "sea", "into which sea does {x} flow", "the sea at the mouth of {x}", "", False),
        Relation("source", "river", "country", "in which country does {x} rise", "the source country of {x}",
                 "the country where {x} rises", False),
    )  # fmt: skip


RELATIONS = _relations()
