"""A trained router as LiteLLM's routing plug-in: the protocol alone, and the real LiteLLM where it is installed."""

import asyncio
from types import SimpleNamespace

import pytest
from small_log import small_log

from recal_bench import SettingsError, load_bench, load_router, run
from recal_bench.integrations.litellm import SIGNAL, RunPlugin

GEO, LAW = "question: river mountain island capital", "question: court statute clause judge"
MODELS = {"openai/atlas": "atlas|direct", "openai/codex": "codex-iuris|direct"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("litellm")
    small_log(queries=400).to_parquet(folder / "log.parquet", index=False)
    runs = run(load_bench(folder / "log.parquet", alpha=0.0), ["ridge"], runs=folder / "runs")
    return next(each for each in runs if each.record.configuration.router == "ridge")


def context(prompt, candidates, role="user"):
    messages = [{"role": "system", "content": LAW}, {"role": role, "content": prompt}]
    return SimpleNamespace(structured_messages=messages, candidate_models=list(candidates), signals={}, metadata={})


def routed(plugin, *args, **kwargs):
    return asyncio.run(plugin.run(context(*args, **kwargs)))


def test_the_best_arm_among_the_candidates_is_left(trained):
    plugin = RunPlugin(trained.folder, MODELS)
    router = load_router(trained)
    for prompt in (GEO, LAW):
        best = next(each for each in router.route([prompt])[0].ranking if str(each.arm) in MODELS.values())
        found = routed(plugin, prompt, MODELS)
        assert [MODELS[model] for model in found.candidate_models] == [str(best.arm)]
        assert found.signals[SIGNAL]["arm"] == str(best.arm)
    assert routed(plugin, GEO, MODELS).candidate_models != routed(plugin, LAW, MODELS).candidate_models


def test_the_next_arm_is_left_where_the_best_has_no_deployment(trained):
    found = routed(RunPlugin(trained, MODELS), GEO, ["openai/codex", "openai/codex", "openai/other"])
    assert found.candidate_models == ["openai/codex", "openai/codex"]


def test_parts_of_a_message_are_read(trained):
    parts = [{"type": "text", "text": GEO}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    assert routed(RunPlugin(trained, MODELS), parts, MODELS).candidate_models == ["openai/atlas"]


@pytest.mark.parametrize(
    ("prompt", "candidates", "role", "why"),
    [
        (GEO, ["openai/embedder"], "user", "no deployment of the group"),
        ("  ", MODELS, "user", "no text"),
        (GEO, MODELS, "assistant", "no text"),
    ],
)
def test_what_cannot_be_routed_is_left_as_it_is_and_said(trained, prompt, candidates, role, why):
    found = routed(RunPlugin(trained, MODELS), prompt, candidates, role)
    assert found.candidate_models == list(candidates)
    assert found.signals[SIGNAL]["arm"] is None
    assert why in found.signals[SIGNAL]["why"]


def test_arms_that_are_unknown_or_not_clear_are_named(trained):
    with pytest.raises(SettingsError, match=r"no arm atlas\|drect.*atlas\|direct.*: it has"):
        RunPlugin(trained, {"openai/atlas": "atlas|drect"})
    with pytest.raises(SettingsError, match="several arms of codex-iuris: say which one"):
        RunPlugin(trained)


def test_models_of_one_arm_need_no_mapping(tmp_path):
    log = small_log(queries=200)
    log[log["strategy"] == "direct"].to_parquet(tmp_path / "log.parquet", index=False)
    runs = run(load_bench(tmp_path / "log.parquet"), ["ridge"], runs=tmp_path / "runs")
    plugin = RunPlugin(next(each for each in runs if each.record.configuration.router == "ridge"))
    assert routed(plugin, GEO, ["openai/atlas", "codex-iuris"]).candidate_models == ["openai/atlas"]
    assert routed(plugin, LAW, ["openai/atlas", "codex-iuris"]).candidate_models == ["codex-iuris"]


@pytest.mark.filterwarnings("ignore")
def test_litellm_asks_the_deployment_that_the_router_chose(trained, monkeypatch):
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it fetches a table of prices when imported
    litellm = pytest.importorskip("litellm")
    router = litellm.Router(model_list=[*map(deployment, MODELS)], plugins=[RunPlugin(trained, MODELS)])

    async def both():
        return [{await answer(router, prompt) for _ in range(5)} for prompt in (GEO, LAW)]

    assert asyncio.run(both()) == [{"pool: openai/atlas"}, {"pool: openai/codex"}]


@pytest.mark.filterwarnings("ignore")
def test_litellm_falls_back_to_a_group_of_several_models_as_the_page_says(trained, monkeypatch):
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    litellm = pytest.importorskip("litellm")
    failing = deployment("openai/atlas")
    failing["litellm_params"]["mock_response"] = "litellm.RateLimitError"
    rest = [deployment(model, "rest") for model in MODELS]
    router = litellm.Router(
        model_list=[failing, deployment("openai/codex"), *rest],
        plugins=[RunPlugin(trained, MODELS)],
        fallbacks=[{"pool": ["rest"]}],
        num_retries=0,
        cooldown_time=60,
    )

    async def several():
        return {await answer(router, GEO) for _ in range(3)}

    assert asyncio.run(several()) == {"rest: openai/atlas"}


def deployment(model, group="pool"):
    params = {"model": model, "api_key": "none", "mock_response": f"{group}: {model}"}
    return {"model_name": group, "litellm_params": params}


async def answer(router, prompt):
    reply = await router.acompletion(model="pool", messages=[{"role": "user", "content": prompt}])
    return reply.choices[0].message.content
