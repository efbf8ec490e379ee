"""Pool files: what is refused, where the message says it is, and that nothing of the file is repeated in it."""

import copy
import json
import re
from datetime import date

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from recal_bench.collection.requests import Arms
from recal_bench.errors import RecalBenchError
from recal_bench.folders import shipped
from recal_bench.pools.files import read_pool
from recal_bench.pools.pool import Price
from recal_bench.pools.strategies import STRATEGIES
from recal_bench.simulation.models import MODELS

SECRET = "sk-secret123"
DAY = date(2025, 6, 10)
VALID = {
    "pool": "ours",
    "endpoints": {
        "local": {"base_url": "http://127.0.0.1:8000/v1", "api_key_env": None},
        "cloud": {"base_url": "https://api.example.org/v1", "api_key_env": "EXAMPLE_KEY", "concurrency": 4},
    },
    "models": {
        "small": {
            "endpoint": "local",
            "served_model": "small-it",
            "price": {"date": DAY, "input": 0.1, "output": 0.2},
            "context_length": 8192,
        },
        "large": {
            "endpoint": "cloud",
            "served_model": "large-it",
            "price": {"date": DAY, "input": 1.5, "output": 3.0, "reasoning": 4.0, "cached": 0.5},
            "context_length": 32768,
            "sampling": {"temperature": 0.0, "seed": 1},
        },
    },
    "strategies": {
        "terse": {"description": "in a word", "instruction": "One word.", "max_tokens": 16, "answer_pattern": "(.+)"}
    },
}
REMOVED = object()


def changed(where="", value=REMOVED):
    """The valid pool with one value set (or removed) at a place such as `models.small.price.input`."""
    pool = copy.deepcopy(VALID)
    *way, last = where.split(".")
    inner = pool
    for part in way:
        inner = inner[part]
    if value is REMOVED:
        inner.pop(last, None)
    else:
        inner[last] = value
    return pool


@pytest.fixture
def read(tmp_path):
    """Reads a pool given as a value, or as the text of its file."""
    path = tmp_path / "ours.yaml"

    def read_it(pool):
        path.write_text(pool if isinstance(pool, str) else yaml.safe_dump(pool, sort_keys=False), encoding="utf-8")
        return read_pool(path)

    return read_it


@pytest.fixture
def refused(read, tmp_path):
    """The message for a pool that is refused: one line that begins with the file."""

    def message(pool):
        with pytest.raises(RecalBenchError) as caught:
            read(pool)
        said = str(caught.value)
        assert said.splitlines() == [said]
        assert said.startswith(f"the pool file {tmp_path / 'ours.yaml'}")
        return said.removeprefix(f"the pool file {tmp_path / 'ours.yaml'}")

    return message


# --- The shipped files


def test_router_r1_has_its_six_models_at_the_published_prices():
    pool = read_pool(shipped("pools") / "router-r1.yaml")
    prices = {
        "qwen2.5-7b": 0.30,
        "llama-3.1-70b": 0.88,
        "llama-3.1-8b": 0.18,
        "mistral-7b-v0.3": 0.20,
        "mixtral-8x22b": 1.20,
        "gemma-2-27b": 0.80,
    }
    assert {name: (model.price.input, model.price.output) for name, model in pool.models.items()} == {
        name: (usd, usd) for name, usd in prices.items()
    }
    assert all(model.price.date == DAY for model in pool.models.values())


def test_the_embedded_pool_file_is_the_simulated_pool():
    pool = read_pool(shipped("pools") / "embedded.yaml")
    assert {name: model.price.input for name, model in pool.models.items()} == {
        name: usd for name, (usd, _) in MODELS.items()
    }
    for name, model in pool.models.items():
        assert model.price.output == model.price.input
        assert model.price.reasoning is model.price.cached is None
        assert model.served_model == name
        assert model.tokenizer == "words"
        assert pool.endpoint_of(name).key() is None
    assert pool.questions == "embedded"


