"""`collect`: outcomes from live models."""

from __future__ import annotations

from contextlib import ExitStack
from math import isclose
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from recal_bench.cli.base import command, split_commas
from recal_bench.errors import EndpointError, SettingsError

if TYPE_CHECKING:
    from recal_bench.collection.asking import Progress, Tell
    from recal_bench.collection.collect import ArmCost, Result
    from recal_bench.collection.spending import Spending

_TASKS = "nq,triviaqa,popqa,hotpotqa,2wiki,musique,bamboogle"
_LINE_EVERY_S = 30.0
_BILL_TOLERANCE = 0.01


def _limits(ctx: click.Context, parameter: click.Parameter, value: str) -> dict[str, int]:
    """`500`, or `train=1000,test=500`."""
    limits: dict[str, int] = {}
    for word in filter(None, value.split(",")):
        split, sign, number = word.rpartition("=")
        if not number.strip().isdigit() or int(number) < 1 or (sign and split not in ("train", "validation", "test")):
            raise SettingsError(
                f"--limit {value}: give a number above 0, or split=number,... as in train=1000,test=500"
            )
        limits |= dict.fromkeys([split] if sign else ["train", "validation", "test"], int(number))
    return limits


@command("""
recal-bench serve-pool &
recal-bench collect --pool embedded --tasks nq,popqa --limit 100 --out outcomes.parquet
""")
@click.option(
    "--pool", type=click.Path(path_type=Path), required=True, help="A pool file, or a shipped one by its name."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The outcomes file to write (.parquet).")
@click.option("--tasks", default=_TASKS, callback=split_commas, metavar="A,B", show_default=True, help="lm-eval tasks.")
@click.option("--models", default="", callback=split_commas, metavar="A,B", help="Only these models of the pool.")
@click.option(
    "--strategies",
    default="",
    callback=split_commas,
    metavar="S,T",
    help="How they are asked.  [default: direct,cot,cod,self_ask]",
)
@click.option(
    "--splits", default="test", callback=split_commas, metavar="A,B", show_default=True, help="train, validation, test."
)
@click.option(
    "--limit",
    "limits",
    default="",
    callback=_limits,
    metavar="N",
    help="At most this many questions of each task and split, drawn evenly: 500, or train=1000,test=500.",
)
@click.option(
    "--questions",
    metavar="hub|embedded|FOLDER",
    help="Where the questions come from: the task's own data, the embedded world, or a folder with TASK.jsonl or "
    "TASK/SPLIT.jsonl.  [default: what the pool file says, else hub]",
)
@click.option("--world-seed", type=int, default=0, show_default=True, help="The embedded world's seed.")
@click.option(
    "--include-path",
    "include_paths",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A folder of lm-eval tasks of your own (repeatable).",
)
@click.option("--metric", metavar="NAME[,FILTER]", help="The metric that is the score.  [default: exact_match]")
@click.option("--backend", default="openai", show_default=True, help="openai, lm-eval:hf or lm-eval:vllm.")
@click.option("--journal", type=click.Path(path_type=Path), help="Where answers are kept.  [default: beside --out]")
@click.option("--max-usd", type=click.FloatRange(min=0), help="Stop before the journal's answers can cost more.")
@click.option("--dry-run", is_flag=True, help="Print what would be asked and what it may cost; ask nothing.")
@click.option(
    "--allow-estimated-usage",
    "estimates",
    is_flag=True,
    help="Where an endpoint's token counts are absent or cannot be believed, count the tokens here.",
)
def collect(
    pool: Path,
    out: Path,
    tasks: tuple[str, ...],
    models: tuple[str, ...],
    strategies: tuple[str, ...],
    splits: tuple[str, ...],
    limits: dict[str, int],
    questions: str | None,
    world_seed: int,
    include_paths: tuple[Path, ...],
    metric: str | None,
    backend: str,
    journal: Path | None,
    max_usd: float | None,
    dry_run: bool,
    estimates: bool,
) -> None:
    """Ask live models, and write what each scored and cost: lm-eval's tasks, models x strategies.

    Every answer is kept in a journal as soon as it is there. Whatever ends a collection, the same command goes on from
    where it was, and asks nothing again that was answered.
    """
    try:
        from recal_bench.collection.collect import Collection, Wanted
        from recal_bench.collection.collect import collect as run
        from recal_bench.collection.journal import Journal, placed
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("recal_bench"):
            raise
        extra = backend.removeprefix("lm-eval:") if backend.startswith("lm-eval:") else "collect"
        raise EndpointError(
            f"{error.name} is not installed: this needs recal-bench[{extra}], which is pip install '.[{extra}]' in a "
            "checkout"
        ) from error
    wanted = Wanted(
        pool, out, tasks, models, strategies, splits, limits, questions, world_seed, include_paths, backend, metric
    )
    collection = Collection(wanted)
    with ExitStack() as stack:
        path = placed(journal, out)
        if dry_run and not path.exists():
            path = Path(stack.enter_context(TemporaryDirectory())) / path.name
        opened = Journal(path)
        stack.callback(opened.close)
        if dry_run:
            _print_plan(collection.costs(opened, estimates), collection.documents, collection.pool.price_book)
            return
        tell = _teller(stack, max(each.timeout_s for each in collection.pool.endpoints.values()))
        result = run(collection, opened, estimates=estimates, max_usd=max_usd, tell=tell)
    _print_result(result, out, max_usd)


def _print_plan(costs: list[ArmCost], documents: int, price_book: str) -> None:
    click.echo(f"{documents:,} questions, {len(costs)} arms; price book {price_book}")
    click.echo(f"{'arm':34} {'to ask':>9} {'prompt tokens':>14} {'expected USD':>13} {'at most USD':>12}")
    for each in costs:
        expected = "unknown" if each.expected_usd is None else f"{each.expected_usd:.4f}"
        arm = f"{each.model}|{each.strategy}"
        click.echo(f"{arm:34} {each.requests:>9,} {each.prompt_tokens:>14,} {expected:>13} {each.most_usd:>12.4f}")
    known = [each.expected_usd for each in costs if each.expected_usd is not None]
    total = f"{sum(known):.4f}" if len(known) == len(costs) else "unknown"
    requests, most = sum(each.requests for each in costs), sum(each.most_usd for each in costs)
    click.echo(f"{'all':34} {requests:>9,} {sum(each.prompt_tokens for each in costs):>14,} {total:>13} {most:>12.4f}")
    click.echo("At most: a token for every byte of the prompt, and every reply as long as its limit.")
    if len(known) < len(costs):
        click.echo("Expected: known for an arm that has answers in the journal; a run with --limit 20 gives them.")


def _teller(stack: ExitStack, longest_s: float) -> Tell:
    """Shows progress on stderr: a bar in a terminal, else a line now and then.

    An interrupt waits for what is under way, `longest_s` at most, and says so.
    """
    import time

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    from recal_bench.collection.asking import INTERRUPT

    console, told = Console(stderr=True), [time.monotonic()]
    warned: list[bool] = []
    if console.is_terminal:
        columns = (TextColumn("collecting"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[detail]}"))
        bar = stack.enter_context(Bar(*columns, console=console, transient=True))
        row = bar.add_task("", total=None, detail="")

    def tell(progress: Progress, spending: Spending) -> None:
        if progress.stopped == INTERRUPT and not warned:
            warned.append(True)
            click.echo(
                f"stopping: what is under way is waited for, {longest_s:g} s at most; a second interrupt ends at once",
                err=True,
            )
        if console.is_terminal:
            bar.update(row, total=progress.total, completed=progress.answered, detail=_detail(progress, spending))
        elif time.monotonic() - told[0] >= _LINE_EVERY_S:
            told[0] = time.monotonic()
            click.echo(f"{progress.answered:,} of {progress.total:,}, {_detail(progress, spending)}", err=True)

    return tell


def _detail(progress: Progress, spending: Spending) -> str:
    to_go, eta_s = spending.usd_to_go(progress.left), progress.eta_s
    parts = [f"{progress.rate:,.1f}/s", f"{spending.usd:.4f} USD so far"]
    parts += [f"about {to_go:.4f} USD to go"] if to_go is not None else []
    parts += [f"{eta_s / 60:,.0f} min left" if eta_s >= 90 else f"{eta_s:.0f} s left"] if eta_s is not None else []
    if progress.failures:
        parts.append(f"{sum(progress.failures.values()):,} attempts failed")
    if progress.flagged:
        parts.append(f"{progress.flagged:,} with doubtful token counts")
    if progress.stopped:
        parts.append("stopping, waiting for what is under way")
    return ", ".join(parts)


def _print_result(result: Result, out: Path, max_usd: float | None) -> None:
    from recal_bench.collection.asking import BUDGET
    from recal_bench.collection.collect import why_stopped
    from recal_bench.collection.grading import ENDINGS
    from recal_bench.collection.usage import USAGES

    progress, graded = result.progress, result.graded
    click.echo(f"{graded.rows:,} outcomes, {graded.usd:.6f} USD; {sum(progress.asked_of.values()):,} asked now")
    if progress.failures:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in progress.failures.most_common())
        click.echo(f"Attempts that failed: {kinds}")
    if result.unsure:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in result.unsure.items())
        click.echo(f"Requests that may have been billed twice: {kinds} (at most {result.unsure_usd:.6f} USD more)")
    for (model, flag), count in sorted(graded.flags.items()):
        if count:
            click.echo(f"Note: {model}: tokens of {count:,} answers are estimated ({USAGES[flag]})")
    for (model, ending), count in sorted(graded.endings.items()):
        if count:
            click.echo(f"Note: {model}: {count:,} {ENDINGS[ending]}; they count as answered")
    for model, (billed, ours) in sorted(graded.bills.items()):
        if not isclose(billed, ours, rel_tol=_BILL_TOLERANCE):
            click.echo(
                f"Note: {model}: the endpoint's own bill is {billed:.6f} USD for what costs {ours:.6f} USD by the pool "
                "file (column billed_usd): check its prices"
            )
    for model, count, reason in result.missing:
        if reason:
            click.echo(f"Note: {model}: {count:,} requests have no answer ({reason})")
    missing = sum(count for _, count, _ in result.missing)
    if missing:
        reasons = "; ".join(dict.fromkeys(progress.stopped_models.values()))
        raise SettingsError(
            f"{why_stopped(progress, max_usd)}: {out} holds {graded.rows:,} of {graded.rows + missing:,} outcomes; the "
            f"same command goes on{' (with a larger --max-usd)' if progress.stopped == BUDGET else ''}"
            f"{f' ({reasons})' if reasons else ''}"
        )
    click.echo(f"Next: recal-bench run --router recal --router knn --outcomes {out}")
