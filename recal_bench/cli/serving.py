"""`serve-pool`."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import click

from recal_bench.cli.base import command, key_of
from recal_bench.folders import shipped

_HOST, _PORT = "127.0.0.1", 8100
_OWN_POOL = "my_pool.yaml"


@command(
    "recal-bench serve-pool\n"
    "recal-bench serve-pool --port 0 --faults 429=0.1,cut=0.02,retry-after=0.05 --log requests.jsonl"
)
@click.option("--host", default=_HOST, show_default=True, help="Where to listen. The default is this machine only.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=_PORT, show_default=True, help="The port; 0 takes a free one."
)
@click.option("--world-seed", type=int, default=0, show_default=True, help="The embedded pool's world.")
@click.option(
    "--faults",
    default="",
    metavar="KIND=SHARE,...",
    help="What goes wrong, in which share of requests: 429=0.1,hang=0.01 or all=0.2 (kinds: docs/serve-pool.md).",
)
@click.option("--key-env", metavar="NAME", help="The environment variable that holds the key which clients must send.")
@click.option("--latency-ms", type=float, default=0.0, show_default=True, help="How long a reply takes.")
@click.option(
    "--log",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file that gets one line for each request received and one for each answered (JSONL, added to).",
)
def serve_pool(
    host: str, port: int, world_seed: int, faults: str, key_env: str | None, latency_ms: float, log: Path | None
) -> None:
    """Serve the embedded pool (simulated models) as an OpenAI-compatible endpoint, until Ctrl-C."""
    from recal_bench.simulation.server import PoolServer, serve

    key = None if key_env is None else key_of(key_env)
    server = PoolServer(world_seed, faults, key, log, latency_ms / 1000)
    if not _is_loopback(host):
        whom = "anyone who reaches it" if key is None else "anyone who has the key"
        click.echo(f"Warning: {host} is not this machine only; {whom} can ask this server", err=True)

    def ready(base_url: str) -> None:
        usual = base_url == f"http://{_HOST}:{_PORT}/v1" and key_env is None
        seed = f" --world-seed {world_seed}" if world_seed else ""
        click.echo(f"serving the embedded pool (simulated) at {base_url}")
        click.echo(
            f"recal-bench collect --pool {'embedded' if usual else _OWN_POOL} --questions embedded --tasks nq{seed} "
            "--out outcomes.parquet"
        )
        if not usual:
            shipped_pool, key_name = shipped("pools") / "embedded.yaml", key_env or "null"
            click.echo(f"where {_OWN_POOL} is {shipped_pool} with base_url: {base_url}, api_key_env: {key_name}")

    serve(server, host, port, ready)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
