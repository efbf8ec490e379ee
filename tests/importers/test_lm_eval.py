"""Output folders of lm-eval: written by lm-eval itself, and by hand for what it would take long to bring about."""

import json
from pathlib import Path

import pytest
from importing import write_lines

from recal_bench.tasks import load_tasks, write_local_task

QUESTIONS = [{"id": f"q{n}", "question": f"What is {n}?", "golden_answers": [str(n), f"number {n}"]} for n in range(6)]
CHOICES = """
task: choices
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: ["yes", "no"]
doc_to_target: 0
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
FILTERS = """
task: filters
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{golden_answers[0]}}"
metric_list: [{metric: exact_match}]
filter_list:
  - {name: strict-match, filter: [{function: regex, regex_pattern: "#### ([0-9]+)"}, {function: take_first}]}
  - {name: flexible-extract, filter: [{function: regex, regex_pattern: "([0-9]+)"}, {function: take_first}]}
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models on three tasks, run and written by lm-eval."""
    import datasets
    from lm_eval import simple_evaluate
    from lm_eval.api.model import LM
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    folder = tmp_path_factory.mktemp("lm-eval")
    data = write_lines(folder / "questions.jsonl", QUESTIONS)
    for name, text in (("choices", CHOICES), ("filters", FILTERS)):
        (folder / "tasks").mkdir(exist_ok=True)
        (folder / "tasks" / f"{name}.yaml").write_text(text.replace("DATA", str(data)))
    write_local_task(load_tasks()["nq"], data, folder / "tasks")

    class Parrot(LM):
        """Says what the question's number is, if it is below a limit."""

        def __init__(self, below: int) -> None:
            super().__init__()
            self.below = below

        def generate_until(self, requests, disable_tqdm=False):
            numbers = [int(request.args[0].split("What is ")[1].split("?")[0]) for request in requests]
            return [f"It is {n}. #### {n}" if n < self.below else "Answer: none" for n in numbers]

        def loglikelihood(self, requests, disable_tqdm=False):
            return [(-1.0 if request.args[1] == " yes" else -2.0, False) for request in requests]

        def loglikelihood_rolling(self, requests, disable_tqdm=False): ...

    before = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = folder / "cache"
    try:
        for name, below in (("org/small", 2), ("org/large", 5)):
            tracker = EvaluationTracker(output_path=str(folder / "out"))
            tracker.general_config_tracker.log_experiment_args("hf", f"pretrained={name}", None, None, False)
            found = simple_evaluate(
                model=Parrot(below),
                tasks=["nq", "choices", "filters"],
                task_manager=TaskManager(include_path=str(folder / "tasks"), include_defaults=False),
                log_samples=True,
                bootstrap_iters=0,
            )
            samples = found.pop("samples")
            tracker.save_results_aggregated(results=found, samples=samples)
            for task, each in samples.items():
                tracker.save_results_samples(task_name=task, samples=each)
    finally:
        datasets.config.HF_DATASETS_CACHE = before
    return folder / "out"


def test_what_lm_eval_wrote_is_read(imported, results):
    frame = imported("lm-eval", results, "--filter", "flexible-extract")
    assert sorted(set(frame["model"])) == ["org/large", "org/small"]
    assert frame.groupby("task").size().to_dict() == {"choices": 12, "filters": 12, "nq": 12}
    scores = frame.groupby(["task", "model"])["score"].sum()
    assert scores["filters"].to_dict() == {"org/large": 5, "org/small": 2}
    assert scores["choices"].to_dict() == {"org/large": 6, "org/small": 6}
    one = frame.set_index(["task", "model", "query_id"]).sort_index()
    generated = one.loc[("filters", "org/small", "1")]
    assert generated[["prompt", "gold", "response"]].tolist() == ["What is 1?", '["1"]', "It is 1. #### 1"]
    chosen = one.loc[("choices", "org/small", "1")]
    assert chosen[["prompt", "gold"]].tolist() == ["What is 1?", '["0"]']
    assert frame.loc[frame["task"] == "choices", "response"].isna().all(), "a task of choices has no text"
    assert "What is 1?" in one.loc[("nq", "org/small", "1"), "prompt"]
    assert frame[["cost_usd", "prompt_tokens", "completion_tokens", "split"]].isna().all(axis=None)
    output = frame.attrs["output"]
    assert "score: acc for choices; exact_match for filters, nq" in output
    assert "2 tasks without --filter flexible-extract: read by none" in output
    assert "no cost is known" in output