@pytest.mark.parametrize("path", sorted(shipped("pools").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_pool_answers_every_strategy_within_its_context(path):
    pool = read_pool(path)
    assert pool.pool == path.stem
    for model in pool.models.values():
        for strategy in pool.strategies.values():
            assert model.limit(strategy) == ("max_tokens", strategy.max_tokens)
            assert strategy.max_tokens < model.context_length


def test_a_bare_name_means_the_shipped_file_unless_there_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_pool(type(tmp_path)("embedded")).pool == "embedded"
    (tmp_path / "embedded").write_text(yaml.safe_dump(VALID))
    assert read_pool(type(tmp_path)("embedded")).pool == "ours"


@pytest.mark.parametrize("name", ["embedded.txt", "embedded.json", "router-r1.parquet"])
def test_a_file_of_another_kind_is_not_taken_for_the_shipped_one(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecalBenchError, match="there is no pool file"):
        read_pool(type(tmp_path)(name))


# --- Files that are no pool


def test_a_file_that_cannot_be_read_says_why(tmp_path):
    with pytest.raises(RecalBenchError, match=r"no pool file .*nothing\.yaml.*embedded, embedded-efforts, router-r1"):
        read_pool(tmp_path / "nothing.yaml")
    with pytest.raises(RecalBenchError, match="Is a directory"):
        read_pool(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"pool: caf\xe9\n")
    with pytest.raises(RecalBenchError, match="not UTF-8"):
        read_pool(tmp_path / "latin.yaml")
    with pytest.raises(RecalBenchError, match="cannot be read: Not a directory"):
        read_pool(tmp_path / "latin.yaml" / "below.yaml")


def test_a_file_name_that_is_too_long_says_so(tmp_path):
    with pytest.raises(RecalBenchError, match="name too long"):
        read_pool(tmp_path / ("x" * 300 + ".yaml"))


@pytest.mark.parametrize("text", ["", "null", "- a\n- b\n", "17", "just words"])
def test_yaml_that_is_no_mapping_is_told_what_is_expected(refused, text):
    assert "must hold `pool`, `endpoints` and `models`" in refused(text)


@pytest.mark.parametrize(
    "broken", ['pool: "open', "pool: [a, b", "pool: a: b", "\tpool: a", "pool: {a", "a: 1\n---\nb: 2"]
)
def test_a_syntax_error_names_its_line(refused, broken):
    lines = len(broken.splitlines())
    assert any(f", line {line} is not YAML: " in refused(f"# a comment\n{broken}") for line in range(2, lines + 2))


def test_a_control_character_is_named(refused):
    assert "None" not in refused("pool: a\x00b\n")


def test_yaml_of_absurd_depth_is_refused(refused):
    refused("pool: " + "[" * 3000)


# --- Fields

REQUIRED = [
    "pool",
    "endpoints",
    "models",
    "endpoints.cloud.base_url",
    "endpoints.cloud.api_key_env",
    "models.small.endpoint",
    "models.small.served_model",
    "models.small.price",
    "models.small.price.date",
    "models.small.price.input",
    "models.small.price.output",
    "models.small.context_length",
    "strategies.terse.description",
    "strategies.terse.instruction",
    "strategies.terse.max_tokens",
]


@pytest.mark.parametrize("where", REQUIRED)
def test_what_is_missing_is_named_by_its_place(refused, where):
    assert f": {where} is missing" in refused(changed(where))


@pytest.mark.parametrize("where", REQUIRED)
def test_null_is_no_value(refused, read, where):
    pool = changed(where, None)
    if where == "endpoints.cloud.api_key_env":
        assert read(pool).endpoints["cloud"].key() is None
    else:
        assert f": {where}" in refused(pool)


@pytest.mark.parametrize("where", ["", "endpoints.cloud.", "models.small.", "models.small.price.", "strategies.terse."])
def test_a_field_that_is_not_known_is_named_by_its_place(refused, where):
    assert f": {where}colour is not known" in refused(changed(f"{where}colour", 1))


@pytest.mark.parametrize(
    ("where", "meant"),
    [
        ("model", "models"),
        ("strategy", "strategies"),
        ("endpoints.cloud.api_key", "api_key_env"),
        ("endpoints.cloud.base_ur", "base_url"),
        ("endpoints.cloud.request_per_minute", "requests_per_minute"),
        ("models.small.serve_model", "served_model"),
        ("models.small.price.inputs", "input"),
        ("models.small.price.reasonings", "reasoning"),
        ("strategies.terse.max_token", "max_tokens"),
    ],
)
def test_a_mistyped_field_has_its_near_miss(refused, where, meant):
    assert f": {where} is not known (did you mean {meant}?)" in refused(changed(where, SECRET))


@pytest.mark.parametrize("where", ["own_strategies", "models.small.concurrency", "endpoints.cloud.price"])
def test_a_field_in_the_wrong_place_is_not_its_own_near_miss(refused, where):
    said = refused(changed(where, {}))
    assert f"{where} is not known" in said
    assert f"did you mean {where.split('.')[-1]}?" not in said


def test_all_that_is_wrong_stands_in_one_line(refused):
    pool = changed("models.small.price.input", -1)
    pool["models"]["large"].pop("context_length")
    pool["endpoints"]["cloud"]["speed"] = 3
    said = refused(pool)
    for part in ("models.small.price.input: ", "models.large.context_length is missing", "endpoints.cloud.speed"):
        assert part in said


WORDS = [
    "endpoints.cloud.concurrency",
    "endpoints.cloud.requests_per_minute",
    "endpoints.cloud.tokens_per_minute",
    "endpoints.cloud.timeout_s",
    "models.small.context_length",
    "strategies.terse.max_tokens",
]
PRICES = [f"models.large.price.{each}" for each in ("input", "output", "reasoning", "cached")]


@pytest.mark.parametrize("where", WORDS)
@pytest.mark.parametrize("value", [0, -1, float("nan"), "many", "1,000", [], {}], ids=repr)
def test_a_number_above_zero_is_one(refused, where, value):
    assert f": {where}: " in refused(changed(where, value))


@pytest.mark.parametrize("where", PRICES)
@pytest.mark.parametrize("value", [-0.01, float("nan"), float("inf"), "free", "0,30", "$1", [], {}], ids=repr)
def test_a_price_is_a_finite_number(refused, where, value):
    assert f": {where}: " in refused(changed(where, value))


@pytest.mark.parametrize("where", [*WORDS, *PRICES])
def test_yes_is_no_number(refused, where):
    """In YAML `yes` and `on` are true, which is not 1 request, token or dollar."""
    assert f": {where}: " in refused(changed(where, True))


def test_an_exponent_without_a_point_is_text_in_yaml_but_a_price_all_the_same(read):
    assert read(changed("models.small.price.input", "1e-2")).models["small"].price.input == 0.01


@pytest.mark.parametrize(
    "value", ["soon", "10.06.2025", "2025-6-1", True, [], 20250610, "2025-06-10 12:30:00"], ids=repr
)
def test_a_date_is_one(refused, value):
    assert ": models.small.price.date: " in refused(changed("models.small.price.date", value))


@pytest.mark.parametrize("value", ["2025-13-01", "2025-02-30"])
def test_a_day_that_the_calendar_does_not_have_is_refused(refused, value):
    """Unquoted it looks like a date to YAML, which fails on it before any field is checked."""
    written = re.sub(r"date: \S+", f"date: {value}", yaml.safe_dump(VALID))
    assert f"date: {value}\n" in written
    refused(written)


@pytest.mark.parametrize("value", [0, 86400, 1749513600])
def test_a_date_is_no_number_of_seconds(refused, value):
    assert ": models.small.price.date: " in refused(changed("models.small.price.date", value))


def test_a_price_of_zero_is_one_that_somebody_wrote(read, refused):
    free = read(changed("models.small.price", {"date": DAY, "input": 0, "output": 0})).models["small"].price
    assert free.usd(1000, 1000) == free.most_usd(1000, 1000) == 0.0
    for side in ("input", "output"):
        assert f"models.small.price.{side} is missing" in refused(changed(f"models.small.price.{side}"))


@pytest.mark.parametrize(
    "url",
    [
        "api.example.org/v1",
        "ftp://api.example.org/v1",
        "https://",
        "https:///v1",
        "",
        "https://user:word@api.example.org/v1",
        "https://user@api.example.org/v1",
        "https://api.example.org/v1?version=1",
    ],
)
def test_an_address_is_plain_http(refused, url):
    assert ": endpoints.cloud.base_url: must" in refused(changed("endpoints.cloud.base_url", url))


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.org/v1#part",
        "https://api.example.org:99999/v1",
        "https://api.example.org:port/v1",
        "https://api.example.org/v1 ",
        "https://api.example.org/v1\n",
        "https://api .example.org/v1",
    ],
)
def test_an_address_that_no_client_can_ask_is_refused(refused, url):
    assert ": endpoints.cloud.base_url: " in refused(changed("endpoints.cloud.base_url", url))


