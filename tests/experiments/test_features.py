"""Columns feature_*: what a platform knows of a query besides its text, for routers that ask for it."""

import json
from pathlib import Path
from textwrap import dedent

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from small_log import small_log

from recal_bench import load_router, routers
from recal_bench.cli import cli
from recal_bench.encoders import fit_encoder, load_encoder
from recal_bench.errors import OutcomesError, PluginError, SettingsError
from recal_bench.experiments.bench import load_bench
from recal_bench.experiments.fitness import require_fit_for
from recal_bench.experiments.records import read_runs
from recal_bench.gateway.chat import read_chat
from recal_bench.gateway.refusals import Refusal
from recal_bench.routers import create

BOTH = "encoder=tfidf+features"


def with_tenants(queries: int = 200) -> pd.DataFrame:
    """A log whose texts tell nothing: the tenant alone says which arm is right."""
    frame = small_log(queries)
    tenant = frame["task"].map({"geo": "acme", "law": "globex"})
    number = frame["query_id"].str[1:]
    return frame.assign(prompt="please help me with my case no " + number, task="all", feature_tenant=tenant)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "log.parquet"
    with_tenants().to_parquet(path, index=False)
    return path


def invoke(*words: object, stdin: str | None = None):
    return CliRunner().invoke(cli, [*map(str, words)], input=stdin)


def test_a_router_that_reads_features_finds_what_the_text_does_not_tell(log, tmp_path):
    names = ("ridge", "knn", "mlp", "hierarchy", "recal", "guarded-ridge")
    words = ("run", "--router", ",".join(names), "--set", "recal:steps=40", "--outcomes", log, "--runs", tmp_path)
    assert invoke(*words).exit_code == 0
    done = invoke(*words, "--set", BOTH)
    assert done.exit_code == 0, done.output
    score = {}
    for each in read_runs(tmp_path):
        configuration = each.record.configuration
        if configuration.router in names:
            reads = "features" in configuration.settings["encoder"]
            score[configuration.router, reads] = each.decisions()["utility"].mean()
            assert ("feature_*" in configuration.columns) == reads
    for name in names:
        assert score[name, True] > score[name, False] + 0.1, name


def test_other_values_of_a_feature_are_another_run(log, tmp_path):
    words = ("--router", "ridge", "--set", BOTH, "--runs", tmp_path / "runs")
    assert invoke("run", "--outcomes", log, *words).exit_code == 0
    swapped = with_tenants().replace({"feature_tenant": {"acme": "other"}})
    swapped.to_parquet(tmp_path / "log.parquet", index=False)
    assert invoke("run", "--outcomes", tmp_path / "log.parquet", *words).exit_code == 0
    ridge = [each for each in read_runs(tmp_path / "runs") if each.record.configuration.router == "ridge"]
    assert len(ridge) == 2
    assert len({each.record.configuration.columns["feature_*"] for each in ridge}) == 2


SPY = """
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from recal_bench.routers import router

@router("features-spy")
@dataclass
class Spy:
    '''Fails where it is shown a feature that it did not ask for.'''
    deterministic: ClassVar[bool] = True

    def fit(self, train, validation, context):
        assert not train.queries.features and not validation.queries.features

    def route(self, queries, calls):
        assert not queries.features
        return calls.choose(np.zeros(calls.available_QA.shape))

    def save(self, folder): ...
    def load(self, folder): ...
"""


def test_routers_that_do_not_ask_are_not_shown_them(log, tmp_path):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "features_spy.py").write_text(dedent(SPY), encoding="utf-8")
    words = ("--router", "features-spy,ridge", "--set", f"ridge:{BOTH}", "--include-path", tmp_path / "plugins")
    done = invoke("run", *words, "--outcomes", log, "--runs", tmp_path / "runs")
    assert done.exit_code == 0, done.output


@pytest.fixture(scope="module")
def run(log: Path, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("runs")
    done = invoke("run", "--router", "ridge", "--set", BOTH, "--outcomes", log, "--runs", folder)
    assert done.exit_code == 0, done.output
    return next(each for each in read_runs(folder) if each.record.configuration.router == "ridge")


def test_route_takes_them_as_options_and_columns(run, tmp_path):
    asked = "please help me with my case no 0001"
    router = load_router(run)
    assert router.features == ("tenant",)
    chosen = {name: str(router.route([asked], features=[{"tenant": name}])[0].arm) for name in ("acme", "globex")}
    assert chosen["acme"].startswith("atlas")
    assert chosen["globex"].startswith("codex-iuris")
    for name, arm in chosen.items():
        done = invoke("route", "--run", run.folder, asked, "--feature", f"tenant={name}", "--format", "json")
        assert json.loads(done.stdout)[0]["arm"] == arm
    table = pd.DataFrame({"prompt": [asked] * 3, "feature_tenant": ["acme", "globex", None]})
    table.to_csv(tmp_path / "in.csv", index=False)
    done = invoke("route", "--run", run.folder, "--in", tmp_path / "in.csv", "--out", tmp_path / "out.csv")
    assert pd.read_csv(tmp_path / "out.csv")["arm"].tolist()[:2] == list(chosen.values())
    assert "Note: feature tenant is not given for 1 of 3 questions: unknown there" in done.output
    assert "is not given for 1 of 1 questions" in invoke("route", "--run", run.folder, asked).output
    unknown, unseen = (router.route([asked], features=[each])[0].ranking for each in ({}, {"tenant": "initech"}))
    assert unknown == unseen


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("tenant", "--feature tenant: write NAME=VALUE"),
        ("tenent=acme", "does not read tenent (did you mean tenant?)"),
    ],
)
def test_features_that_are_mistyped_are_refused(run, word, message):
    done = invoke("route", "--run", run.folder, "hello", "--feature", word)
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())


