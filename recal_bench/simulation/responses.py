"""The text of a simulated response: filler of an exact number of words, and a closing line with the answer."""

from __future__ import annotations

from itertools import accumulate

_CLOSINGS = {
    "ovanta-7b": "Answer: {}",
    "brelune-70b": "<answer>{}</answer>",
    "brelune-8b": "Answer: {}",
    "corvale-7b": "Answer: {}",
    "corvale-8x22b": "<answer>{}</answer>",
    "dunmarrow-27b": "<answer>{}</answer>",
}
_SENTENCES = {
    "direct": (
        "This is a matter that the usual reference works cover.",
        "The name appears in several of the standard accounts of the period.",
        "Most sources agree on the main point, though some details differ between editions.",
        "It is worth recalling how the subject became known in the first place.",
        "The surrounding circumstances are described at length elsewhere.",
        "Other candidates are sometimes mentioned, but they fit the description less well.",
        "Readers who want more background will find it in the longer handbooks.",
        "The record is not complete, but what has come down to us is fairly clear.",
        "Later writers repeat the same account with small changes of emphasis.",
        "There is some confusion about similar names, which should be kept apart here.",
        "None of this changes the reply, which can be given in a few words.",
        "With that in mind the reply is short.",
    ),
    "cot": (
        "First I restate what is being asked and who or what it is about.",
        "Next I recall what I know about the subject and check that it is the right one.",
        "Then I follow the relation from the subject to the thing that is wanted.",
        "If there is another link in the chain, I take it in the same way.",
        "Before I finish, I compare the result with what else I remember of it.",
        "Nothing in the description seems to contradict this result so far.",
        "Let me make sure that I have not confused two subjects of a similar name.",
        "The wording of the question tells me which kind of thing is wanted at the end.",
        "I keep that in mind while I go through the steps one after another.",
        "At this point one candidate stands out from the others that I considered.",
        "I go back over the steps once more to see whether each of them holds.",
        "They do, as far as I can tell, and so I can come to a conclusion.",
    ),
    "cod": (
        "Subject found.",
        "Recall main relation.",
        "Follow link onward.",
        "Check against description.",
        "Looks consistent.",
        "Keep result.",
        "Which type wanted?",
        "Similar names ruled out.",
        "One candidate left.",
        "Steps hold.",
        "Conclude.",
    ),
    "self_ask": (
        "Are follow up questions needed here?",
        "Yes, at least one.",
        "Follow up: who or what does the description refer to?",
        "Intermediate result: the subject named in the question.",
        "Follow up: what does the next relation lead to?",
        "Intermediate result: the entity that this relation gives.",
        "Follow up: could another subject of the same name be meant?",
        "Intermediate result: no, the description rules that out.",
        "Follow up: which kind of thing is wanted at the end?",
        "Intermediate result: what the first words of the question ask for.",
        "Follow up: does the chain of relations hold together?",
        "Intermediate result: yes, each link starts where the one before it ends.",
        "Follow up: is there anything left to resolve?",
        "Intermediate result: only the last step remains to be taken.",
    ),
}
_REPEATS = 40
_WORDS = {strategy: " ".join(texts).split() for strategy, texts in _SENTENCES.items()}
_LONG = {strategy: words * _REPEATS for strategy, words in _WORDS.items()}
_STARTS = {
    strategy: [0, *accumulate(len(text.split()) for text in texts)][:-1] for strategy, texts in _SENTENCES.items()
}


def closing_line(model: str, answer: str) -> str:
    """How a model ends a well-formed response."""
    return _CLOSINGS[model].format(answer)


def response(strategy: str, closing: str | None, tokens: int, start: float) -> str:
    """A response of exactly `tokens` whitespace words. `start` in (0, 1) says with which sentence it begins.

    Without a closing line it is malformed: it breaks off, and no answer can be found in it.
    """
    ending = [] if closing is None else closing.split()
    starts = _STARTS[strategy]
    first = starts[int(start * len(starts))]
    body = " ".join(_LONG[strategy][first : first + tokens - len(ending)])
    return body if closing is None else f"{body.rstrip('.,:?')}.\n{closing}"