def test_a_slash_at_the_end_of_an_address_does_not_count(read):
    assert read(changed("endpoints.cloud.base_url", "https://h/v1/")).endpoints["cloud"].base_url == "https://h/v1"


@pytest.mark.parametrize("name", ["a|b", "", "  ", "a\x07b", "a\u200bb"], ids=ascii)
@pytest.mark.parametrize("kind", ["endpoints", "models", "strategies"])
def test_a_name_is_printable_and_has_no_bar(refused, kind, name):
    pool = copy.deepcopy(VALID)
    pool[kind][name] = pool[kind].pop(next(iter(pool[kind])))
    assert f"{kind}." in refused(pool)


@pytest.mark.parametrize("name", ["a\nb", "a\u2028b"], ids=ascii)
@pytest.mark.parametrize("where", ["models.", "strategies.", "models.small.", ""])
def test_a_name_of_two_lines_is_refused_in_one(refused, where, name):
    refused(changed(where + name, VALID["models"]["small"]))


@pytest.mark.parametrize("where", ["models", "endpoints"])
def test_a_pool_without_any_is_refused(refused, where):
    assert f": {where}: " in refused(changed(where, {}))


def test_a_name_that_stands_there_twice_is_refused(refused):
    """YAML takes the last one without a word: of two prices, one would be silently wrong."""
    text = yaml.safe_dump(VALID)
    twice = text.replace("  small:\n", "  large:\n", 1)
    assert twice != text
    refused(twice)


