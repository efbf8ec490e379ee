"""The journal: what was answered stays answered, whatever happens to its process, its file or its disk."""

import inspect
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recal_bench.collection import journal as module
from recal_bench.collection.journal import Answer, Journal, Spent, placed
from recal_bench.collection.usage import read_tokens
from recal_bench.errors import RecalBenchError

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals, limits of a process")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc, mounts")


_IMPORTS = """
import json, subprocess, sys, time
from contextlib import closing
from pathlib import Path
from recal_bench.collection.journal import Answer, Journal
from recal_bench.errors import RecalBenchError
"""


def key(number):
    return number.to_bytes(32, "big")


def answer(number, **changes):
    known = Answer(
        key(number), "m", "direct", json.dumps({"n": number}), 10, 5, None, None, "reported", 40, 20, "stop", 0.5, "now"
    )
    return known._replace(**changes)


def silent(number):
    return answer(number, prompt_tokens=None, completion_tokens=None, usage="missing")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "outcomes.journal"


@pytest.fixture
def opened(path):
    """Opens the journal, once or several times, and closes it in the end."""
    with ExitStack() as open_ones:
        yield lambda: open_ones.enter_context(closing(Journal(path)))


def program_of(body):
    """The text of a program that has the names of this module's helpers, but loads no test tools."""
    helpers = (key, answer, refused, filled, goes_on_after)
    return "\n".join([_IMPORTS, *map(inspect.getsource, helpers), textwrap.dedent(body)])


