import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("recal-bench", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("recal-bench")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Logged outcomes of real models, which the repository does not hold: see CONTRIBUTING.md."""
    folder = os.environ.get("RECAL_BENCH_DATA")
    if not folder:
        pytest.skip("RECAL_BENCH_DATA names no folder of logged outcomes")
    return Path(folder)
