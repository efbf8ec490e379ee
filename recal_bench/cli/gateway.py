"""`serve`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from recal_bench.cli.base import command, include_path, key_of

if TYPE_CHECKING:
    from recal_bench.gateway.gateway import Gateway

_HOST, _PORT = "127.0.0.1", 8200


@command(
    "recal-bench serve --run runs/ridge-... --pool my_pool.yaml\n"
    "recal-bench serve --run current --pool my_pool.yaml --log traffic.jsonl --epsilon 0.1 --max-usd 20"
)
@click.option("--run", "run_folder", type=click.Path(path_type=Path), required=True, help="The folder of one run.")
@click.option(
    "--pool", "pool_file", type=click.Path(path_type=Path), required=True, help="A pool file, or a shipped one's name."
)
@click.option("--host", default=_HOST, show_default=True, help="Where to listen. The default is this machine only.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=_PORT, show_default=True, help="The port; 0 takes a free one."
)
@click.option("--allow-remote", is_flag=True, help="Let other machines ask (--host); needs --key-env.")
@click.option("--key-env", metavar="NAME", help="The environment variable that holds the key which clients must send.")
@click.option(
    "--log",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A .jsonl file that gets a row for each request: an outcomes file of one arm a query (added to).",
)
@click.option(
    "--epsilon",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="In this share of requests an arm is drawn at random, so that the log can tell what other routers are worth.",
)
@click.option(
    "--shadow",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Another run, whose choices are logged and never followed.",
)
@click.option(
    "--max-usd",
    type=click.FloatRange(0, min_open=True),
    help="What answers may cost, those that the log holds already included.",
)
@include_path
def serve(
    run_folder: Path,
    pool_file: Path,
    host: str,
    port: int,
    allow_remote: bool,
    key_env: str | None,
    log: Path | None,
    epsilon: float,
    shadow: Path | None,
    max_usd: float | None,
    include_paths: tuple[Path, ...],
) -> None:
    """Serve a trained router in front of a pool's models, as an OpenAI-compatible endpoint, until Ctrl-C."""
    from recal_bench import routers
    from recal_bench.gateway import server
    from recal_bench.gateway.gateway import Settings
    from recal_bench.pools.files import read_pool

    key = None if key_env is None else key_of(key_env)
    server.check_host(host, allow_remote, key)
    routers.discover(include_paths)
    pool = read_pool(pool_file)

    def ready(base_url: str, gateway: Gateway) -> None:
        simulated = " (simulated)" if pool.simulated else ""
        arms = len(gateway.live.router.arms)
        click.echo(f"serving {gateway.live.name} over {arms} arms of pool {pool.pool}{simulated} at {base_url}")
        if gateway.log is not None:
            held = f", which holds {len(gateway.log):,} requests" if len(gateway.log) else ""
            click.echo(f"log: {gateway.log.path}{held}; what no estimate may use: {gateway.log.apart}")

    settings = Settings(run_folder, pool, shadow, epsilon, log, max_usd, key)
    server.serve(settings, host, port, ready, lambda line: click.echo(line, err=True))
