import json
import re
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

import pytest

from recal_bench.errors import RecalBenchError
from recal_bench.folders import shipped
from recal_bench.tasks import load_tasks, write_local_task

NAMES = ["2wiki", "bamboogle", "hotpotqa", "musique", "nq", "popqa", "triviaqa"]
QUESTIONS = [
    {"id": "q0", "question": "Who wrote Hamlet?", "golden_answers": ["William Shakespeare", "Shakespeare"]},
    {"id": "q1", "question": "Which tower stands in Paris?", "golden_answers": ["The Eiffel Tower"]},
    {"id": "q2", "question": "Which band made Soul Mining?", "golden_answers": ["The The"]},
    {"id": "q3", "question": "Is Rome in Italy?", "golden_answers": ["yes"]},
]
REPLIES = {
    "Who wrote Hamlet?": " shakespeare.",
    "Which tower stands in Paris?": "It is tall.\nAnswer: Eiffel tower!",
    "Which band made Soul Mining?": "",
    "Is Rome in Italy?": "yes it is",
}


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in QUESTIONS), encoding="utf-8")
    return path


def test_the_seven_tasks_are_shipped_each_in_a_file_of_its_name() -> None:
    tasks = load_tasks()
    assert list(tasks) == NAMES
    for name, task in tasks.items():
        assert task.name == name
        assert task.path.name == f"{name}.yaml"
        assert task.metrics == ("exact_match", "f1")
        assert task.description
        assert "\n" not in task.description
    assert tasks["2wiki"].dataset == "RUC-NLPIR/FlashRAG_datasets:2wikimultihopqa:dev"
    assert tasks["bamboogle"].dataset == "RUC-NLPIR/FlashRAG_datasets:bamboogle:test"


def test_tasks_are_read_without_lm_eval() -> None:
    code = (
        "import sys; from recal_bench.tasks import load_tasks; load_tasks();"
        "assert not {'lm_eval', 'datasets', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_lm_eval_registers_the_seven_tasks_and_nothing_else() -> None:
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(shipped("tasks")), include_defaults=False)
    assert manager.all_tasks == NAMES


def test_lm_eval_scores_a_local_file_with_our_metrics(
    questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets
    from lm_eval import simple_evaluate
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import LM
    from lm_eval.tasks import TaskManager

    class FromDictionary(LM):
        """Answers what the prompt's question line asks."""

        def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
            return [REPLIES[re.search(r"^Question: (.*)$", r.args[0], re.MULTILINE)[1]] for r in requests]

        def loglikelihood(self, requests, disable_tqdm=False): ...

        def loglikelihood_rolling(self, requests, disable_tqdm=False): ...

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    tasks = load_tasks()
    for name in ("nq", "2wiki"):
        write_local_task(tasks[name], questions, tmp_path / "local")
    result = simple_evaluate(
        model=FromDictionary(),
        tasks=["nq", "2wiki"],
        task_manager=TaskManager(include_path=str(tmp_path / "local"), include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
    )

    assert set(result["results"]) == {"nq", "2wiki"}
    for name in ("nq", "2wiki"):
        samples = {sample["doc"]["id"]: sample for sample in result["samples"][name]}
        assert {key: sample["exact_match"] for key, sample in samples.items()} == {"q0": 1, "q1": 1, "q2": 0, "q3": 0}
        assert {key: sample["f1"] for key, sample in samples.items()} == {"q0": 1, "q1": 1, "q2": 0, "q3": 0}
        assert result["results"][name]["exact_match,none"] == 0.5


def test_plain_lm_eval_runs_a_local_file_offline(questions: Path, tmp_path: Path) -> None:
    task = load_tasks()["popqa"]
    folder = write_local_task(task, questions, tmp_path / "local").parent
    env = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "PATH": ""}
    options = f"--include_path {folder} --tasks popqa --model dummy --output_path out --log_samples"
    command = [sys.executable, "-m", "lm_eval", *options.split()]
    subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True)
    (samples,) = (tmp_path / "out").glob("*/samples_popqa_*.jsonl")
    assert len(samples.read_text(encoding="utf-8").splitlines()) == len(QUESTIONS)


def test_a_local_task_needs_its_data(tmp_path: Path) -> None:
    task = load_tasks()["nq"]
    with pytest.raises(RecalBenchError, match=r"no file .*none\.jsonl"):
        write_local_task(task, tmp_path / "none.jsonl", tmp_path)


TASK = """
task: mine
dataset_path: json
test_split: test
metadata: {description: Mine}
metric_list: [{metric: f1}]
process_results: !function mine.score
"""


def test_a_task_needs_no_include_and_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(TASK, encoding="utf-8")
    (task,) = load_tasks(tmp_path).values()
    assert (task.name, task.description, task.dataset, task.metrics) == ("mine", "Mine", "json:test", ("f1",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TASK.replace("task: mine", "task: other"), "names its task other"),
        (TASK.replace("task: mine", ""), "'task' is missing"),
        (TASK.replace("{description: Mine}", "1"), "of the wrong form"),
        (TASK + "include: absent.yaml", r"absent\.yaml cannot be read"),
        (TASK + "include: mine.yaml", "includes itself"),
        (TASK + "description: a: b", "cannot be read"),
        (TASK + "x: !!python/object/apply:os.getcwd []", "cannot be read"),
        ("just words", "is not a task"),
    ],
)
def test_what_is_not_a_task_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(RecalBenchError, match=message) as caught:
        load_tasks(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_tasks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecalBenchError, match="holds no task"):
        load_tasks(tmp_path)


def test_a_task_file_is_whole_for_every_reader_at_every_moment(tmp_path: Path) -> None:
    """Collectors on one machine share the folder of task files: one reads while another one writes."""
    task = load_tasks()["nq"]
    data = [tmp_path / f"{number}.jsonl" for number in range(2)]
    for path in data:
        path.touch()
    path = write_local_task(task, data[0], tmp_path / "local")
    whole, over = {path.read_text()}, Event()

    def write() -> None:
        for turn in range(200):
            write_local_task(task, data[turn % 2], tmp_path / "local")
        over.set()

    writer = Thread(target=write)
    writer.start()
    seen = set()
    while not over.is_set():
        seen.add(path.read_text())
    writer.join()
    write_local_task(task, data[1], tmp_path / "local")
    whole.add(path.read_text())
    assert seen <= whole
    before = path.stat()
    write_local_task(task, data[1], tmp_path / "local")
    assert path.stat() == before