def test_a_price_that_stands_there_twice_is_refused(refused):
    refused(yaml.safe_dump(VALID).replace("      input: 0.1\n", "      input: 0.1\n      input: 10.0\n"))


# --- Sampling, tokenizers, patterns


@pytest.mark.parametrize("field", ["model", "messages", "stream", "n"])
def test_what_a_collection_sets_is_not_in_the_sampling(refused, field):
    assert f": models.small.sampling sets {field}" in refused(changed("models.small.sampling", {field: 2}))


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("value", [0, -5, 2.5, True, "100", None], ids=repr)
def test_a_token_limit_is_a_whole_number_above_zero(refused, field, value):
    assert f": models.small.sampling.{field} must be" in refused(changed("models.small.sampling", {field: value}))


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_a_token_limit_in_the_sampling_replaces_the_strategys(read, field):
    pool = read(changed("models.small.sampling", {field: 77}))
    assert {pool.models["small"].limit(each) for each in pool.strategies.values()} == {(field, 77)}


@pytest.mark.parametrize(
    "value",
    [DAY, float("nan"), float("inf"), b"bytes", {"a"}, {1: "a", "b": 2}],
    ids=lambda value: type(value).__name__ + str(value)[:3],
)
def test_a_sampling_that_no_request_can_carry_is_refused_when_the_file_is_read(refused, value):
    assert "models.small.sampling" in refused(
        changed("models.small.sampling", {"temperature": 0.0, "logit_bias": value})
    )


def test_a_nested_sampling_reaches_the_request(read):
    sampling = {"temperature": 0.6, "logit_bias": {50256: -100}, "stop": ["\n\n"], "thinking": {"a": [1, None]}}
    pool = read(changed("models.small.sampling", sampling))
    request = Arms(pool, ["small"], ["terse"], "openai").request("small", "terse", "Who?")
    assert request.extra == {"max_tokens": 16, **sampling}
    assert request.most_completion == 16
    json.dumps(request.extra, allow_nan=False)


@pytest.mark.parametrize("where", ["models.small", "strategies.terse"])
def test_an_unknown_sampling_key_is_refused_with_the_one_that_was_meant(refused, where):
    said = refused(changed(f"{where}.sampling", {"reasoning_efort": "low"}))
    assert f"{where}.sampling.reasoning_efort is not a parameter that is known (did you mean reasoning_effort?)" in said
    assert "put it under unchecked" in said


def test_what_an_endpoint_alone_knows_is_sent_beside_the_rest(read):
    pool = read(changed("strategies.terse.sampling", {"temperature": 1.0, "unchecked": {"n_best": 3}}))
    request = Arms(pool, ["small"], ["terse"], "openai").request("small", "terse", "Who?")
    assert request.extra == {"max_tokens": 16, "temperature": 1.0, "n_best": 3}


