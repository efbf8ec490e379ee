import gc
import os
from pathlib import Path

import pytest
from hypothesis import settings

# What a command prints is as wide as COLUMNS says, which pytest-xdist sets for its workers.
os.environ.pop("COLUMNS", None)
settings.register_profile("recal-bench", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("recal-bench")


@pytest.fixture(scope="module", autouse=True)
def garbage_is_of_this_module() -> None:
    """What was imported before is never garbage, and looking through it is most of a collection's time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def few_queries_are_timed() -> None:
    """How long routers take is no test's matter, and measuring it is a third of a small run."""
    from recal_bench.experiments import latency

    latency.TIMED_QUERIES, latency.REPEATS = 3, 1


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Logged outcomes of real models, which the repository does not hold: see CONTRIBUTING.md."""
    folder = os.environ.get("RECAL_BENCH_DATA")
    if not folder:
        pytest.skip("RECAL_BENCH_DATA names no folder of logged outcomes")
    return Path(folder)
