"""The encoder `endpoint:MODEL@POOL-FILE`: embeddings over real HTTP, through the collector's client."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from own_endpoint import Asked, own_endpoint
from small_log import small_log

from recal_bench.cli import cli
from recal_bench.collection import encoding  # noqa: F401  # registers it, as the entry point does
from recal_bench.encoders import fit_encoder, load_encoder
from recal_bench.errors import RecalBenchError

TEXTS = [f"Where does river number {number} {'really ' * (number % 5)}end?" for number in range(30)]
USD_PER_TOKEN = 0.5e-6
KEY = "sk-never-shown-anywhere"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RECAL_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def text_of(asked: Asked) -> str:
    return str(asked.body["input"])


def vector(text: str) -> list[float]:
    words = [int(hashlib.sha256(word.encode()).hexdigest()[:8], 16) for word in text.split()]
    return [sum(np.cos(word * place) for word in words) for place in (1.0, 0.37, 0.11, 0.05)]


def embedded(asked: Asked, **changes: Any) -> tuple[int, Any]:
    tokens = len(text_of(asked).split())
    usage = changes.pop("usage", {"prompt_tokens": tokens, "total_tokens": tokens})
    data = [{"object": "embedding", "index": 0, "embedding": vector(text_of(asked))}]
    return 200, {"object": "list", "model": asked.model, "data": data, "usage": usage} | changes


def pool_file(folder: Path, base_url: str, change: Callable[[dict[str, Any]], None] = lambda pool: None) -> Path:
    price = {"date": "2026-11-01", "input": 0.5, "output": 0.0}
    model = {"endpoint": "e", "served_model": "m", "price": price, "context_length": 8192, "tokenizer": "words"}
    endpoint = {"base_url": base_url, "api_key_env": None, "concurrency": 4, "timeout_s": 20}
    pool: dict[str, Any] = {"pool": "p", "endpoints": {"e": endpoint}, "models": {"m": model}}
    change(pool)
    (folder / "pool.yaml").write_text(yaml.safe_dump(pool, sort_keys=False), encoding="utf-8")
    return folder / "pool.yaml"


def unit(texts: list[str]) -> np.ndarray:
    vector_QE = np.array([vector(text) for text in texts])
    return vector_QE / np.linalg.norm(vector_QE, axis=1, keepdims=True)


def test_texts_are_asked_once_and_cost_what_the_endpoint_counts(tmp_path: Path) -> None:
    with own_endpoint(embedded) as (base_url, requests):
        name = f"endpoint:m@{pool_file(tmp_path, base_url)}"
        fitted = fit_encoder(name, TEXTS)
        assert requests == []
        first_QE = fitted.encode([*TEXTS, TEXTS[0]])
        assert {request.path for request in requests} == {"/v1/embeddings"}
        assert requests[0].body == {"model": "m", "input": requests[0].body["input"], "encoding_format": "float"}
        assert sorted(map(text_of, requests)) == sorted(TEXTS)
        np.testing.assert_allclose(first_QE[:-1], unit(TEXTS), atol=1e-3)
        again = fit_encoder(name, TEXTS)
        np.testing.assert_array_equal(again.encode(TEXTS), first_QE[:-1])
        for each in (fitted, again, fit_encoder(name, TEXTS)):
            np.testing.assert_allclose(each.usd(TEXTS), [len(text.split()) * USD_PER_TOKEN for text in TEXTS])
        assert len(requests) == len(TEXTS)
    assert fit_encoder("tfidf", TEXTS).usd(TEXTS) is None


def test_a_total_alone_is_that_of_the_text_and_parameters_are_sent(tmp_path: Path) -> None:
    def smaller(pool: dict[str, Any]) -> None:
        pool["models"]["m"]["sampling"] = {"unchecked": {"dimensions": 4}}

    with own_endpoint(lambda asked: embedded(asked, usage={"total_tokens": 7})) as (base_url, requests):
        fitted = fit_encoder(f"endpoint:m@{pool_file(tmp_path, base_url, smaller)}", TEXTS)
        fitted.encode(TEXTS[:3])
        np.testing.assert_allclose(fitted.usd(TEXTS[:3]), 7 * USD_PER_TOKEN)
        assert requests[0].body["dimensions"] == 4
        assert "temperature" not in requests[0].body


def test_a_bad_moment_is_tried_again(tmp_path: Path) -> None:
    def respond(asked: Asked) -> tuple[int, Any]:
        return (503, {"error": {"message": "later"}}) if asked.number in (2, 4) else embedded(asked)

    with own_endpoint(respond) as (base_url, requests):
        fitted = fit_encoder(f"endpoint:m@{pool_file(tmp_path, base_url)}", TEXTS)
        np.testing.assert_allclose(fitted.encode(TEXTS), unit(TEXTS), atol=1e-3)
        assert len(requests) == len(TEXTS) + 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"usage": None}, "cannot be priced: the endpoint reported no tokens"),
        ({"usage": {"prompt_tokens": 4000, "total_tokens": 4000}}, "cannot be priced: the endpoint's count is far"),
        ({"model": "other"}, "add it to served_as of m"),
        ({"data": []}, "holds no embedding"),
        ({"data": [{"embedding": [0.0, 0.0]}]}, "holds no embedding"),
        ({"data": [{"embedding": "AAAA"}]}, "holds no embedding"),
        ({"error": {"message": "no such model", "code": "model_not_found"}}, "no such model"),
    ],
)
def test_what_cannot_be_read_or_priced_ends_it(tmp_path: Path, monkeypatch, changes: dict[str, Any], said: str) -> None:
    monkeypatch.setattr("recal_bench.collection.asking.ATTEMPTS", 1)
    with own_endpoint(lambda asked: embedded(asked, **changes)) as (base_url, _):
        fitted = fit_encoder(f"endpoint:m@{pool_file(tmp_path, base_url)}", TEXTS)
        with pytest.raises(RecalBenchError, match=re.escape(said)) as error:
            fitted.encode(TEXTS)
    assert "\n" not in str(error.value)


def test_a_text_that_is_refused_is_an_error_and_the_rest_is_kept(tmp_path: Path) -> None:
    taken = []

    def respond(asked: Asked) -> tuple[int, Any]:
        if "number 7 " in text_of(asked) and not taken:
            return 400, {"error": {"message": "input is too long"}}
        return embedded(asked)

    with own_endpoint(respond) as (base_url, requests):
        name = f"endpoint:m@{pool_file(tmp_path, base_url)}"
        with pytest.raises(RecalBenchError, match=r"m gave no vector on 1 of 30 queries \(.*input is too long"):
            fit_encoder(name, TEXTS).encode(TEXTS)
        taken.append(True)
        np.testing.assert_allclose(fit_encoder(name, TEXTS).encode(TEXTS), unit(TEXTS), atol=1e-3)
        assert len(requests) == len(TEXTS) + 1


def test_no_more_is_spent_than_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most = max(len(text.encode()) + 128 for text in TEXTS) * USD_PER_TOKEN
    with own_endpoint(embedded) as (base_url, requests):
        name = f"endpoint:m@{pool_file(tmp_path, base_url)}"
        monkeypatch.setenv("RECAL_BENCH_MAX_USD", str(most + 40 * USD_PER_TOKEN))
        with pytest.raises(RecalBenchError, match="m is asked no further"):
            fit_encoder(name, TEXTS).encode(TEXTS)
        assert 0 < len(requests) < len(TEXTS)
        spent = sum(len(text_of(request).split()) for request in requests) * USD_PER_TOKEN
        assert spent <= most + 40 * USD_PER_TOKEN
        monkeypatch.setenv("RECAL_BENCH_MAX_USD", "1")
        fit_encoder(name, TEXTS).encode(TEXTS)
        assert len(requests) == len(TEXTS)
        monkeypatch.setenv("RECAL_BENCH_MAX_USD", "much")
        with pytest.raises(RecalBenchError, match="RECAL_BENCH_MAX_USD=much: give USD"):
            fit_encoder(name, TEXTS).encode(TEXTS)


def test_what_is_missing_is_said_before_anything_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def keyed(pool: dict[str, Any]) -> None:
        pool["endpoints"]["e"]["api_key_env"] = "KEY_OF_TESTS"

    def unpriced(pool: dict[str, Any]) -> None:
        del pool["models"]["m"]["price"]

    monkeypatch.delenv("KEY_OF_TESTS", raising=False)
    with own_endpoint(embedded) as (base_url, requests):
        for name, said in (
            ("endpoint", "write endpoint:MODEL@POOL-FILE"),
            ("endpoint:m", "lacks a model or its pool file"),
            ("endpoint:m@none.yaml", "there is no pool file none.yaml"),
            (f"endpoint:n@{pool_file(tmp_path, base_url)}", "pool p has no model n"),
        ):
            with pytest.raises(RecalBenchError, match=re.escape(said)):
                fit_encoder(name, TEXTS)
        for change, said in (
            (unpriced, "models.m.price is missing"),
            (keyed, "set the environment variable KEY_OF_TESTS"),
        ):
            with pytest.raises(RecalBenchError, match=re.escape(said)):
                fit_encoder(f"endpoint:m@{pool_file(tmp_path, base_url, change)}", TEXTS)
        assert requests == []
        monkeypatch.setenv("KEY_OF_TESTS", KEY)
        fit_encoder(f"endpoint:m@{tmp_path / 'pool.yaml'}", TEXTS).encode(TEXTS[:1])
        assert requests[0].headers["Authorization"] == f"Bearer {KEY}"
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_saved_encoder_says_what_is_missing(tmp_path: Path) -> None:
    def other(pool: dict[str, Any]) -> None:
        pool["models"]["m"]["served_model"] = "m-2"

    with own_endpoint(embedded) as (base_url, _):
        path = pool_file(tmp_path, base_url)
        fitted = fit_encoder(f"endpoint:m@{path}", TEXTS)
        fitted.save(tmp_path / "saved")
        np.testing.assert_array_equal(load_encoder(tmp_path / "saved").encode(TEXTS), fitted.encode(TEXTS))
        pool_file(tmp_path, base_url, other)
        with pytest.raises(RecalBenchError, match="is not what it was when the router was trained"):
            load_encoder(tmp_path / "saved")
        path.unlink()
        with pytest.raises(RecalBenchError, match="there is no pool file"):
            load_encoder(tmp_path / "saved")


@pytest.mark.parametrize("router", ["ridge", "recal"])
def test_a_run_bills_each_query_and_route_asks_for_a_new_one(tmp_path: Path, router: str) -> None:
    log = small_log()
    log.to_parquet(tmp_path / "log.parquet")
    tokens = {text: len(text.split()) for text in log["prompt"]}
    with own_endpoint(embedded) as (base_url, requests):
        chosen = ["--router", router, "--set", f"encoder=tfidf+endpoint:m@{pool_file(tmp_path, base_url)}"]
        chosen += ["--set", "steps=4"] if router == "recal" else []
        words = ["run", "--outcomes", tmp_path / "log.parquet", "--runs", tmp_path / "runs", "--seeds", "1", *chosen]
        result = CliRunner().invoke(cli, [str(each) for each in words])
        assert result.exit_code == 0, result.output
        asked = [text_of(request) for request in requests]
        assert len(asked) == len(set(asked))
        assert set(log.loc[log["split"] != "validation", "prompt"]) <= set(asked) <= set(tokens)
        (folder,) = (tmp_path / "runs").glob(f"{router}-*")
        decisions = pd.read_parquet(folder / "decisions.parquet").merge(
            log.drop_duplicates("query_id")[["query_id", "prompt"]], on="query_id"
        )
        expected = decisions["prompt"].map(tokens) * USD_PER_TOKEN
        np.testing.assert_allclose(decisions["router_cost_usd"], expected)
        routed = CliRunner().invoke(cli, ["route", "--run", str(folder), "Which court gave this verdict?"])
        assert routed.exit_code == 0, routed.output
        assert text_of(requests[-1]) == "Which court gave this verdict?"