@contextmanager
def started(body, *args):
    """A process that runs a program, killed in the end if it still runs."""
    child = subprocess.Popen(
        [sys.executable, "-c", program_of(body), *map(str, args)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with child:
        try:
            yield child
        finally:
            child.kill()


def said_at_once(body, *args_of_each):
    """Starts a program several times; when all say `ready` they are told the time. What each says, and its problems."""
    with ExitStack() as running:
        children = [running.enter_context(started(body, *args)) for args in args_of_each]
        for child in children:
            assert child.stdout.readline() == "ready\n"
        now = time.time()
        for child in children:
            child.stdin.write(f"{now}\n")
            child.stdin.flush()
        return [child.communicate(timeout=60) for child in children]


# --- Answers


def test_an_answer_comes_back_as_it_was_kept(opened):
    one = opened()
    whole = Answer(key(1), "m", "cot", '{"ü": "\\u0000"}', 1, 2, 3, 4, "off", 5, 6, "length", 0.25, "2025-06-10")
    empty = Answer(key(2), "", "", "", None, None, None, None, "missing", 0, 0, None, None, None)
    for each in (whole, empty):
        one.keep(each)
    assert one.answers([key(1), key(2), key(3)]) == {key(1): whole, key(2): empty}


def test_any_number_of_keys_is_looked_up(opened):
    one = opened()
    for number in range(0, 1300, 2):
        one.keep(answer(number))
    keys = [key(number) for number in range(1300)]
    random.Random(0).shuffle(keys)
    assert one.answered(keys, estimates=True) == {key(number) for number in range(0, 1300, 2)}
    assert {each: found.key for each, found in one.answers(keys).items()} == {
        key(number): key(number) for number in range(0, 1300, 2)
    }
    assert one.answers([key(4)] * 1100) == {key(4): answer(4)}
    assert one.answered([], estimates=True) == set()
    assert one.answers([]) == {}


@pytest.mark.parametrize("usage", ["missing", "zero"])
def test_an_answer_without_usage_is_none_where_no_estimate_is_wanted_and_gives_way(opened, usage):
    one = opened()
    one.keep(answer(1, usage=usage, prompt_tokens=None, completion_tokens=None))
    assert one.answered([key(1)], estimates=True) == {key(1)}
    assert one.answered([key(1)], estimates=False) == set()
    assert not one.claim(key(1), 0.1, estimates=True)
    assert one.claim(key(1), 0.1, estimates=False)
    one.keep(answer(1))
    assert one.answered([key(1)], estimates=False) == {key(1)}
    assert one.answers([key(1)]) == {key(1): answer(1)}
    assert not one.claim(key(1), 0.1, estimates=False)


@pytest.mark.parametrize("usage", ["reported", "off", "counted"])
def test_any_other_answer_counts(opened, usage):
    one = opened()
    one.keep(answer(1, usage=usage))
    assert one.answered([key(1)], estimates=False) == {key(1)}


def test_half_a_surrogate_pair_in_an_answer_is_kept(opened):
    """`json.dumps(..., ensure_ascii=False)` of a reply that is cut within an emoji holds one."""
    one = opened()
    body = json.dumps(json.loads('{"choices": [{"message": {"content": "x\\ud83d"}}]}'), ensure_ascii=False)
    one.keep(answer(1, body=body))
    assert one.answers([key(1)])[key(1)].text.startswith("x")


def test_half_a_surrogate_pair_in_a_reason_is_written_down(opened):
    one = opened()
    one.refuse(key(1), "m", "the endpoint said \ud83d")
    assert one.refusals()[0][:2] == ("m", 1)


# --- Claims


def test_a_claim_is_exclusive_until_it_ends(opened):
    one, other = opened(), opened()
    assert one.claim(key(1), 0.25, estimates=False)
    assert not one.claim(key(1), 0.25, estimates=False)
    assert not other.claim(key(1), 0.25, estimates=False)
    assert other.claims() == one.claims() == 1
    assert other.claimed_usd() == 0.25
    one.release(key(1))
    assert other.claim(key(1), 0.5, estimates=False)
    other.keep(answer(1))
    assert not one.claim(key(1), 0.25, estimates=False)
    assert one.claims() == 0
    assert one.claimed_usd() == 0.0
    assert one.answers([key(1)]) == {key(1): answer(1)}


def test_a_refused_request_is_remembered_and_may_be_claimed_again(opened):
    one, other = opened(), opened()
    for number, model in ((1, "a"), (2, "b"), (3, "b")):
        one.claim(key(number), 0.1, estimates=False)
        one.refuse(key(number), model, f"reason {number}")
    one.refuse(key(3), "b", "reason 9")
    assert other.refusals() == [("a", 1, "reason 1"), ("b", 2, "reason 2")]
    assert other.claims() == 0
    assert other.claim(key(1), 0.1, estimates=False)
    other.keep(answer(1))
    assert one.refusals() == [("b", 2, "reason 2")]


def test_what_is_unsure_adds_up(opened):
    one = opened()
    assert one.unsure_counts() == {}
    assert one.unsure_usd() == 0.0
    one.claim(key(1), 0.5, estimates=False)
    for reason in ("timeout", "cut", "timeout"):
        one.unsure(key(1), reason, 0.5)
    assert one.unsure_counts() == {"cut": 1, "timeout": 2}
    assert one.unsure_usd() == 1.5
    assert one.claims() == 1


def test_a_live_collector_keeps_its_claims(opened):
    one = opened()
    one.claim(key(1), 0.1, estimates=False)
    other = opened()
    assert one.forget_the_dead() == other.forget_the_dead() == 0
    assert other.claims() == 1
    assert other.unsure_counts() == {}


def test_a_closed_collector_leaves_no_claim_and_no_lock(path, opened):
    one = Journal(path)
    one.claim(key(1), 0.1, estimates=False)
    one.close()
    other = opened()
    assert other.claims() == 0
    assert other.unsure_counts() == {"killed": 1}
    other.close()
    assert [each.name for each in path.parent.rglob("*") if each.is_file()] == [path.name]


_CLAIMS = """
    journal = Journal(Path(sys.argv[1]))
    for number in range(int(sys.argv[2])):
        assert journal.claim(key(number), 0.25, estimates=False)
    journal.keep(answer(0))
    print("claimed", flush=True)
    time.sleep(60)
"""


@posix
def test_the_claims_of_a_killed_process_are_freed_and_counted_once(path, opened):
    with started(_CLAIMS, path, 4) as child:
        assert child.stdout.readline() == "claimed\n"
        one = opened()
        assert one.forget_the_dead() == 0
        assert one.claims() == 3
        assert not one.claim(key(2), 0.25, estimates=False)
        child.send_signal(signal.SIGSTOP)
        assert one.forget_the_dead() == 0
    other = opened()
    assert one.forget_the_dead() + other.forget_the_dead() == 0
    assert one.unsure_counts() == other.unsure_counts() == {"killed": 3}
    assert one.unsure_usd() == 0.75
    assert one.claims() == 0
    assert one.claim(key(2), 0.25, estimates=False)
    assert not one.claim(key(0), 0.25, estimates=False)


@posix
def test_an_open_collector_sees_that_another_one_has_died(path, opened):
    one = opened()
    with started(_CLAIMS, path, 3) as child:
        assert child.stdout.readline() == "claimed\n"
    assert one.claims() == 2
    assert one.forget_the_dead() == 2
    assert one.forget_the_dead() == 0
    assert one.unsure_counts() == {"killed": 2}


@posix
def test_many_that_open_at_once_count_the_killed_once(path, opened):
    with started(_CLAIMS, path, 6) as child:
        assert child.stdout.readline() == "claimed\n"
    program = """
        print("ready", flush=True)
        sys.stdin.readline()
        Journal(Path(sys.argv[1]))
    """
    assert said_at_once(program, *[[path]] * 6) == [("", "")] * 6
    assert opened().unsure_counts() == {"killed": 5}


@posix
def test_many_may_open_a_new_journal_at_once(tmp_path):
    """Sixty times, since two of them must meet in the moment in which the file is made."""
    program = """
        print("ready", flush=True)
        start = float(sys.stdin.readline()) + 0.1
        for turn in range(60):
            time.sleep(max(0.0, start + 0.012 * turn - time.time()))
            with closing(Journal(Path(sys.argv[1]) / f"{turn}.journal")) as journal:
                journal.keep(answer(int(sys.argv[2])))
    """
    assert said_at_once(program, *[[tmp_path, number] for number in range(8)]) == [("", "")] * 8
    for turn in range(60):
        with closing(Journal(tmp_path / f"{turn}.journal")) as one:
            assert len(one.answers([key(number) for number in range(8)])) == 8


@posix
def test_a_claim_is_seen_through_a_link_to_the_journal(path, opened):
    """Two collectors may name one journal differently; their locks must be the same all the same."""
    one = opened()
    one.claim(key(1), 0.1, estimates=False)
    link = path.with_name("latest.journal")
    link.symlink_to(path)
    with closing(Journal(link)) as other:
        assert not other.claim(key(1), 0.1, estimates=False)
        assert other.unsure_counts() == {}


def test_a_claim_outlives_a_change_of_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with closing(Journal(Path("a.journal"))) as one:
        one.claim(key(1), 0.1, estimates=False)
        with closing(Journal(Path("a.journal"))) as other:
            monkeypatch.chdir(tmp_path / "elsewhere")
            assert other.forget_the_dead() == 0
            assert one.claims() == 1


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["claim", "keep", "silent", "release", "refuse"]), st.booleans(), st.integers(0, 3)),
    max_size=25,
)


