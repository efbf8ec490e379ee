"""`recal-lm`: a language model reads the question and writes which arm to call, trained by RL on calibrated rewards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from recal_bench import provenance
from recal_bench.arrays import FloatQA
from recal_bench.calibration import ESTIMATORS, Calibration, with_settings_of
from recal_bench.calibration.rewards import REWARDS, Reward, Terms
from recal_bench.errors import SettingsError
from recal_bench.outcomes import Arm, Objective
from recal_bench.routers import Calls, Context, Decisions, Queries, Train, router, settings_of

FREE = ("tiny",)
"""Policies smaller than the encoders of other routers, whose own computation is not billed either."""
_FILE = "router.json"


@router("dr-grpo-lm", "Dr. GRPO on a language model that writes its route", estimator="dr-grpo")
@router("recal-lm", "RL on calibrated rewards of a language model that writes its route")
@dataclass
class LanguageModelRouter:
    """A language model whose reply names the arm; a malformed reply falls back to the best single arm.

    policy         tiny (made on the spot), smollm2, a folder or a name of Hugging Face
    warm_start     before RL: distil (from what `teacher` predicts), format (random well-formed routes), none
    temperature    arms to distil are drawn from the softmax of the predicted utilities over it
    examples       supervised examples; 0: as many as suit the policy
    rounds         calls that a reply may lead to, each told its answer before the next
    graded_format  the format component is the share of rules kept, not all or nothing
    token_price    USD per 1M tokens that the policy reads and writes, billed as the router's own cost
    trust          a reply is rewarded with `trust` times the outcome and, for the rest, with what the teacher predicts
    lora           rank of LoRA's adapters; 0: all weights are trained
    trl            further arguments of TRL's GRPOConfig, as JSON
    """

    deterministic: ClassVar[bool] = False
    compares_arms: ClassVar[bool] = True
    accelerated: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "learning_rate": (1e-4, 2e-4, 5e-4),
        "trust": (0.2, 0.5, 1.0),
        "temperature": (0.02, 0.05, 0.1),
        "group_size": (8, 16),
    }

    policy: str = "tiny"
    estimator: str = "recal"
    warm_start: Literal["distil", "format", "none"] = "distil"
    teacher: str = "hierarchy"
    temperature: PositiveFloat = 0.05
    examples: Annotated[int, Field(ge=0)] = 0
    warm_learning_rate: NonNegativeFloat = 0.0
    steps: Annotated[int, Field(ge=0)] = 60
    batch_size: PositiveInt = 16
    group_size: PositiveInt = 8
    epochs: PositiveInt = 1
    learning_rate: PositiveFloat = 2e-4
    clip: PositiveFloat = 0.2
    clip_high: PositiveFloat = 0.2
    entropy: NonNegativeFloat = 0.0
    kl: NonNegativeFloat = 0.0
    balance: bool = True
    trust: Annotated[float, Field(gt=0, le=1)] = 0.2
    rounds: Annotated[int, Field(ge=1)] = 1
    max_new_tokens: Annotated[int, Field(ge=0)] = 0
    graded_format: bool = False
    reward: Literal["components", "router-r1"] = "components"
    cost_gate: bool = False
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

        def ask(row: int, arm: int) -> str | None:
            there = column_A[arm] >= 0 and calls.available_QA[row, column_A[arm]]
            return calls.ask(row, column_A[arm]).text if there else None

        with one_thread():
            prompts = [self._dialogue.prompt_ids(each) for each in queries.prompt]
            rollouts = roll_out(self._dialogue, prompts, range(len(prompts)), self._dialogue.generate, ask)
        value_QA = np.tile(-np.array([self._fallback.index(str(arm)) for arm in calls.arms], float), (len(prompts), 1))
        for row, each in enumerate(rollouts):
            if each.well_formed and column_A[each.calls[-1]] >= 0:
                value_QA[row, column_A[each.calls[-1]]] = 1.0
            calls.bill(row, each.tokens * self._price_usd)
        return calls.choose(value_QA)

    @property
    def _price_usd(self) -> float:
        return (self.token_price or 0.0) / 1e6

    def save(self, folder: Path) -> None:
        """Keep what `route` needs: the model, its tokenizer and `router.json`."""
        self._dialogue.local.model.save_pretrained(folder / "model")
        self._dialogue.local.tokenizer.save_pretrained(folder / "model")
        described = {"arms": [list(arm) for arm in self.arms], "fallback": self._fallback}
        (folder / _FILE).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Take up what `save` kept. Raises SettingsError where a file is missing or damaged."""
        from recal_bench.language_model.fitting import dialogue_of
        from recal_bench.language_model.local import load

        try:
            described = json.loads((folder / _FILE).read_text(encoding="utf-8"))
            self.arms = tuple(Arm(*names) for names in described["arms"])
            self._fallback = list(described["fallback"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SettingsError(f"{folder / _FILE} is missing or damaged: train the router again") from error
        self._dialogue = dialogue_of(self, load(str(folder / "model"), (), 0, folder, "auto"), self.arms)


for _of, _name in (("gdpo", "GDPO"), ("grpo", "GRPO")):
    router(f"{_of}-lm", f"{_name} on a language model that writes its route", estimator=_of)(
        with_settings_of(ESTIMATORS[_of], LanguageModelRouter, f"{_of}-lm")
    )
