"""A router that is live: checked against a pool, and asked for many requests at once."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Executor
from pathlib import Path
from statistics import median
from typing import NamedTuple

from recal_bench import plugins
from recal_bench.encoders import FeatureValues
from recal_bench.errors import RecalBenchError, RunError, SettingsError
from recal_bench.experiments.deployed import DeployedRouter
from recal_bench.experiments.records import read_run
from recal_bench.gateway.chat import PLAIN
from recal_bench.outcomes import Arm
from recal_bench.pools.pool import Pool
from recal_bench.wording import some_of

_PROBES, _TIMED = 16, 5
_QUICK_S = 0.005
_LISTED = 6


class _Waiting(NamedTuple):
    prompt: str
    query_id: str
    features: FeatureValues
    ranking: asyncio.Future[tuple[Arm, ...]]


class LiveRouter:
    """Ranks the arms for requests. Those that wait are ranked together, for routers cost little more for many.

    A slow router is asked in `executor`, whose one thread sees to it that it is not asked by several at once; a quick
    one has none, for the way to a thread takes longer than its answer. Used within one event loop.
    """

    def __init__(self, router: DeployedRouter, executor: Executor | None) -> None:
        self.router, self._executor = router, executor
        self._waiting: list[_Waiting] = []
        self._work: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The router and its run: `ridge (ridge-1a2b-s0)`."""
        return f"{self.router.run.record.configuration.router} ({self.router.run.folder.resolve().name})"

    async def rank(self, prompt: str, query_id: str, features: FeatureValues) -> tuple[Arm, ...]:
        """The arms, best first. Raises RecalBenchError where the router cannot decide."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(prompt, query_id, features, loop.create_future())
        self._waiting.append(waiting)
        if self._work is None or self._work.done():
            self._work = loop.create_task(self._rank_all())
        return await waiting.ranking

    async def _rank_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            ids = [each.query_id for each in batch]
            try:
                asked = [each.prompt for each in batch], ids, [each.features for each in batch]
                ranking = (
                    await asyncio.get_running_loop().run_in_executor(self._executor, self.router.rank, *asked)
                    if self._executor
                    else self.router.rank(*asked)
                )
            except Exception as error:
                failed = error if isinstance(error, RecalBenchError) else RunError(f"the router failed: {error!r}")
                for each in batch:
                    if not each.ranking.done():
                        each.ranking.set_exception(failed)
                continue
            for each, arm_A in zip(batch, ranking.arm_QA, strict=True):
                if not each.ranking.done():
                    each.ranking.set_result(tuple(self.router.arms[arm] for arm in arm_A))


def load_live(run: Path, pool: Pool | None, executor: Executor) -> LiveRouter:
    """Load the router of a run and try it. With a pool, every arm must be in it.

    Raises RunError and PluginError as `DeployedRouter` does, SettingsError where the pool lacks an arm or where the
    router draws its arms at random: their probabilities would be unknown.
    """
    plugins.discover()
    router = DeployedRouter(read_run(run))
    if pool is not None:
        known = {*pool.strategies, PLAIN}
        lacking = [str(arm) for arm in router.arms if arm.model not in pool.models or arm.strategy not in known]
        if lacking:
            raise SettingsError(
                f"pool {pool.pool} lacks {len(lacking)} of the {len(router.arms)} arms of {run}: "
                f"{some_of(lacking, _LISTED)}: add their models and strategies to the pool file"
            )
    ranking = router.rank(["which is it?"] * _PROBES, [f"probe-{number}" for number in range(_PROBES)])
    if len(set(ranking.arm_QA[:, 0].tolist())) > 1:
        raise SettingsError(
            f"{router.run.record.configuration.router} of {run} draws its arms, so that their probabilities are not "
            "known: serve another router, with --epsilon 1 if every arm is to be equally likely"
        )
    return LiveRouter(router, executor if _seconds(router) > _QUICK_S else None)


def _seconds(router: DeployedRouter) -> float:
    """Processor time of a single decision; what else the machine does is not in it."""
    taken = []
    for number in range(_TIMED):
        begin = time.thread_time()
        router.rank([f"which is it, number {number}?"])
        taken.append(time.thread_time() - begin)
    return median(taken)