@settings(max_examples=25)
@given(operations=OPERATIONS, estimates=st.booleans())
def test_two_collectors_agree_with_a_simple_account_of_what_is_so(tmp_path_factory, operations, estimates):
    path = tmp_path_factory.mktemp("journal") / "a.journal"
    held, claimed, refused = {}, {}, set()
    with closing(Journal(path)) as one, closing(Journal(path)) as two:
        for operation, by_two, number in operations:
            journal, other = (two, one) if by_two else (one, two)
            if operation == "claim":
                answered = number in held and (estimates or held[number].usage != "missing")
                free = not answered and number not in claimed
                assert journal.claim(key(number), 0.25, estimates) == free
                if free:
                    claimed[number] = journal
            elif claimed.get(number) is journal:
                del claimed[number]
                if operation == "release":
                    journal.release(key(number))
                elif operation == "refuse":
                    journal.refuse(key(number), "m", "no")
                    refused.add(number)
                else:
                    held[number] = answer(number) if operation == "keep" else silent(number)
                    journal.keep(held[number])
                    refused.discard(number)
            assert other.claims() == len(claimed)
            assert other.claimed_usd() == 0.25 * len(claimed)
            keys = [key(each) for each in range(4)]
            assert other.answers(keys) == {key(each): found for each, found in held.items()}
            assert sum(count for _, count, _ in other.refusals()) == len(refused)
        assert one.forget_the_dead() == two.forget_the_dead() == 0