@pytest.mark.parametrize(
    ("sampling", "said"),
    [
        ({"unchecked": 3}, "unchecked must hold fields"),
        ({"unchecked": {"stream": True}}, "sets stream, which is ours to set"),
        ({"unchecked": {"max_tokens": 3}}, "unchecked holds max_tokens, which is known"),
        ({"max_tokens": 0}, "max_tokens must be a number above 0"),
    ],
)
def test_a_strategys_sampling_is_checked_like_a_models(refused, sampling, said):
    assert said in refused(changed("strategies.terse.sampling", sampling))


@pytest.mark.parametrize(
    ("of_model", "of_strategy", "limit"),
    [
        ({}, {}, ("max_tokens", 16)),
        ({}, {"max_tokens": 99}, ("max_tokens", 99)),
        ({}, {"max_completion_tokens": 99}, ("max_completion_tokens", 99)),
        ({"max_completion_tokens": 50}, {}, ("max_completion_tokens", 50)),
        ({"max_completion_tokens": 50}, {"max_tokens": 99}, ("max_completion_tokens", 99)),
        ({"max_tokens": 50}, {"max_completion_tokens": 99}, ("max_tokens", 99)),
    ],
)
def test_a_strategys_limit_replaces_the_models_in_the_models_field(read, of_model, of_strategy, limit):
    pool = changed("models.small.sampling", of_model)
    pool["strategies"]["terse"]["sampling"] = of_strategy
    pool = read(pool)
    assert pool.models["small"].limit(pool.strategies["terse"]) == limit
    request = Arms(pool, ["small"], ["terse"], "openai").request("small", "terse", "Who?")
    assert request.extra == dict([limit])
    assert request.most_completion == limit[1]


def test_a_strategy_takes_from_another_what_it_does_not_say(read):
    pool = changed("strategies.short", {"description": "cot in 64 tokens", "like": "cot", "max_tokens": 64})
    pool["strategies"]["low"] = {"description": "low", "like": "cot", "sampling": {"reasoning_effort": "low"}}
    found, cot = read(pool).strategies, STRATEGIES["cot"]
    assert (found["short"].instruction, found["short"].max_tokens) == (cot.instruction, 64)
    assert (found["low"].max_tokens, dict(found["low"].sampling)) == (cot.max_tokens, {"reasoning_effort": "low"})


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        ("strategies.terse.like", "cott", "strategies.terse.like names none of direct, cot, cod, self_ask"),
        ("strategies.terse.instruction", REMOVED, "strategies.terse.instruction is missing: write it"),
        ("strategies.terse.max_tokens", REMOVED, "strategies.terse.max_tokens is missing"),
        ("models.small.strategies", ["ters"], "models.small.strategies names one that is not there (did you mean"),
    ],
)
def test_a_strategy_that_is_not_there_is_named(refused, where, value, said):
    assert said in refused(changed(where, value))


def test_a_model_is_asked_by_the_strategies_that_it_names(read):
    pool = read(changed("models.small.strategies", ["terse", "cot"]))
    assert list(Arms(pool, ["small", "large"], ["direct", "cot"], "openai")) == [
        ("small", "cot"),
        ("large", "direct"),
        ("large", "cot"),
    ]


def test_the_default_sampling_is_greedy(read):
    assert read(VALID).models["small"].sampling == {"temperature": 0.0}


@pytest.mark.parametrize("value", ["", "hf:", "tiktoken:", "word", "gpt2", "TIKTOKEN:x", 3], ids=repr)
def test_a_tokenizer_is_of_a_known_kind(refused, value):
    assert ": models.small.tokenizer" in refused(changed("models.small.tokenizer", value))


@pytest.mark.parametrize("pattern", ["(", "(a)(b)", "a", "(?:a)", "*", "(?P<x>a)(b)"])
def test_a_pattern_has_one_group(refused, pattern):
    assert ": strategies.terse.answer_pattern" in refused(changed("strategies.terse.answer_pattern", pattern))


def test_an_empty_pattern_is_refused(refused):
    """It would match everywhere and find an empty answer in every reply."""
    assert ": strategies.terse.answer_pattern" in refused(changed("strategies.terse.answer_pattern", ""))


def test_a_pattern_that_cannot_be_compiled_for_its_size_is_refused(refused):
    refused(changed("strategies.terse.answer_pattern", "(a{4294967296})"))


# --- References


