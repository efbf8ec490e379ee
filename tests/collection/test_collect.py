"""`collect` as one types it: a real server of the embedded pool, real HTTP, a real journal."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result

from recal_bench.cli import cli
from recal_bench.outcomes.files import check_file
from recal_bench.outcomes.writer import read_metadata
from recal_bench.pools.strategies import STRATEGIES
from recal_bench.simulation import embedded_frame
from recal_bench.simulation.server import running_server

SHIPPED = Path(__file__).parents[2] / "pools" / "embedded.yaml"
KEY = "sk-do-not-print-me-7f3a"
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

WITH_SIGNALS = """
import signal
# A shell's background job ignores SIGINT, and its children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
from recal_bench.cli import main
main()
"""
Change = Callable[[dict[str, Any]], None]


def pool_file(folder: Path, base_url: str, change: Change = lambda pool: None) -> Path:
    pool = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    pool["endpoints"]["embedded"] |= {"base_url": base_url, "timeout_s": 1.0}
    change(pool)
    path = folder / "pool.yaml"
    path.write_text(yaml.safe_dump(pool), encoding="utf-8")
    return path


class Desk:
    """Where one collects: a folder, a pool file that points at a server, and the command."""

    def __init__(self, folder: Path, base_url: str, change: Change = lambda pool: None) -> None:
        self.folder, self.out = folder, folder / "outcomes.parquet"
        self.pool = pool_file(folder, base_url, change)

    def words(self, *options: str) -> list[str]:
        given = " ".join(options)
        words = ["collect", "--pool", str(self.pool), "--out", str(self.out), *options]
        words += [] if "--tasks" in given else ["--tasks", "nq,musique"]
        return words + ([] if "--limit" in given else ["--limit", "3"])

    def collect(self, *options: str) -> Result:
        result = CliRunner().invoke(cli, self.words(*options))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def start(self, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WITH_SIGNALS, *self.words(*options)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    @property
    def frame(self) -> pd.DataFrame:
        return pd.read_parquet(self.out)


@contextmanager
def desk(folder: Path, faults: str = "", change: Change = lambda pool: None, **options: Any) -> Iterator[Desk]:
    with running_server(faults=faults, log=folder / "log.jsonl", **options) as base_url:
        yield Desk(folder, base_url, change)


def received(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [entry for entry in map(json.loads, lines) if entry["event"] == "received"]


def one_line(result: Result) -> str:
    """The error: exit code 2 and one line."""
    assert result.exit_code == 2, result.output
    lines = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, result.output
    assert result.output.splitlines()[-1] == lines[0]
    return lines[0]


def only(model: str) -> Change:
    def change(pool: dict[str, Any]) -> None:
        pool["models"] = {model: pool["models"][model]}

    return change


@pytest.fixture(scope="module")
def truth() -> pd.DataFrame:
    return embedded_frame()


def untimed(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop(columns=["latency_s", "asked_at"])


# What is collected


def test_the_embedded_outcomes_come_over_http_as_they_are(tmp_path: Path, truth: pd.DataFrame) -> None:
    tasks = "nq,triviaqa,popqa,hotpotqa,2wiki,musique,bamboogle"
    with desk(tmp_path) as at:
        result = at.collect(
            "--tasks", tasks, "--splits", "train,validation,test", "--limit", "train=4,validation=2,test=3"
        )
    assert result.exit_code == 0, result.output
    frame, key = at.frame, ["split", "task", "query_id", "model", "strategy"]
    assert len(frame) == 7 * 9 * 24
    both = frame.merge(truth, on=key, suffixes=("", "_truth"), validate="one_to_one")
    assert len(both) == len(frame)
    for column in ("prompt", "gold", "score", "prompt_tokens", "completion_tokens", "response"):
        assert (both[column] == both[f"{column}_truth"]).all(), column
    assert (both["cost_usd"] - both["cost_usd_truth"]).abs().max() < 1e-12
    assert set(frame["usage"]) == {"reported"}
    assert frame["latency_s"].gt(0).all()
    assert frame["served_model"].equals(frame["model"])
    metadata = read_metadata(at.out)
    assert re.fullmatch(r"[0-9a-f]{16}", metadata["price_book"])
    assert metadata["prices"]["brelune-70b"] == {
        "date": "2025-06-10", "input": 0.88, "output": 0.88, "reasoning": None, "cached": None,
    }  # fmt: skip
    said = CliRunner().invoke(cli, ["validate", str(at.out)]).output
    assert said.count("price book") == 1
    assert "not read" not in said
    report = check_file(at.out)
    assert not report.problems
    assert (
        f"costs are by the price book {metadata['price_book']} of pool embedded, prices of 2025-06-10" in report.notes
    )


def test_one_split_alone_is_left_for_run_to_split_and_tables_say_simulated(tmp_path: Path) -> None:
    with desk(tmp_path) as at:
        assert at.collect("--limit", "10", "--strategies", "direct").exit_code == 0
    assert at.frame["split"].isna().all()
    routers = [f"--router={name}" for name in ("best-single", "random", "cheapest", "knn")]
    runs, board = tmp_path / "runs", tmp_path / "board"
    result = CliRunner().invoke(cli, ["run", *routers, "--outcomes", str(at.out), "--runs", str(runs)])
    assert result.exit_code == 0, result.output
    assert "simulated" in result.output
    result = CliRunner().invoke(cli, ["leaderboard", str(runs), "--out", str(board)])
    assert result.exit_code == 0, result.output
    page = (board / "README.md").read_text(encoding="utf-8")
    assert "**simulated**" in page
    assert read_metadata(at.out)["price_book"] in page


def test_a_second_run_asks_nothing_and_more_is_asked_beside_what_is_there(tmp_path: Path) -> None:
    with desk(tmp_path) as at:
        at.collect("--strategies", "direct")
        first, asked = at.frame, len(received(tmp_path))
        assert asked == 2 * 3 * 6
        assert "0 asked now" in at.collect("--strategies", "direct").output
        assert len(received(tmp_path)) == asked
        assert untimed(at.frame).equals(untimed(first))
        assert f"{asked} asked now" in at.collect("--strategies", "direct,cot").output
        assert "24 asked now" in at.collect("--strategies", "direct,cot", "--limit", "4").output
    # A larger sample holds the smaller one.
    assert set(first["query_id"]) < set(at.frame["query_id"])


def test_strategies_of_a_pool_file_wrap_any_task(tmp_path: Path) -> None:
    def change(pool: dict[str, Any]) -> None:
        only("ovanta-7b")(pool)
        instruction = STRATEGIES["direct"].instruction
        pool["strategies"] = {
            "mine": {"description": "as direct", "instruction": instruction, "max_tokens": 5, "answer_pattern": "(xyz)"}
        }

    with desk(tmp_path, change=change) as at:
        result = at.collect("--strategies", "mine,direct")
    assert result.exit_code == 0, result.output
    mine = at.frame[at.frame["strategy"] == "mine"]
    assert mine["completion_tokens"].eq(5).all()
    assert mine["finish_reason"].eq("length").all()
    assert "6 answers were cut off at their token limit" in result.output


def test_an_empty_answer_is_an_outcome(tmp_path: Path) -> None:
    """A server of another kind: it says nothing, and its reasoning tokens are counted beside the completion."""
    usage = {"prompt_tokens": 20, "completion_tokens": 0, "total_tokens": 320}
    usage |= {"completion_tokens_details": {"reasoning_tokens": 300}, "prompt_tokens_details": {"cached_tokens": 5}}
    body = {
        "model": "ovanta-7b",
        "choices": [{"message": {"content": None}, "finish_reason": "length"}],
        "usage": usage,
    }

    def change(pool: dict[str, Any]) -> None:
        only("ovanta-7b")(pool)
        price = {"date": "2026-01-01", "input": 1.0, "output": 2.0, "reasoning": 3.0, "cached": 0.5}
        pool["models"]["ovanta-7b"]["price"] = price

    with answering((200, json.dumps(body).encode())) as (base_url, _):
        at = Desk(tmp_path, base_url, change)
        result = at.collect("--tasks", "nq", "--strategies", "direct")
    assert result.exit_code == 0, result.output
    assert "3 answers are empty" in result.output
    frame = at.frame
    assert frame["score"].eq(0).all()
    assert frame["completion_tokens"].eq(300).all()
    assert frame["reasoning_tokens"].eq(300).all()
    assert frame["cost_usd"].tolist() == pytest.approx([(15 * 1 + 5 * 0.5 + 300 * 3) / 1e6] * 3)


# What goes wrong on the way


@pytest.mark.parametrize(
    "kind",
    [
        "429",
        "500",
        "503",
        "cut",
        "malformed",
        "truncated-utf8",
        "empty-choices",
        "wrong-model",
        "no-usage",
        "zero-usage",
    ],
)
def test_a_fault_that_passes_leaves_no_trace_in_the_outcomes(tmp_path: Path, truth: pd.DataFrame, kind: str) -> None:
    def change(pool: dict[str, Any]) -> None:
        # A slow machine must not add timeouts to the faults that are asked for.
        pool["endpoints"]["embedded"]["timeout_s"] = 60.0

    with desk(tmp_path, f"{kind}=0.5,retry-after=0.01", change) as at:
        result = at.collect("--strategies", "direct", "--limit", "2")
    assert result.exit_code == 0, result.output
    assert sum(entry["fault"] == kind for entry in received(tmp_path)) >= 5
    both = at.frame.merge(truth, on=["task", "query_id", "model", "strategy"], suffixes=("", "_truth"))
    assert len(both) == 24
    assert (both["response"] == both["response_truth"]).all()
    assert (both["cost_usd"] - both["cost_usd_truth"]).abs().max() < 1e-12
    assert "Attempts that failed" in result.output
    billed = kind not in ("429", "500", "503")
    assert ("may have been billed twice" in result.output) == billed


def test_what_hangs_is_given_up_after_the_timeout(tmp_path: Path) -> None:
    with desk(tmp_path, "hang=0.2,max-in-a-row=1", only("ovanta-7b")) as at:
        result = at.collect("--limit", "5")
    assert result.exit_code == 0, result.output
    assert re.search(r"failed: timeout \d", result.output)
    assert len(at.frame) == 2 * 5 * 4


def test_a_model_that_is_served_under_another_name_is_refused(tmp_path: Path) -> None:
    with desk(tmp_path, "wrong-model=1,max-in-a-row=99") as at:
        message = one_line(at.collect("--strategies", "direct"))
    assert "served_as" in message
    assert "when" in message
    assert not at.out.exists()
    # Each request is billed: few are spent on finding out.
    assert len(received(tmp_path)) <= 3


def test_one_wrong_name_after_bad_moments_is_asked_again(tmp_path: Path) -> None:
    def body(model: str) -> bytes:
        usage = {"prompt_tokens": 20, "completion_tokens": 2, "total_tokens": 22}
        choice = {"message": {"content": "Answer: x"}, "finish_reason": "stop"}
        return json.dumps({"model": model, "choices": [choice], "usage": usage}).encode()

    def change(pool: dict[str, Any]) -> None:
        only("ovanta-7b")(pool)
        pool["endpoints"]["embedded"] |= {"concurrency": 1, "timeout_s": 60.0}

    right = 200, body("ovanta-7b")
    with answering(right, (503, b"{}"), (503, b"{}"), (200, body("brelune-8b")), right) as (base_url, _):
        result = Desk(tmp_path, base_url, change).collect("--tasks", "nq", "--strategies", "direct")
    assert result.exit_code == 0, result.output
    assert re.search(r"failed: 503 2, wrong model 1$", result.output, re.MULTILINE)


def test_served_as_accepts_another_name(tmp_path: Path) -> None:
    def change(pool: dict[str, Any]) -> None:
        only("ovanta-7b")(pool)
        pool["models"]["ovanta-7b"]["served_as"] = [name for name in _names() if name != "ovanta-7b"]

    with desk(tmp_path, "wrong-model=1,max-in-a-row=99", change) as at:
        assert at.collect("--strategies", "direct").exit_code == 0
    assert not at.frame["served_model"].eq("ovanta-7b").any()


def _names() -> list[str]:
    return list(yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))["models"])


@pytest.mark.parametrize("kind", ["no-usage", "zero-usage"])
def test_an_endpoint_without_usage_is_refused_unless_estimates_are_allowed(
    tmp_path: Path, truth: pd.DataFrame, kind: str
) -> None:
    with desk(tmp_path, f"{kind}=1,max-in-a-row=99") as at:
        assert "--allow-estimated-usage" in one_line(at.collect("--strategies", "direct"))
        assert not at.out.exists()
        asked = len(received(tmp_path))
        assert asked <= 3
        result = at.collect("--strategies", "direct", "--allow-estimated-usage")
    assert result.exit_code == 0, result.output
    # The answer that was refused is not asked for again.
    assert len(received(tmp_path)) == asked + 36 - 1
    frame = at.frame.merge(truth, on=["task", "query_id", "model", "strategy"], suffixes=("", "_truth"))
    assert set(frame["usage"]) == {"missing" if kind == "no-usage" else "zero"}
    # The pool file says that a token is a word, so the estimate is exact here.
    assert (frame["completion_tokens"] == frame["completion_tokens_truth"]).all()
    assert (frame["cost_usd"] - frame["cost_usd_truth"]).abs().max() < 1e-12
    assert "tokens of 6 answers are estimated" in result.output


def test_a_constant_usage_is_found_over_many_answers(tmp_path: Path) -> None:
    def change(pool: dict[str, Any]) -> None:
        only("ovanta-7b")(pool)
        del pool["models"]["ovanta-7b"]["tokenizer"]

    with desk(tmp_path, "constant-usage=1,max-in-a-row=999", change) as at:
        message = one_line(at.collect("--strategies", "direct", "--limit", "15"))
        assert "ovanta-7b" in message
        assert "same number for many different texts" in message or "far from the tokenizer's" in message
        assert not at.out.exists()
        result = at.collect("--strategies", "direct", "--limit", "15", "--allow-estimated-usage")
    assert "0 asked now" in result.output
    assert set(at.frame["usage"]) <= {"constant", "off"}


def test_a_request_that_is_refused_leaves_the_others(tmp_path: Path) -> None:
    """A question of another world: the endpoint refuses it with status 400, and answers the rest."""
    questions = tmp_path / "questions"
    with desk(tmp_path) as at:
        at.collect("--tasks", "nq")
        rows = at.frame.drop_duplicates("query_id")
        questions.mkdir()
        lines = [
            {"id": q, "question": p, "golden_answers": json.loads(g)}
            for q, p, g in rows[["query_id", "prompt", "gold"]].values
        ]
        lines.insert(0, {"id": "strange", "question": "Who wrote Hamlet?", "golden_answers": ["Shakespeare"]})
        (questions / "nq.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        message = one_line(result := at.collect("--tasks", "nq", "--limit", "4", "--questions", str(questions)))
    assert "72 of 96 outcomes" in message
    assert re.search(r"ovanta-7b: 4 requests have no answer \(.*400", result.output)
    assert len(at.frame) == 72
    # Nothing else was asked anew.
    assert sum(entry["status"] == 200 for entry in received(tmp_path)) == 72


def test_a_model_that_refuses_everything_ends_the_collection(tmp_path: Path) -> None:
    def change(pool: dict[str, Any]) -> None:
        pool["models"]["ovanta-7b"]["sampling"] = {"tools": [{}], "unchecked": {"n_best": 3}}

    with desk(tmp_path, change=change) as at:
        message = one_line(at.collect("--limit", "40", "--tasks", "nq"))
        assert "refuses the request (400" in message
        assert sum(entry["status"] == 400 for entry in received(tmp_path)) < 100
        assert at.collect("--limit", "40", "--tasks", "nq", "--models", "brelune-8b").exit_code == 0


# Money and interruptions


def test_the_budget_is_never_exceeded_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    with desk(tmp_path) as at:
        message = one_line(at.collect("--max-usd", "0.006"))
        assert "--max-usd 0.006" in message
        frame = at.frame
        assert 0.003 < frame["cost_usd"].sum() <= 0.006
        served = sum(entry["status"] == 200 for entry in received(tmp_path))
        assert served == len(frame)
        result = at.collect("--max-usd", "10")
    assert result.exit_code == 0, result.output
    assert len(at.frame) == 144
    assert len(received(tmp_path)) == 144


def test_attempts_that_may_be_billed_count_against_the_budget(tmp_path: Path) -> None:
    with desk(tmp_path, "cut=0.5,max-in-a-row=3") as at:
        one_line(at.collect("--max-usd", "0.01"))
        cut = sum(entry["fault"] == "cut" for entry in received(tmp_path))
        most = re.search(r"at most ([\d.]+) USD more", at.collect("--max-usd", "0.01").output)
    assert cut > 3
    assert most
    assert at.frame["cost_usd"].sum() + float(most[1]) <= 0.01


def test_a_budget_of_nothing_writes_what_there_is(tmp_path: Path) -> None:
    with desk(tmp_path) as at:
        assert "no outcome to write" in one_line(at.collect("--max-usd", "0"))
        assert not (tmp_path / "log.jsonl").read_text()


def test_a_dry_run_asks_nothing_and_says_what_it_would_cost(tmp_path: Path) -> None:
    with desk(tmp_path) as at:
        before = at.collect("--dry-run").output
        assert not (tmp_path / "log.jsonl").read_text()
        assert {path.name for path in tmp_path.iterdir()} == {"pool.yaml", "log.jsonl"}
        at.collect()
        after = at.collect("--dry-run", "--limit", "6").output
    total = at.frame["cost_usd"].sum()
    most, expected = _totals(before)
    assert expected == "unknown"
    assert float(most) > total
    most, expected = _totals(after)
    assert float(expected) == pytest.approx(total, rel=0.5)
    assert re.search(r"^all +144 ", after, re.MULTILINE)


def _totals(plan: str) -> tuple[str, str]:
    (line,) = [line for line in plan.splitlines() if line.startswith("all ")]
    *_, expected, most = line.split()
    return most, expected


def test_two_collectors_share_the_work(tmp_path: Path) -> None:
    with desk(tmp_path, latency_s=0.02) as at:
        running = [at.start("--limit", "8"), at.start("--limit", "8")]
        outputs = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    asked = [int(re.search(r"([\d,]+) asked now", output)[1].replace(",", "")) for output in outputs]
    assert sum(asked) == 2 * 8 * 24
    assert len(received(tmp_path)) == 2 * 8 * 24
    assert len({entry["body"] for entry in received(tmp_path)}) == 2 * 8 * 24


def test_an_interrupt_waits_for_what_is_under_way(tmp_path: Path) -> None:
    with desk(tmp_path, latency_s=0.2, change=only("ovanta-7b")) as at:
        process = at.start("--limit", "50")
        while not (tmp_path / "log.jsonl").read_text():
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        output = process.communicate()[0]
        assert process.returncode == 2, output
        assert "interrupted" in output.splitlines()[-1]
        assert "billed twice" not in output
        answered = len(at.frame)
        assert 0 < answered == len(received(tmp_path)) < 400
        assert f"{400 - answered} asked now" in at.collect("--limit", "50").output


def test_what_was_under_way_at_a_kill_is_counted(tmp_path: Path) -> None:
    with desk(tmp_path, latency_s=0.3) as at:
        process = at.start("--limit", "10")
        while len((tmp_path / "log.jsonl").read_text().splitlines()) < 120:
            time.sleep(0.05)
        process.kill()
        process.communicate()
        result = at.collect("--limit", "10")
    found = re.search(r"billed twice: killed (\d+)", result.output)
    assert found
    assert 0 < int(found[1]) <= 32
    twice = len(received(tmp_path)) - len({entry["body"] for entry in received(tmp_path)})
    assert twice <= int(found[1])


# What a newcomer gets wrong


def test_a_wrong_port_is_found_at_once(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    at = Desk(tmp_path, f"http://127.0.0.1:{port}/v1")
    message = one_line(at.collect())
    assert f"cannot be reached at http://127.0.0.1:{port}/v1" in message
    with running_server() as base_url:
        at.pool = pool_file(tmp_path, base_url)
        assert at.collect().exit_code == 0


def test_no_network_is_one_line(tmp_path: Path) -> None:
    at = Desk(tmp_path, "http://no-such-host.invalid/v1")
    assert "cannot be reached at http://no-such-host.invalid/v1" in one_line(at.collect())


def _with_key(pool: dict[str, Any]) -> None:
    pool["endpoints"]["embedded"]["api_key_env"] = "RECAL_BENCH_TEST_KEY"


def test_keys_come_from_the_environment_and_appear_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECAL_BENCH_TEST_KEY", raising=False)
    with desk(tmp_path, "500=0.3", _with_key, key=KEY) as at:
        said = one_line(at.collect())
        assert "RECAL_BENCH_TEST_KEY" in said
        monkeypatch.setenv("RECAL_BENCH_TEST_KEY", f"{KEY}-wrong")
        said += one_line(at.collect())
        assert "the key is refused" in said
        monkeypatch.setenv("RECAL_BENCH_TEST_KEY", KEY)
        result = at.collect()
        assert result.exit_code == 0, result.output
    runs = tmp_path / "runs"
    run = CliRunner().invoke(cli, ["run", "--router", "best-single", "--outcomes", str(at.out), "--runs", str(runs)])
    said += result.output + run.output
    assert KEY not in said
    for path in filter(Path.is_file, tmp_path.rglob("*")):
        assert KEY.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("status", [400, 401, 500])
def test_an_endpoint_that_echoes_the_key_does_not_spread_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("RECAL_BENCH_TEST_KEY", KEY)
    body: dict[str, Any] = {"error": {"message": f"you sent {KEY}", "code": None}}

    def change(pool: dict[str, Any]) -> None:
        only("ovanta-7b")(pool)
        _with_key(pool)

    with answering((status, json.dumps(body).encode())) as (base_url, sent):
        at = Desk(tmp_path, base_url, change)
        result = at.collect("--tasks", "nq", "--strategies", "direct")
    assert any(KEY in headers for headers in sent)
    assert KEY not in result.output
    assert result.exit_code == 2
    for path in filter(Path.is_file, tmp_path.rglob("*")):
        assert KEY.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--strategies", "direkt"], "did you mean direct"),
        (["--tasks", "nqq"], "did you mean nq"),
        (["--models", "ovanta-7"], "did you mean ovanta-7b"),
        (["--splits", "tset"], "test"),
        (["--limit", "0"], "--limit"),
        (["--metric", "exact"], "exact_match"),
        (["--backend", "lm-eval:hff"], "lm-eval:hf"),
        (["--questions", "no/such/folder"], "no/such/folder"),
        (["--backend", "lm-eval:hf", "--max-usd", "1"], "--max-usd is for endpoints"),
    ],
)
def test_a_mistyped_word_is_one_line_and_costs_nothing(tmp_path: Path, options: list[str], said: str) -> None:
    with desk(tmp_path) as at:
        assert said in one_line(at.collect(*options))
        assert not received(tmp_path)


def test_an_outcomes_file_of_other_origin_is_not_written_over(tmp_path: Path) -> None:
    with desk(tmp_path) as at:
        at.out.write_bytes(b"mine")
        assert "was not made by" in one_line(at.collect())
        assert at.out.read_bytes() == b"mine"
        at.out = tmp_path / "outcomes.csv"
        assert ".parquet" in one_line(at.collect())


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with desk(tmp_path) as at:
        at.out = tmp_path / "file" / "outcomes.parquet"
        one_line(at.collect())
        assert not received(tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte; mounted, where the user may."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        shutil.which("mount") is None
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True).returncode
    ):
        pytest.skip("no disk can be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_full_disk_stops_the_collection_and_a_second_run_continues(tmp_path: Path, small_disk: Path) -> None:
    with desk(tmp_path) as at:
        at.out = small_disk / "outcomes.parquet"
        message = one_line(at.collect("--limit", "40"))
        assert "full" in message
        asked = len(received(tmp_path))
        assert 32 < asked < 1920
        subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
        result = at.collect("--limit", "40")
    assert result.exit_code == 0, result.output
    assert len(at.frame) == 1920
    # Only what was under way when the disk was full is asked again.
    assert len(received(tmp_path)) <= 1920 + 33


def test_a_folder_that_becomes_read_only_is_one_line_and_a_second_run_continues(
    tmp_path: Path, small_disk: Path
) -> None:
    with desk(tmp_path) as at:
        at.out = small_disk / "outcomes.parquet"
        subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
        assert at.collect("--strategies", "direct").exit_code == 0
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
        message = one_line(at.collect())
        assert "cannot be" in message
        assert str(small_disk) in message
        subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
        assert "108 asked now" in at.collect().output


@contextmanager
def answering(*replies: tuple[int, bytes]) -> Iterator[tuple[str, list[str]]]:
    """A server that gives some replies (status and body), and the last of them ever after; with the headers it got."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    sent: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status, body = replies[min(len(sent), len(replies) - 1)]
            sent.append(str(self.headers))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1", sent
        finally:
            server.shutdown()