# --- Sums


def test_spending_is_summed_once_by_model_and_strategy(opened):
    one, other = opened(), opened()
    assert one.spent_since(0) == (0, [])
    one.keep(answer(1))
    one.keep(answer(2, reasoning_tokens=3, cached_tokens=4))
    one.keep(answer(3, strategy="cot", prompt_tokens=100))
    mark, spent = other.spent_since(0)
    assert sorted(spent) == [Spent("m", "cot", 1, 100, 5, 0, 0), Spent("m", "direct", 2, 20, 10, 3, 4)]
    assert other.spent_since(mark) == (mark, [])
    one.keep(answer(4, model="n"))
    later, spent = other.spent_since(mark)
    assert later > mark
    assert spent == [Spent("n", "direct", 1, 10, 5, 0, 0)]


def test_an_answer_that_takes_the_place_of_one_without_usage_is_new(opened):
    one = opened()
    one.keep(answer(1))
    one.keep(silent(2))
    mark, spent = one.spent_since(0)
    assert spent == [Spent("m", "direct", 1, 10, 5, 0, 0)]
    one.keep(answer(2, prompt_tokens=70))
    assert one.spent_since(mark)[1] == [Spent("m", "direct", 1, 70, 5, 0, 0)]
    assert one.spent_since(0)[1] == [Spent("m", "direct", 2, 80, 10, 0, 0)]


@pytest.mark.parametrize(
    "changes",
    [
        {"usage": "zero", "prompt_tokens": 0, "completion_tokens": 0},
        {"usage": "zero", "completion_tokens": 0},
        {"usage": "missing", "completion_tokens": None},
        {"usage": "missing", "prompt_tokens": None},
    ],
    ids=["zeros", "zero", "prompt alone", "completion alone"],
)
def test_sums_are_over_the_answers_that_report_their_tokens(opened, changes):
    """The cost of the others is not known: they would drag down the mean of an arm."""
    one = opened()
    one.keep(answer(1))
    one.keep(answer(2, **changes))
    assert one.spent_since(0)[1] == [Spent("m", "direct", 1, 10, 5, 0, 0)]


def test_absurd_counts_of_an_endpoint_do_not_end_the_sums(opened):
    """What is read from the report of an endpoint can be kept and added up, whatever it says."""
    one = opened()
    for number, absurd in enumerate((2**62, 2**62, 2**63, 10**30)):
        tokens = read_tokens({"prompt_tokens": absurd, "completion_tokens": absurd})
        one.keep(answer(number, usage="off", **{f"{side}_tokens": count for side, count in tokens._asdict().items()}))
    one.spent_since(0)


def varied(count, model="m", **changes):
    return [
        answer(1000 + number, model=model, **{name: value(number) for name, value in changes.items()})
        for number in range(count)
    ]


def test_one_number_for_many_texts_is_found(opened):
    one = opened()
    for side, chars, model in (
        ("prompt_tokens", "prompt_chars", "p"),
        ("completion_tokens", "response_chars", "c"),
    ):
        other = "completion_tokens" if side == "prompt_tokens" else "prompt_tokens"
        numbers = {side: lambda _: 7, other: lambda n: 100 + n, chars: lambda n: 40 + 50 * n}
        for each in varied(20, model, **numbers):
            one.keep(each._replace(key=model.encode() + each.key))
    assert one.constant_usage(20) == {"p": "prompt", "c": "completion"}
    assert one.constant_usage(21) == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"completion_tokens": lambda n: 7 + (n == 19), "response_chars": lambda n: 40 + 50 * n},
        {"completion_tokens": lambda n: 7, "response_chars": lambda n: 40 + n % 2},
        {
            "completion_tokens": lambda n: 512,
            "response_chars": lambda n: 400 + 50 * n,
            "finish_reason": lambda n: "length",
        },
        {
            "completion_tokens": lambda n: None,
            "response_chars": lambda n: 40 + 50 * n,
            "usage": lambda n: "missing",
        },
    ],
    ids=["one differs", "texts alike", "cut off", "not reported"],
)
def test_what_is_no_constant_usage(opened, changes):
    one = opened()
    for each in varied(20, prompt_tokens=lambda n: 50 + n, **changes):
        one.keep(each)
    assert one.constant_usage(20) == {}


