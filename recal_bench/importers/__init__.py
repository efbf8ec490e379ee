"""Other projects' outcomes, made an outcomes file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from recal_bench.errors import OutcomesError, near_miss
from recal_bench.folders import sha256
from recal_bench.importers.embedllm import EMBEDLLM
from recal_bench.importers.llmrouter import LLMROUTER
from recal_bench.importers.llmrouterbench import LLMROUTERBENCH
from recal_bench.importers.lm_eval import LM_EVAL
from recal_bench.importers.long import LONG
from recal_bench.importers.options import Format, Options
from recal_bench.importers.routerarena import ROUTERARENA
from recal_bench.importers.routerbench import ROUTERBENCH
from recal_bench.importers.rows import RowBlocks
from recal_bench.importers.sprout import SPROUT
from recal_bench.importers.wide import WIDE
from recal_bench.outcomes.files import FileReport, check_file
from recal_bench.outcomes.reading import Reading
from recal_bench.outcomes.writer import read_metadata, write_outcomes

FORMATS: dict[str, Format] = {
    "routerbench": ROUTERBENCH,
    "llmrouter": LLMROUTER,
    "lm-eval": LM_EVAL,
    "routerarena": ROUTERARENA,
    "llmrouterbench": LLMROUTERBENCH,
    "embedllm": EMBEDLLM,
    "sprout": SPROUT,
    "wide": WIDE,
    "long": LONG,
}

__all__ = ["FORMATS", "Format", "Imported", "Options", "format_named", "import_outcomes"]


@dataclass(frozen=True)
class Imported:
    """What an import did. `notes` are its own, each in one line; `report` is that of `recal-bench validate`."""

    notes: tuple[str, ...]
    report: FileReport


def import_outcomes(name: str, sources: Sequence[Path], out: Path, options: Options | None = None) -> Imported:
    """Write the outcomes file `out` (parquet) from sources of a format.

    Raises OutcomesError where the format is unknown or takes no such option, where a source cannot be read or
    contradicts itself, and where `out` is a file that no import wrote.
    """
    from recal_bench.provenance import code_version

    options = options or Options()
    form = format_named(name)
    _refuse_options(name, form, options)
    if options.score_range is not None:
        Reading(options.score_range)  # refuses what is no scale
    if not sources:
        raise OutcomesError(f"import {name}: no source is given: name the file or folder to import")
    if out.exists() and "import" not in read_metadata(out):
        raise OutcomesError(f"{out} is there, and no import wrote it: choose another name for --out, or remove it")
    notes: list[str] = []
    if options.score_range is not None:
        low, high = options.score_range
        notes.append(f"scores from {low:g} to {high:g} are written as 0 to 1 (--score-range {low:g},{high:g})")
    paths = form.find(sources, notes)
    collector = RowBlocks(options.strategy, form.further)
    origin = {
        "format": name,
        "files": [{"name": _name(path, sources), "sha256": sha256(path)} for path in paths],
        "version": code_version(),
        **({"map": dict(options.map)} if options.map else {}),
        **({"scale": dict(options.scale)} if options.scale else {}),
    }
    write_outcomes(collector.blocks(form.read(paths, options, notes)), out, {"import": origin})
    return Imported((*notes, *collector.notes()), check_file(out))


def format_named(name: str) -> Format:
    """Raises OutcomesError, with a hint, where there is none of that name."""
    if name not in FORMATS:
        raise OutcomesError(f"no format is called {name}{near_miss(name, FORMATS)}: it is one of {', '.join(FORMATS)}")
    return FORMATS[name]


def _refuse_options(name: str, form: Format, options: Options) -> None:
    for option in fields(options):
        if option.name != "strategy" and option.name not in form.options and getattr(options, option.name):
            takes = [each for each, other in FORMATS.items() if option.name in other.options]
            flag = f"--{option.name.replace('_', '-')}"
            raise OutcomesError(f"{flag} is for {', '.join(takes)}: leave it out for {name}")
    if not options.strategy.strip() or "|" in options.strategy:
        raise OutcomesError(f'--strategy "{options.strategy}" is not a name: give one without "|", e.g. direct')


def _name(path: Path, sources: Sequence[Path]) -> str:
    """A file's path inside the source that it comes from, so that no folder of this machine is told."""
    inside = [path.relative_to(source) for source in sources if source.is_dir() and path.is_relative_to(source)]
    return inside[0].as_posix() if inside else path.name
