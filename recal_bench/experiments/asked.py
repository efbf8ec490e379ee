"""A router behind an OpenAI-compatible API, asked what it chooses for every query that is judged."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from recal_bench import provenance
from recal_bench.collection.routing import ask_router, router_at
from recal_bench.experiments.bench import Bench
from recal_bench.experiments.external import External
from recal_bench.experiments.matching import matched
from recal_bench.folders import slug
from recal_bench.importers.decisions import Decided
from recal_bench.importers.values import Place

JOURNALS = ".journals"


def ask_external(bench: Bench, name: str, where: str, folder: Path, max_usd: float | None = None) -> External:
    """The decisions of the router at a URL or in a pool file, on every evaluated split; its replies lie in a journal
    in `folder`. Raises EndpointError as `ask_router` does, OutcomesError where a reply names a model of several arms.
    """
    test = bench.splits.test
    models = dict.fromkeys(arm.model for arm in test.arms)
    asked = router_at(name, where, [*models, *map(str, test.arms)])
    parts = bench.splits.evaluation.values()
    keys = [key for part in parts for key in zip(part.task_Q, part.query_id_Q, strict=True)]
    prompts = [str(prompt) for part in parts for prompt in part.prompt_Q]
    journal = folder / JOURNALS / f"{slug(name)}.journal"
    routed = ask_router(asked, prompts, journal, max_usd)
    # A query of two splits is decided once.
    rows = {
        key: Decided(Place(journal, "reply", number), str(key[1]), str(key[0]), each.model, each.cost, 0)
        for number, (key, each) in enumerate(zip(keys, routed, strict=True), start=1)
    }
    what = f"--endpoint {name}={where}"
    by_seed, notes = matched(bench, list(rows.values()), what)
    said = json.dumps([[row.task, row.query_id, row.arm, row.cost] for row in rows.values()])
    shown = where if "://" in where else provenance.command_line(Path(where))
    command = f"recal-bench run --endpoint {name}={shown} {provenance.command_line(*bench.options)}".rstrip()
    return External(name, hashlib.sha256(said.encode()).hexdigest()[:16], by_seed, command, notes)