def test_a_mistyped_endpoint_has_its_near_miss(refused):
    said = refused(changed("models.small.endpoint", "locale"))
    assert "models.small" in said
    assert "(did you mean local?)" in said


def test_models_are_selected_by_name_each_once(read):
    pool = read(VALID)
    assert list(pool.select_models(("large", "small", "large"))) == ["large", "small"]
    assert list(pool.select_models(())) == ["small", "large"]
    with pytest.raises(RecalBenchError, match=r"pool ours has no model smal \(did you mean small\?\): .*small, large"):
        pool.select_models(("small", "smal"))
    with pytest.raises(RecalBenchError, match="has no model zzz: it has"):
        pool.select_models(("zzz",))


def test_strategies_are_those_of_the_package_unless_others_are_named(read):
    pool = read(VALID)
    assert pool.select_strategies(()) == STRATEGIES
    assert pool.strategies["terse"].message("Who?") == "One word.\n\nWho?"
    assert list(pool.select_strategies(("terse", "cot"))) == ["terse", "cot"]
    with pytest.raises(RecalBenchError, match=r"no strategy is called ters \(did you mean terse\?\)"):
        pool.select_strategies(("ters",))


def test_a_strategy_of_the_package_means_one_thing_in_a_pool(read):
    """A pool file that words `direct` anew is refused, or has its own wording everywhere."""
    terse = VALID["strategies"]["terse"]
    try:
        pool = read(changed("strategies.direct", terse))
    except RecalBenchError:
        return
    assert pool.select_strategies(())["direct"] == pool.strategies["direct"]


# --- Keys


