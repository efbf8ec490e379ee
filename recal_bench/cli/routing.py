"""`route`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recal_bench.cli.base import command, include_path
from recal_bench.errors import SettingsError, near_miss

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
@click.option(
    "--feature",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="What is known of the questions besides their text, for a router that reads features (repeatable). In a table "
    "(--in): columns feature_NAME.",
)
@include_path
def route(
    run_folder: Path,
    questions: tuple[str, ...],
    source: Path | None,
    out: Path | None,
    form: str,
    assignments: tuple[str, ...],
    include_paths: tuple[Path, ...],
) -> None:
    """Ask a trained router which arm should answer: all arms, best first, with expected score and cost."""
    if bool(questions) == bool(source):
        raise SettingsError("give questions, or a file of them with --in: one of the two")
    if bool(source) != bool(out):
        raise SettingsError("--in and --out go together: --out FILE, or - for JSON lines to stdout")
    if source and assignments:
        raise SettingsError("--feature is for questions: a table (--in) has its features in columns feature_NAME")
    if source and out:
        _route_file(run_folder, source, out, include_paths)
        return
    # Not by way of recal_bench.api: what that imports besides would be a third of the start.
    from recal_bench import routers
    from recal_bench.experiments.deployed import DeployedRouter
    from recal_bench.experiments.records import read_run

    routers.discover(include_paths)
    router = DeployedRouter(read_run(run_folder))
    features = _features(assignments, router.features)
    _tell_unknown({name: len(questions) for name in router.features if name not in features}, len(questions))
    advice = router.route(questions, features=[features] * len(questions))
    if form == "json":
        import json

        found = [_as_json(question, each) for question, each in zip(questions, advice, strict=True)]
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    for question, each in zip(questions, advice, strict=True):
        click.echo("\n".join(_as_text(question, each)))


def _route_file(run_folder: Path, source: Path, out: Path, include_paths: tuple[Path, ...]) -> None:
    from recal_bench import routers
    from recal_bench.experiments import routed_files as files
    from recal_bench.experiments.deployed import DeployedRouter
    from recal_bench.experiments.records import read_run
    from recal_bench.wording import counted

    if out != files.STDIN:
        files.check_out(out, source)
    routers.discover(include_paths)
    router = DeployedRouter(read_run(run_folder))
    unknown: Counter[str] = Counter()
    chunks = files.decisions(router, files.read_questions(source, sys.stdin), unknown)
    if out == files.STDIN:
        count = 0
        for chunk in chunks:
            count += len(chunk)
            click.echo("".join(map(files.json_line, chunk)), nl=False)
        _tell_unknown(unknown, count)
        return
    count = files.write_decisions(chunks, out)
    _tell_unknown(unknown, count)
    click.echo(f"{counted(count, 'question')} routed: {out}")


def _features(assignments: tuple[str, ...], known: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` words by name. Raises SettingsError on another form, and on what the router does not read."""
    from recal_bench.outcomes.schema import FEATURE_PREFIX

    found = {}
    for word in assignments:
        name, equals, value = word.partition("=")
        name = name.removeprefix(FEATURE_PREFIX)
        if not equals or not value:
            raise SettingsError(f"--feature {word}: write NAME=VALUE, as in tenant=acme")
        if name not in known:
            raise SettingsError(
                f"--feature {word}: the router does not read {name}{near_miss(name, known)}: it reads "
                f"{', '.join(known) or 'no features'}"
            )
        found[name] = value
    return found


def _tell_unknown(unknown: Mapping[str, int], count: int) -> None:
    for name, lacking in unknown.items():
        click.echo(f"Note: feature {name} is not given for {lacking:,} of {count:,} questions: unknown there", err=True)


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
