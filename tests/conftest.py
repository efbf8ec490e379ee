import gc
import os
from pathlib import Path

import pytest
from hypothesis import settings

# What a command prints is as wide as COLUMNS says, which pytest-xdist sets for its workers.
os.environ.pop("COLUMNS", None)
settings.register_profile("recal-bench", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("recal-bench")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Lines are counted where examples run them: tracing a property's every draw costs most of the suite's time."""
    if config.pluginmanager.hasplugin("_cov"):
        for item in items:
            if item.get_closest_marker("hypothesis"):
                item.add_marker("no_cover")


@pytest.fixture(scope="module", autouse=True)
def garbage_is_of_this_module() -> None:
    """What was imported before is never garbage, and looking through it is most of a collection's time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Logged outcomes of real models, which the repository does not hold: see CONTRIBUTING.md."""
    folder = os.environ.get("RECAL_BENCH_DATA")
    if not folder:
        pytest.skip("RECAL_BENCH_DATA names no folder of logged outcomes")
    return Path(folder)