@pytest.mark.parametrize("value", [None, "", "   ", "\n"], ids=repr)
def test_a_key_that_is_not_set_is_asked_for_by_the_name_of_its_variable(read, monkeypatch, value):
    endpoint = read(VALID).endpoints["cloud"]
    monkeypatch.delenv("EXAMPLE_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("EXAMPLE_KEY", value)
    with pytest.raises(RecalBenchError, match=r"api\.example\.org/v1 needs a key: .*EXAMPLE_KEY"):
        endpoint.key()


def test_a_key_comes_from_the_environment_without_the_white_space_around_it(read, monkeypatch):
    pool = read(VALID)
    monkeypatch.setenv("EXAMPLE_KEY", f" {SECRET}\n")
    assert pool.endpoints["cloud"].key() == SECRET
    assert pool.endpoints["local"].key() is None
    assert SECRET not in repr(pool)


@pytest.mark.parametrize("value", [f"{SECRET}\nX: y", f"{SECRET}\u200b", f"{SECRET}é", f"{SECRET} b"], ids=ascii)
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(read, monkeypatch, value):
    endpoint = read(VALID).endpoints["cloud"]
    monkeypatch.setenv("EXAMPLE_KEY", value)
    with pytest.raises(RecalBenchError) as caught:
        endpoint.key()
    assert SECRET not in str(caught.value)


EVERY_VALUE = [
    "pool",
    "endpoints",
    "endpoints.cloud",
    "endpoints.cloud.base_url",
    "endpoints.cloud.api_key_env",
    "endpoints.cloud.concurrency",
    "endpoints.cloud.requests_per_minute",
    "endpoints.cloud.tokens_per_minute",
    "endpoints.cloud.timeout_s",
    "endpoints.cloud.api_key",
    "models",
    "models.small",
    "models.small.endpoint",
    "models.small.served_model",
    "models.small.served_as",
    "models.small.price",
    "models.small.price.date",
    "models.small.price.input",
    "models.small.price.output",
    "models.small.price.reasoning",
    "models.small.price.cached",
    "models.small.context_length",
    "models.small.sampling",
    "models.small.tokenizer",
    "models.small.lm_eval_args",
    "models.small.api_key",
    "strategies",
    "strategies.terse",
    "strategies.terse.max_tokens",
    "strategies.terse.answer_pattern",
    "key",
]


@pytest.mark.parametrize("where", EVERY_VALUE)
@pytest.mark.parametrize("shape", ["text", "list", "field"])
def test_a_key_at_the_place_of_a_value_is_not_repeated(read, where, shape):
    value = {"text": SECRET, "list": [SECRET], "field": {"key": SECRET}}[shape]
    said = ""
    try:
        read(changed(where, value))
    except RecalBenchError as error:
        said = str(error)
    assert SECRET not in said


@pytest.mark.parametrize("where", ["", "endpoints.cloud.", "models.small.", "models.small.price.", "strategies.terse."])
def test_a_key_at_the_place_of_a_field_is_not_repeated(refused, where):
    """As in the flow mapping `{date: 2025-06-10, sk-...}`, whose last entry is a field without a value."""
    assert SECRET not in refused(changed(where + SECRET, None))


@pytest.mark.parametrize(
    "url",
    [
        f"https://{SECRET}@h/v1",
        f"https://user:{SECRET}@h/v1",
        f"https://h/v1?key={SECRET}",
        f"{SECRET}",
        f"{SECRET}://h/v1",
        f"http://[{SECRET}]/v1",
        f"https://h\u2100{SECRET}/v1",
        f"https://h:{SECRET}/v1",
        f"https://h/v1#{SECRET}",
    ],
)
def test_a_key_in_an_address_is_refused_and_not_repeated(refused, url):
    assert SECRET not in refused(changed("endpoints.cloud.base_url", url))


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens", "messages", "n"])
def test_a_key_in_the_sampling_is_not_repeated(refused, field):
    assert SECRET not in refused(changed("models.small.sampling", {field: SECRET}))


@pytest.mark.parametrize("pattern", [f"(?P<{SECRET}>a)", f"(?P={SECRET})", f"({SECRET}", f"(?P<a>{SECRET}"])
def test_a_key_in_a_pattern_is_not_repeated(refused, pattern):
    assert SECRET not in refused(changed("strategies.terse.answer_pattern", pattern))


@pytest.mark.parametrize(
    "line",
    [
        f'api_key: "{SECRET}',
        f"api_key: [{SECRET}",
        f"api_key: {SECRET}: x",
        f"api_key: @{SECRET}",
        f"api_key: `{SECRET}`",
        f"api_key: %{SECRET}",
        f"\tapi_key: {SECRET}",
        f'api_key: "\\{SECRET}"',
        f"api_key: &a {SECRET}\nb: &a {SECRET}",
        f"? [{SECRET}]\n: 1",
        f"<<: {SECRET}",
        f"api_key: |\n  x\n {SECRET}",
        f"api_key: !!binary {SECRET}",
        f"api_key: !a!{SECRET} x",
        f"api_key: *{SECRET}",
        f"api_key: !{SECRET} x",
        f"api_key: !!int {SECRET}",
        f"api_key: !!float {SECRET}",
        f"api_key: !!bool {SECRET}",
        f"api_key: !!timestamp {SECRET}",
    ],
)
def test_a_key_on_a_line_that_is_not_yaml_is_not_repeated(refused, line):
    assert SECRET not in refused(f"pool: ours\n{line}\n")


# --- The price book


def book(read, where=None, value=REMOVED):
    return read(changed(where, value) if where else VALID).price_book


@pytest.mark.parametrize(
    ("where", "value"),
    [
        *[(f"models.large.price.{each}", 7.25) for each in ("input", "output", "reasoning", "cached")],
        ("models.large.price.reasoning", REMOVED),
        ("models.small.price.cached", 0.0),
        ("models.small.price.input", 0.1000001),
        ("models.small.price.date", date(2025, 6, 11)),
        ("models.large", REMOVED),
    ],
)
def test_the_price_book_has_another_name_when_a_price_or_date_changes(read, where, value):
    assert book(read, where, value) != book(read)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("pool", "theirs"),
        ("endpoints.cloud.base_url", "https://elsewhere.example.org"),
        ("endpoints.cloud.concurrency", 1),
        ("models.large.endpoint", "local"),
        ("models.large.served_model", "another"),
        ("models.large.context_length", 4096),
        ("models.large.sampling", {"temperature": 1.0}),
        ("models.large.tokenizer", "words"),
        ("strategies", {}),
        ("models.small.price", {"output": "0.2", "input": 0.1, "date": "2025-06-10"}),
        ("models.large.price.output", 3),
    ],
)
def test_the_price_book_keeps_its_name_when_anything_else_changes(read, where, value):
    assert book(read, where, value) == book(read)


def test_the_price_book_does_not_depend_on_the_order_of_the_file(read):
    def backwards(value):
        if isinstance(value, dict):
            return {name: backwards(value[name]) for name in reversed(value)}
        return value

    assert read(backwards(VALID)).price_book == read(VALID).price_book
    assert len(read(VALID).price_book) == 16