def test_several_filters_are_refused_and_named(refused, results):
    message = refused("lm-eval", results)
    assert "task filters is scored with several filters: choose one with --filter: flexible-extract, strict-match" in (
        message
    )


def test_a_metric_is_chosen_by_name(imported, refused, results):
    frame = imported("lm-eval", *results.glob("*/samples_nq_*"), "--metric", "f1")
    assert "score: f1 for nq" in frame.attrs["output"]
    assert frame["score"].between(0, 1).all()
    message = refused("lm-eval", *results.glob("*/samples_nq_*"), "--metric", "exact_matc")
    assert message == "no task has --metric exact_matc (did you mean exact_match?): without it they use exact_match"


def sample(n: int, **other: object) -> dict:
    """A line of a samples file of lm-eval 0.4.13."""
    return {
        "doc_id": n,
        "doc": {"question": f"{n}?"},
        "target": str(n),
        "arguments": {"gen_args_0": {"arg_0": f"Q: {n}?", "arg_1": {"until": ["\n"]}}},
        "resps": [[f"answer {n}"]],
        "filtered_resps": [f"answer {n}"],
        "filter": "none",
        "metrics": ["exact_match"],
        "doc_hash": f"hash {n}",
        "prompt_hash": "-",
        "target_hash": "-",
        "exact_match": float(n % 2),
    } | other


EARLY, LATE = "2026-01-02T03-04-05.678901", "2026-02-02T03-04-05"


def write(
    root: Path, model: str, samples: list[dict], task: str = "t_one", stamp: str = EARLY, **results: object
) -> Path:
    folder = root / model.replace("/", "__")
    write_lines(folder / f"samples_{task}_{stamp}.jsonl", samples)
    (folder / f"results_{stamp}.json").write_text(json.dumps({"model_name": model, **results}))
    return root


def test_the_newest_run_of_a_task_counts_and_it_is_said(imported, tmp_path):
    write(tmp_path / "r", "org/a", [sample(n) for n in range(4)])
    write(tmp_path / "r", "org/a", [sample(n, exact_match=1.0) for n in range(4)], stamp=LATE)
    write(tmp_path / "r", "org/a", [sample(n) for n in range(4)], task="other")
    frame = imported("lm-eval", tmp_path / "r")
    assert frame.groupby("task")["score"].mean().to_dict() == {"t_one": 1.0, "other": 0.5}
    assert f"org/a, t_one: the run of {LATE} is the newest of 2, and counts" in frame.attrs["output"]


def test_without_a_results_file_the_folder_names_the_model(imported, tmp_path):
    write_lines(tmp_path / "r" / "my-model" / f"samples_t_{EARLY}.jsonl", [sample(n) for n in range(4)])
    frame = imported("lm-eval", tmp_path / "r")
    assert set(frame["model"]) == {"my-model"}
    assert "the model is called after the folder, my-model" in frame.attrs["output"]


@pytest.mark.parametrize("odd", [[], {"t_one": []}, {"t_one": {"exact_match": None}}, 1])
def test_odd_results_files_do_no_harm(imported, tmp_path, odd):
    assert len(imported("lm-eval", write(tmp_path / "r", "a", [sample(0)], higher_is_better=odd))) == 1


def test_an_output_path_that_names_a_file_is_read(imported, tmp_path):
    write_lines(tmp_path / "r" / f"samples_t_{EARLY}.jsonl", [sample(n) for n in range(4)])
    (tmp_path / "r" / f"mine_{EARLY}.json").write_text(json.dumps({"model_name": "org/a"}))
    assert set(imported("lm-eval", tmp_path / "r")["model"]) == {"org/a"}


