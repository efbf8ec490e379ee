"""`route`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recal_bench.cli.base import command, include_path
from recal_bench.errors import SettingsError

if TYPE_CHECKING:
    from recal_bench.experiments.deployed import Advice, Expected

_SHOWN = 5


@command(
    'recal-bench route --run runs/recal-... "who wrote the opera that opened the theatre?"\n'
    "recal-bench route --run runs/recal-... --in questions.jsonl --out decisions.parquet"
)
@click.option("--run", "run_folder", type=click.Path(path_type=Path), required=True, help="The folder of one run.")
@click.argument("questions", nargs=-1)
@click.option(
    "--in",
    "source",
    type=click.Path(path_type=Path, allow_dash=True),
    help="A table with the column prompt (parquet, CSV, JSONL, ...), or - for JSON lines from stdin.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, allow_dash=True),
    help="Where the decisions on --in go: .parquet, .csv or .jsonl, or - for JSON lines to stdout.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How the decisions on questions are printed.",
)
@include_path
def route(
    run_folder: Path,
    questions: tuple[str, ...],
    source: Path | None,
    out: Path | None,
    form: str,
    include_paths: tuple[Path, ...],
) -> None:
    """Ask a trained router which arm should answer: all arms, best first, with expected score and cost."""
    if bool(questions) == bool(source):
        raise SettingsError("give questions, or a file of them with --in: one of the two")
    if bool(source) != bool(out):
        raise SettingsError("--in and --out go together: --out FILE, or - for JSON lines to stdout")
    if source and out:
        _route_file(run_folder, source, out, include_paths)
        return
    from recal_bench import api, routers

    routers.discover(include_paths)
    advice = api.load_router(run_folder).route(questions)
    if form == "json":
        import json

        found = [_as_json(question, each) for question, each in zip(questions, advice, strict=True)]
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    for question, each in zip(questions, advice, strict=True):
        click.echo("\n".join(_as_text(question, each)))


def _route_file(run_folder: Path, source: Path, out: Path, include_paths: tuple[Path, ...]) -> None:
    from recal_bench import api, routers
    from recal_bench.experiments import routed_files as files
    from recal_bench.wording import counted

    if out != files.STDIN:
        files.check_out(out, source)
    routers.discover(include_paths)
    router = api.load_router(run_folder)
    chunks = files.decisions(router, files.read_questions(source, sys.stdin))
    if out == files.STDIN:
        for chunk in chunks:
            click.echo("".join(map(files.json_line, chunk)), nl=False)
        return
    count = files.write_decisions(chunks, out)
    click.echo(f"{counted(count, 'question')} routed: {out}")


def _as_text(question: str, advice: Advice) -> list[str]:
    from recal_bench.wording import harmless

    lines = [harmless(question)]
    for place, each in enumerate(advice.ranking[:_SHOWN], start=1):
        score = "unknown" if each.score is None else f"{each.score:.3f}"
        cost = "unknown" if each.cost is None else f"{each.cost * 1000:.4f} USD per 1,000"
        what = "expected score" if advice.predicted else "mean score on train"
        lines.append(f"  {place}. {harmless(str(each.arm))}  {what} {score}, cost {cost}")
    more = len(advice.ranking) - _SHOWN
    lines += [f"  and {more} more (--format json lists them)"] if more > 0 else []
    if not advice.predicted:
        lines.append("  This router ranks the arms and predicts nothing: the figures are the arms' means on train.")
    return lines


def _as_json(question: str, advice: Advice) -> dict[str, Any]:
    return {
        "question": question,
        "arm": str(advice.arm),
        "predicted": advice.predicted,
        "ranking": [_figures(each, advice.predicted) for each in advice.ranking],
    }


def _figures(each: Expected, predicted: bool) -> dict[str, Any]:
    """Expectations where the router predicts; else they are null, and the arm's means on train stand beside them."""
    expected = (each.score, each.cost) if predicted else (None, None)
    found = {"arm": str(each.arm), "expected_score": expected[0], "expected_cost_usd": expected[1]}
    return found if predicted else found | {"train_score": each.score, "train_cost_usd": each.cost}
