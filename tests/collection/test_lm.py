"""An arm as a model of lm-eval: its own evaluation gives the scores of the embedded outcomes."""

from pathlib import Path

import pandas as pd
import pytest
from test_collect import pool_file, received

from recal_bench.collection.journal import Journal
from recal_bench.collection.lm import ArmLM
from recal_bench.collection.questions import load_questions
from recal_bench.collection.requests import Arms
from recal_bench.errors import RecalBenchError
from recal_bench.pools.files import read_pool
from recal_bench.simulation import embedded_frame
from recal_bench.simulation.server import running_server

MODEL, STRATEGY = "brelune-70b", "cot"


@pytest.fixture(scope="module")
def truth() -> pd.DataFrame:
    frame = embedded_frame()
    return frame[(frame["model"] == MODEL) & (frame["strategy"] == STRATEGY)].set_index("query_id")


def test_lm_eval_evaluates_an_arm_and_its_answers_are_kept(tmp_path: Path, truth: pd.DataFrame) -> None:
    from lm_eval import evaluate

    (questions,) = load_questions(["popqa"], "embedded", ["test"], {})
    journal = Journal(tmp_path / "journal")
    with running_server(log=tmp_path / "log.jsonl") as base_url:
        pool = read_pool(pool_file(tmp_path, base_url))
        arm = ArmLM(Arms(pool, [MODEL], [STRATEGY], "openai"), MODEL, STRATEGY, journal)
        # lm-eval puts the task's own description and prefix around the question: here the strategy speaks alone.
        questions.task.set_config("description", "")
        questions.task.set_config("gen_prefix", None)
        for again in range(2):
            result = evaluate(arm, {"popqa": questions.task}, limit=40, log_samples=True, bootstrap_iters=0)
            scores = {sample["doc"]["id"]: sample["exact_match"] for sample in result["samples"]["popqa"]}
            assert len(scores) == 40
            assert all(truth.loc[query_id, "score"] == score for query_id, score in scores.items()), again
    journal.close()
    assert len(received(tmp_path)) == 40


def test_a_question_without_an_answer_and_likelihoods_are_refused(tmp_path: Path) -> None:
    from lm_eval.api.instance import Instance

    journal = Journal(tmp_path / "journal")
    with running_server() as base_url:
        pool = read_pool(pool_file(tmp_path, base_url))
        arm = ArmLM(Arms(pool, [MODEL], [STRATEGY], "openai"), MODEL, STRATEGY, journal)
        strange = Instance("generate_until", {}, ("Who wrote Hamlet?", {}), 0)
        with pytest.raises(RecalBenchError, match="gave no answer to 1 of 1"):
            arm.generate_until([strange])
    for likelihood in (arm.loglikelihood, arm.loglikelihood_rolling):
        with pytest.raises(RecalBenchError, match="likelihoods"):
            likelihood([])
    journal.close()
