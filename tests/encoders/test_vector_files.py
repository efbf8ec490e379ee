"""The encoder `vectors:FILE`."""

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from click.testing import CliRunner
from small_log import small_log

from recal_bench.cli import cli
from recal_bench.encoders import fit_encoder, load_encoder
from recal_bench.errors import SettingsError

TEXTS = ["one river", "two rivers", "a court"]
VECTORS = [[3.0, 4.0], [0.0, 2.0], [1.0, 0.0]]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECAL_BENCH_CACHE", str(tmp_path / "cache"))


def written(path: Path, texts: list, vectors: list) -> Path:
    pd.DataFrame({"prompt": texts, "vector": vectors}).to_parquet(path)
    return path


def written_npz(path: Path) -> Path:
    np.savez(path, prompt=np.array(TEXTS), vector=np.array(VECTORS, dtype=np.float32))
    return path


def fixed_size(path: Path) -> Path:
    vector = pa.FixedSizeListArray.from_arrays(pa.array(np.ravel(VECTORS), pa.float32()), 2)
    pyarrow.parquet.write_table(pa.table({"prompt": TEXTS, "vector": vector}), path)
    return path


@pytest.mark.parametrize(
    "make", [lambda path: written(path, TEXTS, VECTORS), lambda path: written_npz(path.with_suffix(".npz")), fixed_size]
)
def test_a_prompt_gets_its_vector(tmp_path: Path, make) -> None:
    fitted = fit_encoder(f"vectors:{make(tmp_path / 'v.parquet')}", TEXTS)
    np.testing.assert_allclose(fitted.encode(TEXTS[::-1]), [[1, 0], [0, 1], [0.6, 0.8]], rtol=1e-6)
    fitted.save(tmp_path / "saved")
    np.testing.assert_array_equal(load_encoder(tmp_path / "saved").encode(TEXTS), fitted.encode(TEXTS))


def test_it_goes_beside_another_and_reads_long_prompts_whole(tmp_path: Path) -> None:
    long = ["x " * 5_000 + "end", "y " * 5_000]
    fitted = fit_encoder(f"tfidf+vectors:{written(tmp_path / 'v.parquet', long, VECTORS[:2])}", long)
    np.testing.assert_allclose(fitted.encode(long)[:, -2:] * np.sqrt(2), [[0.6, 0.8], [0, 1]], rtol=1e-6)


def test_a_prompt_without_a_vector_is_named(tmp_path: Path) -> None:
    name = f"vectors:{written(tmp_path / 'v.parquet', TEXTS, VECTORS)}"
    with pytest.raises(SettingsError, match=r"no vector for 1 of 2 prompts \(three rivers\): add them to the file"):
        fit_encoder(name, ["one river", "three rivers"])


@pytest.mark.parametrize(
    ("texts", "vectors", "said"),
    [
        (TEXTS, [[1.0], [1.0, 2.0], [0.0, 1.0]], "not all of one length"),
        (TEXTS, [[1.0], [None], [2.0]], "a number of a vector is null"),
        (TEXTS, ["a", "b", "c"], "vector must be lists of numbers"),
        (["a", None, "b"], VECTORS, "a prompt or a vector is null"),
        (TEXTS, [[1.0, 2.0], [1.0, math.inf], [0.0, 1.0]], "the vector in row 2 holds what is not a finite number"),
        (["a", "b", "a"], VECTORS, "rows 1 and 3 give the same prompt different vectors"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, texts: list, vectors: list, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as error:
        fit_encoder(f"vectors:{written(tmp_path / 'v.parquet', texts, vectors)}", ["a"])
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_or_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"reads the file none\.parquet, which cannot be read"):
        fit_encoder("vectors:none.parquet", ["a"])
    with pytest.raises(SettingsError, match="write vectors:FILE"):
        fit_encoder("vectors", ["a"])
    with pytest.raises(SettingsError, match="tfidf:x takes nothing after a colon"):
        fit_encoder("tfidf:x", ["a"])
    for name, content in (("v.npz", b"PK"), ("v.parquet", b"text")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SettingsError, match="holds no vectors"):
            fit_encoder(f"vectors:{tmp_path / name}", ["a"])
    pd.DataFrame({"prompt": TEXTS}).to_parquet(tmp_path / "v.parquet")
    with pytest.raises(SettingsError, match="it has no column vector"):
        fit_encoder(f"vectors:{tmp_path / 'v.parquet'}", ["a"])
    np.savez(tmp_path / "v.npz", prompt=np.array(TEXTS, dtype=object), vector=np.array(VECTORS))
    with pytest.raises(SettingsError, match="holds no vectors"):
        fit_encoder(f"vectors:{tmp_path / 'v.npz'}", ["a"])


def test_a_saved_router_says_when_its_file_is_gone_or_another(tmp_path: Path) -> None:
    path = written(tmp_path / "v.parquet", TEXTS, VECTORS)
    fit_encoder(f"vectors:{path}", TEXTS).save(tmp_path / "saved")
    written(path, [*TEXTS, "new"], [*VECTORS, [5.0, 0.0]])
    np.testing.assert_array_equal(load_encoder(tmp_path / "saved").encode(["new"]), [[1, 0]])
    written(path, TEXTS, [*VECTORS[:2], [1.0, 1.0]])
    with pytest.raises(SettingsError, match="does not hold the vectors with which the router was trained"):
        load_encoder(tmp_path / "saved")
    path.unlink()
    with pytest.raises(SettingsError, match=re.escape(f"reads the file {path}, which cannot be read")):
        load_encoder(tmp_path / "saved")


def test_a_run_reads_it_and_runs_again_when_the_file_changes(tmp_path: Path) -> None:
    log = small_log()
    log.to_parquet(tmp_path / "log.parquet")
    prompts = log["prompt"].unique().tolist()

    def run() -> str:
        words = ["--outcomes", tmp_path / "log.parquet", "--router", "ridge", "--runs", tmp_path / "runs"]
        result = CliRunner().invoke(cli, ["run", *map(str, words), "--set", f"encoder=vectors:{tmp_path}/v.parquet"])
        assert result.exit_code == 0, result.output
        return str(sorted(path.name for path in (tmp_path / "runs").glob("ridge-*")))

    signs = [[1.0, float("river" in text or "island" in text)] for text in prompts]
    written(tmp_path / "v.parquet", prompts, signs)
    first = run()
    assert run() == first
    written(tmp_path / "v.parquet", prompts, [[each, 1.0] for _, each in signs])
    assert len(run()) > len(first)