CITIES = [
    "Paris",
    "London",
    "Berlin",
    "Madrid",
    "Rome",
    "Moscow",
    "Tokyo",
    "Beijing",
    "Cairo",
    "Dublin",
    "Vienna",
    "Athens",
    "Stockholm",
    "Oslo",
    "Delhi",
    "Washington",
    "Toronto",
    "Sydney",
    "Chicago",
    "Boston",
    "Houston",
    "Amsterdam",
    "Melbourne",
    "Lisbon",
    "Prague",
    "Shanghai",
    "Manchester",
    "Liverpool",
    "Jerusalem",
    "Singapore",
]


def test_short_answers_that_happen_to_have_the_same_number_of_tokens_are_no_constant_usage(opened):
    """`Answer: CITY` is three tokens for each of these cities, by cl100k as by Qwen's and DeepSeek's tokenizers."""
    one = opened()
    numbers = {
        "prompt_tokens": lambda n: 50 + n % 9,
        "completion_tokens": lambda n: 4,
        "response_chars": lambda n: len(f"Answer: {CITIES[n]}"),
    }
    for each in varied(len(CITIES), **numbers):
        one.keep(each)
    assert one.constant_usage(20) == {}


# --- Files that are no journal


def refused(path):
    """The message for a path that cannot be opened: one line that names it."""
    try:
        Journal(path)
    except RecalBenchError as error:
        said = str(error)
        assert said.splitlines() == [said]
        assert str(path) in said
        return said
    raise AssertionError(f"{path} was opened")


@pytest.mark.parametrize("size", [1, 2, 15, 100, 511, 512, 4096, 100_000])
def test_a_file_that_is_no_database_is_refused_and_left_alone(path, size):
    path.write_bytes(b"h" * size)
    refused(path)
    assert path.read_bytes() == b"h" * size
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_database_of_something_else_is_refused_and_left_alone(path):
    for mode in ("delete", "wal"):
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as theirs:
            theirs.execute(f"PRAGMA journal_mode = {mode}")
            theirs.execute("CREATE TABLE answers(key BLOB PRIMARY KEY)")
            theirs.commit()
        before = path.read_bytes()
        assert "something else" in refused(path)
        assert path.read_bytes() == before


def test_a_database_of_something_else_that_has_no_table_yet_is_refused_and_left_alone(path):
    with closing(sqlite3.connect(path)) as theirs:
        theirs.execute("PRAGMA application_id = 42")
        theirs.execute("PRAGMA user_version = 7")
    before = path.read_bytes()
    assert len(before) > 0
    refused(path)
    assert path.read_bytes() == before


def test_a_journal_of_another_version_is_refused_and_left_alone(path):
    Journal(path).close()
    with closing(sqlite3.connect(path)) as theirs:
        theirs.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    assert "another version" in refused(path)
    assert path.read_bytes() == before


def test_an_empty_file_becomes_a_journal(path):
    path.touch()
    with closing(Journal(path)) as one:
        one.keep(answer(1))
        assert one.answers([key(1)]) == {key(1): answer(1)}


