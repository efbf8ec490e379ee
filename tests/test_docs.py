"""Every Python block of README.md and docs/ is executed: the blocks of a page in turn, as cells of one notebook."""

import json
import os
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import pytest
from small_log import write_small_log

REPOSITORY = Path(__file__).parent.parent
ELSEWHERE = {
    "docs/estimators.md": "tests/test_estimators_page.py",
}
"""Pages whose blocks another test executes, and which."""

# The same calls on a small, fast setting.
QUICK = {
    '["recal", "knn"], seeds=5': '["recal", "knn"], seeds=2, settings={"recal": {"steps": 10}}',
    'tasks=["nq", "musique"]': 'tasks=["nq"]',
    "world_seed=3": "world_seed=0",
    "questions_by_prompt(3)": "questions_by_prompt(0)",
    "Pool(3)": "Pool(0)",
    "http://127.0.0.1:8100/v1": "BASE_URL",
    # The data of that task is not here; tests/collection/test_lm.py evaluates an arm.
    'simple_evaluate(model=arm, tasks=["gsm8k"])': "callable(simple_evaluate)",
}
# What a page takes for granted.
BEFORE = {
    "docs/collect.md": """
from pathlib import Path
Path("mine.yaml").write_text('''
pool: mine
endpoints:
  embedded: {base_url: "BASE_URL", api_key_env: null}
models:
  small: {endpoint: embedded, served_model: brelune-8b, price: {date: 2026-11-01, input: 0.2, output: 0.2},
    context_length: 8192}
''')
""",
    "docs/recal.md": """
import numpy as np
reward_QGK, weight_K, like_D = np.random.default_rng(0).normal(size=(4, 8, 2)), np.array([1.0, -0.2]), np.zeros(2)
outcome_QG, share_QG = reward_QGK[..., 1], np.full((4, 8), 0.25)
dataset_Q, valid_QG = np.array([0, 0, 1, 1]), np.ones((4, 8), dtype=bool)
""",
}


class Block(NamedTuple):
    """A block with the number of its first line, and the file it is to be saved as (None: it is executed)."""

    text: str
    line: int
    file: str | None


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in re.finditer(r"^```[ \t]*py\w*[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        before = text[: match.start()].rstrip().rpartition("\n")[2]
        named = re.search(r"[Ss]ave\b.*`([\w./-]+\.py)`", before) or re.match(r"# ([\w./-]+\.py)\n", match[1])
        found.append(Block(match[1], text[: match.start(1)].count("\n"), named[1] if named else None))
    return found


def pages() -> dict[str, Path]:
    every = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
    return {path.relative_to(REPOSITORY).as_posix(): path for path in every if blocks(path)}


RUNNER = """
import importlib, json, sys
from pathlib import Path
from recal_bench.experiments import latency
from recal_bench.routers import load_folder
latency.TIMED_QUERIES, latency.REPEATS = 3, 1
sys.path.insert(0, "")
for text, line, file in json.loads(Path("blocks.json").read_text()):
    if file is None:
        exec(compile("\\n" * line + text, PAGE, "exec"), globals())
    elif Path(file).parent == Path():
        importlib.import_module(Path(file).stem)
    else:
        load_folder(Path(file).parent)
"""


@pytest.mark.parametrize("name", [name for name in pages() if name not in ELSEWHERE])
def test_the_python_blocks_of_a_page_run(name: str, tmp_path: Path) -> None:
    from recal_bench.simulation.server import running_server

    write_small_log(tmp_path / "my_log.parquet")
    found = [Block(BEFORE[name], 0, None)] if name in BEFORE else []
    found += [block._replace(text=quick(block.text)) for block in blocks(pages()[name])]
    asks = any("BASE_URL" in block.text for block in found)
    with running_server() if asks else nullcontext("") as base_url:
        found = [block._replace(text=block.text.replace("BASE_URL", base_url)) for block in found]
        for block in found:
            if block.file is not None:
                (tmp_path / block.file).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / block.file).write_text(block.text, encoding="utf-8")
        (tmp_path / "blocks.json").write_text(json.dumps(found), encoding="utf-8")
        command = [sys.executable, "-c", f"PAGE = {name!r}{RUNNER}"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def quick(text: str) -> str:
    for slow, fast in QUICK.items():
        text = text.replace(slow, fast)
    return text


def test_pages_that_other_tests_execute_are_named_with_their_tests() -> None:
    for page, test in ELSEWHERE.items():
        if page in pages():
            assert Path(page).name in (REPOSITORY / test).read_text(encoding="utf-8"), f"{test} does not execute {page}"
