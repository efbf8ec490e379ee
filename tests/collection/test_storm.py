"""Kills and faults together: a small version of benchmarks/collect_storm.py, with one collector and with two."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
collect_storm = pytest.importorskip("collect_storm", reason="benchmarks/ is not in this checkout")


@pytest.mark.parametrize("collectors", [1, 2])
def test_nothing_is_lost_and_nothing_asked_again(tmp_path: Path, collectors: int) -> None:
    found = collect_storm.storm(
        tmp_path,
        kills=collectors,
        documents=6,
        faults=",".join(f"{kind}=0.03" for kind in collect_storm.KINDS),
        tasks="nq,musique",
        collectors=collectors,
        latest_s=7.0,
        latency_ms=30,
        seed=collectors,
    )
    assert found.kills == collectors
    assert found.rows == 2 * 6 * 24
    assert found.differences == []
    assert found.asked_again == []
    assert found.usd == found.quiet_usd
    assert sum(count for kind, count in found.faults.items() if kind != "ok") > 100
    assert found.most_in_doubt_after_a_kill <= 32 * collectors