def test_a_folder_is_refused(tmp_path):
    refused(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_path_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    refused(tmp_path / "file" / "a.journal")
    refused(tmp_path / "file" / "deep" / "a.journal")


def test_folders_are_made(tmp_path):
    Journal(tmp_path / "deep" / "er" / "a.journal").close()
    assert (tmp_path / "deep" / "er" / "a.journal").exists()


@on_linux
def test_a_journal_that_cannot_be_opened_is_not_left_open(path):
    """An open connection keeps its locks, and is a ResourceWarning in Python 3.13."""
    path.write_bytes(b"h" * 4096)
    with pytest.raises(RecalBenchError) as caught:
        Journal(path)
    open_files = [str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    assert str(path) not in open_files
    del caught


@on_linux
@pytest.mark.parametrize("existing", [True, False])
def test_a_read_only_place_is_refused(tmp_path, existing):
    program = """
        folder = Path(sys.argv[1])
        if sys.argv[2] == "True":
            with closing(Journal(folder / "a.journal")) as one:
                one.keep(answer(1))
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        print(refused(folder / "a.journal"))
    """
    said = on_a_small_disk(tmp_path, program, existing)
    assert any(f"cannot be {what}" in said for what in ("opened", "read", "written"))


def test_a_journal_that_another_program_locks_says_so(path, opened, monkeypatch):
    monkeypatch.setattr(module, "_WAIT_S", 0.05)
    one = opened()
    with closing(sqlite3.connect(path, isolation_level=None)) as theirs:
        theirs.execute("BEGIN IMMEDIATE")
        for write in (
            lambda: one.keep(answer(1)),
            lambda: one.claim(key(1), 0.1, estimates=False),
            lambda: one.unsure(key(1), "cut", 0.1),
        ):
            with pytest.raises(RecalBenchError, match=r"cannot be written: database is locked.*is safe"):
                write()
        theirs.execute("ROLLBACK")
    one.keep(answer(1))
    assert one.answers([key(1)]) == {key(1): answer(1)}


@pytest.mark.parametrize(
    "read",
    [
        lambda one: one.answers([key(number) for number in range(300)]),
        lambda one: one.answered([key(number) for number in range(300)], estimates=True),
        lambda one: one.spent_since(0),
        lambda one: one.constant_usage(20),
    ],
    ids=["answers", "answered", "spent_since", "constant_usage"],
)
def test_a_damaged_journal_is_an_error_in_one_line(path, read):
    with closing(Journal(path)) as one:
        for number in range(300):
            one.keep(answer(number, body=json.dumps("x" * 500)))
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 4)
        file.write(b"\xff" * (size // 2))
    with pytest.raises(RecalBenchError) as caught, closing(Journal(path)) as one:
        read(one)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_the_journal_lies_beside_the_outcomes_unless_another_is_named(tmp_path):
    out = tmp_path / "outcomes.parquet"
    assert placed(None, out) == tmp_path / "outcomes.journal"
    assert placed(tmp_path / "shared.db", out) == tmp_path / "shared.db"


# --- Disks and deaths


def on_a_small_disk(folder, program, *args):
    """What a program says that may fill a file system of 400 kB of its own; skips where none can be mounted."""
    mounted = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=400k tmpfs "$0" && exec "$@"', str(folder)]
    can = shutil.which("unshare") and subprocess.run([*mounted, "true"], capture_output=True, check=False)
    if not can or can.returncode:
        pytest.skip("no file system can be mounted here")
    ran = subprocess.run(
        [*mounted, sys.executable, "-c", program_of(program), str(folder), *map(str, args)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def filled(journal, ids):
    """Keeps answers until there is no room; which ones were kept, and the message."""
    kept = []
    for number in ids:
        try:
            journal.keep(answer(number, body=json.dumps("x" * 3000)))
        except RecalBenchError as error:
            return kept, str(error)
        kept.append(number)
    raise AssertionError("there was room for all")


def goes_on_after(journal, path, make_room):
    """Fills the disk, makes room, goes on; checks that all that was kept is there, here and for another process."""
    kept, said = filled(journal, range(5000))
    assert len(said.splitlines()) == 1
    assert "cannot be written" in said
    assert "is safe" in said
    keys = [key(number) for number in range(5000)]
    assert set(journal.answers(keys)) == {key(number) for number in kept}
    make_room()
    journal.keep(answer(9999))
    with closing(Journal(path)) as other:
        assert set(other.answers([*keys, key(9999)])) == {key(number) for number in [*kept, 9999]}
    sys.stdout.write(str(len(kept)))


@on_linux
def test_a_full_disk_loses_nothing_and_the_journal_goes_on_when_there_is_room(tmp_path):
    program = """
        folder = Path(sys.argv[1])
        (folder / "ballast").write_bytes(bytes(150_000))
        with closing(Journal(folder / "a.journal")) as journal:
            goes_on_after(journal, folder / "a.journal", (folder / "ballast").unlink)
    """
    assert int(on_a_small_disk(tmp_path, program)) > 5


@on_linux
def test_a_disk_that_is_full_from_the_start_is_refused_in_one_line(tmp_path):
    program = """
        folder = Path(sys.argv[1])
        try:
            (folder / "ballast").write_bytes(bytes(1_000_000))
        except OSError:
            pass
        print(refused(folder / "a.journal"))
        (folder / "ballast").unlink()
        Journal(folder / "a.journal").close()
    """
    assert "cannot be opened" in on_a_small_disk(tmp_path, program)


@posix
def test_a_limit_on_the_size_of_files_loses_nothing(path):
    program = """
        import resource
        path = Path(sys.argv[1])
        with closing(Journal(path)) as journal:
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
            raised = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            goes_on_after(journal, path, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, raised))
    """
    with started(program, path) as child:
        said, problems = child.communicate(timeout=60)
    assert problems == ""
    assert int(said) > 5


FRAME = 24 + 4096
"""A frame of a write-ahead log: its header and a page."""


@pytest.mark.parametrize("cut", [1, 100, FRAME - 1, FRAME, FRAME + 50])
@pytest.mark.parametrize("with_index", [True, False])
def test_a_torn_log_costs_the_last_answers_at_most(path, opened, tmp_path, cut, with_index):
    one = opened()
    for number in range(30):
        one.keep(answer(number))
    copy = tmp_path / "copy" / path.name
    copy.parent.mkdir()
    for ending in ("", "-wal", *(["-shm"] if with_index else [])):
        shutil.copy(f"{path}{ending}", f"{copy}{ending}")
    log = Path(f"{copy}-wal")
    assert log.stat().st_size > 30 * FRAME
    os.truncate(log, log.stat().st_size - cut)
    with closing(Journal(copy)) as other:
        found = other.answers([key(number) for number in range(30)])
        least = 29 if cut < FRAME else 28
        assert set(found) >= {key(number) for number in range(least)}
        assert all(found[key(number)] == answer(number) for number in range(least))
        other.keep(answer(30))
    with closing(Journal(copy)) as other:
        assert key(30) in other.answers([key(30)])


@posix
def test_what_a_killed_process_says_is_kept_is_kept(path):
    """It prints a key after `keep` has returned; it is killed at a random instant, again and again."""
    program = """
        journal, first = Journal(Path(sys.argv[1])), int(sys.argv[2])
        print("ready", flush=True)
        for number in range(first, first + 1_000_000):
            assert journal.claim(key(number), 0.25, estimates=False)
            journal.keep(answer(number, body=json.dumps("x" * (number % 3000))))
            print(number, flush=True)
    """
    rng, said, lives = random.Random(0), set(), 20
    for life in range(lives):
        with started(program, path, life * 1_000_000) as child:
            assert child.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0.0, 0.04))
            child.kill()
            lines = child.stdout.read().split("\n")[:-1]
        said |= {int(line) for line in lines}
        with closing(Journal(path)) as one:
            assert one.answered([key(number) for number in said], estimates=True) == {key(number) for number in said}
            assert one.claims() == 0
    assert len(said) > lives
    with closing(Journal(path)) as one:
        found = one.answers([key(number) for number in said])
        assert all(found[key(each)] == answer(each, body=json.dumps("x" * (each % 3000))) for each in said)
        assert one.unsure_counts().get("killed", 0) <= lives
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("SELECT count(*) FROM answers").fetchone()[0] - len(said) <= lives