# --- Prices

USD = st.floats(0, 1000, allow_subnormal=False)
OTHER = st.none() | USD
COUNT = st.integers(0, 10**7)


@st.composite
def prices(draw):
    return Price(date=DAY, input=draw(USD), output=draw(USD), reasoning=draw(OTHER), cached=draw(OTHER))


@st.composite
def tokens(draw):
    prompt, completion = draw(COUNT), draw(COUNT)
    return prompt, completion, draw(st.integers(0, completion)), draw(st.integers(0, prompt))


@given(price=prices(), used=tokens())
def test_a_reply_costs_its_four_parts(price, used):
    prompt, completion, reasoning, cached = used
    parts = (
        (prompt - cached) * price.input,
        cached * (price.input if price.cached is None else price.cached),
        (completion - reasoning) * price.output,
        reasoning * (price.output if price.reasoning is None else price.reasoning),
    )
    assert price.usd(*used) == pytest.approx(sum(parts) / 1e6, rel=1e-9, abs=1e-15)


@given(price=prices(), used=tokens())
def test_a_cost_is_never_negative_and_never_above_the_most(price, used):
    usd = price.usd(*used)
    assert 0 <= usd <= price.most_usd(*used[:2]) * (1 + 1e-12)


@given(price=prices(), used=tokens(), more=tokens())
def test_costs_add_up(price, used, more):
    both = [one + other for one, other in zip(used, more, strict=True)]
    assert price.usd(*both) == pytest.approx(price.usd(*used) + price.usd(*more), rel=1e-9, abs=1e-15)


@given(price=prices(), used=tokens(), more=st.tuples(COUNT, COUNT))
def test_more_tokens_never_cost_less(price, used, more):
    prompt, completion, reasoning, cached = used
    grown = price.usd(prompt + more[0], completion + more[1], reasoning, cached)
    assert grown >= price.usd(*used) * (1 - 1e-12)
    assert price.most_usd(prompt + more[0], completion + more[1]) >= price.most_usd(prompt, completion)


def test_reasoning_and_cached_tokens_have_prices_of_their_own():
    price = Price(date=DAY, input=1.0, output=2.0, reasoning=10.0, cached=0.1)
    assert price.usd(1_000_000, 0) == 1.0
    assert price.usd(1_000_000, 0, cached=1_000_000) == pytest.approx(0.1)
    assert price.usd(0, 1_000_000) == 2.0
    assert price.usd(0, 1_000_000, reasoning=1_000_000) == 10.0
    assert price.most_usd(1_000_000, 1_000_000) == 11.0
    free = Price(date=DAY, input=1.0, output=2.0, reasoning=0.0, cached=0.0)
    assert free.usd(1_000_000, 1_000_000, 1_000_000, 1_000_000) == 0.0
    assert free.most_usd(1_000_000, 1_000_000) == 3.0


def test_a_checked_pool_cannot_be_changed(read):
    with pytest.raises(ValidationError):
        read(VALID).models["small"].price.input = 0.0


def test_aliases_may_be_used_but_not_to_fill_the_memory(tmp_path):
    price = "{date: 2025-06-10, input: 1, output: 2}"
    model = "endpoint: e, served_model: m, context_length: 8192"
    endpoints = "endpoints: {e: {base_url: 'http://127.0.0.1:8000/v1', api_key_env: null}}"
    path = tmp_path / "pool.yaml"
    path.write_text(f"pool: p\n{endpoints}\nmodels: {{a: {{{model}, price: &p {price}}}, b: {{{model}, price: *p}}}}\n")
    pool = read_pool(path)
    assert pool.models["a"].price == pool.models["b"].price
    nested = ["x0: &x0 [1, 2, 3, 4, 5, 6, 7, 8, 9]"]
    nested += [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]" for n in range(1, 12)]
    merged = ["y0: &y0 {a: 1}"] + [f"y{n}: &y{n} {{<<: [{', '.join([f'*y{n - 1}'] * 9)}]}}" for n in range(1, 12)]
    for lines in (nested, merged, ["x: &x [*x]"]):
        path.write_text("\n".join(["pool: p", *lines]))
        with pytest.raises(RecalBenchError, match="more than 100,000 values with its aliases written out"):
            read_pool(path)