def test_prompts_that_differ_by_chat_templates_become_one(imported, tmp_path):
    chat = json.dumps([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What?"}])
    write(tmp_path / "r", "a", [sample(n, arguments={"gen_args_0": {"arg_0": [chat], "arg_1": {}}}) for n in range(4)])
    write(tmp_path / "r", "b", [sample(n) for n in range(4)])
    frame = imported("lm-eval", tmp_path / "r")
    assert set(frame["prompt"]) == {"Be brief.\n\nWhat?"}
    assert "t_one: 4 prompts differ between the models" in frame.attrs["output"]


def test_contexts_that_differ_by_choice_stand_one_after_the_other(imported, tmp_path):
    choices = {f"gen_args_{n}": {"arg_0": f"The {name} was", "arg_1": " big."} for n, name in enumerate(("dog", "cat"))}
    blank = {f"gen_args_{n}": {"arg_0": "", "arg_1": word} for n, word in enumerate(("Good.", "Bad.", "Good."))}
    lines = [sample(0, arguments=choices), sample(1, arguments=blank), sample(2, arguments=[["Old form", {}]])]
    frame = imported("lm-eval", write(tmp_path / "r", "a", lines))
    assert frame["prompt"].tolist() == ["The dog was\nThe cat was", "Good.\nBad.", "Old form"]


def test_older_logs_without_metrics_and_filter_are_read(imported, tmp_path):
    lines = [sample(n, acc=1.0) for n in range(3)]
    for line in lines:
        for name in ("metrics", "filter", "exact_match", "doc_hash"):
            del line[name]
    assert imported("lm-eval", write(tmp_path / "r", "a", lines))["score"].tolist() == [1.0] * 3


def test_the_only_metric_counts_and_several_are_refused(imported, refused, tmp_path):
    lines = [sample(n, metrics=["f1", "bleu"], f1=0.5, bleu=["a", "b"]) for n in range(3)]
    assert set(imported("lm-eval", write(tmp_path / "r", "a", lines))["score"]) == {0.5}
    lines = [line | {"metrics": ["f1", "rouge"], "rouge": 0.1} for line in lines]
    message = refused("lm-eval", write(tmp_path / "r", "a", lines))
    assert message.endswith("task t_one has several metrics: choose one with --metric: f1, rouge")
    down = {"higher_is_better": {"t_one": {"f1": True, "rouge": False}}}
    assert set(imported("lm-eval", write(tmp_path / "r", "a", lines, **down))["score"]) == {0.5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"exact_match": 31.5},
            "line 1: exact_match is 31.5, outside 0..1: rescale it first (a percentage is divided by 100); or choose "
            "another --metric",
        ),
        ({"exact_match": [1, 2]}, "has no metric that can be a score"),
        ({"arguments": {}}, "line 1: the prompt in arguments is empty"),
        ({"doc_id": None}, "line 1: doc_id is empty"),
    ],
)
def test_a_bad_sample_is_named(refused, tmp_path, change, message):
    assert message in refused("lm-eval", write(tmp_path / "r", "a", [sample(0, **change), sample(1)]))


def test_folders_that_contradict_each_other_are_refused(refused, tmp_path):
    write(tmp_path / "r" / "one", "a", [sample(0)])
    write(tmp_path / "r" / "two", "a", [sample(0)])
    assert "both hold task t_one of model a: import them apart" in refused("lm-eval", tmp_path / "r")
    write(tmp_path / "q", "a", [sample(0)])
    write(tmp_path / "q", "b", [sample(0, doc_hash="another")])
    assert "holds another document as doc_id 0" in refused("lm-eval", tmp_path / "q")


def test_what_is_no_output_folder_is_refused(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty holds no samples_TASK_TIME.jsonl" in refused("lm-eval", tmp_path / "empty")
    assert "none does not exist" in refused("lm-eval", tmp_path / "none")
    write(tmp_path / "r", "a", [])
    assert "holds no sample: run the task again" in refused("lm-eval", tmp_path / "r")
    write(tmp_path / "r", "a", [sample(0)])
    (tmp_path / "r" / "a" / f"results_{EARLY}.json").write_text("{")
    assert "is not JSON" in refused("lm-eval", tmp_path / "r")
