"""`recal-lm`: a language model reads the question and writes which arm to call, trained by RL on calibrated rewards."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from recal_bench.calibration import ESTIMATORS, Calibration, with_settings_of
from recal_bench.errors import SettingsError
from recal_bench.outcomes import Arm
from recal_bench.routers import Calls, Context, Decisions, Queries, Train, router

if TYPE_CHECKING:
    from recal_bench.language_model.pool import Call

FREE = ("tiny",)
"""Policies smaller than the encoders of other routers, whose own computation is not billed either."""
_FILE = "router.json"


@router(
    "expected-lm-arms",
    "the exact gradient of the expected reward, on a language model that scores the arms: a control",
    decode="arms",
    estimator="expected",
)
@router("recal-lm-arms", "RL on calibrated rewards of a language model that scores the arms", decode="arms")
@router("dr-grpo-lm", "Dr. GRPO on a language model that writes its route", estimator="dr-grpo")
@router("recal-lm", "RL on calibrated rewards of a language model that writes its route")
@dataclass
class LanguageModelRouter:
    """A language model whose reply names the arm; a malformed reply falls back to the best single arm.

    What suits the policy is taken for `examples`, `warm_learning_rate`, `learning_rate`, `max_new_tokens` and
    `micro_batch` where they are 0 (see `fitting.SUITS`).

    policy         tiny (made on the spot), smollm2, a folder or a name of Hugging Face
    pool           a pool file (or `embedded`) whose prices and strategies a chat model is told in its prompt
    live           a pool file (or `embedded`) whose arms are asked the policy's own queries while it trains, and whose
                   answers the task's verifier scores; without it the arms' logged answers to the question are replayed
    warm_start     before RL: distil (from what `teacher` predicts), format (random well-formed routes), none
    temperature    arms to distil are drawn from the softmax of the predicted utilities over it
    examples       supervised examples
    micro_batch    replies of one forward and backward in a process: what bounds the memory, and changes no result
    decode         how an arm is chosen: by the reply that the policy writes (text), or by the probability that it would
                   name each arm, read in one forward (arms)
    form           how a chat model writes: recal, or Router-R1's own form, for outcomes with one strategy a model
    rounds         calls that a reply may lead to, each told its answer before the next
    graded_format  the format component is the share of rules kept, not all or nothing
    token_price    USD per 1M tokens that the policy reads and writes, billed as the router's own cost
    learned        with several rounds, a component of what the teacher expects of each called arm, kept from being
                   exploited: bounded from above (clip, at `learned_threshold`), or by differences (delta)
    learned_weight what a unit of it is worth in units of score
    td             calls that its n-step temporal-difference targets look ahead; 0: it is not smoothed
    trust          a reply is rewarded with `trust` times the outcome and, for the rest, with what the teacher predicts
    lora           rank of LoRA's adapters; 0: all weights are trained
    trl            further arguments of TRL's GRPOConfig, as JSON
    """

    deterministic: ClassVar[bool] = False
    compares_arms: ClassVar[bool] = True
    accelerated: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "learning_rate": (3e-4, 1e-3, 2e-3),
        "trust": (0.2, 0.5, 1.0),
        "temperature": (0.01, 0.02, 0.05),
        "group_size": (8, 16),
    }

    policy: str = "tiny"
    pool: str = ""
    live: str = ""
    decode: Literal["text", "arms"] = "text"
    form: Literal["recal", "router-r1"] = "recal"
    estimator: str = "recal"
    warm_start: Literal["distil", "format", "none"] = "distil"
    teacher: str = "hierarchy"
    temperature: PositiveFloat = 0.02
    examples: Annotated[int, Field(ge=0)] = 0
    warm_learning_rate: NonNegativeFloat = 0.0
    steps: Annotated[int, Field(ge=0)] = 60
    batch_size: PositiveInt = 16
    group_size: PositiveInt = 8
    epochs: PositiveInt = 1
    learning_rate: NonNegativeFloat = 0.0
    clip: PositiveFloat = 0.2
    clip_high: PositiveFloat = 0.2
    entropy: NonNegativeFloat = 0.0
    kl: NonNegativeFloat = 0.0
    balance: bool = True
    trust: Annotated[float, Field(gt=0, le=1)] = 0.2
    rounds: Annotated[int, Field(ge=1)] = 1
    max_new_tokens: Annotated[int, Field(ge=0)] = 0
    micro_batch: Annotated[int, Field(ge=0)] = 0
    graded_format: bool = False
    reward: Literal["components", "router-r1"] = "components"
    cost_gate: bool = False
    learned: Literal["none", "clip", "delta"] = "none"
    learned_weight: NonNegativeFloat = 0.2
    learned_threshold: float = 0.5
    td: Annotated[int, Field(ge=0)] = 0
    token_price: float | None = None
    lora: Annotated[int, Field(ge=0)] = 0
    evaluate_every: PositiveInt = 20
    trl: str = "{}"
    calibration: Calibration = field(default_factory=Calibration)

    arms: tuple[Arm, ...] = field(init=False, default=())
    _dialogue: Any = field(init=False, default=None, repr=False)
    _fallback: list[str] = field(init=False, default_factory=list, repr=False)

    def __post_init__(self) -> None:
        """Raises SettingsError on names that nothing has, and on a policy whose tokens have no price."""
        if ESTIMATORS[self.estimator].all_actions and self.decode == "text":
            raise SettingsError(
                f"estimator={self.estimator} needs the probability of every arm, and replies are drawn: decode=arms"
            )
        if self.decode == "arms" and self.rounds > 1:
            raise SettingsError(
                f"decode=arms chooses one arm and reads no answer: rounds={self.rounds} needs decode=text"
            )
        if self.live and self.decode == "arms":
            raise SettingsError("decode=arms writes no query that an arm could be asked: leave out live")
        if self.live and self.trust < 1:
            raise SettingsError(
                f"live={self.live} rewards what was answered, of which the teacher expects nothing: it needs trust=1"
            )
        if self.form == "router-r1" and self.graded_format:
            raise SettingsError("graded_format grades the project's own rules alone: leave it out with form=router-r1")
        if self.learned != "none" and self.rounds == 1:
            raise SettingsError(f"learned={self.learned} rewards the rounds of a reply: it needs rounds above 1")
        if self.learned != "none" and self.reward == "router-r1":
            raise SettingsError(
                f"learned={self.learned} is a component, and reward=router-r1 takes none: leave one out"
            )
        if self.td and self.learned == "none":
            raise SettingsError(f"td={self.td} smooths the learned scores: it needs learned=clip or learned=delta")
        ESTIMATORS[self.estimator].settings_from(self.calibration)
        if self.token_price is not None and not self.token_price >= 0:
            raise SettingsError(f"token_price={self.token_price}: give USD per 1M tokens, 0 or more")
        if self.token_price is None and self.policy not in FREE:
            raise SettingsError(
                f"policy={self.policy} needs token_price, USD per 1M tokens that it reads and writes: a price that is "
                "not known is not 0 (token_price=0 says that it is)"
            )
        try:
            passed = json.loads(self.trl)
        except ValueError:
            passed = None
        if not isinstance(passed, dict):
            raise SettingsError(f'trl={self.trl}: give arguments of GRPOConfig as JSON, as in {{"use_vllm": true}}')

    @property
    def reads_responses(self) -> bool:
        """Whether answers are read between calls."""
        return self.rounds > 1

    @property
    def made_of(self) -> tuple[Any, ...]:
        """The estimator's function, on which results depend besides the class."""
        return (ESTIMATORS[self.estimator].compute,)

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        """Start the policy from the teacher, then train it. Raises SettingsError where a setting needs what is not
        there: a package, a model, costs."""
        from recal_bench.language_model.fitting import fit

        self.arms, self._fallback, self._dialogue = fit(self, train, validation, context)

    def route(self, queries: Queries, calls: Calls) -> Decisions:
        """The arm that the likeliest reply calls, the last one of several; best-single where the reply is malformed."""
        from recal_bench.language_model.rollouts import roll_out
        from recal_bench.toolbox.threads import one_thread

        unknown = [str(arm) for arm in calls.arms if arm not in self.arms]
        if unknown:
            raise SettingsError(f"this router was not trained on the arms {', '.join(unknown)}: train it on them")
        column = {arm: calls.arms.index(arm) if arm in calls.arms else -1 for arm in self.arms}
        column_A = [column[arm] for arm in self.arms]

        if self.decode == "arms":
            return self._choose(queries, calls, column_A)

        def ask(asked: Sequence[Call]) -> list[str | None]:
            """The arms' answers to the question itself, which is all that a log knows."""
            there = [column_A[arm] >= 0 and calls.available_QA[row, column_A[arm]] for row, arm, _ in asked]
            return [
                calls.ask(row, column_A[arm]).text if known else None
                for (row, arm, _), known in zip(asked, there, strict=True)
            ]

        with one_thread():
            prompts = [self._dialogue.prompt_ids(each) for each in queries.prompt]
            rollouts = roll_out(self._dialogue, prompts, range(len(prompts)), self._dialogue.generate, ask)
        value_QA = np.tile(-np.array([self._fallback.index(str(arm)) for arm in calls.arms], float), (len(prompts), 1))
        for row, each in enumerate(rollouts):
            if each.well_formed and column_A[each.calls[-1]] >= 0:
                value_QA[row, column_A[each.calls[-1]]] = 1.0
            calls.bill(row, each.tokens * self._price_usd)
        return calls.choose(value_QA)

    def _choose(self, queries: Queries, calls: Calls, column_A: Sequence[int]) -> Decisions:
        """The available arm that the policy would most probably name."""
        from recal_bench.language_model.scoring import named_log_probs, named_tree
        from recal_bench.toolbox.threads import one_thread

        with one_thread():
            prompts = [self._dialogue.prompt_ids(each) for each in queries.prompt]
            log_prob_QA = named_log_probs(self._dialogue, prompts)
        read = len(named_tree(self._dialogue).inner_I)
        for row, prompt in enumerate(prompts):
            calls.bill(row, (len(prompt) + read) * self._price_usd)
        there_A = [arm for arm, column in enumerate(column_A) if column >= 0]
        value_QA = np.zeros((len(prompts), len(calls.arms)))
        value_QA[:, [column_A[arm] for arm in there_A]] = log_prob_QA[:, there_A]
        return calls.choose(value_QA)

    @property
    def _price_usd(self) -> float:
        return (self.token_price or 0.0) / 1e6

    def save(self, folder: Path) -> None:
        """Keep what `route` needs: the model, its tokenizer and `router.json`."""
        from recal_bench.language_model.local import quiet
        from recal_bench.language_model.prompting import packed

        model = self._dialogue.local.model
        # Adapters become part of the weights: a saved router names no folder of another model.
        whole = copy.deepcopy(model).merge_and_unload() if hasattr(model, "merge_and_unload") else model
        with quiet():
            whole.save_pretrained(folder / "model")
            self._dialogue.local.tokenizer.save_pretrained(folder / "model")
        told = packed(self._dialogue.descriptors)
        described = {"arms": [list(arm) for arm in self.arms], "fallback": self._fallback, "descriptors": told}
        (folder / _FILE).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Take up what `save` kept. Raises SettingsError where a file is missing or damaged."""
        from recal_bench.language_model.fitting import dialogue_of
        from recal_bench.language_model.local import load
        from recal_bench.language_model.prompting import unpacked

        try:
            described = json.loads((folder / _FILE).read_text(encoding="utf-8"))
            self.arms = tuple(Arm(*names) for names in described["arms"])
            self._fallback, descriptors = list(described["fallback"]), unpacked(described["descriptors"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SettingsError(f"{folder / _FILE} is missing or damaged: train the router again") from error
        self._dialogue = dialogue_of(self, load(str(folder / "model"), (), 0, folder, "auto"), self.arms, descriptors)


for _of, _name in (("gdpo", "GDPO"), ("grpo", "GRPO")):
    router(f"{_of}-lm", f"{_name} on a language model that writes its route", estimator=_of)(
        with_settings_of(ESTIMATORS[_of], LanguageModelRouter, f"{_of}-lm")
    )
