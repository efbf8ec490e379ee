"""`view`."""

from __future__ import annotations

from pathlib import Path

import click

from recal_bench.cli.base import command, read_folder, runs_argument
from recal_bench.defaults import BASELINE


@command("recal-bench view runs")
@runs_argument
@click.option("--baseline", default=BASELINE, show_default=True, help="The router that others are compared with.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The port.  [default: a free one]")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
def view(runs: Path, baseline: str, port: int, no_browser: bool) -> None:
    """Show the page of a folder of runs in a browser: it is served to this machine alone, until Ctrl-C."""
    import contextlib
    import tempfile
    import webbrowser

    from recal_bench.provenance import command_line
    from recal_bench.reporting.page.server import page_server
    from recal_bench.reporting.page.write import view_page

    found = read_folder(runs)
    asked = ["--baseline", baseline] if baseline != BASELINE else []
    with tempfile.TemporaryDirectory(prefix="recal-bench-") as folder:
        view_page(found, Path(folder), command_line("recal-bench", "view", str(runs), *asked), baseline)
        with page_server(Path(folder), port) as server:
            address = f"http://127.0.0.1:{server.server_port}/"
            click.echo(f"serving {runs} at {address} (Ctrl-C ends it)")
            if not no_browser:
                webbrowser.open(address)
            with contextlib.suppress(KeyboardInterrupt):
                server.serve_forever()
