"""Who may ask, what other machines may reach, and that no key of an endpoint gets out."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner
from collection.own_endpoint import own_endpoint, reply
from front import front, pool_file, right

from recal_bench.cli import cli

SECRET, MINE = "sk-upstream-0123456789abcdef", "client-key-9876"


@pytest.fixture
def keys(monkeypatch):
    monkeypatch.setenv("UPSTREAM_KEY", SECRET)
    monkeypatch.setenv("CLIENT_KEY", MINE)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 500])
def test_the_endpoints_key_is_in_no_log_header_or_error(runs, tmp_path, keys, monkeypatch, stream, status):
    monkeypatch.setattr("recal_bench.gateway.upstream._FIRST_WAIT_S", 0.001)
    shown = f"Bearer {SECRET}"

    def respond(asked):
        assert asked.headers["Authorization"] == shown
        if status == 200:
            found, content, *headers = right(asked)
            return found, content, {"X-Echo": shown, "Set-Cookie": SECRET, **(headers[0] if headers else {})}
        return status, {"error": {"message": f"you sent {shown}", "code": SECRET}}, {"X-Echo": shown}

    with front(tmp_path, runs["ridge"], respond, endpoint={"api_key_env": "UPSTREAM_KEY"}) as served:
        found = served.ask(stream=stream, user="me")
        said = [str(found.headers), found.text, served.metrics(), served.get("/health").text]
        asked = dict(served.asked[0].headers)
    written = [path.read_text() for path in tmp_path.iterdir() if path.suffix == ".jsonl"]
    assert (found.status == 200) == (status == 200)
    assert len(written) == 2
    for text in (*said, *written):
        assert SECRET not in text
    assert MINE not in str(asked)


def test_clients_need_the_key_but_for_health(runs, tmp_path):
    with front(tmp_path, runs["ridge"], key=MINE) as served:
        assert served.get("/health").status == 200
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": MINE}):
            for path in ("/v1/models", "/metrics"):
                assert served.get(path, headers).status == 401
            for path in ("/v1/chat/completions", "/v1/feedback", "/admin/reload"):
                assert served.post(path, {}, headers).status == 401
        right_key = {"Authorization": f"Bearer {MINE}"}
        assert served.get("/v1/models", right_key).status == 200
        asked = {"model": "auto", "messages": [{"role": "user", "content": "which river?"}]}
        assert served.post("/v1/chat/completions", asked, right_key).status == 200
        assert MINE not in str(served.asked)


def test_pages_in_a_browser_cannot_ask(runs, tmp_path):
    asked = b'{"model": "auto", "messages": [{"role": "user", "content": "which river?"}]}'
    with front(tmp_path, runs["ridge"]) as served:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            assert served.post("/v1/chat/completions", asked, {"Content-Type": kind}).status == 415
        for host in ("evil.example", "evil.example:8200", "127.0.0.1.evil.example", "localhost.evil.example", ""):
            assert served.post("/v1/chat/completions", asked, {"Host": host}).status == 403
        for host in ("localhost", "localhost:1", "127.0.0.1:80", "[::1]:80"):
            assert served.get("/health", {"Host": host}).status == 200
        assert served.asked == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "0.0.0.0"], "give --allow-remote and --key-env"),
        (["--host", "0.0.0.0", "--key-env", "CLIENT_KEY"], "give --allow-remote"),
        (["--host", "0.0.0.0", "--allow-remote"], "needs a key"),
        (["--host", "::", "--allow-remote"], "needs a key"),
        (["--host", "example.org", "--allow-remote"], "needs a key"),
        (["--key-env", "NOT_SET"], "NOT_SET is not set"),
        (["--log", "log.csv"], "name it .jsonl"),
        (["--run", "nowhere"], "holds no run.json"),
        (["--pool", "nowhere.yaml"], "there is no pool file"),
        (["--pool", "router-r1"], "lacks 3 of the 3 arms"),
        (["--epsilon", "2"], "is not in the range"),
    ],
)
def test_what_cannot_be_served_is_one_line(runs, tmp_path, keys, words, said):
    pool = pool_file(tmp_path, "http://127.0.0.1:9/v1")
    given = ["serve", "--run", str(runs["ridge"]), "--pool", str(pool), "--port", "0", *words]
    done = CliRunner().invoke(cli, given)
    assert done.exit_code == 2
    assert said in done.output
    assert isinstance(done.exception, SystemExit)


def test_a_taken_port_is_one_line(runs, tmp_path):
    with own_endpoint(lambda asked: (200, reply(asked))) as (url, _):
        port = url.rpartition(":")[2].partition("/")[0]
        given = ["serve", "--run", str(runs["ridge"]), "--pool", str(pool_file(tmp_path, url)), "--port", port]
        done = CliRunner().invoke(cli, given)
    assert done.exit_code == 2
    assert "is in use" in done.output


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs SIGHUP")
def test_a_new_run_is_taken_up_without_dropping_requests(runs, tmp_path):
    current = tmp_path / "current"
    current.symlink_to(runs["ridge"])
    with own_endpoint(right) as (upstream, _):
        pool = pool_file(tmp_path, upstream)
        words = ["serve", "--run", str(current), "--pool", str(pool), "--port", "0"]
        command = [sys.executable, "-m", "recal_bench.cli", *words]
        repository = Path(__file__).parent.parent.parent
        environment = {**os.environ, "PYTHONPATH": str(repository)}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        ) as server:
            line = server.stdout.readline()
            url = next(word for word in line.split() if word.startswith("http"))
            routers = set()
            asked = b'{"model": "auto", "messages": [{"role": "user", "content": "which river?"}]}'

            def ask(path="/chat/completions", content=asked):
                given = {"Content-Type": "application/json"}
                with urllib.request.urlopen(urllib.request.Request(url + path, content, given), timeout=20) as response:
                    return response.status

            def router():
                with urllib.request.urlopen(url.replace("/v1", "/health"), timeout=20) as response:
                    return response.read().decode()

            current.unlink()
            current.symlink_to(runs["arm:codex-iuris|cot"])
            server.send_signal(signal.SIGHUP)
            until = time.monotonic() + 60
            while time.monotonic() < until and "arm:" not in (seen := router()):
                routers.add(seen)
                assert ask() == 200
            assert "arm:codex-iuris|cot" in seen
            current.unlink()
            current.symlink_to(tmp_path / "nowhere")
            server.send_signal(signal.SIGHUP)
            assert "reloaded: arm:codex-iuris|cot" in server.stderr.readline()
            assert "not reloaded" in server.stderr.readline()
            assert ask() == 200
            server.terminate()
            assert server.wait(30) == 0
            assert server.stderr.read() == ""


def test_a_reload_by_post_says_what_is_live(runs, tmp_path):
    current = tmp_path / "current"
    current.symlink_to(runs["ridge"])
    with front(tmp_path, current) as served:
        current.unlink()
        current.symlink_to(runs["logistic"])
        assert served.post("/admin/reload", {}).json()["router"].startswith("logistic (logistic-")
        current.unlink()
        current.symlink_to(tmp_path / "nowhere")
        failed = served.post("/admin/reload", {})
        assert failed.status == 409
        assert "the router of before goes on" in failed.json()["error"]["message"]
        assert served.ask().status == 200
        assert 'reloads_total{succeeded="false"} 1' in served.metrics()