def test_requests_bring_them_as_metadata():
    body = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
    metadata = {"tenant": " acme ", "feature_channel": "mail", "user": ""}
    assert read_chat(json.dumps(body | {"metadata": metadata}).encode()).features == {
        "tenant": "acme",
        "channel": "mail",
    }
    assert read_chat(json.dumps(body).encode()).features == {}
    with pytest.raises(Refusal, match="metadata must be an object"):
        read_chat(json.dumps(body | {"metadata": "acme"}).encode())


def test_validate_names_them(log):
    shown = " ".join(invoke("validate", log).output.split())
    assert "features of the queries: feature_tenant (read by routers whose encoder names features" in shown
    assert "columns that are not read: feature" not in shown


def test_what_cannot_be_is_refused_with_the_reason(log, tmp_path):
    frame = with_tenants()
    frame.loc[3, "feature_tenant"] = "globex" if frame.loc[3, "feature_tenant"] == "acme" else "acme"
    frame.to_parquet(tmp_path / "torn.parquet", index=False)
    with pytest.raises(OutcomesError, match="feature_tenant has more than one value in 1 query"):
        load_bench(tmp_path / "torn.parquet", features=True)
    lines = with_tenants().to_csv(index=False).splitlines()
    twice = [lines[0] + ",feature_tenant", *(line + ",acme" for line in lines[1:])]
    (tmp_path / "twice.csv").write_text("\n".join(twice), encoding="utf-8")
    with pytest.raises(OutcomesError, match="feature_tenant"):
        load_bench(tmp_path / "twice.csv", features=True)
    small_log().to_parquet(tmp_path / "none.parquet", index=False)
    done = invoke("run", "--router", "ridge", "--set", BOTH, "--outcomes", tmp_path / "none.parquet")
    assert "a router reads columns feature_*, and there is none" in " ".join(done.output.split())
    assert "embedded pool has no columns feature_*" in invoke("run", "--router", "ridge", "--set", BOTH).output
    done = invoke("run", "--router", "svm", "--set", BOTH, "--outcomes", log, "--runs", tmp_path)
    assert "this router hands it texts alone: take knn, ridge, mlp, hierarchy or recal" in " ".join(done.output.split())
    routers.discover()
    with pytest.raises(OutcomesError, match=r"load_bench\(\.\.\., features=True\)"):
        require_fit_for(load_bench(log), "ridge", create("ridge", {"encoder": "tfidf+features"}))


def test_whole_numbers_and_truths_are_texts_whatever_the_file_gives(tmp_path):
    frame = with_tenants()
    frame["feature_plan"] = np.where(frame["feature_tenant"] == "acme", 1.0, np.nan)
    frame["feature_paid"] = frame["feature_tenant"] == "acme"
    frame.to_parquet(tmp_path / "log.parquet", index=False)
    found = load_bench(tmp_path / "log.parquet", features=True).splits.train.feature_Q
    assert {json.dumps(each, sort_keys=True) for each in found} == {
        '{"paid": "True", "plan": "1", "tenant": "acme"}',
        '{"paid": "False", "tenant": "globex"}',
    }


def test_an_encoder_of_features_is_one_hot_and_zero_where_unknown(tmp_path):
    features = [{"tenant": "a", "channel": "x"}, {"tenant": "b"}, {}]
    encoder = fit_encoder("features", ["p", "q", "r"], features)
    found_QE = encoder.encode(["p", "q", "r", "s"], [*features, {"tenant": "c"}])
    assert found_QE == pytest.approx(np.array([[0.5**0.5, 0.5**0.5, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]))
    encoder.save(tmp_path)
    assert np.array_equal(load_encoder(tmp_path).encode(["p"], features[:1]), found_QE[:1])
    with pytest.raises(SettingsError, match="hands it texts alone"):
        encoder.encode(["p"])
    with pytest.raises(SettingsError, match="finds no value"):
        fit_encoder("features", ["p"], [{}])


def test_a_flag_shows_them_to_a_router_without_an_encoder():
    assert routers.flags_of(type("Reads", (), {"deterministic": True, "reads_features": True})).reads_features
    with pytest.raises(PluginError, match="reads_features must be"):
        routers.router("reads-wrong")(type("Wrong", (), {"deterministic": True, "reads_features": "yes"}))
